"""Engines: prompts to n sampled completions each, by a transformers model or by vLLM."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch

from maxrl_lab.errors import InputError
from maxrl_lab.llm.models.loading import load
from maxrl_lab.llm.models.sampling import Completion, Prompt, Sampling
from maxrl_lab.llm.models.transformers_engine import TransformersEngine
from maxrl_lab.llm.models.vllm_engine import VllmEngine


class Engine(Protocol):
    """What `evaluation.evaluate` samples with."""

    sampling: Sampling

    def complete(self, prompts: Sequence[Prompt], first: int = 0) -> list[list[Completion]]:
        """Return n completions of each prompt; prompt i is problem `first + i`, which keys its random numbers."""

    def close(self) -> None:
        """Let go of the model."""


def engine(model: Any, tokenizer: Any, sampling: Sampling, device: str = "cpu") -> Engine:
    """Return the engine for a transformers model in memory, or for the folder or name of a model, on `device`.

    A model in memory is sampled on its own device and needs its tokenizer. A folder is sampled by vLLM if that is
    installed and `device` is a GPU; without a `tokenizer` the folder's own is taken. Only safetensors are read, and no
    code that comes with a model is run. Raises `InputError` for a model that cannot be loaded.
    """
    if not isinstance(model, str | Path):
        if tokenizer is None:
            raise InputError("a model in memory needs its tokenizer, got none")
        return TransformersEngine(model, tokenizer, sampling)
    if has_vllm(device):
        return VllmEngine(str(model), sampling)
    # weights in bfloat16 are 100 times slower on a CPU without instructions for them
    policy = load(model, "auto" if device.startswith("cuda") else "float32")
    return TransformersEngine(policy.model.to(device), tokenizer or policy.tokenizer, sampling)


def has_vllm(device: str) -> bool:
    """Whether models in folders are sampled by vLLM."""
    return device.startswith("cuda") and torch.cuda.is_available() and find_spec("vllm") is not None
