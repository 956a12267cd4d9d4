"""The family of classification: a rollout is one sampled class, the pass rate is the right class's probability."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator
from maxrl_lab.thresholds import part_of_step, thresholds
from maxrl_lab.training.groups import Group


class ClassificationBatch:
    """B labelled inputs for each of R runs, with the runs' class log-probabilities.

    log_probs: (R, B, V), differentiable; labels: (R, B). `seeds` (R,) and `step` address the random numbers: runs with
    the same seed sample with the same ones. `tally` counts the classes of a group that is larger than their number V:
    the same rollouts, at the cost of V instead of N, but without their order.
    """

    def __init__(
        self, log_probs: Tensor, labels: Tensor, seeds: Sequence[int], step: int, *, tally: bool = False
    ) -> None:
        if log_probs.shape[:2] != labels.shape or len(seeds) != len(labels):
            raise InputError(
                f"expected log_probs (R, B, V), labels (R, B) and R seeds, got {tuple(log_probs.shape)}, "
                f"{tuple(labels.shape)} and {len(seeds)}"
            )
        self.log_probs, self.labels, self.seeds, self.step = log_probs, labels, seeds, step
        self.tally = tally

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return N sampled classes of each input for the named runs, as a group (len(runs), B, N)."""
        log_probs, labels = self.log_probs[list(runs)], self.labels[list(runs), :, None]
        counted = self.tally and rollouts > log_probs.shape[-1]
        uniforms = self._uniforms([self.seeds[run] for run in runs], rollouts, ordered=counted)
        bounds = thresholds(log_probs.detach().exp(), part_of_step(uniforms)[:, None, None])
        if counted:
            counts = _count_classes(bounds, uniforms)
            rewards = torch.arange(counts.shape[-1], device=labels.device) == labels
            return Group(rewards, log_probs.masked_fill(counts == 0, 0.0), counts=counts)  # 0 times -inf is not 0
        classes = torch.searchsorted(bounds, uniforms, right=True)
        return Group(classes == labels, log_probs.gather(-1, classes))

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return log p of the right class, (len(runs), B)."""
        rows = list(runs)
        return self.log_probs[rows].gather(-1, self.labels[rows, :, None]).squeeze(-1)

    def _uniforms(self, seeds: Sequence[int], rollouts: int, *, ordered: bool) -> Tensor:
        """Return numbers in [0, 1), (len(seeds), B, N), equal for equal seeds; `ordered` sorts those of each input."""
        device = self.log_probs.device
        shape = (self.log_probs.shape[1], rollouts)
        by_seed = {}
        for seed in dict.fromkeys(seeds):
            stream = generator("rollouts", seed, self.step, rollouts, device=device)
            by_seed[seed] = torch.rand(shape, generator=stream, device=device)
            if ordered:
                by_seed[seed] = _sort(by_seed[seed])
        return torch.stack([by_seed[seed] for seed in seeds])


def _count_classes(bounds: Tensor, ordered: Tensor) -> Tensor:
    """Return how many of N ordered numbers (..., N) each of V classes has, (..., V): those from bound to bound."""
    below = torch.searchsorted(ordered, bounds)
    return below.diff(dim=-1, prepend=torch.zeros_like(below[..., :1]))


def _sort(values: Tensor) -> Tensor:
    """Return values sorted along the last axis; numpy's sort takes a twentieth of torch's time on a CPU."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=-1))
    return values.sort(-1).values
