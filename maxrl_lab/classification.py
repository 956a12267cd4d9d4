"""The family of classification: a rollout is one sampled class, the pass rate is the right class's probability."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator
from maxrl_lab.training.groups import Group


class ClassificationBatch:
    """B labelled inputs for each of R runs, with the runs' class log-probabilities.

    log_probs: (R, B, V), differentiable; labels: (R, B). `seeds` (R,) and `step` address the random numbers: runs with
    the same seed sample with the same ones.
    """

    def __init__(self, log_probs: Tensor, labels: Tensor, seeds: Sequence[int], step: int) -> None:
        if log_probs.shape[:2] != labels.shape or len(seeds) != len(labels):
            raise InputError(
                f"expected log_probs (R, B, V), labels (R, B) and R seeds, got {tuple(log_probs.shape)}, "
                f"{tuple(labels.shape)} and {len(seeds)}"
            )
        self.log_probs, self.labels, self.seeds, self.step = log_probs, labels, seeds, step

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return N sampled classes of each input for the named runs, as a group (len(runs), B, N).

        Sampling is done in single precision: a class whose probability is below 6e-8 is never sampled.
        """
        log_probs = self.log_probs[list(runs)]
        uniforms = self._uniforms([self.seeds[run] for run in runs], rollouts)
        cumulative = log_probs.detach().exp().cumsum(-1)
        classes = torch.searchsorted(cumulative, uniforms * cumulative[..., -1:], right=True)
        classes = classes.clamp(max=cumulative.shape[-1] - 1)
        rewards = classes == self.labels[list(runs), :, None]
        return Group(rewards, log_probs.gather(-1, classes))

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return log p of the right class, (len(runs), B)."""
        rows = list(runs)
        return self.log_probs[rows].gather(-1, self.labels[rows, :, None]).squeeze(-1)

    def _uniforms(self, seeds: Sequence[int], rollouts: int) -> Tensor:
        """Return numbers in [0, 1), (len(seeds), B, N), equal for equal seeds."""
        device = self.log_probs.device
        shape = (self.log_probs.shape[1], rollouts)
        by_seed = {}
        for seed in dict.fromkeys(seeds):
            stream = generator("rollouts", seed, self.step, rollouts, device=device)
            by_seed[seed] = torch.rand(shape, generator=stream, device=device)
        return torch.stack([by_seed[seed] for seed in seeds])
