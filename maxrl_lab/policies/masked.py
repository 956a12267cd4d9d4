"""Masked-diffusion policies: from a prompt and a partly filled answer to a distribution over digits at every place.

Two networks with one method: `MaskedPolicy`, a transformer with attention in both directions, and `PairwiseDenoiser`,
a log-linear model that is small enough for the exact moments of its gradient.

Axes: B prompts, P words of each, M partly filled answers to each, L places, V digits. Word V is the empty place.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Shape, Transformer

SMALL = Shape(width=32, layers=2, heads=2, kv_heads=2, mlp=64, rope_theta=100.0, context=64)
"""A transformer for answers of a few digits: 20,000 parameters."""


class MaskedPolicy(nn.Module):
    """The lab's transformer as a denoiser: an answer's places see the prompt and all places of the answer.

    The prompt is read once, by itself, and shared by all answers to it; LLaDA (arXiv:2502.09992) lets a prompt's words
    see the answer too. The empty place can be read and never written: it has no logit. Parameters start as those of
    `Transformer` do, or from `seed` alone if it is given; `start` multiplies the matrices. At width 32 digits that
    depend on each other are learnt far sooner from matrices that are 5 times as large.

    words: the number of words that prompts are written in; V + 1 by default, digits and the empty place.
    """

    def __init__(
        self,
        shape: Shape = SMALL,
        *,
        base: int,
        words: int | None = None,
        seed: int | None = None,
        start: float = 1.0,
    ) -> None:
        super().__init__()
        self.base = base
        vocabulary = base + 1 if words is None else words
        if vocabulary <= base:
            raise InputError(f"words must be more than the {base} digits, got {words}")
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.transformer = Transformer(replace(shape, vocabulary=vocabulary))
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(start)

    def log_probs(self, prompts: Tensor, states: Tensor) -> Tensor:
        """Return log-probabilities in nats of each digit at each place, (B, M, L, V), in the parameters' type.

        prompts: (B, P). states: (B, M, L), or (M, L) for the same states after every prompt; a place holds a digit or
        the word V if it is empty. At a filled place the entry is a prediction too, which no sampler uses.
        """
        count, read = prompts.shape
        states = states.expand(count, *states.shape[-2:])
        if read + states.shape[2] > self.transformer.shape.context:
            got = f"{read} + {states.shape[2]}"
            raise InputError(f"prompt and answer have at most {self.transformer.shape.context} words, got {got}")
        positions = torch.arange(read + states.shape[2], device=states.device)
        prompt = _Prompt()
        self.transformer.hidden(prompts, positions[:read], prompt)
        hidden = self.transformer.hidden(states.flatten(0, 1), positions[read:], _Answer(prompt, states.shape[1]))
        logits = self.transformer.logits(hidden)[..., : self.base]
        values: Tensor = logits.log_softmax(-1).unflatten(0, states.shape[:2])
        return values


class PairwiseDenoiser(nn.Module):
    """A log-linear denoiser without a prompt: logits b[i, v] + the sum over filled places j of W[i, v, j, x_j].

    d = L V + (L V)^2 parameters, normal with standard deviation `scale` from `seed` alone. Every prompt meets the same
    distribution, so it is for one problem at a time; its gradients are cheap enough to be listed for all states.
    """

    def __init__(self, length: int, base: int, *, scale: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.base = base
        stream = torch.Generator().manual_seed(seed)
        sizes = ((length, base), (length, base, length, base + 1))
        bias, weight = (torch.randn(size, generator=stream, dtype=torch.float64) * scale for size in sizes)
        weight[..., base] = 0.0
        self.bias, self.weight = nn.Parameter(bias), nn.Parameter(weight[..., :base].contiguous())

    def log_probs(self, prompts: Tensor, states: Tensor) -> Tensor:
        """Return log-probabilities in nats of each digit at each place, (B, M, L, V) float64; see `MaskedPolicy`."""
        weight = nn.functional.pad(self.weight, (0, 1))  # an empty place adds nothing
        length = len(self.bias)
        parts = [weight[:, :, column, states[..., column]] for column in range(length)]  # each (L, V, ..., M)
        logits = torch.stack(parts).sum(0).movedim((0, 1), (-2, -1)) + self.bias
        return logits.log_softmax(-1).expand(len(prompts), *logits.shape[-3:])


class _Prompt:
    """Words of prompts see all words of their prompt; their keys and values are kept."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # noqa: ARG002
        """See `transformer.Attend`."""
        queries, keys, values = (part.transpose(1, 2) for part in (queries, keys, values))
        self.seen.append((keys, values))
        mixed: Tensor = scaled_dot_product_attention(queries, keys, values, enable_gqa=True)
        return mixed.transpose(1, 2).flatten(-2)


class _Answer:
    """Places of answers (B M, L) see their prompt and all places of their answer."""

    def __init__(self, prompt: _Prompt, states: int) -> None:
        self.prompt, self.states = prompt, states

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `transformer.Attend`."""
        queries, keys, values = (part.transpose(1, 2) for part in (queries, keys, values))
        read = (part.repeat_interleave(self.states, 0) for part in self.prompt.seen[layer])
        keys, values = (torch.cat(parts, 2) for parts in zip(read, (keys, values), strict=True))
        mixed: Tensor = scaled_dot_product_attention(queries, keys, values, enable_gqa=True)
        return mixed.transpose(1, 2).flatten(-2)
