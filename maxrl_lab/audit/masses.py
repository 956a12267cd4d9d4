"""How much a table of advantages moves a policy, and how often it does not move it at all.

That an advantage is its positive and its negative mass, and what their balance does to training, is the subject of FADE
(arXiv:2607.01490).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab import bernstein
from maxrl_lab.audit.tasks import Tasks


class Masses(NamedTuple):
    """Means over groups of N rollouts, at one pass rate or over tasks."""

    activity: float
    """E sum_i |A_i| / N, the sum of the two masses. For MaxRL's Algorithm 1 it is 2 (pass@N - pass@1)."""
    positive: float
    """E sum_i max(A_i, 0) / N: how much is pulled up."""
    negative: float
    """E sum_i max(-A_i, 0) / N: how much is pushed down."""
    silent: float
    """Share of groups whose advantages are all 0, which teach nothing."""


class OverTasks(NamedTuple):
    """What a table does over a set of tasks, which is not what it does at their mean pass rate."""

    tasks: str
    """How many tasks there are, or their distribution."""
    pass_rate: float
    """Their mean pass rate."""
    masses: Masses
    silent_at_mean: float
    """The share of silent groups if all tasks had the mean pass rate."""


def at(success: Tensor, failure: Tensor, pass_rate: float, precision: float = 1e-9) -> Masses:
    """Return the masses of the coefficients a(K), b(K), K = 0..N, for a task of the given pass rate.

    Advantages up to `precision` times the largest count as 0 where silent groups are counted.
    """
    p = torch.tensor([pass_rate], dtype=torch.float64)
    return _mean(success, failure, bernstein.probabilities(len(success) - 1, p)[0], precision)


def over(success: Tensor, failure: Tensor, tasks: Tasks, precision: float = 1e-9) -> OverTasks:
    """Return the masses of the coefficients a(K), b(K), K = 0..N, averaged over tasks."""
    masses = _mean(success, failure, tasks.count_chances(len(success) - 1), precision)
    return OverTasks(str(tasks), tasks.mean, masses, at(success, failure, tasks.mean, precision).silent)


def _mean(success: Tensor, failure: Tensor, chances: Tensor, precision: float) -> Masses:
    successes = torch.arange(len(success), dtype=torch.float64)
    shares = torch.stack([successes / successes[-1], 1 - successes / successes[-1]])
    advantages = torch.stack([success, failure])
    positive, negative = (((sign * advantages).clamp(min=0) * shares).sum(0) for sign in (1, -1))
    largest = advantages.abs().amax(0)  # a(0) and b(N), which no rollout gets, are 0
    silent = (largest <= precision * largest.max()).double()
    means = [float(chances @ values) for values in (positive, negative, silent)]
    return Masses(means[0] + means[1], *means)
