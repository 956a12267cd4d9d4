"""Sampling against transformers' generate and exact distributions, kills, votes, and slow-loop summaries."""

import copy
import itertools
import math
import sys
import weakref
from collections import Counter
from dataclasses import asdict, replace
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from scipy import stats

from maxrl_lab import intervals
from maxrl_lab.llm.models import engines, evaluation, vllm_engine
from maxrl_lab.llm.models.sampling import Completion, Sampling, encode, sample_tokens
from maxrl_lab.llm.models.transformers_engine import TransformersEngine
from maxrl_lab.llm.models.vllm_engine import VllmEngine
from maxrl_lab.runs.checkpoint import Checkpoint

WORDS, PAD, END, ASSISTANT = 24, 0, 5, 3
PROMPTS = ["w07 w08 w09", "w10 w11 w12 w13 w14 w15 w16", "w08", "w09 w09 w20 w21 w22", "w07 w08 w09"]
TEMPLATE = "{% for m in messages %}w{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}w03{% endif %}"


@pytest.fixture(scope="module")
def tokenizer():
    vocabulary = {f"w{place:02d}": place for place in range(WORDS)}
    # words of equal length: special tokens are looked for inside of words
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="w01"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    words.decoder = tokenizers.decoders.WordPiece(prefix="##", cleanup=False)  # a space between words
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w05")
    made.chat_template = TEMPLATE
    return made


def make_model(family="Llama", seed=0, **changes):
    shape = {"vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    shape |= {"bos_token_id": None, "eos_token_id": END, "pad_token_id": PAD}
    config = getattr(transformers, f"{family}Config")(**(shape | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():  # keys and values that matter, and a distribution that is not flat
            parameter.data *= 8 if parameter.ndim > 1 else 1
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return make_model()


def greedy(**changes):
    return Sampling(**({"samples": 1, "temperature": 0.0, "answer_length": 12, "at_once": 8} | changes))


def generated(model, tokenizer, prompt, length):
    """The greedy completion by transformers' own generate, without padding."""
    inputs = tokenizer([prompt], return_tensors="pt", return_token_type_ids=False)
    own = model.config.eos_token_id
    ends = {END, *(own if isinstance(own, list) else [own])}
    tokens = model.generate(**inputs, do_sample=False, max_new_tokens=length, eos_token_id=sorted(ends))[
        0, inputs["input_ids"].shape[1] :
    ]
    return Completion(tokenizer.decode(tokens, skip_special_tokens=True), len(tokens), int(tokens[-1]) in ends)


# the transformers engine


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("Llama", {}),
        # absolute positions, which padding must not shift; three end tokens
        ("GPT2", {"attn_implementation": "eager", "eos_token_id": [12, 18, 22]}),
        ("Qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    ],
)
def test_greedy_completions_are_those_of_generate(tokenizer, family, changes):
    both = []
    for seed in range(4):
        model = make_model(family, seed, **changes)
        expected = [generated(model, tokenizer, prompt, 12) for prompt in PROMPTS]
        for at_once in (1, 2, 8):  # alone, in unequal pairs, all at once
            found = TransformersEngine(model, tokenizer, greedy(at_once=at_once)).complete(PROMPTS)
            assert [only for (only,) in found] == expected
        both += expected
    # rows leave the batch early, late, and never
    assert {True, False} == {each.ended for each in both}
    assert len({each.tokens for each in both}) >= 4


def test_every_sample_is_what_its_numbers_draw_whoever_shares_the_batch(model, tokenizer):
    asked = Sampling(samples=4, temperature=1.0, top_p=0.9, answer_length=16, at_once=4)
    alone = TransformersEngine(model, tokenizer, asked).complete(PROMPTS)
    lengths = {each.tokens for row in alone for each in row}
    assert len(lengths) > 2
    for at_once in (3, 8, 100):  # a problem in two parts; two of them together; all
        engine = TransformersEngine(model, tokenizer, replace(asked, at_once=at_once))
        assert engine.complete(PROMPTS) == alone
    assert engine.complete(PROMPTS[2:], first=2) == alone[2:]
    assert alone[0] != alone[4]  # the same prompt, another problem
    assert len(set(alone[0])) == 4
    assert TransformersEngine(model, tokenizer, replace(asked, seed=1)).complete(PROMPTS) != alone


def next_probabilities(model, tokens, temperature, top_p):
    """The exact distribution of the next token, by a slow loop over the sorted vocabulary."""
    with torch.no_grad():
        p = (model(torch.tensor([tokens])).logits[0, -1].double() / temperature).softmax(-1).tolist()
    inside, mass = [], 0.0
    for token in sorted(range(WORDS), key=lambda token: -p[token]):
        if mass >= top_p:
            break
        inside.append(token)
        mass += p[token]
    return {token: p[token] / mass for token in inside}


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 0.95), (2.0, 0.7)])
def test_sampled_pairs_of_tokens_have_their_exact_probabilities(model, tokenizer, temperature, top_p):
    asked = Sampling(4000, temperature, top_p, answer_length=2, at_once=2500, seed=11)
    engine = TransformersEngine(model, tokenizer, asked)
    prompts = [[7, 8, 9], [10, 11]]  # padded, in a batch of two problems would not fit: in parts
    texts = [" ".join(f"w{token:02d}" for token in prompt) for prompt in prompts]
    for prompt, completions in zip(prompts, engine.complete(texts), strict=True):
        expected = {}
        for first, p in next_probabilities(model, prompt, temperature, top_p).items():
            if first == END:
                expected[""] = p
                continue
            for second, q in next_probabilities(model, [*prompt, first], temperature, top_p).items():
                text = f"w{first:02d}" + ("" if second == END else f" w{second:02d}")
                expected[text] = p * q
        counts = Counter(each.text for each in completions)
        assert set(counts) <= set(expected)  # nothing outside the nucleus
        common = [text for text, p in expected.items() if p * asked.samples >= 5]
        rest = 1 - sum(expected[text] for text in common)
        found = [*(counts[text] for text in common), asked.samples - sum(counts[text] for text in common)]
        wanted = [asked.samples * p for p in (*(expected[text] for text in common), rest)]
        if wanted[-1] < 1:
            found, wanted = found[:-1], [each * sum(found[:-1]) / sum(wanted[:-1]) for each in wanted[:-1]]
        assert len(common) > 5
        assert stats.chisquare(found, wanted).pvalue > 1e-6  # the rate of false alarms


