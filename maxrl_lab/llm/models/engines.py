"""Engines: prompts to n sampled completions each, by a transformers model or by vLLM.

Random numbers belong to the problem: those of problem i depend on the seed and i alone, so that its answers are the
same whatever else shares its batch and wherever a killed run was resumed, to float rounding.

R rows (samples in a batch), V vocabulary, n samples of each problem, T most tokens of an answer.
"""

import contextlib
import copy
import gc
import importlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.llm.models.loading import load
from maxrl_lab.llm.models.sampling import Completion, Prompt, Sampling, draw, encode
from maxrl_lab.randomness import generator


class Engine(Protocol):
    """What `evaluation.evaluate` samples with."""

    sampling: Sampling

    def complete(self, prompts: Sequence[Prompt], first: int = 0) -> list[list[Completion]]:
        """Return n completions of each prompt; prompt i is problem `first + i`, which keys its random numbers."""

    def close(self) -> None:
        """Let go of the model."""


def engine(model: Any, tokenizer: Any, sampling: Sampling, device: str = "cpu") -> Engine:
    """Return the engine for a transformers model, where it is, or for the folder or name of one, on `device`.

    A folder is sampled by vLLM if that is installed and `device` is a GPU. Only safetensors are read, and no code that
    comes with a model is run. Without a `tokenizer` the folder's own is taken. Raises `ValueError` if there is none.
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


class _Read(NamedTuple):
    """What a model has read: its cache of keys and values, and what it expects next."""

    cache: Any
    logits: Tensor
    """(R, V)"""
    mask: Tensor | None
    """(R, tokens so far), 0 at the padding on the left; None if there is none, which lets attention do without."""

    def repeated(self, times: int) -> "_Read":
        """Return a copy with each row `times` times."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(times)
        mask = None if self.mask is None else self.mask.repeat_interleave(times, 0)
        return _Read(cache, self.logits.repeat_interleave(times, 0), mask)


