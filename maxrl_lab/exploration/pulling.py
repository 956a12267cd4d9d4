"""Bandits with right-or-wrong outcomes: what is pulled in the true models of R runs, counted and recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator
from maxrl_lab.settings import Count, Settings


class Rewards(Protocol):
    """M models of the chance of success of a point on the unit sphere."""

    def values(self, points: Tensor) -> Tensor:
        """Return the chances eta(theta_m, a) of points (P, d) as (M, P), each in [0, 1]."""
        ...


@dataclass(frozen=True)
class Play(Settings):
    """Play: how often actions are pulled."""

    budget: Count = 2048
    """Number of pulls of each run, those for differences included."""
    pulls: Count = 4
    """Number of pulls of every point that a round visits."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What R runs of T rounds did."""

    pulls: Tensor
    """(T,) pulls of a run up to and including each round."""
    actions: Tensor
    """(R, T) the action a_t of each round."""
    values: Tensor
    """(R, T) its true chance of success."""
    mean_reward: Tensor
    """(R,) the true chance of success, averaged over all pulls."""
    weights: Tensor
    """(R, M) weights of the models after the last round."""
    mixture_loss: Tensor
    """(R,) cumulative loss in nats of the mixture of models that the weights make."""
    truth_loss: Tensor
    """(R,) cumulative loss in nats of the true model."""


class Rounds:
    """R runs whose true models are `truths` (R,), and actions (A, d), unit vectors.

    Raises `InputError` for a budget below one round, for actions that are not unit vectors, and for unknown models.
    """

    def __init__(self, rewards: Rewards, actions: Tensor, truths: Tensor, play: Play, points: int) -> None:
        _check_actions(actions)
        self.rewards, self.actions, self.truths, self.play = rewards, actions, truths, play
        self.table = rewards.values(actions)
        self._of_action = self.table.T.contiguous()
        self.models, self.runs, self.points = len(self.table), torch.arange(len(truths)), points
        if truths.ndim != 1 or bool(((truths < 0) | (truths >= self.models)).any()):
            raise InputError(f"truths must be (R,) numbers of models, 0..{self.models - 1}, got {truths.tolist()}")
        self.per_round = points * play.pulls
        self.count = play.budget // self.per_round
        if self.count < 1:
            raise InputError(f"a round takes {self.per_round} pulls, got a budget of {play.budget}")
        self.played: list[Tensor] = []
        self.gained = torch.zeros(len(truths), dtype=torch.float64)

    def randomness(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return uniforms (R, T, P, N) for pulls and normal vectors (R, T, 2, d); runs with one seed share them."""
        if len(seeds) != len(self.truths):
            raise InputError(f"expected a seed for each of {len(self.truths)} runs, got {len(seeds)}")
        uniforms, normal = [], []
        for seed in seeds:
            stream = generator("bandit", specs.check_count("seed", seed, 0))
            size = (self.count, self.points, self.play.pulls)
            uniforms.append(torch.rand(size, generator=stream, dtype=torch.float64))
            size = (self.count, 2, self.actions.shape[1])
            normal.append(torch.randn(size, generator=stream, dtype=torch.float64))
        return torch.stack(uniforms), torch.stack(normal)

    def pull(self, action: Tensor, others: Tensor | None, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Pull the actions (R,) and other points (R, P-1, d), N times each, by uniforms (R, P, N).

        Return all models' values of these points (R, M, P), and the successes (R, P) in the true models.
        """
        values = self._of_action[action][..., None]
        if others is not None:
            flat = self.rewards.values(others.flatten(0, 1)).view(self.models, *others.shape[:2])
            values = torch.cat([values, flat.transpose(0, 1)], -1)
        chances = values[self.runs, self.truths]
        self.played.append(action)
        self.gained += chances.mean(1)
        return values, (uniforms < chances[..., None]).sum(-1)

    def log_loss(self, values: Tensor, successes: Tensor) -> Tensor:
        """Return the log loss in nats of the successes (R, P) in every model, (R, M), from its values (R, M, P)."""
        right = successes[:, None].double()
        return -(torch.xlogy(right, values) + torch.xlogy(self.play.pulls - right, 1 - values)).sum(-1)

    def trace(self, weights: Tensor, mixture: Tensor, truth: Tensor) -> Trace:
        """Return the record of all rounds."""
        actions = torch.stack(self.played, 1)
        return Trace(
            pulls=torch.arange(1, self.count + 1) * self.per_round,
            actions=actions,
            values=self.table[self.truths[:, None], actions],
            mean_reward=self.gained / self.count,
            weights=weights,
            mixture_loss=mixture,
            truth_loss=truth,
        )


def _check_actions(actions: Tensor) -> None:
    if actions.ndim != 2 or bool(((actions.norm(dim=1) - 1).abs() > 1e-6).any()):
        raise InputError(f"actions must be unit vectors (A, d), got {tuple(actions.shape)}")
