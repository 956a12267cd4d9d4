"""How much memory does the training of a recipe need on each device? An estimate from the model's shape."""

from collections.abc import Mapping
from typing import NamedTuple

from maxrl_lab import specs
from maxrl_lab.llm.jobs.recipe import EMBEDDED, Recipe

_GIB = 2**30


class Size(NamedTuple):
    """The numbers of a decoder that its memory depends on."""

    parameters: float
    layers: int
    width: int
    mlp: int
    vocabulary: int
    key_width: int
    """Width of the keys: the number of key-value heads times their size."""
    query_width: int
    """Width of the queries: the number of heads times their size."""


MODELS: Mapping[str, Size] = {
    EMBEDDED: Size(134.5e6, 30, 576, 1536, 49152, 192, 576),
    "HuggingFaceTB/SmolLM2-360M-Instruct": Size(361.8e6, 32, 960, 2560, 49152, 320, 960),
    "Qwen/Qwen3-1.7B-Base": Size(1.721e9, 28, 2048, 6144, 151936, 1024, 2048),
    "Qwen/Qwen3-4B-Base": Size(4.022e9, 36, 2560, 9728, 151936, 1024, 4096),
}
"""The models whose size is known; `memory` refuses others."""


def memory(recipe: Recipe, devices: int = 1) -> dict[str, float]:
    """Return the GiB that each of `devices` needs for training, by part and in all.

    Weights, gradients and AdamW's two moments are float32 (16 bytes a parameter) and sharded over the devices, as FSDP
    or ZeRO-3 do; low-rank adapters leave the weights alone. Activations are bfloat16 or float32: a checkpointed layer
    keeps its input, another layer some 8 widths, 2 query, 4 MLP and 3 key widths a token, without the attention matrix
    (flash attention). TRL computes the logits of answers in small tiles, which are not counted. vLLM keeps a copy of
    the weights in bfloat16 and, at most, the keys and values of 64 rollouts at once. What allocators and kernels add
    is not in the estimate. Raises `InputError` for a model that is not in `MODELS`.
    """
    size = specs.lookup(MODELS, "size of model", recipe.model)
    share = size.parameters / devices
    adapters = recipe.lora * size.layers * (7 * size.width + 3 * size.mlp + 2 * size.key_width + 2 * size.query_width)
    trained = 16 * adapters if recipe.lora else 12 * share
    tokens = recipe.micro_batch * (recipe.prompt_length + recipe.answer_length)
    per_layer = 8 * size.width + 2 * size.query_width + 4 * size.mlp + 3 * size.key_width
    kept = size.layers * size.width + per_layer if recipe.checkpointing else size.layers * per_layer
    bytes_each = 2 if recipe.precision == "bfloat16" else 4
    parts = {
        "weights": 4 * share,
        "gradients and optimiser": trained,
        "activations": bytes_each * tokens * kept,
    }
    if recipe.vllm:
        cache = 2 * 2 * size.layers * size.key_width * 64 * (recipe.prompt_length + recipe.answer_length)
        parts["vLLM"] = 2 * size.parameters + cache
    return {name: part / _GIB for name, part in {**parts, "total": sum(parts.values())}.items()}
