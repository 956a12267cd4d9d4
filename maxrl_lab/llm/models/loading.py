"""A language model and its tokenizer, from a folder or the hub: safetensors only, and no code that comes with them."""

from pathlib import Path
from typing import Any, NamedTuple

from maxrl_lab.errors import InputError
from maxrl_lab.llm import need


class Policy(NamedTuple):
    """A language model and its tokenizer."""

    model: Any
    tokenizer: Any


def load(place: str | Path, dtype: str = "float32") -> Policy:
    """Return the model on the CPU; a one-line `ValueError` if it is not there, not whole, or needs code of its own.

    `dtype` is that of the weights; "auto" is the one they are kept in.
    """
    transformers = need("transformers")
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        model, loaded = transformers.AutoModelForCausalLM.from_pretrained(
            place, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        if drawn := sorted(map(str, loaded["missing_keys"])):  # transformers would draw them at random
            raise InputError(f"it has no weights for {', '.join(drawn)}")
    except Exception as error:  # each part of a model fails in its own way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"could not load the model {str(place)!r} ({reason})") from None
    return Policy(model, tokenizer)


def add_end(policy: Policy, text: str) -> None:
    """Let the token that `text` is end answers, besides the model's own; `ValueError` if it is not one token."""
    model, tokenizer = policy
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    own = model.generation_config.eos_token_id
    ends = [tokenizer.eos_token_id, *([own] if isinstance(own, int) else own or [])]
    if text:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or (ids == [tokenizer.unk_token_id] and text != tokenizer.unk_token):
            what = "unknown" if len(ids) == 1 else f"{len(ids)} tokens"
            raise InputError(f"end must be one token that the model knows, got {text!r}, which is {what}")
        ends += ids
    model.generation_config.eos_token_id = list(dict.fromkeys(ends))
