"""Denoised answers as a group, as the trainer asks for them: B prompts under one policy, and a surrogate likelihood."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.moments import Denoiser
from maxrl_lab.denoising.samplers import Rollouts, Sampler, Uniform
from maxrl_lab.denoising.samplers import sample as sample_rollouts
from maxrl_lab.denoising.surrogates import AnySurrogate, Surrogate, renyi_bound, resolve, sample
from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator
from maxrl_lab.training.groups import DivergedError, Group

Verify = Callable[[Tensor, Tensor], Tensor]
"""Prompts (B, P) and answers (B, ..., L) to (B, ...) bool: which answers are right."""


@dataclass
class DenoisingBatch:
    """The trainer's view of B prompts under one policy, run 0: a `maxrl_lab.training.methods.Batch`.

    The group's log-probabilities are those of the surrogate: with `path` the estimate is an estimator's own, with any
    other it is biased (`maxrl_lab.denoising.moments` says by how much). Exact pass rates are the sampler's, whatever
    the surrogate. `seed` and `step` address the random numbers; runs of one seed sample alike until they differ.
    """

    policy: nn.Module
    """A network of `maxrl_lab.policies.masked`."""
    prompts: Tensor
    """(B, P) the prompts."""
    verify: Verify
    """Tells which answers are right."""
    length: int
    """Number L of places in an answer."""
    base: int
    """Number V of digits."""
    surrogate: AnySurrogate = "path"
    """What stands for the log-probability of an answer, `elbo:samples=4`."""
    sampler: Sampler = field(default_factory=Uniform)
    """In which order places are filled, one at a time."""
    seed: int = 0
    step: int = 0
    seen: dict[str, float] = field(default_factory=dict)
    """What the last rollouts were like: their pass rate."""

    def __post_init__(self) -> None:
        """Read the surrogate, and check that it exists at L and that the sampler has a path."""
        self.surrogate = resolve(self.surrogate)
        self.surrogate.law(self.length)
        if not self.sampler.one_place:
            raise InputError(f"a denoising batch fills one place at a time, got the sampler {self.sampler}")

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return N answers of each prompt, a group (1, B, N); `DivergedError` if the policy is NaN."""
        _check_runs(runs)
        stream = generator("denoising", self.seed, self.step, rollouts)
        written = sample_rollouts(
            lambda states: self._policy.log_probs(self.prompts, states),
            self.sampler,
            prompts=len(self.prompts),
            rollouts=rollouts,
            length=self.length,
            base=self.base,
            stream=stream,
        )
        right = self.verify(self.prompts, written.answers)
        self.seen = {"pass_rate": float(right.double().mean())}
        values = self.surrogate_of(written, right, stream)
        if not bool(values.isfinite().all()):
            raise DivergedError(0, self.step)
        return Group(right[None].long(), values[None])

    def surrogate_of(self, written: Rollouts, right: Tensor, stream: torch.Generator) -> Tensor:
        """Return the surrogate (B, N) of rollouts, in nats, differentiable; the stream samples its masks."""
        surrogate = cast(Surrogate, self.surrogate)
        empty, coefficients = sample(surrogate.law(self.length), written.orders, surrogate.samples, stream)
        tokens = score(self._policy, self.prompts, written.answers, empty, self.base)
        values = (tokens * coefficients.to(tokens)).sum((-2, -1))
        if surrogate.beta is None:
            return values
        return torch.where(right, values, renyi_bound(tokens, empty, surrogate.beta))

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return the exact log pass rates (1, B) over all answers and orders, differentiable."""
        _check_runs(runs)
        lattice = Lattice(self.length, self.base)
        right = lattice.judged(self.verify, self.prompts)
        table = self._policy.log_probs(self.prompts, lattice.states)
        if not bool(table.isfinite().all()):
            raise DivergedError(0, self.step)
        rates = lattice.pass_rate(table, self.sampler, right)
        return rates.clamp(min=torch.finfo(rates.dtype).tiny).log()[None]

    @property
    def _policy(self) -> Denoiser:
        return cast(Denoiser, self.policy)


def score(policy: Denoiser, prompts: Tensor, answers: Tensor, empty: Tensor, base: int) -> Tensor:
    """Return log pi(x_i | the digits outside the empty places of pass j), (B, N, J, L), differentiable.

    prompts: (B, P); answers: (B, N, L); empty: (B, N, J, L) bool. Places that are not empty have a prediction, too.
    """
    states = torch.where(empty, base, answers[:, :, None])
    log_probs = policy.log_probs(prompts, states.flatten(1, 2)).unflatten(1, states.shape[1:3])
    digits = answers[:, :, None, :, None].expand(*states.shape, 1)
    tokens: Tensor = log_probs.gather(-1, digits)[..., 0]
    return tokens


def _check_runs(runs: Sequence[int]) -> None:
    if list(runs) != [0]:
        raise InputError(f"a denoising batch holds one policy, run 0; got runs {list(runs)}")
