"""A bandit as the trainer sees it: policies over A actions, each right with a chance of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator
from maxrl_lab.training.groups import DivergedError, Group


class BanditBatch:
    """One bandit for each of R runs, with the runs' policies; a `training.methods.Batch` with B = 1.

    log_policy: (R, A) log-probabilities, differentiable; chances: (R, A) of success. `seeds` (R,) and `step` address
    the random numbers: runs with the same seed use the same ones.
    """

    def __init__(self, log_policy: Tensor, chances: Tensor, seeds: Sequence[int], step: int) -> None:
        if log_policy.ndim != 2 or log_policy.shape != chances.shape or len(seeds) != len(log_policy):
            got = f"{tuple(log_policy.shape)}, {tuple(chances.shape)} and {len(seeds)} seeds"
            raise InputError(f"expected log_policy and chances (R, A) and R seeds, got {got}")
        diverged = log_policy.detach().isnan().any(1).nonzero()
        if len(diverged):
            raise DivergedError(int(diverged[0]), step)
        self.log_policy, self.chances, self.seeds, self.step = log_policy, chances, list(seeds), step

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return N pulls for each of the named runs, (len(runs), 1, N)."""
        run_seeds = [self.seeds[run] for run in runs]
        drawn = {seed: self._uniforms(seed, rollouts) for seed in dict.fromkeys(run_seeds)}
        uniforms = torch.stack([drawn[seed] for seed in run_seeds])
        log_policy, chances = self.log_policy[list(runs)], self.chances[list(runs)]
        reached = log_policy.detach().exp().cumsum(1)
        threshold = uniforms[:, 0] * reached[:, -1:]
        actions = torch.searchsorted(reached, threshold, right=True).clamp(max=reached.shape[1] - 1)
        right = (uniforms[:, 1] < chances.gather(1, actions)).to(log_policy)
        return Group(right[:, None], log_policy.gather(1, actions)[:, None])

    def _uniforms(self, seed: int, rollouts: int) -> Tensor:
        stream = generator("pulls", seed, self.step, rollouts)
        return torch.rand(2, rollouts, generator=stream, dtype=torch.float64)

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return the exact log chances of success of the named runs' policies, (len(runs), 1), differentiable."""
        index = list(runs)
        return (self.log_policy[index] + self.chances[index].log()).logsumexp(1, keepdim=True)