def test_samples_beside_padding_have_their_exact_first_token_probabilities(model, tokenizer):
    asked = Sampling(3000, 1.0, 1.0, answer_length=1, at_once=6000, seed=3)
    for prompt, completions in zip(
        PROMPTS[:2], TransformersEngine(model, tokenizer, asked).complete(PROMPTS[:2]), strict=True
    ):
        p = next_probabilities(model, encode(tokenizer, prompt), 1.0, 1.0)
        counts = Counter(END if each.ended else int(each.text[1:]) for each in completions)
        likely = [token for token in p if p[token] * asked.samples >= 5]
        scale = sum(counts[token] for token in likely) / sum(p[token] for token in likely)
        pvalue = stats.chisquare([counts[token] for token in likely], [p[token] * scale for token in likely]).pvalue
        assert pvalue > 1e-6  # the rate of false alarms


def test_dropout_is_off_while_sampling_and_the_modes_come_back(tokenizer):
    model = make_model(attention_dropout=0.5)
    expected = TransformersEngine(model, tokenizer, greedy()).complete(PROMPTS)
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    engine = TransformersEngine(model, tokenizer, greedy())
    assert engine.complete(PROMPTS) == expected
    assert [module.training for module in model.modules()] == modes
    assert set(modes) == {True, False}
    model.lm_head.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.complete(PROMPTS)
    assert [module.training for module in model.modules()] == modes


