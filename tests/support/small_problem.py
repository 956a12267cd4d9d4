"""A classification task small enough to enumerate: R small networks, 4 features, 7 classes, 5 inputs a batch.

Shared by the tests of the training stack. Labels follow a fixed random teacher, so the networks can learn them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from maxrl_lab.classification import ClassificationBatch
from maxrl_lab.policies.stack import Stack, mlp, seeded
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Tables

FEATURES, CLASSES, INPUTS = 4, 7, 5
TEACHER = torch.randn(FEATURES, CLASSES, generator=torch.Generator().manual_seed(2602)).double()


class SmallProblem:
    """One network per seed; runs with one seed share their first weights, inputs and random numbers."""

    def __init__(self, seeds: Sequence[int], dtype: torch.dtype = torch.float64) -> None:
        self.seeds = list(seeds)
        self.dtype = dtype
        self.stack = Stack([seeded(lambda: mlp([FEATURES, 6, CLASSES]), 1, seed).to(dtype) for seed in seeds])

    def inputs(self, step: int) -> Tensor:
        """(R, B, features)"""
        each = [torch.randn(INPUTS, FEATURES, generator=generator(2, seed, step + 1)) for seed in self.seeds]
        return torch.stack(each).to(self.dtype)

    def labels(self, step: int) -> Tensor:
        """(R, B)"""
        return (self.inputs(step).double() @ TEACHER).argmax(-1)

    def batch(self, step: int) -> ClassificationBatch:
        log_probs = self.stack(self.inputs(step)).log_softmax(-1)
        return ClassificationBatch(log_probs, self.labels(step), self.seeds, step)

    def measure(self, step: int) -> Tables:
        """The table `rows`, one row per run: the mean log pass rate on inputs of a step that is never trained on."""
        with torch.no_grad():
            log_pass_rates = self.batch(10**6).log_pass_rate(range(len(self.seeds))).mean(-1)
        rows = [
            {"step": step, "run": run, "seed": seed, "log_pass_rate": value}
            for run, (seed, value) in enumerate(zip(self.seeds, log_pass_rates.tolist(), strict=True))
        ]
        return {"rows": rows}

    def parameters(self, run: int) -> Tensor:
        """All parameters of one run in one vector, detached."""
        return torch.cat([parameter.detach().flatten().clone() for parameter in self.stack.networks[run].parameters()])

    def gradient(self, run: int = 0) -> Tensor:
        """The gradient that `backward` left on one run's parameters, in one vector."""
        return torch.cat([parameter.grad.flatten() for parameter in self.stack.networks[run].parameters()])
