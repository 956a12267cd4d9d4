"""What the classification experiments share: perceptrons on pictures of three-digit numbers, many trained together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.digits import CLASSES, PIXELS, three_digits
from maxrl_lab.classification import ClassificationBatch
from maxrl_lab.policies.stack import Stack, mlp, seeded
from maxrl_lab.randomness import generator
from maxrl_lab.settings import Settings, Widths


@dataclass(frozen=True)
class Policy(Settings):
    """Policy: a perceptron that reads the picture."""

    hidden: Widths = (128,)
    """Widths of the perceptron's hidden layers."""


class Classifiers:
    """One perceptron a run; runs with the same seed start from the same parameters and see the same pictures."""

    def __init__(self, hidden: Sequence[int], seeds: Sequence[int], device: torch.device) -> None:
        self.seeds, self.device = list(seeds), device
        networks = [seeded(lambda: mlp([PIXELS, *hidden, CLASSES]), seed) for seed in seeds]
        self.stack = Stack(networks).to(device)
        self._pictures = three_digits("train")

    def images(self, purpose: str, count: int, step: int) -> tuple[Tensor, Tensor]:
        """Return every run's training images (R, count, 192) and their labels (R, count)."""
        by_seed = {
            seed: self._pictures.sample(count, generator(purpose, seed, step)) for seed in dict.fromkeys(self.seeds)
        }
        pixels, labels = zip(*(by_seed[seed] for seed in self.seeds), strict=True)
        return torch.stack(pixels).to(self.device), torch.stack(labels).to(self.device)

    def batch(self, count: int, step: int) -> ClassificationBatch:
        """Return `count` training images of one update as the trainer reads them."""
        pixels, labels = self.images("training images", count, step)
        return ClassificationBatch(self.stack(pixels).log_softmax(-1), labels, self.seeds, step, tally=True)
