"""Policies on disk as `transformers` keeps them: config.json, model.safetensors, tokenizer files; nothing is executed.

`AutoModelForCausalLM.from_pretrained(folder)` and `PreTrainedTokenizerFast.from_pretrained(folder)` open what `save`
wrote, and `load` opens any Qwen2 checkpoint that is one file: their logits agree to rounding. (`AutoTokenizer` takes
every Qwen2 model for one with Qwen2's own byte-pair vocabulary, whatever the files say.)
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

_SIZES = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "mlp": "intermediate_size",
    "context": "max_position_embeddings",
    "norm_epsilon": "rms_norm_eps",
    "tied": "tie_word_embeddings",
}
"""Field of `Shape` to key of config.json; the rotary base has two places, see `_rope_theta`."""


def save(policy: Transformer, folder: Path, words: Sequence[str]) -> None:
    """Write the policy and a tokenizer whose vocabulary is `words`, in the order of their ids, separated by spaces.

    The first three are the padding, first and last token. Raises `ValueError` unless there is a word per id.
    """
    if len(words) != policy.shape.vocabulary:
        raise InputError(f"expected {policy.shape.vocabulary} words, one a token id, got {len(words)}")
    parameter = policy.embedding
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
    write_json(folder / "config.json", _config(policy.shape, str(parameter.dtype).removeprefix("torch.")))


def load(folder: Path, vocabulary: int | None = None) -> Transformer:
    """Return the Qwen2 policy in a folder, float32.

    Raises `ValueError` for another architecture, damaged files, weights that do not fit the config, or a vocabulary of
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


def read_shape(config: dict[str, Any], source: object = "config.json") -> Shape:
    """Return the shape that a Qwen2 config describes; `ValueError` if it describes something else."""
    if config.get("model_type") != "qwen2" or config.get("use_sliding_window") or config.get("hidden_act") != "silu":
        keys = [key for key in ("model_type", "hidden_act", "use_sliding_window") if config.get(key)]
        got = ", ".join(f"{key} {config[key]!r}" for key in keys) or "none of its settings"
        raise InputError(f"{source}: expected a Qwen2 config with full attention and silu, got {got}")
    missing = [key for key in _SIZES.values() if key not in config and key != "tie_word_embeddings"]
    if missing:
        raise InputError(f"{source}: expected the sizes of a Qwen2 config, missing {', '.join(missing)}")
    sizes = {name: config[key] for name, key in _SIZES.items() if key in config}
    return Shape(**{"tied": False, **sizes, "rope_theta": _rope_theta(config, source)})


def _rope_theta(config: dict[str, Any], source: object) -> float:
    """The rotary base: since transformers 5 in `rope_parameters`, before that at the top."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise InputError(f"{source}: expected plain rotary positions, got rope_type {kind!r}")
    return float(rope.get("rope_theta", config.get("rope_theta", 10_000.0)))


def to_qwen2(policy: Transformer) -> dict[str, Tensor]:
    """Return the policy's weights under the names of `Qwen2ForCausalLM`."""
    shape = policy.shape
    weights: dict[str, Tensor] = {"model.embed_tokens.weight": policy.embedding, "model.norm.weight": policy.norm}
    if policy.head is not None:
        weights["lm_head.weight"] = policy.head
    heads = [each * shape.head for each in (shape.heads, shape.kv_heads, shape.kv_heads)]
    for layer, block in enumerate(policy.blocks):
        own = {
            "input_layernorm.weight": block.attention_norm,
            "post_attention_layernorm.weight": block.mlp_norm,
            "self_attn.o_proj.weight": block.out.weight,
            "mlp.down_proj.weight": block.down.weight,
        }
        for kind in ("weight", "bias"):
            parts = getattr(block.qkv, kind).split(heads)
            own |= {f"self_attn.{name}_proj.{kind}": part for name, part in zip("qkv", parts, strict=True)}
        own["mlp.gate_proj.weight"], own["mlp.up_proj.weight"] = block.gate_up.weight.chunk(2)
        weights |= {f"model.layers.{layer}.{name}": value for name, value in own.items()}
    return {name: value.detach().contiguous() for name, value in weights.items()}


def from_qwen2(weights: dict[str, Tensor], policy: Transformer, source: object = "the weights") -> dict[str, Tensor]:
    """Return the state of a policy of this shape from the weights of a `Qwen2ForCausalLM`.

    Raises `ValueError` naming the first weight that is missing, unexpected or of another shape.
    """
    expected = {name: value.shape for name, value in to_qwen2(policy).items()}
    if policy.shape.tied:
        weights = {name: value for name, value in weights.items() if name != "lm_head.weight"}
    for name in {**expected, **weights}:
        wanted, found = (tuple(table[name]) if name in table else "none" for table in (expected, _shapes(weights)))
        if wanted != found:
            raise InputError(f"{source}: expected {name} of shape {wanted}, got {found}")
    state = {"embedding": weights["model.embed_tokens.weight"], "norm": weights["model.norm.weight"]}
    if not policy.shape.tied:
        state["head"] = weights["lm_head.weight"]
    for layer in range(policy.shape.layers):
        own = {name: weights[f"model.layers.{layer}.{name}"] for name in _LAYER}
        projections = [[own[f"self_attn.{name}_proj.{kind}"] for name in "qkv"] for kind in ("weight", "bias")]
        qkv, biases = (torch.cat(parts) for parts in projections)
        block = {
            "attention_norm": own["input_layernorm.weight"],
            "mlp_norm": own["post_attention_layernorm.weight"],
            "qkv.weight": qkv,
            "qkv.bias": biases,
            "out.weight": own["self_attn.o_proj.weight"],
            "gate_up.weight": torch.cat([own["mlp.gate_proj.weight"], own["mlp.up_proj.weight"]]),
            "down.weight": own["mlp.down_proj.weight"],
        }
        state |= {f"blocks.{layer}.{name}": value for name, value in block.items()}
    return {name: value.float() for name, value in state.items()}


_LAYER = (
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
    *(f"self_attn.{name}_proj.{kind}" for name in "qkv" for kind in ("weight", "bias")),
    "self_attn.o_proj.weight",
    "mlp.gate_proj.weight",
    "mlp.up_proj.weight",
    "mlp.down_proj.weight",
)
"""Weights of one layer of `Qwen2ForCausalLM`."""


def _shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def _config(shape: Shape, dtype: str) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **{key: getattr(shape, name) for name, key in _SIZES.items()},
        "rope_theta": shape.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": dtype,
        "torch_dtype": dtype,
    }


def _tokenizer(words: Sequence[str]) -> dict[str, Any]:
    """A tokenizer of whole words between spaces, in the format of the `tokenizers` library."""
    special = [
        {
            "id": place,
            "content": word,
            "single_word": False,
            "lstrip": True,
            "rstrip": True,
            "normalized": False,
            "special": True,
        }
        for place, word in enumerate(words[:3])
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
            "vocab": {word: place for place, word in enumerate(words)},
            "unk_token": words[0],
        },
    }
