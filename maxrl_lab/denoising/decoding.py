"""How fast to decode, learnt: a bound gamma for every prompt, under a verifier that wants right answers in time.

A rollout samples gamma ~ q_phi(gamma | prompt), then an answer with `EntropyBounded(gamma)`. Its outcome, right within
a budget of evaluations of the network, is 0 or 1, so that every estimator applies to the score of both choices,
grad log q_phi + the path's score. DiFFPO (arXiv:2510.02212) learns a sampler alone or together with the model; its
parameterisation is not known here, and this one is a reconstruction: q_phi is a categorical distribution over a few
bounds. The path's score holds the sets fixed that the entropies decide, which is right almost everywhere.

Axes: B prompts, P words of each, N rollouts, G bounds, X answers, L places.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.moments import Denoiser
from maxrl_lab.denoising.samplers import EntropyBounded, path_log_probs, sample
from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator
from maxrl_lab.training.groups import DivergedError, Group

MODEL, CHOOSER = 0, 1
"""What a `DecodingBatch` may train."""


class Chooser(nn.Module):
    """q_phi(gamma | prompt): log-probabilities of G bounds, linear in the prompt's words; uniform at first."""

    def __init__(self, words: int, prompt_length: int, bounds: int) -> None:
        super().__init__()
        self.words = words
        self.linear = nn.Linear(words * prompt_length, bounds)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, prompts: Tensor) -> Tensor:
        """Return log q_phi (B, G), in nats, of prompts (B, P)."""
        values: Tensor = self.linear(one_hot(prompts, self.words).flatten(1).to(self.linear.weight))
        return values.log_softmax(-1)


class Fixed(nn.Module):
    """The distribution that always takes bound number `index` of G."""

    def __init__(self, index: int, bounds: int) -> None:
        super().__init__()
        self.index, self.bounds = index, bounds

    def forward(self, prompts: Tensor) -> Tensor:
        """Return 0 for the bound and -1e4 for the others, (B, G)."""
        values = torch.full((len(prompts), self.bounds), -1e4)
        values[:, self.index] = 0.0
        return values


class Decoded(NamedTuple):
    """What each bound makes of each prompt, exactly, (B, G) each."""

    right: Tensor
    """Probability of a right answer."""
    in_time: Tensor
    """Probability of a right answer within the budget, differentiable in the table."""
    evaluations: Tensor
    """Mean number of evaluations of the network."""

    def mixed(self, log_q: Tensor) -> "Decoded":
        """Return the same (B, 1) where the bound is sampled from q, log-probabilities (B, G)."""
        share = log_q.to(self.right).exp()
        return Decoded(*((share * values).sum(1, keepdim=True) for values in self))


def decode(
    lattice: Lattice, table: Tensor, right: Tensor, bounds: Sequence[float], budget: int | None = None
) -> Decoded:
    """Return pass rates and costs of every bound from a table (B, S, L, V) and right answers (B, X)."""
    columns = []
    for bound in bounds:
        log_probs, evaluations = lattice.decode(table, EntropyBounded(bound))
        chances = log_probs.exp()
        in_time = right if budget is None else right & (evaluations <= budget)
        columns.append([(chances * values).sum(1) for values in (right, in_time, evaluations)])
    return Decoded(*(torch.stack(values, 1) for values in zip(*columns, strict=True)))


@dataclass
class DecodingBatch:
    """The trainer's view of B prompts: a `maxrl_lab.training.methods.Batch` with a run for each part that is trained.

    All rows of a group hold the same rollouts with the same outcomes; the row of the model has the path's score, that
    of the chooser log q_phi, so that each part may have a learning rate of its own, or not be trained at all.
    """

    policy: nn.Module
    """A network of `maxrl_lab.policies.masked`."""
    chooser: nn.Module
    """From prompts (B, P) to log-probabilities (B, G) of the bounds."""
    bounds: Sequence[float]
    """(G,) the bounds gamma in nats."""
    prompts: Tensor
    """(B, P) the prompts."""
    verify: Callable[[Tensor, Tensor], Tensor]
    """Prompts and answers (B, ..., L) to (B, ...) bool: which are right."""
    length: int
    """Number L of places."""
    base: int
    """Number V of digits."""
    parts: Sequence[int] = (MODEL, CHOOSER)
    """The part that each run trains: `MODEL`, `CHOOSER`, or both."""
    budget: int | None = None
    """Most evaluations of the network of a rollout that counts as right; None for any number."""
    seed: int = 0
    step: int = 0

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return N rollouts of each prompt, (len(runs), B, N); `DivergedError` if the policy is NaN."""
        stream = generator("decoding", self.seed, self.step, rollouts)
        log_q = self.chooser(self.prompts)
        choices = torch.multinomial(log_q.detach().exp(), rollouts, replacement=True, generator=stream)
        written = sample(
            self._model,
            EntropyBounded(torch.tensor(list(self.bounds))[choices]),
            prompts=len(self.prompts),
            rollouts=rollouts,
            length=self.length,
            base=self.base,
            stream=stream,
        )
        rewards = self.verify(self.prompts, written.answers)
        if self.budget is not None:
            rewards = rewards & (written.evaluations <= self.budget)
        scores = {CHOOSER: lambda: log_q.gather(1, choices)}
        scores[MODEL] = lambda: path_log_probs(self._model, written, self.base)
        log_probs = torch.stack([self._checked(scores[self.parts[run]]()) for run in runs])
        return Group(rewards.long().expand(log_probs.shape), log_probs)

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return the exact log-probabilities (len(runs), B) of a right answer in time.

        That of each run is differentiable in what it trains: the other part is held fixed.
        """
        lattice = Lattice(self.length, self.base)
        right = lattice.judged(self.verify, self.prompts)
        table = self._checked(self._model(lattice.states))
        log_q = self.chooser(self.prompts)
        parts = {MODEL: (table, log_q.detach()), CHOOSER: (table.detach(), log_q)}
        rates = []
        for run in runs:
            model, chooser = parts[self.parts[run]]
            rates.append(decode(lattice, model, right, self.bounds, self.budget).mixed(chooser).in_time[:, 0])
        return torch.stack(rates).clamp(min=torch.finfo(table.dtype).tiny).log()

    def _model(self, states: Tensor) -> Tensor:
        return cast(Denoiser, self.policy).log_probs(self.prompts, states)

    def _checked(self, values: Tensor) -> Tensor:
        if not bool(values.isfinite().all()):
            raise DivergedError(MODEL, self.step)
        return values


def check_bounds(bounds: Sequence[float]) -> None:
    """Raise `InputError` unless the bounds rise and none is negative."""
    if not bounds or min(bounds) < 0 or list(bounds) != sorted(set(bounds)):
        raise InputError(f"expected bounds that rise from 0 or more, got {list(bounds)}")
