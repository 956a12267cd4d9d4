"""Numbers from 0 to 999 as pictures: three handwritten digits side by side (8 x 24 pixels), one of 1000 classes.

An untrained policy is right about once in 1000, as on ImageNet. The digits are real: scikit-learn's copy of the UCI
"Optical Recognition of Handwritten Digits" test set (1797 pictures, 8 x 8, Alpaydin & Kaynak 1998).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from maxrl_lab.errors import InputError

CLASSES = 1000
"""Number of classes V."""
PIXELS = 3 * 8 * 8
"""Number of brightnesses in an image."""
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
    """(11,) row of each digit's first picture: those of digit d are first[d] .. first[d+1] - 1."""

    def sample(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return `count` images (count, 192) and their labels (count,): classes and pictures uniformly at random."""
        labels = torch.randint(CLASSES, (count,), generator=stream)
        digits = torch.stack([labels // 100, labels // 10 % 10, labels % 10], 1)
        available = self.first[digits + 1] - self.first[digits]
        rows = self.first[digits] + (torch.rand(digits.shape, generator=stream) * available).long()
        images = self.pictures[rows].reshape(count, 3, 8, 8).transpose(1, 2).reshape(count, PIXELS)
        return images, labels


def three_digits(split: Literal["train", "test"]) -> ThreeDigits:
    """Return the stream of one split; no picture is in both. `InputError` for any other name."""
    if split not in ("train", "test"):
        raise InputError(f"split must be 'train' or 'test', got {split!r}")
    from sklearn.datasets import load_digits  # only now: it takes a second to import

    images, targets = load_digits(return_X_y=True)
    pictures, digits = torch.tensor(images, dtype=torch.float32), torch.tensor(targets)
    order = digits.argsort(stable=True)
    is_test = torch.arange(len(order)) % _TEST_SHARE == 0
    rows = order[is_test if split == "test" else ~is_test]
    first = torch.cat([torch.zeros(1, dtype=torch.long), digits[rows].bincount(minlength=10).cumsum(0)])
    return ThreeDigits((pictures[rows] / 16 - _MEAN) / _SCALE, first)
