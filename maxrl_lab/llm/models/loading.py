"""A language model and its tokenizer, from a folder or the hub: safetensors only, and no code that comes with them."""

from pathlib import Path
from typing import Any, NamedTuple

from maxrl_lab.errors import InputError
from maxrl_lab.llm import need


class Policy(NamedTuple):
    """A language model and its tokenizer."""

    model: Any
    tokenizer: Any


def load(location: str | Path, dtype: str = "float32") -> Policy:
    """Return the model of a folder or a name on the hub, on the CPU.

    `dtype` is the type of the weights in memory; "auto" is the one in which they are stored. Raises a one-line
    `InputError` for a model that is not there, is not whole, or needs code of its own.
    """
    transformers = need("transformers")
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = _tokenizer(location)
        model, loaded = transformers.AutoModelForCausalLM.from_pretrained(
            location, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        if absent := sorted(map(str, loaded["missing_keys"])):  # transformers fills them with random numbers
            raise InputError(f"it has no weights for {', '.join(absent)}")
    except Exception as error:  # each part of a model fails in its own way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"could not load the model {str(location)!r} ({reason})") from None
    return Policy(model, tokenizer)


_WHOLE_IN_ITS_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Names of the class of a tokenizer that tokenizer.json describes completely: of transformers 4 and 5."""


def _tokenizer(location: str | Path) -> Any:
    """Return the tokenizer that the files describe: `AutoTokenizer` makes one of bytes for every Qwen2 model."""
    transformers = need("transformers")
    described = need("transformers.models.auto.tokenization_auto").get_tokenizer_config(location)
    if described.get("tokenizer_class") in _WHOLE_IN_ITS_FILE and "auto_map" not in described:
        return transformers.PreTrainedTokenizerFast.from_pretrained(location)
    return transformers.AutoTokenizer.from_pretrained(location, trust_remote_code=False)


def add_end(policy: Policy, text: str) -> None:
    """Let the token `text` end the model's answers, besides its own end tokens.

    Raises `InputError` if `text` is not one token that the model knows. An empty text adds nothing.
    """
    model, tokenizer = policy
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    named = model.generation_config.eos_token_id
    ends = [tokenizer.eos_token_id, *([named] if isinstance(named, int) else named or [])]
    if text:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or (ids == [tokenizer.unk_token_id] and text != tokenizer.unk_token):
            what = "unknown" if len(ids) == 1 else f"{len(ids)} tokens"
            raise InputError(f"end must be one token that the model knows, got {text!r}, which is {what}")
        ends += ids
    model.generation_config.eos_token_id = list(dict.fromkeys(ends))
