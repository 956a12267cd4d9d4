"""The policy as `transformers` names it: the config and the weights of a `Qwen2ForCausalLM`, to and from ours."""

from typing import Any

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Shape, Transformer

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
"""Field of `Shape` to key of config.json; the rotary base stands in one of two places, see `_rope_theta`."""


def to_config(shape: Shape, dtype: str) -> dict[str, Any]:
    """Return the config.json of a policy of this shape, whose weights have the type `dtype`."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **{key: getattr(shape, name) for name, key in _SIZES.items()},
        "rope_theta": shape.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": dtype,
        "torch_dtype": dtype,
    }


def read_shape(config: dict[str, Any], source: object = "config.json") -> Shape:
    """Return the shape that a Qwen2 config describes; `InputError` if it describes something else."""
    if config.get("model_type") != "qwen2" or config.get("use_sliding_window") or config.get("hidden_act") != "silu":
        keys = [key for key in ("model_type", "hidden_act", "use_sliding_window") if config.get(key)]
        got = ", ".join(f"{key} {config[key]!r}" for key in keys) or "none of its settings"
        raise InputError(f"{source}: expected a Qwen2 config with full attention and silu, got {got}")
    kinds = config.get("layer_types") or []
    if not config.get("is_causal", True) or not isinstance(kinds, list) or any(k != "full_attention" for k in kinds):
        got = f"is_causal {config.get('is_causal', True)!r} and layer_types {kinds!r}"
        raise InputError(f"{source}: expected causal attention to all that went before, got {got}")
    missing = [key for key in _SIZES.values() if key not in config and key != "tie_word_embeddings"]
    if missing:
        raise InputError(f"{source}: expected the sizes of a Qwen2 config, missing {', '.join(missing)}")
    sizes = {name: config[key] for name, key in _SIZES.items() if key in config}
    if not isinstance(sizes.setdefault("tied", False), bool):
        raise InputError(f"{source}: expected true or false as tie_word_embeddings, got {sizes['tied']!r}")
    try:
        return Shape(**sizes, rope_theta=_rope_theta(config, source))
    except (TypeError, OverflowError):
        raise InputError(f"{source}: expected the sizes of a Qwen2 config, got {sizes}") from None


def _rope_theta(config: dict[str, Any], source: object) -> float:
    """Return the rotary base, which stands in `rope_parameters` since transformers 5, and at the top before that."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise InputError(f"{source}: expected a table of rotary positions, got {rope!r}")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise InputError(f"{source}: expected plain rotary positions, got rope_type {kind!r}")
    theta = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
    try:
        return float(theta)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{source}: expected a number as rope_theta, got {theta!r}") from None


def to_qwen2(policy: Transformer) -> dict[str, Tensor]:
    """Return the policy's weights under the names of `Qwen2ForCausalLM`."""
    shape = policy.shape
    weights: dict[str, Tensor] = {"model.embed_tokens.weight": policy.embedding, "model.norm.weight": policy.norm}
    if policy.head is not None:
        weights["lm_head.weight"] = policy.head
    heads = [count * shape.head for count in (shape.heads, shape.kv_heads, shape.kv_heads)]
    for layer, block in enumerate(policy.blocks):
        layer_weights = {
            "input_layernorm.weight": block.attention_norm,
            "post_attention_layernorm.weight": block.mlp_norm,
            "self_attn.o_proj.weight": block.out.weight,
            "mlp.down_proj.weight": block.down.weight,
        }
        for kind in ("weight", "bias"):
            parts = getattr(block.qkv, kind).split(heads)
            layer_weights |= {f"self_attn.{name}_proj.{kind}": part for name, part in zip("qkv", parts, strict=True)}
        gate, up = block.gate_up.weight.chunk(2)
        layer_weights |= {"mlp.gate_proj.weight": gate, "mlp.up_proj.weight": up}
        weights |= {f"model.layers.{layer}.{name}": value for name, value in layer_weights.items()}
    return {name: value.detach().contiguous() for name, value in weights.items()}


def from_qwen2(weights: dict[str, Tensor], policy: Transformer, source: object = "the weights") -> dict[str, Tensor]:
    """Return the state of a policy of this shape from the weights of a `Qwen2ForCausalLM`.

    Raises `InputError` naming the first weight that is missing, unexpected or of another shape, or that does not hold
    finite floating-point numbers.
    """
    expected = {name: value.shape for name, value in to_qwen2(policy).items()}
    if policy.shape.tied:
        weights = {name: value for name, value in weights.items() if name != "lm_head.weight"}
    shapes = {name: value.shape for name, value in weights.items()}
    for name in {**expected, **shapes}:
        wanted, got = (tuple(table[name]) if name in table else "none" for table in (expected, shapes))
        if wanted != got:
            raise InputError(f"{source}: expected {name} of shape {wanted}, got {got}")
    weights = {name: _single(name, value, source) for name, value in weights.items()}
    state = {"embedding": weights["model.embed_tokens.weight"], "norm": weights["model.norm.weight"]}
    if not policy.shape.tied:
        state["head"] = weights["lm_head.weight"]
    for layer in range(policy.shape.layers):
        block = _block({name: weights[f"model.layers.{layer}.{name}"] for name in _LAYER})
        state |= {f"blocks.{layer}.{name}": value for name, value in block.items()}
    return state


def _single(name: str, value: Tensor, source: object) -> Tensor:
    """Return a weight in single precision; whole and 8-bit numbers are codes that mean nothing without their scales."""
    if value.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise InputError(f"{source}: expected floating-point weights of 16 to 64 bits, got {name} of {value.dtype}")
    single = value.float()
    if not bool(single.isfinite().all()):
        raise InputError(f"{source}: expected finite weights, got {name} with NaN or infinite numbers")
    return single


def _block(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of one `Block` from the weights of one layer."""
    projections = [[weights[f"self_attn.{name}_proj.{kind}"] for name in "qkv"] for kind in ("weight", "bias")]
    qkv, biases = (torch.cat(parts) for parts in projections)
    return {
        "attention_norm": weights["input_layernorm.weight"],
        "mlp_norm": weights["post_attention_layernorm.weight"],
        "qkv.weight": qkv,
        "qkv.bias": biases,
        "out.weight": weights["self_attn.o_proj.weight"],
        "gate_up.weight": torch.cat([weights["mlp.gate_proj.weight"], weights["mlp.up_proj.weight"]]),
        "down.weight": weights["mlp.down_proj.weight"],
    }


_LAYER = (
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
    *(f"self_attn.{name}_proj.{kind}" for name in "qkv" for kind in ("weight", "bias")),
    "self_attn.o_proj.weight",
    "mlp.gate_proj.weight",
    "mlp.up_proj.weight",
    "mlp.down_proj.weight",
)
"""Names of the weights of one layer of `Qwen2ForCausalLM`."""
