"""Optimism over a version space: play the action of which some model that is still possible promises most.

A model is refuted for good once its cumulative log loss is more than log(M / delta) above the least one: the true model
survives with probability 1 - delta (by Ville's inequality for the mixture, and a union over the models). This is the
principle that ViOL does without, in its plainest form; it finds the best action, after refuting all promises.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from maxrl_lab.exploration.pulling import Play, Rewards, Rounds, Trace
from maxrl_lab.settings import Interval


def optimism(
    rewards: Rewards, actions: Tensor, truths: Tensor, play: Play, *, seeds: Sequence[int], delta: float = 0.05
) -> Trace:
    """Return what R runs do whose true models are `truths` (R,), among actions (A, d); a round takes N pulls.

    The trace's weights are equal on what is left of the version space; its losses are those of Bayes' mixture of all
    models on the same pulls. Raises `InputError` for a delta outside (0, 1) or a budget below one round.
    """
    Interval(0, 1).check("delta", delta)
    rounds = Rounds(rewards, actions, truths, play, 1)
    uniforms, _ = rounds.randomness(seeds)
    allowed = math.log(rounds.models / delta)
    losses = torch.zeros(len(truths), rounds.models, dtype=torch.float64)
    spaces = [_VersionSpace(rounds.table) for _ in seeds]
    for index in range(rounds.count):
        action = torch.stack([space.promised.argmax() for space in spaces])
        values, successes = rounds.pull(action, None, uniforms[:, index])
        losses = losses + rounds.log_loss(values, successes)
        possible = losses - losses.amin(1, keepdim=True) <= allowed
        for space, models in zip(spaces, possible, strict=True):
            space.refute(models)
    left = torch.stack([space.possible for space in spaces]).double()
    mixture = math.log(rounds.models) - (-losses).logsumexp(1)
    return rounds.trace(left / left.sum(1, keepdim=True), mixture, losses[rounds.runs, truths])


class _VersionSpace:
    """The models that are still possible, and the most that any of them promises of every action."""

    def __init__(self, table: Tensor) -> None:
        self.table, self.possible = table, torch.ones(len(table), dtype=torch.bool)
        self.promised, self.promising = table.max(0)

    def refute(self, possible: Tensor) -> None:
        """Keep only those models that are possible (M,); only actions whose promising model is gone change."""
        self.possible = self.possible & possible
        changed = (~self.possible[self.promising]).nonzero()[:, 0]
        if len(changed):
            left = self.possible.nonzero()[:, 0]
            self.promised[changed], index = self.table[left][:, changed].max(0)
            self.promising[changed] = left[index]
