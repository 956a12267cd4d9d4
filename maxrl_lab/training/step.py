"""The on-policy step, once, for every family of tasks: losses of R runs as one batched program, and one update.

Each run has a method (`maxrl_lab.training.methods`) and a learning rate of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maxrl_lab.training.groups import Group
from maxrl_lab.training.methods import Batch, Method


def run_losses(batch: Batch, methods: Sequence[Method]) -> Tensor:
    """Return each run's loss, shape (R,), whose gradient is minus the run's gradient estimate."""
    together = _together(methods)
    shared = _SharedRollouts(batch, together)
    parts = [method.loss(shared, runs) for method, runs in together]
    order = [run for _, runs in together for run in runs]
    return torch.cat(parts)[torch.tensor(order).argsort()]


def take_step(losses: Tensor, optimiser: torch.optim.Optimizer, clip: float | None = None) -> None:
    """Take one optimiser step on every run's loss (R,); `clip` bounds each run's own gradient norm, off if None."""
    optimiser.zero_grad(set_to_none=True)
    losses.sum().backward()
    if clip is not None:
        for group in optimiser.param_groups:
            nn.utils.clip_grad_norm_(group["params"], clip)
    optimiser.step()


def _together(methods: Sequence[Method]) -> list[tuple[Method, list[int]]]:
    """Return each distinct method with its runs. Methods are compared, not hashed: an estimator may be any callable."""
    together: list[tuple[Method, list[int]]] = []
    for run, method in enumerate(methods):
        runs = next((runs for known, runs in together if known == method), None)
        if runs is None:
            together.append((method, [run]))
        else:
            runs.append(run)
    return together


class _SharedRollouts:
    """A batch that rolls out all runs with the same number of rollouts at once, when the first of them asks."""

    def __init__(self, batch: Batch, together: Sequence[tuple[Method, list[int]]]) -> None:
        self._batch, self._together = batch, together
        self._groups: dict[int, Group] = {}

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return the part of the common group that belongs to the runs of one method."""
        drawing = [run for method, own in self._together if method.drawn == rollouts for run in own]
        if rollouts not in self._groups:
            self._groups[rollouts] = self._batch.rollout(drawing, rollouts)
        start = drawing.index(runs[0])
        return self._groups[rollouts].select(slice(start, start + len(runs)))

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return the batch's own."""
        return self._batch.log_pass_rate(runs)

    def __getattr__(self, name: str) -> object:
        """Offer whatever else the batch offers, such as `greedy`."""
        return getattr(self._batch, name)
