"""The members of the families with a parameter that a weight curve may be: p^-s (1-p)^-t, and the tilted objective.

A member is proposed by a linear fit, and its parameters are round numbers: a curve that is near a family and not in it
must not be called by five digits that happen to fit.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab import objectives

DIGITS = 2
"""Decimal places of a proposed parameter. Thirds are round numbers, too."""
SMALLEST = 0.05
"""A proposed parameter is at least this far from the members that have names of their own."""
LARGEST_TILT = 700.0
"""exp(beta) ends soon after it."""


class PowerFit(NamedTuple):
    """The member of the power family p^-s (1-p)^-t that is nearest to a curve, in least squares of the logarithm."""

    s: float
    """Steepness towards hard tasks: 0 for RL, 1/2 for GRPO's limit, 1 for likelihood."""
    t: float
    """Steepness towards easy tasks: 0 for RL and likelihood, 1/2 for GRPO's limit."""
    low: float
    """The smallest pass rate of the fit; the largest is 1 - `low`."""
    residual: float
    """The largest relative deviation between them, at the best scale."""


def proposals(curve: Tensor, pass_rate: Tensor) -> Iterator[objectives.Objective]:
    """Yield members of the families with round parameters that may be proportional to a positive curve w(p).

    `curve` and `pass_rate` have the same shape (P,), with 0 < p < 1; no member is yielded for a curve with a sign.
    """
    if not bool((curve > 0).all()) or len(curve) <= 3:
        return
    s, t = (_round(value) for value in _exponents(curve, pass_rate))
    if s == 0 and t < 0 and float(t).is_integer():
        yield objectives.PassAtK(1 - int(t))
    elif t == 0 and abs(s) >= SMALLEST:
        yield objectives.Tsallis(s)
    elif max(abs(s), abs(t)) >= SMALLEST:
        yield objectives.Power(s, t)
    yield from _tilted(curve, pass_rate)


def fit_power(curve: Tensor, pass_rate: Tensor, low: float) -> PowerFit | None:
    """Return the nearest member of the power family between the pass rates `low` and 1 - `low`.

    None if the curve is not positive there, or has fewer than four points.
    """
    inside = (pass_rate >= low * (1 - 1e-12)) & (pass_rate <= 1 - low * (1 - 1e-12))
    w, p = curve[inside], pass_rate[inside]
    if len(w) < 4 or not bool((w > 0).all()):
        return None
    s, t = _exponents(w, p)
    ratios = w * p**s * (1 - p) ** t
    return PowerFit(s, t, low, float((ratios.max() - ratios.min()) / (ratios.max() + ratios.min())))


def _exponents(curve: Tensor, pass_rate: Tensor) -> tuple[float, float]:
    """Return s and t of the least-squares fit log w = c - s log p - t log(1-p)."""
    columns = torch.stack([torch.ones_like(pass_rate), -pass_rate.log(), -torch.log1p(-pass_rate)], dim=1)
    _, s, t = torch.linalg.lstsq(columns, curve.log()[:, None], driver="gelsd").solution[:, 0].tolist()
    return s, t


def _tilted(curve: Tensor, pass_rate: Tensor) -> Iterator[objectives.Objective]:
    """1/w is proportional to 1 + p (e^beta - 1), so its slope over its value at p = 0 is e^beta - 1."""
    columns = torch.stack([torch.ones_like(pass_rate), pass_rate], dim=1) * curve[:, None]
    start, slope = torch.linalg.lstsq(columns, torch.ones_like(curve)[:, None], driver="gelsd").solution[:, 0].tolist()
    growth = slope / start if start > 0 else -1.0
    beta = _round(math.log1p(growth)) if growth > -1 else 0.0
    if SMALLEST <= beta <= LARGEST_TILT:
        yield objectives.Tilted(beta)


def _round(value: float) -> float:
    thirds = round(value * 3) / 3
    if not float(thirds).is_integer() and abs(value - thirds) < 10**-DIGITS / 10:
        return thirds
    return round(value, DIGITS) + 0.0
