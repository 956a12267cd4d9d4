"""Choices by uniform numbers of single precision, exact also for what is rarer than their steps of 2^-24 = 6e-8.

Number u chooses the first item whose threshold is above it. A threshold between two steps cannot be met exactly by u
alone: an item of probability 2^-30 would be drawn 64 times too often if it is the first, and never if it is the last.
So all thresholds are moved down by a part of a step, drawn anew for each group, and then up to the next step: the
average over that part is the exact threshold, so that every choice has its exact probability.
"""

import torch
from torch import Tensor

_STEPS = 2**24


def part_of_step(uniforms: Tensor) -> Tensor:
    """Return a number in [0, 1) for each of D streams of uniform numbers (D, ...), (D,) float64: their sum modulo 1.

    It is uniform and independent of each number of a stream of several.
    """
    return uniforms.flatten(1).sum(1, dtype=torch.float64) % 1


def thresholds(probabilities: Tensor, part: Tensor) -> Tensor:
    """Return cumulative probabilities (..., K) on steps of 2^-24, float32; the last is exactly 1.

    Item k is chosen by u if thresholds[k-1] <= u < thresholds[k]; one of probability 0 never is. Where probabilities
    are not numbers, as of a policy that diverged, the first item is chosen. `part`, in [0, 1), is broadcast to them.
    """
    cumulative = probabilities.double().cumsum(-1)
    steps = (cumulative.div_(cumulative[..., -1:].clone()).mul_(_STEPS) - part).ceil_()
    return steps.div_(_STEPS).float().nan_to_num_(1.0)
