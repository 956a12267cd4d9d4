"""Tabular tasks: checked tables, and what can be done on them, which is sampled rollouts and exact results.

A network runs once per distinct observation and update, never once per step: its log-probabilities are a table, and a
step of a rollout is a look-up in it.
"""

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.tabular import dynamic_programming
from maxrl_lab.tabular.moments import ScoreMoments, score_moments
from maxrl_lab.tabular.rollout import Paths, Segment, read_paths, roll_out, sample_uniforms
from maxrl_lab.tabular.tables import Tables
from maxrl_lab.training.groups import Group


class TabularTasks(Tables):
    """B tasks of at most S states and A actions, with the same horizon; the fields and their checks are `Tables`'.

    Policies are tables of log-probabilities, (B, S, A), (T, B, S, A) or (R, T, B, S, A), as `Tables` explains.
    """

    def rollout(self, log_policy: Tensor, rollouts: int, stream: torch.Generator) -> Group:
        """Return N rollouts per task under the policy: a group (B, N), or (R, B, N) with the same random numbers.

        Only table look-ups; `log_probs` are differentiable in `log_policy`, `lengths` count the steps before the end.
        """
        group, _ = self._roll_out(log_policy, rollouts, stream)
        return group if log_policy.ndim == 5 else _first_run(group)

    def paths(self, log_policy: Tensor, rollouts: int, stream: torch.Generator) -> tuple[Group, Paths]:
        """Return the same group as `rollout`, and the states and actions that led to it."""
        group, segments = self._roll_out(log_policy, rollouts, stream)
        paths = read_paths(self, segments, group)
        if log_policy.ndim == 5:
            return group, paths
        return _first_run(group), Paths(paths.states[0], paths.actions[0])

    def pass_rate(self, log_policy: Tensor) -> Tensor:
        """Return the exact probability of success of each task, (B,) or (R, B), float64, differentiable."""
        rates = dynamic_programming.pass_rate(self, self.checked(log_policy))
        return rates if log_policy.ndim == 5 else rates[0]

    def occupancy(self, log_policy: Tensor) -> Tensor:
        """Return the exact probability of each state after t = 0..H steps, (H+1, B, S) or (H+1, R, B, S)."""
        reached = dynamic_programming.occupancy(self, self.checked(log_policy))
        return reached if log_policy.ndim == 5 else reached[:, 0]

    def moments(self, log_policy: Tensor, gram: Tensor | None = None) -> ScoreMoments:
        """Return what `exact.variance` needs of each task under one policy; see `score_moments`."""
        if log_policy.ndim == 5:
            raise InputError("moments takes one policy, (B, S, A) or (T, B, S, A), got a stack of runs")
        return score_moments(self, self.checked(log_policy)[0], gram)

    def _roll_out(self, log_policy: Tensor, rollouts: int, stream: torch.Generator) -> tuple[Group, list[Segment]]:
        uniforms = sample_uniforms(self, rollouts, stream)
        policy = self.checked(log_policy)
        return roll_out(self, policy, uniforms[None], [0] * len(policy))


def _first_run(group: Group) -> Group:
    return Group(group.rewards[0], group.log_probs[0], None if group.lengths is None else group.lengths[0])
