"""Name the objective behind a weight curve: which known w(p) is it, up to what factor, with what residual?"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab import objectives

FLOOR = 1e-3
"""Deviations are relative to the objective's weight, but never to less than this share of its maximum."""

TOLERANCE = 1e-4
"""A residual up to this counts as equality: practice adds an epsilon here and there."""


class Match(NamedTuple):
    """How far a curve is from `scale` times an objective's weight."""

    objective: str
    """The objective's text form."""
    scale: float
    """The constant factor, which an optimiser's learning rate absorbs; negative if the gradient descends."""
    residual: float
    """The largest relative deviation over the grid; 0 is equality."""


def grid(rollouts: int) -> Tensor:
    """Return the pass rates at which curves are compared: from min(1e-3, 0.1/N) to 0.999, dense at both ends."""
    low = torch.logspace(math.log10(min(1e-3, 0.1 / rollouts)), -0.31, 100, dtype=torch.float64)
    high = 1 - torch.logspace(-0.3, -3, 60, dtype=torch.float64)
    return torch.cat([low, high])


def candidates(rollouts: int) -> Iterator[objectives.Objective]:
    """Yield every known objective an estimator of N rollouts could have: order and k from 2 to N, and the limits."""
    yield objectives.ExpectedReward()
    yield objectives.MaximumLikelihood()
    yield objectives.GrpoLimit()
    for size in range(2, rollouts + 1):
        yield objectives.TruncatedLikelihood(size)
        yield objectives.PassAtK(size)


def compare(curve: Tensor, objective: objectives.Objective, pass_rate: Tensor) -> Match:
    """Return the scale that brings an objective's weight nearest to `curve`, and what deviation remains."""
    return compare_values(curve, objective.weight(pass_rate), objective.spec)


def nearest(curve: Tensor, pass_rate: Tensor, rollouts: int) -> Match:
    """Return the match with the smallest residual among `candidates`."""
    return min((compare(curve, each, pass_rate) for each in candidates(rollouts)), key=lambda match: match.residual)


def rescaled(match: Match, curve: Tensor, objective: objectives.Objective, pass_rate: Tensor, scale: float) -> Match:
    """Return the match at a scale that is given, not fitted."""
    target = objective.weight(pass_rate)
    return match._replace(scale=scale, residual=_residual(curve, target, scale))


def compare_values(curve: Tensor, target: Tensor, name: str) -> Match:
    """Return the match of two arrays of values; the scale, the middle of their ratios, halves the largest deviation."""
    ratios = (curve / target)[target >= FLOOR * target.max()]
    scale = float(ratios.max() + ratios.min()) / 2
    return Match(name, scale, _residual(curve, target, scale))


def _residual(curve: Tensor, target: Tensor, scale: float) -> float:
    if scale == 0:
        return float("inf")
    reference = target.clamp(min=FLOOR * float(target.max()))
    return float(((curve / scale - target) / reference).abs().max())