def test_a_model_can_be_trained_between_evaluations(tokenizer):
    model = make_model()
    TransformersEngine(model, tokenizer, greedy()).complete(PROMPTS)
    model(torch.tensor([[7, 8, 9]])).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_bfloat16_model_is_sampled(tokenizer):
    engine = TransformersEngine(make_model().bfloat16(), tokenizer, Sampling(4, answer_length=6))
    assert [len(row) for row in engine.complete(PROMPTS)] == [4] * 5


def test_a_lora_model_writes_what_its_merged_weights_do(tokenizer):
    import peft

    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    base = TransformersEngine(make_model(), tokenizer, greedy()).complete(PROMPTS)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(make_model(), settings)
    for name, parameter in adapted.named_parameters():
        parameter.data *= 4.0 if "lora_B" in name else 1.0
    found = TransformersEngine(adapted, tokenizer, greedy()).complete(PROMPTS)
    assert found != base
    merged = adapted.merge_and_unload()
    assert found == TransformersEngine(merged, tokenizer, greedy()).complete(PROMPTS)


def test_every_end_token_of_the_model_and_of_the_tokenizer_ends_an_answer(tokenizer):
    model = make_model()
    model.generation_config.eos_token_id = None
    asked = Sampling(200, 1.0, 1.0, answer_length=12, at_once=200)
    plain = TransformersEngine(model, tokenizer, asked).complete(PROMPTS[:1])[0]
    words = Counter(word for each in plain for word in each.text.split())
    more = [int(word[1:]) for word, _ in words.most_common(2)]
    model.generation_config.eos_token_id = more
    completions = TransformersEngine(model, tokenizer, asked).complete(PROMPTS[:1])[0]
    assert any(each.ended for each in plain)
    for before, after in zip(plain, completions, strict=True):
        sequence = before.text.split() + ["w05"] * before.ended
        cut = next(
            (place for place, word in enumerate(sequence) if word in {f"w{end:02d}" for end in (*more, END)}), None
        )
        assert after.tokens == (len(sequence) if cut is None else cut + 1)
        assert after.ended == (cut is not None)


def test_chat_messages_go_through_the_template(model, tokenizer):
    messages = [{"role": "user", "content": "07"}, {"role": "user", "content": "08"}]
    assert encode(tokenizer, messages) == [7, 8, ASSISTANT]
    assert encode(tokenizer, "w07 w08") == [7, 8]
    engine = TransformersEngine(model, tokenizer, greedy())
    assert engine.complete([messages]) == engine.complete(["w07 w08 w03"])


def test_prompts_and_settings_that_cannot_be_are_refused(model, tokenizer, refuses):
    engine = TransformersEngine(model, tokenizer, greedy(answer_length=60))
    assert len(engine.complete(["w07 w08 w09 w10"])) == 1  # exactly the context
    with refuses("the model's context holds 64 tokens, got a prompt of 5 and answers of up to 60"):
        engine.complete(["w07", "w07 w08 w09 w10 w11"])
    with refuses("a prompt needs at least one token, got ''"):
        engine.complete([""])
    with refuses("a model in memory needs its tokenizer, got none"):
        engines.engine(model, None, greedy())
    for name, value, wanted in (
        ("samples", 0, "a whole number >= 1"),
        ("answer_length", 0, "a whole number >= 1"),
        ("at_once", 0, "a whole number >= 1"),
        ("seed", -1, "a whole number >= 0"),
    ):
        with refuses(f"{name} must be {wanted}, got {value}"):
            Sampling(**{name: value})
    for value in (-0.1, math.inf, math.nan):
        with refuses(f"temperature must be finite and not negative, got {value}"):
            Sampling(temperature=value)
    for value in (0.0, 1.1, math.nan):
        with refuses(f"top_p must lie in (0, 1], got {value}"):
            Sampling(top_p=value)
    with refuses("at temperature 0 all samples are equal: expected samples = 1, got 2"):
        Sampling(samples=2, temperature=0.0)


# the nucleus


