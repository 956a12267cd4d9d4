"""One draw from a class distribution: the rollout is a class, the pass rate is the right class's probability.

The images are real: three handwritten digits side by side (8 x 24 pixels) form a number from 0 to 999, so an untrained
policy is right about once in 1000, as on ImageNet. The digits are scikit-learn's copy of the UCI "Optical Recognition
of Handwritten Digits" test set (1797 pictures, 8 x 8, Alpaydin & Kaynak 1998).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator
from maxrl_lab.training.groups import Group

CLASSES = 1000
PIXELS = 3 * 8 * 8
_TEST_SHARE = 3
"""Every third picture of a digit is a test picture."""
_MEAN, _SCALE = 0.305, 0.376
"""Mean and standard deviation of the digits' pixels, brightness in [0, 1]."""


@dataclass(frozen=True)
class ThreeDigits:
    """An endless stream of three-digit numbers, written with the training or with the test pictures only."""

    pictures: Tensor
    """(D, 64) standardised pixels, sorted by digit."""
    first: Tensor
    """(11,): the pictures of digit d are first[d] .. first[d+1] - 1."""

    def sample(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return `count` images (count, 192) and their labels (count,): classes and pictures uniformly at random."""
        labels = torch.randint(CLASSES, (count,), generator=stream)
        digits = torch.stack([labels // 100, labels // 10 % 10, labels % 10], 1)
        available = self.first[digits + 1] - self.first[digits]
        chosen = self.first[digits] + (torch.rand(digits.shape, generator=stream) * available).long()
        images = self.pictures[chosen].reshape(count, 3, 8, 8).transpose(1, 2).reshape(count, PIXELS)
        return images, labels


def three_digits(split: Literal["train", "test"]) -> ThreeDigits:
    """Return the stream of one split; no picture is in both. `ValueError` for any other name."""
    if split not in ("train", "test"):
        raise InputError(f"split must be 'train' or 'test', got {split!r}")
    from sklearn.datasets import load_digits  # only now: it takes a second to import

    images, targets = load_digits(return_X_y=True)
    pictures, digits = torch.tensor(images, dtype=torch.float32), torch.tensor(targets)
    order = digits.argsort(stable=True)
    is_test = torch.arange(len(order)) % _TEST_SHARE == 0
    chosen = order[is_test if split == "test" else ~is_test]
    first = torch.cat([torch.zeros(1, dtype=torch.long), digits[chosen].bincount(minlength=10).cumsum(0)])
    return ThreeDigits((pictures[chosen] / 16 - _MEAN) / _SCALE, first)


class ClassificationBatch:
    """B labelled inputs for each of R runs, with the runs' class log-probabilities.

    log_probs: (R, B, V), differentiable; labels: (R, B). `seeds` (R,) and `step` address the random numbers: runs with
    one seed draw the same ones.
    """

    def __init__(self, log_probs: Tensor, labels: Tensor, seeds: Sequence[int], step: int) -> None:
        if log_probs.shape[:2] != labels.shape or len(seeds) != len(labels):
            raise InputError(
                f"expected log_probs (R, B, V), labels (R, B) and R seeds, got {tuple(log_probs.shape)}, "
                f"{tuple(labels.shape)} and {len(seeds)}"
            )
        self.log_probs, self.labels, self.seeds, self.step = log_probs, labels, seeds, step

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return N classes drawn per input for the named runs, as a group (len(runs), B, N).

        Drawn in single precision: a class less likely than 6e-8 is never drawn.
        """
        log_probs = self.log_probs[list(runs)]
        uniforms = self._uniforms([self.seeds[run] for run in runs], rollouts)
        cumulative = log_probs.detach().exp().cumsum(-1)
        drawn = torch.searchsorted(cumulative, uniforms * cumulative[..., -1:], right=True)
        drawn = drawn.clamp(max=cumulative.shape[-1] - 1)
        rewards = drawn == self.labels[list(runs), :, None]
        return Group(rewards, log_probs.gather(-1, drawn))

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return log p of the right class, (len(runs), B)."""
        chosen = list(runs)
        return self.log_probs[chosen].gather(-1, self.labels[chosen, :, None]).squeeze(-1)

    def _uniforms(self, seeds: Sequence[int], rollouts: int) -> Tensor:
        """(len(seeds), B, N) numbers in [0, 1), equal for equal seeds."""
        device = self.log_probs.device
        shape = (self.log_probs.shape[1], rollouts)
        drawn = {}
        for seed in dict.fromkeys(seeds):
            stream = generator("rollouts", seed, self.step, rollouts, device=device)
            drawn[seed] = torch.rand(shape, generator=stream, device=device)
        return torch.stack([drawn[seed] for seed in seeds])
