"""Chat templates: rendered as transformers does it, in bounded time and memory, and refused in one line."""

from types import SimpleNamespace

import pytest
import tokenizers
import transformers

from maxrl_lab.llm.models import templates
from maxrl_lab.llm.models.sampling import encode

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1? <é>"}]
USUAL = """
{{- bos_token }}
{%- for message in messages %}
    {%- if loop.index > 2 %}{% break %}{% endif %}
<|{{ message.role }}|>{{ message["content"] | trim }}{{ eos_token }}
{% endfor %}
{{- messages[0] | tojson }}
{%- if add_generation_prompt %}<|assistant|>{% endif %}
"""


def words(processor=None):
    raw = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"<pad>": 0, "<bos>": 1, "<eos>": 2, "a": 3}, unk_token="<pad>")
    )
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    if processor:
        special = [("<bos>", 1), ("<eos>", 2)]
        raw.post_processor = tokenizers.processors.TemplateProcessing(single=processor, special_tokens=special)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )


def test_it_is_transformers_own_rendering():
    tokenizer = words()
    tokenizer.chat_template = USUAL
    expected = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert templates.render(tokenizer, MESSAGES) == expected
    assert "<é>" in expected
    assert expected.endswith("<|assistant|>")


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
REFUSED = {
    "an endless loop": (LOOP, r"takes more than 3 s of CPU time or 4 GiB of memory for one prompt"),
    "a text that fills the memory": ("{{ ('a' * 10 ** 10) | length }}", r"fails: MemoryError"),
    "a long text": ("{{ 'a' * 11000000 }}", r"fails: it writes 11000000 characters"),
    "a syntax error": ("{% for %}", r"fails: TemplateSyntaxError: "),
    "a name that is not there": ("{{ nothing.at.all }}", r"fails: UndefinedError: 'nothing' is undefined"),
    "a change of its input": ("{{ messages.append(1) }}", r"fails: SecurityError: "),
    "its own refusal": ("{{ raise_exception('no system\\nturn') }}", r"fails: TemplateError: no system turn"),
}


@pytest.mark.parametrize(("template", "message"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_in_one_line_and_the_next_one_is_rendered(template, message):
    with pytest.raises(ValueError, match=rf"\Athe chat template of the model {message}") as error:
        encode(SimpleNamespace(get_chat_template=lambda: template, special_tokens_map={}), MESSAGES)
    assert "\n" not in str(error.value)
    rest = SimpleNamespace(get_chat_template=lambda: "{{ messages[1].role }}{{ end }}", special_tokens_map={"end": "!"})
    assert templates.render(rest, MESSAGES) == "user!"


def test_without_a_template_texts_are_asked_for():
    with pytest.raises(ValueError, match=r"the tokenizer has no chat template: give prompts as texts \(chat=False\)"):
        encode(words(), MESSAGES)


@pytest.mark.parametrize(("processor", "ids"), [(None, [3, 3]), ("<bos> $A <eos>", [1, 3, 3]), ("$A <eos>", [3, 3])])
def test_a_prompt_does_not_end_with_the_end_token(processor, ids):
    assert encode(words(processor), "a a") == ids


def test_a_prompt_of_the_end_token_alone_is_empty():
    with pytest.raises(ValueError, match=r"a prompt needs at least one token, got ''"):
        encode(words("$A <eos>"), "")