def test_the_nucleus_is_the_smallest_set_that_holds_top_p():
    logits = torch.tensor([0.2, 0.5, 0.3]).log()
    #      cumulative in the vocabulary's order, renormalised: token drawn by each number
    table = {
        1e-9: {0.0: 1, 0.99: 1},  # never empty
        0.49: {0.0: 1, 0.99: 1},
        0.51: {0.0: 1, 0.62: 1, 0.63: 2, 0.99: 2},  # 5/8, 1
        0.79: {0.0: 1, 0.62: 1, 0.63: 2, 0.99: 2},
        0.81: {0.0: 0, 0.19: 0, 0.21: 1, 0.69: 1, 0.71: 2, 0.99: 2},  # 0.2, 0.7, 1
        1.0: {0.0: 0, 0.19: 0, 0.21: 1, 0.69: 1, 0.71: 2, 0.99: 2},
    }
    for top_p, drawn in table.items():
        numbers = torch.tensor(list(drawn))
        assert sample_tokens(logits.expand(len(drawn), 3), numbers, 1.0, top_p).tolist() == list(drawn.values())
    assert sample_tokens(logits.expand(2, 3), torch.tensor([0.0, 0.99]), 0.0, 1.0).tolist() == [1, 1]


@pytest.mark.parametrize("spread", [0.1, 5.0])  # the nucleus is most of the vocabulary; some tokens
def test_draws_from_a_large_vocabulary_against_a_slow_loop(spread):
    numbers = torch.Generator().manual_seed(5)
    logits = spread * torch.randn(40, 1000, generator=numbers)
    uniforms = torch.rand(40, generator=numbers)
    for row, uniform, token in zip(logits, uniforms, sample_tokens(logits, uniforms, 0.7, 0.9).tolist(), strict=True):
        p = (row.double() / 0.7).softmax(-1).numpy()
        order = np.argsort(-p)
        inside = set(order[: int(np.searchsorted(p[order].cumsum(), 0.9)) + 1].tolist())
        wanted = float(uniform) * sum(p[place] for place in inside)
        for place in sorted(inside):
            wanted -= p[place]
            if wanted < 0:
                break
        assert token == place
        assert (len(inside) > 256) == (spread < 1)


# rows, votes, resumption


def is_right(text, problem):
    return text.split()[-1:] == [problem["answer"]]


def decoded(text, problem):
    return text.split()[-1] if text.split() else None


class Scripted:
    """Writes given texts; one in brackets was cut off. Fails when its turn comes."""

    def __init__(self, texts, sampling, fails_after=None):
        self.texts, self.sampling, self.fails_after, self.asked = texts, sampling, fails_after, []

    def complete(self, prompts, first=0):
        self.asked += range(first, first + len(prompts))
        if self.fails_after is not None and len(self.asked) > self.fails_after:
            raise RuntimeError("killed")
        rows = self.texts[first : first + len(prompts)]
        return [[Completion(text.strip("[]"), len(text.split()), text[:1] != "[") for text in row] for row in rows]


def scripted(texts, **options):
    return Scripted(texts, Sampling(samples=len(texts[0]), at_once=1, seed=7), **options)


TEXTS = [
    ["so 4", "so 5", "so 5", "hence 4"],  # 2 right; 4 and 5 equally often, 4 first
    ["a 5", "a 4", "5", "4"],  # 2 right; 5 first
    ["", "[]", "", "4"],  # one vote
    ["", "", "[]", "[]"],  # none
    ["4", "x 4", "y 4", "6 6 6 5"],
]
PROBLEMS = [{"prompt": f"p{place}", "answer": "4"} for place in range(5)]


def test_rows_by_hand(tmp_path):
    rows = evaluation.evaluate(scripted(TEXTS), PROBLEMS, Checkpoint(tmp_path / "rows"), is_right, decoded)
    columns = ("problem", "correct", "vote_right", "distinct", "tokens_mean", "cut_off")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        (0, 2, True, 2, 2.0, 0.0),
        (1, 2, False, 2, 1.5, 0.0),
        (2, 1, True, 1, 0.5, 0.25),  # "[]" is one word
        (3, 0, False, 0, 0.5, 0.5),
        (4, 3, True, 2, 9 / 4, 0.0),
    ]
    assert all(set(row) == set(columns) for row in rows)  # what all rows share is not repeated in each


