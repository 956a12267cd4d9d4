"""Samplers: which empty places a denoising policy fills next. And rollouts by them, through any policy.

    Uniform()               A: one place, uniformly among the empty ones; the order that the ELBO is a bound for
    MostConfident()         B: one place, where the likeliest digit is likeliest; then its digit is sampled
    Blocks(size)            C: blocks from left to right, places of a block in any order; size 1 is autoregression
    EntropyBounded(gamma)   as many places at once as an entropy bound allows: fewer evaluations of the network

In B the place is decided before the digit. LLaDA samples a digit for every place and keeps the likeliest, so that its
path has no probability that is a product of the policy's; that rule is not here.

Axes: B prompts, N rollouts of each, L places, V digits. Word V is the empty place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError

Policy = Callable[[Tensor], Tensor]
"""From states (B, N, L) to log-probabilities (B, N, L, V) of the digits at every place."""


class Sampler(Protocol):
    """Which empty places are filled next."""

    one_place: ClassVar[bool]
    """Whether one place is filled at a time. If not, the state alone decides which set of places is."""

    def chances(self, states: Tensor, log_probs: Tensor) -> Tensor:
        """Return the probability that each place is filled in the next step, (..., L); 0 where nothing is empty.

        states (..., L) and the policy's log-probabilities (..., L, V) in them. Where one place is filled they sum to 1.
        """
        ...


@dataclass(frozen=True)
class Uniform:
    """Sampler A: one empty place, uniformly at random."""

    one_place: ClassVar[bool] = True

    def chances(self, states: Tensor, log_probs: Tensor) -> Tensor:
        """Return 1 over the number of empty places."""
        return _share(states == log_probs.shape[-1], log_probs)


@dataclass(frozen=True)
class MostConfident:
    """Sampler B: the empty place whose likeliest digit is likeliest, the first of several."""

    one_place: ClassVar[bool] = True

    def chances(self, states: Tensor, log_probs: Tensor) -> Tensor:
        """Return 1 at the most confident place."""
        empty = states == log_probs.shape[-1]
        confidence = log_probs.max(-1).values.masked_fill(~empty, -torch.inf)
        first = torch.zeros_like(confidence).scatter(-1, confidence.argmax(-1, keepdim=True), 1.0)
        return first * empty


@dataclass(frozen=True)
class Blocks:
    """Sampler C, semi-autoregressive: uniformly among the empty places of the first block that has any.

    `InputError` where the size does not divide the length of the answers.
    """

    size: int
    """Number of places of a block; L makes sampler A, 1 writes from left to right."""
    one_place: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the size."""
        specs.check_count("size", self.size)

    def chances(self, states: Tensor, log_probs: Tensor) -> Tensor:
        """Return 1 over the number of empty places of the first block that is not full."""
        check_divides(self.size, states.shape[-1])
        empty = states == log_probs.shape[-1]
        blocks = empty.unflatten(-1, (-1, self.size))
        open_before = blocks.any(-1).cumsum(-1)  # 1 from the first block that is not full to the next one
        first = blocks.any(-1) & (open_before == 1)
        return _share((blocks & first[..., None]).flatten(-2), log_probs)


