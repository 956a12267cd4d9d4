"""A transformers model as an engine: it samples n completions of each prompt, on whatever device the model is.

The random numbers of problem i depend on the seed and i alone, so that the answers to it are the same, to float
rounding, whatever else shares its batch and wherever a killed run was resumed.

R rows (samples in a batch), V vocabulary, n samples of each problem, T largest number of tokens in an answer.
"""

import contextlib
import copy
import gc
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.llm.models.sampling import Completion, Prompt, Sampling, encode, sample_tokens
from maxrl_lab.randomness import generator


class _Read(NamedTuple):
    """What a model has read so far: its cache of keys and values, and the logits of the next token."""

    cache: Any
    logits: Tensor
    """The logits of the next token, (R, V)."""
    mask: Tensor | None
    """0 at the padding on the left, else 1, (R, tokens so far); None without padding, which spares attention a mask."""

    def repeated(self, times: int) -> "_Read":
        """Return a copy with each row `times` times."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(times)
        mask = None if self.mask is None else self.mask.repeat_interleave(times, 0)
        return _Read(cache, self.logits.repeat_interleave(times, 0), mask)


class TransformersEngine:
    """An engine that samples a causal transformers model, in its precision and on its device; LoRA models too.

    Each prompt is read once, its keys and values are repeated for the samples, and an answer that has ended leaves the
    batch. The model samples in evaluation mode, and each of its modules returns to its own mode afterwards.
    """

    def __init__(self, model: Any, tokenizer: Any, sampling: Sampling) -> None:
        self.sampling = sampling
        self._model, self._tokenizer = model, tokenizer
        self._ends = _end_tokens(model, tokenizer)

    @torch.no_grad()  # not inference_mode: what a model keeps from here may be trained through later
    def complete(self, prompts: Sequence[Prompt], first: int = 0) -> list[list[Completion]]:
        """Return n completions of each prompt; raise `InputError` if one does not fit the model's context."""
        encoded = [self._checked(encode(self._tokenizer, prompt)) for prompt in prompts]
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

    def _checked(self, prompt: list[int]) -> list[int]:
        """Return the prompt; raise `InputError` unless the context holds it and the longest answer."""
        context = getattr(self._model.config, "max_position_embeddings", None)
        if context is not None and len(prompt) + self.sampling.answer_length > context:
            raise InputError(
                f"the model's context holds {context} tokens, got a prompt of {len(prompt)} "
                f"and answers of up to {self.sampling.answer_length}"
            )
        return prompt

    def _sample(self, prompts: list[list[int]], first: int) -> list[list[Completion]]:
        """Return the completions of prompts that are read together; `at_once` of their samples are written at once."""
        read = self._read(prompts)
        uniforms = torch.stack([self._uniforms(first + index) for index in range(len(prompts))])
        completions: list[list[Completion]] = [[] for _ in prompts]
        for part in uniforms.to(read.logits.device).split(self.sampling.at_once, dim=1):
            rows = self._write(read.repeated(part.shape[1]), part.flatten(0, 1))
            for index, row in enumerate(rows):
                completions[index // part.shape[1]].append(self._completion(row))
        return completions

    def _uniforms(self, problem: int) -> Tensor:
        """Return random numbers (n, T) in [0, 1) for a problem; they are the same on every device."""
        stream = generator("answers", self.sampling.seed, problem)
        return torch.rand(self.sampling.samples, self.sampling.answer_length, generator=stream)

    def _read(self, prompts: list[list[int]]) -> _Read:
        """Read prompts together, padded on the left where their lengths differ."""
        width = max(map(len, prompts))
        tokens = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        device = self._model.device
        is_padded = any(len(prompt) < width for prompt in prompts)
        return self._forward(
            torch.tensor(tokens, device=device), torch.tensor(mask, device=device) if is_padded else None, None
        )

    def _forward(self, tokens: Tensor, mask: Tensor | None, cache: Any) -> _Read:
        """Read tokens (R, any) behind those in the cache; `mask` covers the cached and the new ones."""
        padding: dict[str, Tensor] = {}
        if mask is not None:
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
            padding = {"attention_mask": mask, "position_ids": positions}
        output = self._model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1, **padding)
        return _Read(output.past_key_values, output.logits[:, -1], mask)

    def _write(self, read: _Read, uniforms: Tensor) -> list[list[int]]:
        """Return each row's answer as token ids, up to its end token, picked by the numbers (R, T)."""
        written = torch.full(uniforms.shape, -1, device=uniforms.device)
        rows = torch.arange(len(uniforms), device=uniforms.device)
        for step in range(uniforms.shape[1]):
            tokens = sample_tokens(read.logits, uniforms[rows, step], self.sampling.temperature, self.sampling.top_p)
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
    """Return the ids that end an answer: those of the model's generation settings, and the tokenizer's."""
    of_the_model = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = [[ids] if isinstance(ids, int) else ids or [] for ids in (of_the_model, tokenizer.eos_token_id)]
    ids = {end for ends in listed for end in ends}
    return torch.tensor(sorted(ids), dtype=torch.long, device=model.device)


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Turn dropout off, and afterwards on again in the modules where it was on."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