def test_equal_texts_are_verified_once(tmp_path):
    seen = []

    def counting(text, problem):
        seen.append((problem["prompt"], text))
        return True

    evaluation.evaluate(scripted(TEXTS), PROBLEMS, Checkpoint(tmp_path / "rows"), counting, decoded)
    assert sorted(seen) == sorted({(f"p{place}", text.strip("[]")) for place, row in enumerate(TEXTS) for text in row})


def test_the_lab_s_own_rewards_are_the_default(tmp_path):
    """The last of `\\boxed{4}` and `\\boxed{5}` counts, where a problem of GSM8K has the answer 4.0."""
    texts = [[r"\boxed{4}", r"\boxed{5} \boxed{4}", r"\boxed{4} \boxed{5}", "4"]]
    problem = {"prompt": "p", "answer": "4.0", "source": "gsm8k", "entry": "", "extraction": "boxed"}
    (row,) = evaluation.evaluate(scripted(texts), [problem], Checkpoint(tmp_path / "rows"))
    assert (row["correct"], row["vote_right"], row["distinct"]) == (2, True, 2)
    # one given, the other the default
    (row,) = evaluation.evaluate(scripted(texts), [problem], Checkpoint(tmp_path / "given"), lambda *_: True)
    assert (row["correct"], row["vote_right"], row["distinct"]) == (4, True, 2)


def test_no_answer_is_no_candidate_of_the_vote(tmp_path):
    """Three of four samples say nothing; the vote is that of the one that does, and without any it is wrong."""
    rows = evaluation.evaluate(
        scripted([["", "", "", "4"], ["", "", "", ""]]), PROBLEMS[:2], Checkpoint(tmp_path / "rows"), is_right, decoded
    )
    assert [row["vote_right"] for row in rows] == [True, False]


def failing(engine, after):
    """The engine, which fails when it is asked for more than `after` problems."""
    made, left = copy.copy(engine), after

    def complete(prompts, first=0):
        nonlocal left
        left -= len(prompts)
        if left < 0:
            raise RuntimeError("killed")
        return engine.complete(prompts, first)

    made.complete = complete
    return made


