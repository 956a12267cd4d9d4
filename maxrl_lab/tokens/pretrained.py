"""Policies on disk as `transformers` keeps them: config.json, model.safetensors, tokenizer files; no code is executed.

`AutoModelForCausalLM.from_pretrained(folder)` and `PreTrainedTokenizerFast.from_pretrained(folder)` open what `save`
wrote, and `load` opens any Qwen2 checkpoint that is one file: their logits agree to rounding. (`AutoTokenizer`
gives every Qwen2 model the byte-pair vocabulary of Qwen2, whatever the files say.)
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.runs.files import write_atomically, write_json
from maxrl_lab.tokens.qwen2 import from_qwen2, read_shape, to_config, to_qwen2


def save(policy: Transformer, folder: Path, words: Sequence[str]) -> None:
    """Write the policy and a tokenizer whose vocabulary is `words`, in the order of their ids, separated by spaces.

    The first three are the padding, first and last token. Raises `InputError` unless there is one word an id.
    """
    if len(words) != policy.shape.vocabulary:
        raise InputError(f"expected {policy.shape.vocabulary} words, one a token id, got {len(words)}")
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
    dtype = str(policy.embedding.dtype).removeprefix("torch.")
    write_json(folder / "config.json", to_config(policy.shape, dtype))


def load(folder: Path, vocabulary: int | None = None) -> Transformer:
    """Return the Qwen2 policy in a folder, float32.

    Raises `InputError` for another architecture, damaged files, weights that do not fit the config, or a vocabulary of
    another size than asked for.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        weights = safetensors.torch.load_file(folder / "model.safetensors")
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{folder} does not hold a readable policy: {error}") from None
    if not isinstance(config, dict):
        raise InputError(f"{folder}: expected a table of settings in config.json, got {type(config).__name__}")
    shape = read_shape(config, folder)
    if vocabulary is not None and shape.vocabulary != vocabulary:
        raise InputError(f"{folder} holds a policy of {shape.vocabulary} words, expected {vocabulary}")
    policy = Transformer(shape)
    policy.load_state_dict(from_qwen2(weights, policy, folder))
    return policy


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