class TransformersEngine:
    """Samples a causal transformers model, on whatever device and in whatever precision it is; LoRA models too.

    Each prompt is read once, its keys and values are repeated for the samples, and an answer that has ended leaves the
    batch. The model is put into evaluation mode and back.
    """

    def __init__(self, model: Any, tokenizer: Any, sampling: Sampling) -> None:
        self.sampling = sampling
        self._model, self._tokenizer = model, tokenizer
        self._ends = _end_tokens(model, tokenizer)

    @torch.no_grad()  # not inference_mode: what a model keeps from here may be trained through later
    def complete(self, prompts: Sequence[Prompt], first: int = 0) -> list[list[Completion]]:
        """Return n completions of each prompt; `ValueError` if one does not fit the model's context."""
        encoded = [self._fitting(encode(self._tokenizer, prompt)) for prompt in prompts]
        together = max(1, self.sampling.at_once // self.sampling.samples)
        completions = []
        with _evaluating(self._model):
            for start in range(0, len(encoded), together):
                completions += self._sample(encoded[start : start + together], first + start)
        return completions

    def close(self) -> None:
        """Let go of the model, and of a GPU's memory if nobody else holds it."""
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _fitting(self, prompt: list[int]) -> list[int]:
        context = getattr(self._model.config, "max_position_embeddings", None)
        if context is not None and len(prompt) + self.sampling.answer_length > context:
            raise InputError(
                f"the model's context holds {context} tokens, got a prompt of {len(prompt)} "
                f"and answers of up to {self.sampling.answer_length}"
            )
        return prompt

    def _sample(self, prompts: list[list[int]], first: int) -> list[list[Completion]]:
        """The completions of the prompts of one batch; a problem of too many samples takes several."""
        asked, read = self.sampling, self._read(prompts)
        uniforms = torch.stack([self._uniforms(first + place) for place in range(len(prompts))])
        completions: list[list[Completion]] = [[] for _ in prompts]
        for part in uniforms.to(read.logits.device).split(asked.at_once, dim=1):
            rows = self._write(read.repeated(part.shape[1]), part.flatten(0, 1))
            for place, row in enumerate(rows):
                completions[place // part.shape[1]].append(self._completion(row))
        return completions

    def _uniforms(self, problem: int) -> Tensor:
        """Numbers (n, T) in [0, 1), the same on every device."""
        asked = self.sampling
        return torch.rand(asked.samples, asked.answer_length, generator=generator("answers", asked.seed, problem))

    def _read(self, prompts: list[list[int]]) -> _Read:
        width = max(map(len, prompts))
        tokens = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        device = self._model.device
        is_padded = any(len(prompt) < width for prompt in prompts)
        return self._forward(
            torch.tensor(tokens, device=device), torch.tensor(mask, device=device) if is_padded else None, None
        )

    def _forward(self, tokens: Tensor, mask: Tensor | None, cache: Any) -> _Read:
        """Read tokens (R, any) behind what is in the cache; `mask` covers both."""
        padding: dict[str, Tensor] = {}
        if mask is not None:
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
            padding = {"attention_mask": mask, "position_ids": positions}
        output = self._model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1, **padding)
        return _Read(output.past_key_values, output.logits[:, -1], mask)

    def _write(self, read: _Read, uniforms: Tensor) -> list[list[int]]:
        """The tokens that the numbers (R, T) draw behind what each row has read, up to the end token."""
        written = torch.full(uniforms.shape, -1, device=uniforms.device)
        rows = torch.arange(len(uniforms), device=uniforms.device)
        for step in range(uniforms.shape[1]):
            tokens = draw(read.logits, uniforms[rows, step], self.sampling.temperature, self.sampling.top_p)
            written[rows, step] = tokens
            unfinished = torch.isin(tokens, self._ends, invert=True).nonzero()[:, 0]
            if step + 1 == uniforms.shape[1] or not len(unfinished):
                break
            mask = read.mask
            if len(unfinished) < len(rows):
                rows, tokens = rows[unfinished], tokens[unfinished]
                mask = None if mask is None else mask[unfinished]
                read.cache.batch_select_indices(unfinished)
            mask = None if mask is None else torch.nn.functional.pad(mask, (0, 1), value=1)
            read = self._forward(tokens[:, None], mask, read.cache)
        return [[token for token in row if token >= 0] for row in written.tolist()]

    def _completion(self, tokens: list[int]) -> Completion:
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return Completion(text, len(tokens), tokens[-1] in self._ends.tolist())


def _end_tokens(model: Any, tokenizer: Any) -> Tensor:
    """The ids that end an answer: those of the model's generation settings, and the tokenizer's."""
    named = [getattr(getattr(model, "generation_config", None), "eos_token_id", None), tokenizer.eos_token_id]
    ids = {end for each in named if each is not None for end in ([each] if isinstance(each, int) else each)}
    return torch.tensor(sorted(ids), dtype=torch.long, device=model.device)


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Turn dropout off, and back on in the modules where it was on."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class VllmEngine:
    """Samples the model in a folder by vLLM; its random numbers are vLLM's own, keyed by problem as well."""

    def __init__(self, path: str, sampling: Sampling, **options: Any) -> None:
        """Load the model; `options` go to vLLM's `LLM`, e.g. `gpu_memory_utilization=0.5` beside a trainer."""
        if find_spec("vllm") is None:
            raise InputError("vllm is not installed; it comes with: pip install vllm")
        self.sampling = sampling
        self._vllm = importlib.import_module("vllm")
        self._model = self._vllm.LLM(model=path, load_format="safetensors", seed=sampling.seed, **options)

    def complete(self, prompts: Sequence[Prompt], first: int = 0) -> list[list[Completion]]:
        """Return n completions of each prompt."""
        tokenizer = self._model.get_tokenizer()
        inputs = [{"prompt_token_ids": encode(tokenizer, prompt)} for prompt in prompts]
        asked = [self._asked(first + place) for place in range(len(prompts))]
        found = self._model.generate(inputs, asked, use_tqdm=False)
        return [
            [Completion(each.text, len(each.token_ids), each.finish_reason == "stop") for each in request.outputs]
            for request in found
        ]

    def close(self) -> None:
        """Give the GPU's memory back."""
        self._model = None
        gc.collect()
        torch.cuda.empty_cache()

    def _asked(self, problem: int) -> Any:
        asked = self.sampling
        return self._vllm.SamplingParams(
            n=asked.samples,
            temperature=asked.temperature,
            top_p=asked.top_p,
            max_tokens=asked.answer_length,
            seed=generator("answers", asked.seed, problem).initial_seed() % 2**62,  # vLLM adds the sample's number
        )
