"""The objective behind a weight curve: which known w(p) is nearest, up to what factor, with what residual?"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab import objectives
from maxrl_lab.audit import families
from maxrl_lab.audit.search import best_size

FLOOR = 1e-3
"""A deviation from a weight w(p) is divided by w(p), or by this share of the largest w where w(p) is below that."""

TOLERANCE = 1e-4
"""A residual up to this counts as equality, because shipped code adds an epsilon to a denominator here and there."""


class Match(NamedTuple):
    """The distance of a curve from `scale` times an objective's weight."""

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


def tolerance(rollouts: int, precision: float = 0.0) -> float:
    """Return the residual up to which a curve counts as an objective's: orders N and N-1 are about 1/(2N) apart.

    `precision` is that of the advantages: numbers of 8 bits cannot be told apart any better.
    """
    return min(max(TOLERANCE, precision), 0.1 / rollouts)


NAMED = (objectives.ExpectedReward(), objectives.MaximumLikelihood(), objectives.GrpoLimit())
"""The objectives without a number."""
SIZED: tuple[Callable[[int], objectives.Objective], ...] = (
    objectives.TruncatedLikelihood,
    objectives.PassAtK,
    objectives.ArcsinePassAtK,
)
"""Those with an order or a k, which is tried from 2 to N."""


def compare(curve: Tensor, objective: objectives.Objective, pass_rate: Tensor) -> Match:
    """Return the match at the scale that brings the objective's weight nearest to `curve`."""
    return compare_values(curve, objective.weight(pass_rate), objective.spec)


def nearest(curve: Tensor, pass_rate: Tensor, rollouts: int, precision: float = 0.0) -> Match:
    """Return the match with the smallest residual among `NAMED` and `SIZED`, or an exact one in `families`."""
    sized = [_best_of(kind, curve, pass_rate, rollouts) for kind in SIZED] if rollouts > 1 else []
    match = min([*(compare(curve, objective, pass_rate) for objective in NAMED), *sized], key=_residual_of)
    limit = tolerance(rollouts, precision)
    if match.residual > limit:
        members = [compare(curve, objective, pass_rate) for objective in families.proposals(curve, pass_rate)]
        match = min([member for member in members if member.residual <= limit], key=_residual_of, default=match)
    return match


def _best_of(kind: Callable[[int], objectives.Objective], curve: Tensor, pass_rate: Tensor, rollouts: int) -> Match:
    size, _ = best_size(lambda size: compare(curve, kind(size), pass_rate).residual, 2, rollouts)
    return compare(curve, kind(size), pass_rate)


def rescaled(match: Match, curve: Tensor, objective: objectives.Objective, pass_rate: Tensor, scale: float) -> Match:
    """Return the match at a given scale, in place of the fitted one."""
    return match._replace(scale=scale, residual=_residual(curve, objective.weight(pass_rate), scale))


def compare_values(curve: Tensor, target: Tensor, name: str) -> Match:
    """Return the match of `curve` with the values `target` of an objective called `name`.

    The scale lies half-way between the smallest and the largest ratio of the two, so that the largest deviation to one
    side equals that to the other.
    """
    ratios = (curve / target)[target >= FLOOR * target.max()]
    scale = float(ratios.max() + ratios.min()) / 2
    return Match(name, scale, _residual(curve, target, scale))


def _residual_of(match: Match) -> float:
    return match.residual


def _residual(curve: Tensor, target: Tensor, scale: float) -> float:
    if scale == 0:
        return float("inf")
    reference = target.clamp(min=FLOOR * float(target.max()))
    return float(((curve / scale - target) / reference).abs().max())