@dataclass(frozen=True)
class EntropyBounded:
    """The largest set of least entropies with sum H - max H <= gamma, all of its places filled at once.

    Ben-Hamu et al. 2025 (arXiv:2505.24857), reconstructed from its description. gamma (nats) = 0 fills one place a
    step, of least entropy, and infinity all places in one step: then the sampler is the mean field of its policy.
    """

    gamma: float | Tensor
    """The bound in nats: a number, or one for every prompt (B,) or rollout (B, N)."""
    one_place: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the bound."""
        if not bool((torch.as_tensor(self.gamma) >= 0).all()):
            raise InputError(f"gamma must not be negative, got {self.gamma}")

    def chances(self, states: Tensor, log_probs: Tensor) -> Tensor:
        """Return 1 for every place of the set."""
        empty = states == log_probs.shape[-1]
        entropies = -(log_probs.exp() * log_probs).sum(-1)
        ordered, order = entropies.masked_fill(~empty, 1e9).sort(dim=-1, stable=True)
        bound = torch.as_tensor(self.gamma, dtype=log_probs.dtype)
        bound = bound.reshape(*bound.shape, *(1,) * (ordered.ndim - bound.ndim))
        within = (ordered.cumsum(-1) - ordered <= bound).to(log_probs)
        return torch.zeros_like(within).scatter(-1, order, within) * empty


class Rollouts(NamedTuple):
    """What denoising runs did, (B, N, L) each."""

    answers: Tensor
    """The digits."""
    steps: Tensor
    """The step, from 0, in which each place was filled."""

    @property
    def orders(self) -> Tensor:
        """The places in the order in which they were filled, (B, N, L); of one step from left to right."""
        return self.steps.sort(dim=-1, stable=True).indices

    @property
    def evaluations(self) -> Tensor:
        """The number of evaluations of the network in each run, (B, N)."""
        return self.steps.max(-1).values + 1


def sample(
    policy: Policy, sampler: Sampler, *, prompts: int, rollouts: int, length: int, base: int, stream: torch.Generator
) -> Rollouts:
    """Return N denoising runs for each of B prompts, from random numbers that no run's number of steps shifts."""
    shape = (prompts, rollouts, length)
    states, steps = torch.full(shape, base), torch.full(shape, -1)
    uniforms = torch.rand(length, 2, *shape, generator=stream)
    for step in range(length):
        with torch.no_grad():
            log_probs = policy(states)
        chances = sampler.chances(states, log_probs)
        filling = _one_of(chances, uniforms[step, 0, ..., :1]) if sampler.one_place else chances.bool()
        digits = _index_below(log_probs.exp(), uniforms[step, 1, ..., None])
        states = torch.where(filling, digits, states)
        steps = torch.where(filling, step, steps)
        if bool((steps >= 0).all()):
            break
    return Rollouts(states, steps)


def path_log_probs(policy: Policy, rollouts: Rollouts, base: int) -> Tensor:
    """Return the log-probability (B, N) in nats of every digit where it was written, summed: the path's score.

    Differentiable; it differs from the path's log-probability by what the sampler decides without the policy, or by
    its confidence, which is held fixed. The policy is asked once, for all states of all runs.
    """
    count = rollouts.answers.shape[1]
    times = torch.arange(int(rollouts.evaluations.max()))[:, None]
    visible = rollouts.steps[:, :, None] < times
    states = torch.where(visible, rollouts.answers[:, :, None], base)
    log_probs = policy(states.flatten(1, 2)).unflatten(1, (count, len(times)))
    digits = rollouts.answers[:, :, None, :, None].expand(-1, -1, len(times), -1, 1)
    tokens: Tensor = log_probs.gather(-1, digits)[..., 0]
    return tokens.where(rollouts.steps[:, :, None] == times, 0.0).sum((2, 3))


def check_divides(size: int, length: int) -> None:
    """Raise `InputError` unless blocks of this size fill an answer of this length."""
    if length % size:
        raise InputError(f"the size of a block must divide the length {length}, got {size}")


def _share(allowed: Tensor, like: Tensor) -> Tensor:
    """Return 1 over their number for the allowed places (..., L), 0 elsewhere."""
    return allowed.to(like) / allowed.sum(-1, keepdim=True).clamp(min=1)


def _one_of(chances: Tensor, uniforms: Tensor) -> Tensor:
    """Return one place of each row, (..., L) bool, with these probabilities (..., L); uniforms (..., 1)."""
    index = _index_below(chances, uniforms)
    return torch.zeros_like(chances, dtype=torch.bool).scatter(-1, index[..., None], value=True)


def _index_below(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Return the index (...) that uniform numbers (..., 1) select from probabilities (..., K), never one of 0."""
    totals = probabilities.double().cumsum(-1)
    thresholds = uniforms * totals[..., -1:]
    return (totals <= thresholds).sum(-1).clamp(max=probabilities.shape[-1] - 1)
