"""The on-policy step, once, for every family of tasks: losses of R runs as one batched program, and one update.

Each run has a method (`maxrl_lab.training.methods`) and a learning rate of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maxrl_lab.training.groups import Group
from maxrl_lab.training.methods import Batch, Method, greedy


def run_losses(batch: Batch, methods: Sequence[Method]) -> Tensor:
    """Return each run's loss, shape (R,), whose gradient is minus the run's gradient estimate.

    Runs with equal methods are computed together, and runs with the same number of rollouts are rolled out together.
    """
    grouped = _group_runs(methods)
    shared = _SharedRollouts(batch, grouped)
    losses = torch.cat([method.loss(shared, runs) for method, runs in grouped])
    order = [run for _, runs in grouped for run in runs]
    return losses[torch.tensor(order).argsort()]


def take_step(losses: Tensor, optimiser: torch.optim.Optimizer, clip: float | None = None) -> None:
    """Take one optimiser step on every run's loss (R,); `clip` bounds each run's own gradient norm, off if None."""
    optimiser.zero_grad(set_to_none=True)
    losses.sum().backward()
    if clip is not None:
        for group in optimiser.param_groups:
            nn.utils.clip_grad_norm_(group["params"], clip)
    optimiser.step()


def _group_runs(methods: Sequence[Method]) -> list[tuple[Method, list[int]]]:
    """Return each distinct method with its runs. Methods are compared, not hashed: an estimator may be any callable."""
    grouped: list[tuple[Method, list[int]]] = []
    for run, method in enumerate(methods):
        runs = next((runs for known, runs in grouped if known == method), None)
        if runs is None:
            grouped.append((method, [run]))
        else:
            runs.append(run)
    return grouped


class _SharedRollouts:
    """A batch that rolls out all runs with the same number of rollouts in one call, when the first of them asks."""

    def __init__(self, batch: Batch, grouped: Sequence[tuple[Method, list[int]]]) -> None:
        self._batch = batch
        self._groups: dict[int, Group] = {}
        self._sharing: dict[int, list[int]] = {}
        for method, runs in grouped:
            if method.drawn is not None:
                self._sharing.setdefault(method.drawn, []).extend(runs)

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return the part of the common group that belongs to the runs of one method."""
        sharing = self._sharing[rollouts]
        if rollouts not in self._groups:
            self._groups[rollouts] = self._batch.rollout(sharing, rollouts)
        start = sharing.index(runs[0])
        return self._groups[rollouts].select(slice(start, start + len(runs)))

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return the log pass rates of the batch."""
        return self._batch.log_pass_rate(runs)

    def greedy(self, runs: Sequence[int]) -> Tensor:
        """Return which tasks of the batch the likeliest rollout solves."""
        return greedy(self._batch, runs)