def test_a_killed_evaluation_continues_to_the_same_rows(model, tokenizer, tmp_path):
    problems = [{"prompt": prompt, "answer": "w09"} for prompt in PROMPTS]
    engine = TransformersEngine(model, tokenizer, Sampling(3, 1.0, answer_length=8, at_once=3))

    def evaluated(engine, place):
        return evaluation.evaluate(engine, problems, Checkpoint(tmp_path / place), is_right, decoded, save_every=2)

    expected = evaluated(engine, "whole")
    assert len({(row["tokens_mean"], row["distinct"]) for row in expected}) > 2
    for after in range(5):
        with pytest.raises(RuntimeError, match="killed"):
            evaluated(failing(engine, after), f"killed{after}")
        assert evaluated(failing(engine, 5 - after // 2 * 2), f"killed{after}") == expected  # asks for the rest only
    assert evaluated(failing(engine, 0), "whole") == expected


def test_rows_are_saved_every_few_problems_or_every_batch(tmp_path):
    engine = scripted(TEXTS, fails_after=3)
    with pytest.raises(RuntimeError, match="killed"):
        evaluation.evaluate(engine, PROBLEMS, Checkpoint(tmp_path / "one"), is_right, decoded, save_every=1)
    assert [row["problem"] for row in Checkpoint(tmp_path / "one").load()["rows"]] == [0, 1, 2]
    engine = scripted(TEXTS, fails_after=4)
    engine.sampling = replace(engine.sampling, at_once=9)  # two problems of 4 samples fit
    with pytest.raises(RuntimeError, match="killed"):
        evaluation.evaluate(engine, PROBLEMS, Checkpoint(tmp_path / "two"), is_right, decoded, save_every=1)
    assert engine.asked == [0, 1, 2, 3, 4]
    assert len(Checkpoint(tmp_path / "two").load()["rows"]) == 4


def test_a_checkpoint_of_another_evaluation_is_refused(tmp_path, refuses):
    checkpoint = Checkpoint(tmp_path / "rows")
    engine = scripted(TEXTS)
    rows = evaluation.evaluate(engine, PROBLEMS, checkpoint, is_right, decoded, key="a")
    saved = checkpoint.load()["settings"]

    def message(name, there, now):
        return (
            f"{checkpoint.path} holds an evaluation with other settings ({name} = {there!r} there, {now!r} now); "
            "choose another place, or start again with --force"
        )

    changes = {"samples": 5, "temperature": 0.7, "top_p": 1.0, "answer_length": 9, "seed": 8}
    assert {*changes, "at_once"} == set(asdict(engine.sampling))
    for name, value in changes.items():
        other = Scripted(TEXTS, replace(engine.sampling, **{name: value}))
        with refuses(message(name, saved[name], value)):
            evaluation.evaluate(other, PROBLEMS, checkpoint, is_right, decoded, key="a")
    with refuses(message("key", "a", "b")):
        evaluation.evaluate(engine, PROBLEMS, checkpoint, is_right, decoded, key="b")
    for problems in (PROBLEMS[:4], PROBLEMS[::-1], [{**PROBLEMS[0], "answer": "5"}, *PROBLEMS[1:]]):
        with pytest.raises(ValueError, match=r"other settings \(problems = '[0-9a-f]{16}' there, '[0-9a-f]{16}' now\)"):
            evaluation.evaluate(engine, problems, checkpoint, is_right, decoded, key="a")
    with refuses(message("engine", "Scripted", "Other")):
        other = type("Other", (Scripted,), {})(TEXTS, engine.sampling)
        evaluation.evaluate(other, PROBLEMS, checkpoint, is_right, decoded, key="a")
    # another batch size, the order of a problem's fields and the kind of iterable are the same evaluation
    same = Scripted(TEXTS, replace(engine.sampling, at_once=3), fails_after=0)
    turned = (dict(reversed(problem.items())) for problem in PROBLEMS)
    assert evaluation.evaluate(same, turned, checkpoint, is_right, decoded, key="a") == rows


def test_problems_that_cannot_be_are_refused(tmp_path, refuses):
    checkpoint = Checkpoint(tmp_path / "rows")
    with refuses("expected at least one problem, got none"):
        evaluation.evaluate(scripted(TEXTS), [], checkpoint, is_right, decoded)
    with refuses("problem 1 has no 'prompt'; it has: question, answer"):
        evaluation.evaluate(
            scripted(TEXTS), [PROBLEMS[0], {"question": "p", "answer": "4"}], checkpoint, is_right, decoded
        )
    with pytest.raises(ValueError, match="problems must hold plain values, as JSON does, got another: Object of type"):
        evaluation.evaluate(scripted(TEXTS), [{"prompt": "p", "answer": object()}], checkpoint, is_right, decoded)
    with refuses("save_every must be a whole number >= 1, got 0"):
        evaluation.evaluate(scripted(TEXTS), PROBLEMS, checkpoint, is_right, decoded, save_every=0)
    assert checkpoint.load() is None


# summaries


def row_of(problem, correct):
    head = {"problem": problem, "correct": correct, "vote_right": correct > 2}
    return {**head, "distinct": 2, "tokens_mean": 10.0 * problem, "cut_off": 0.25}


def subsets(correct, samples, k):
    """pass@k as the share of all subsets of k samples that hold a right one."""
    outcomes = [1] * correct + [0] * (samples - correct)
    chosen = list(itertools.combinations(outcomes, k))
    return sum(any(each) for each in chosen) / len(chosen)


@pytest.mark.parametrize("verdict", [0.1, "False", None, 2, float("nan"), torch.tensor(True)])
def test_what_is_neither_right_nor_wrong_is_refused(verdict, tmp_path):
    """A score with a bonus for the format, and a judge's text, would count as right."""

    def judge(text, problem):
        return verdict

    with pytest.raises(ValueError, match="judge must find an answer right or wrong, True or False, got "):
        evaluation.evaluate(scripted(TEXTS), PROBLEMS, Checkpoint(tmp_path / "rows"), judge, decoded)


@pytest.mark.parametrize("kind", [bool, int, float, np.bool_, np.float32])
def test_a_verdict_may_be_any_0_or_1(kind, tmp_path):
    made = [
        evaluation.evaluate(scripted(TEXTS), PROBLEMS, Checkpoint(tmp_path / name), judge, decoded)
        for name, judge in (("own", is_right), ("kind", lambda *given: kind(is_right(*given))))
    ]
    assert made[0] == made[1]


def test_a_summary_against_all_subsets():
    correct, ks = (0, 1, 5, 2, 2, 3), (1, 2, 5)
    rows = [row_of(place, each) for place, each in enumerate(correct)]
    found = evaluation.summary(rows, 5, iter(ks))
    oracle = np.array([[subsets(each, 5, k) for k in ks] for each in correct])
    low, high = intervals.bootstrap_interval(oracle)[1:]
    assert [row["k"] for row in found] == list(ks)
    for place, row in enumerate(found):
        assert row["pass_at_k"] == pytest.approx(oracle[:, place].mean(), rel=1e-12)
        assert (row["low"], row["high"]) == pytest.approx((low[place], high[place]), rel=1e-12)
        assert row["low"] < row["pass_at_k"] < row["high"]
        assert (row["problems"], row["cut_off"]) == (6, 0.25)
        assert row["majority"] == pytest.approx(2 / 6)
        assert row["tokens_mean"] == pytest.approx(25.0)
    narrow = evaluation.summary(rows, 5, ks, confidence=0.5)
    assert all(each["high"] - each["low"] < row["high"] - row["low"] for each, row in zip(narrow, found, strict=True))


def test_the_interval_is_over_problems():
    # problems that are all alike tell nothing apart; one problem has no interval, however many its samples
    (same,) = evaluation.summary([row_of(place, 2) for place in range(8)], 5, [1])
    assert (same["low"], same["pass_at_k"], same["high"]) == pytest.approx((0.4, 0.4, 0.4))
    (one,) = evaluation.summary([row_of(0, 2)], 5, [1])
    assert math.isnan(one["low"])
    assert math.isnan(one["high"])
    # solved always or never, half and half: the t interval is 1/2 ± 1.98 · 1/2 / √99
    (split,) = evaluation.summary([row_of(place, 5 * (place % 2)) for place in range(100)], 5, [1])
    assert (split["low"], split["high"]) == pytest.approx((0.4, 0.6), abs=0.015)


def test_rows_that_have_no_summary_are_refused(refuses):
    with refuses("expected rows and at least one k, got 0 rows and 1 ks"):
        evaluation.summary([], 5, [1])
    with refuses("expected rows and at least one k, got 1 rows and 0 ks"):
        evaluation.summary([row_of(0, 1)], 5, [])
    with refuses("pass@k needs k <= samples, got k = 6 with 5 samples"):
        evaluation.summary([row_of(0, 1)], 5, [6])


# folders, and vLLM


def test_a_folder_is_read_from_safetensors_only(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path / "safe")
    tokenizer.save_pretrained(tmp_path / "safe")
    expected = TransformersEngine(model, tokenizer, greedy()).complete(PROMPTS)
    for given in (None, tokenizer):
        for path in (tmp_path / "safe", str(tmp_path / "safe")):
            assert engines.engine(path, given, greedy()).complete(PROMPTS) == expected
    model.config.save_pretrained(tmp_path / "pickled")
    torch.save(model.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    tokenizer.save_pretrained(tmp_path / "pickled")
    with pytest.raises(ValueError, match=r"\Acould not load the model '.*safetensors"):
        engines.engine(tmp_path / "pickled", tokenizer, greedy())


@pytest.fixture
def vllm(monkeypatch, tokenizer):
    """A module with the parts of vLLM's documented interface that the engine uses; it notes what it is asked."""
    fake = ModuleType("vllm")
    fake.__spec__ = ModuleSpec("vllm", None)
    fake.asked = []

    class SamplingParams:
        def __init__(self, *, n, temperature, top_p, max_tokens, seed):
            self.__dict__ |= {"n": n, "temperature": temperature, "top_p": top_p}
            self.__dict__ |= {"max_tokens": max_tokens, "seed": seed}

    class LLM:
        def __init__(self, model, **options):
            fake.loaded = (model, options)

        def get_tokenizer(self):
            return tokenizer

        def generate(self, prompts, sampling_params, use_tqdm):
            fake.asked += zip(prompts, sampling_params, strict=True)
            return [SimpleNamespace(outputs=[self.output(p, place) for place in range(p.n)]) for p in sampling_params]

        def output(self, params, place):
            reason = "stop" if place else "length"
            return SimpleNamespace(text=f"{params.seed} {place}", token_ids=[7] * (place + 2), finish_reason=reason)

    fake.LLM, fake.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", fake)
    return fake


def test_the_vllm_engine_asks_by_problem(vllm):
    engine = VllmEngine("folder", Sampling(2, answer_length=9, seed=4), gpu_memory_utilization=0.5)
    model, options = vllm.loaded
    assert model == "folder"
    assert options == {"load_format": "safetensors", "seed": 4, "gpu_memory_utilization": 0.5}
    found = engine.complete(["w07 w08", [{"role": "user", "content": "09"}]], first=3)
    prompts, asked = zip(*vllm.asked, strict=True)
    assert list(prompts) == [{"prompt_token_ids": [7, 8]}, {"prompt_token_ids": [9, ASSISTANT]}]
    for params in asked:
        assert (params.n, params.temperature, params.top_p, params.max_tokens) == (2, 0.6, 0.95, 9)
        assert 0 <= params.seed < 2**62
    first, second = (params.seed for params in asked)
    assert first != second
    assert found[0] == [Completion(f"{first} 0", 2, False), Completion(f"{first} 1", 3, True)]
    # keyed by the problem, wherever a session begins
    assert engine.complete(["w09"], first=4)[0][0].text == f"{second} 0"


def test_a_closed_engine_holds_no_model(vllm, tokenizer):
    def gone(engine):
        held = weakref.ref(engine._model)
        assert held() is not None
        engine.close()
        return held() is None

    kept = make_model()  # by somebody else, who goes on with it
    # made here, not in an assert, which would hold the model for its message
    engines = [VllmEngine("folder", Sampling()), TransformersEngine(make_model(), tokenizer, Sampling())]
    engines.append(TransformersEngine(kept, tokenizer, Sampling()))
    assert [gone(engine) for engine in engines] == [True, True, False]
    assert TransformersEngine(kept, tokenizer, greedy()).complete(PROMPTS[:1])


def test_vllm_is_chosen_for_a_folder_on_a_gpu(vllm, monkeypatch, tokenizer, tmp_path, refuses):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert isinstance(engines.engine("folder", None, Sampling(), "cuda:0"), VllmEngine)
    assert isinstance(engines.engine(make_model(), tokenizer, Sampling(), "cuda"), TransformersEngine)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"\Acould not load the model '"):  # transformers looks into the folder
        engines.engine(tmp_path, tokenizer, Sampling(), "cuda")
    monkeypatch.setattr(vllm_engine, "find_spec", lambda _: None)
    with refuses("vllm is not installed; it comes with: pip install vllm"):
        VllmEngine("folder", Sampling())
