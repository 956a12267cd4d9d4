"""Tabular tasks under the policies of a sweep, as the trainer sees them; policies that have become NaN are refused."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator
from maxrl_lab.tabular.dynamic_programming import pass_rate
from maxrl_lab.tabular.rollout import roll_out, sample_uniforms
from maxrl_lab.tabular.tables import Tables
from maxrl_lab.training.groups import DivergedError, Group


def refuse_diverged(log_policy: Tensor, step: int) -> None:
    """Raise `DivergedError` if one of the policies (R, ...) has become NaN."""
    diverged = log_policy.detach().flatten(1).isnan().any(1)
    if bool(diverged.any()):
        run = int(diverged.nonzero()[0])
        raise DivergedError(run, step)


class TabularBatch:
    """The trainer's view of tasks under R policies: rollouts and exact log pass rates; a `training.methods.Batch`.

    log_policy: (R, T, B, S, A), differentiable. `seeds` (R,) and `step` address the random numbers: runs with the same
    seed use the same ones. Raises `DivergedError`, an `InputError`, if a policy has become NaN.
    """

    def __init__(self, tables: Tables, log_policy: Tensor, seeds: Sequence[int], step: int) -> None:
        if log_policy.ndim != 5 or len(seeds) != len(log_policy):
            got = f"{tuple(log_policy.shape)} and {len(seeds)} seeds"
            raise InputError(f"expected log_policy (R, T, B, S, A) and R seeds, got {got}")
        refuse_diverged(log_policy, step)
        self.tables, self.seeds, self.step = tables, list(seeds), step
        self.log_policy = tables.checked(log_policy)

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return N rollouts of each task for the named runs, (len(runs), B, N)."""
        seeds = [self.seeds[run] for run in runs]
        distinct = list(dict.fromkeys(seeds))
        streams = [generator("rollouts", seed, self.step, rollouts, device=self.tables.device) for seed in distinct]
        uniforms = torch.stack([sample_uniforms(self.tables, rollouts, stream) for stream in streams])
        policy = self.log_policy[list(runs)]
        return roll_out(self.tables, policy, uniforms, [distinct.index(seed) for seed in seeds])[0]

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return the exact log pass rates (len(runs), B); a rate that underflows counts as 1e-300, without gradient."""
        return pass_rate(self.tables, self.log_policy[list(runs)]).clamp(min=1e-300).log()
