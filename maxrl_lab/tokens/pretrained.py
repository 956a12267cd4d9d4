"""Policies on disk as `transformers` keeps them: config.json, model.safetensors, tokenizer files; no code is executed.

`AutoModelForCausalLM.from_pretrained(folder)` and `PreTrainedTokenizerFast.from_pretrained(folder)` open what `save`
wrote, and `load` opens any Qwen2 checkpoint that is one file: their logits agree to rounding. (`AutoTokenizer`
gives every Qwen2 model the byte-pair vocabulary of Qwen2, whatever the files say.) The padding token stands only in
generation_config.json: `transformers` gives no gradient to the embedding of one that config.json names.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Shape, Transformer
from maxrl_lab.runs.files import write_atomically, write_json
from maxrl_lab.tokens.qwen2 import from_qwen2, read_shape, to_config, to_qwen2


def save(policy: Transformer, folder: Path | str, words: Sequence[str]) -> None:
    """Write the policy and a tokenizer whose vocabulary is `words`, in the order of their ids, separated by spaces.

    The first three are the padding, first and last token. Raises `InputError` unless there is one word an id.
    """
    if len(words) != policy.shape.vocabulary:
        raise InputError(f"expected {policy.shape.vocabulary} words, one a token id, got {len(words)}")
    folder = Path(folder)
    content = safetensors.torch.save(to_qwen2(policy), metadata={"format": "pt"})
    write_atomically(folder / "model.safetensors", content)
    write_json(folder / "tokenizer.json", _tokenizer(words))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": words[0],
            "bos_token": words[1],
            "eos_token": words[2],
            "model_max_length": policy.shape.context,
            "clean_up_tokenization_spaces": False,
        },
    )
    write_json(folder / "generation_config.json", {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2})
    dtype = str(policy.embedding.dtype).removeprefix("torch.")
    write_json(folder / "config.json", to_config(policy.shape, dtype))


def load(folder: Path | str, vocabulary: int | None = None) -> Transformer:
    """Return the Qwen2 policy in a folder, float32.

    Raises `InputError` for another architecture, damaged or sharded files, weights that do not fit the config or are
    not finite floating-point numbers, or a vocabulary of another size than asked for.
    """
    folder = Path(folder)
    config, weights = _read(folder)
    shape = read_shape(config, folder)
    if vocabulary is not None and shape.vocabulary != vocabulary:
        raise InputError(f"{folder} holds a policy of {shape.vocabulary} words, expected {vocabulary}")
    state = from_qwen2(weights, _outline(shape, len(weights), folder), folder)
    policy = Transformer(shape)
    policy.load_state_dict(state)
    return policy


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the config and the weights in a folder."""
    several = folder / "model.safetensors.index.json"
    if several.exists() and not (folder / "model.safetensors").exists():
        raise InputError(
            f"{folder} holds a sharded policy ({several.name}); expected one file: save it with max_shard_size='1TB'"
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = safetensors.torch.load_file(folder / "model.safetensors")
    except (OSError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise InputError(f"{folder} does not hold a readable policy: {error}") from None
    if not isinstance(config, dict):
        raise InputError(f"{folder}: expected a table of settings in config.json, got {type(config).__name__}")
    return config, weights


def _outline(shape: Shape, weights: int, folder: Path) -> Transformer:
    """Return a policy of this shape that takes no memory; the sizes of a damaged config may be of any magnitude."""
    if shape.layers > weights:
        raise InputError(f"{folder}: expected weights of {shape.layers} layers, got {weights} weights in all")
    try:
        with torch.device("meta"):
            return Transformer(shape)
    except (RuntimeError, OverflowError, TypeError):  # torch has all these for sizes that 64 bits do not hold
        raise InputError(f"{folder}: expected a policy that memory can hold, got {shape}") from None


def _tokenizer(words: Sequence[str]) -> dict[str, Any]:
    """Return a tokenizer of whole words between spaces, in the format of the `tokenizers` library."""
    special = [
        {
            "id": index,
            "content": word,
            "single_word": False,
            "lstrip": True,
            "rstrip": True,
            "normalized": False,
            "special": True,
        }
        for index, word in enumerate(words[:3])
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: index for index, word in enumerate(words)},
            "unk_token": words[0],
        },
    }
