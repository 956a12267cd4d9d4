"""The Bernstein coefficients of an objective's weight: exact for a polynomial of low degree, else the best fit.

Four ways, in this order: the closed forms of expected reward, truncated likelihood and pass@k; exact interpolation of a
function that computes with `fractions.Fraction`, such as 30 (1-p)^29, up to degree 256; interpolation at Chebyshev
points, where that reproduces the weight to rounding (polynomials up to degree 32, and functions as smooth as they);
penalised least squares for the rest (1/p, 1/sqrt(p(1-p)), orders beyond the degree).
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import bernstein
from maxrl_lab.errors import InputError
from maxrl_lab.estimators.likelihood import maxrl_order
from maxrl_lab.estimators.pass_at_k import pkpo
from maxrl_lab.objectives import ExpectedReward, Objective, PassAtK, TruncatedLikelihood, as_pass_rate

AnyWeight = Objective | Callable[[Tensor], object]
"""An objective, or a function from pass rates (P,), a float64 tensor, to the weights w(p) (P,)."""

INTERPOLATED_DEGREE = 32
"""Bernstein coefficients of an interpolant of degree d amplify the rounding of w by up to 2^d."""

FRACTIONS_DEGREE = 256
"""Up to this degree a function is interpolated in fractions, which takes about a second."""

EXACT = 1e-13
"""A deviation from w, relative to the largest |w|, up to this is rounding."""

FEWEST_NODES = 256


class Fit(NamedTuple):
    """The polynomial that stands for a weight."""

    coefficients: Tensor
    """Bernstein coefficients (degree+1,), float64."""
    is_exact: bool
    """Whether the polynomial is the weight, to rounding."""


def weight_of(objective: AnyWeight, pass_rate: object) -> Tensor:
    """Return w(p) of an objective or a function, float64; `InputError` for a function that returns another shape."""
    p = as_pass_rate(pass_rate).detach()
    if isinstance(objective, Objective):
        return objective.weight(p)
    answer = objective(p.clone())
    try:
        weight = torch.as_tensor(answer, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"expected weights w(p) as numbers, got {type(answer).__name__}") from None
    if weight.shape != p.shape and weight.ndim:
        raise InputError(f"expected weights of the pass rates' shape {tuple(p.shape)}, got {tuple(weight.shape)}")
    return weight.expand(p.shape)


def fit(objective: AnyWeight, degree: int, groups: int) -> Fit:
    """Return the polynomial of at most `degree` that stands for the objective's weight; `groups` as in `least_squares`.

    Raises `InputError` for a weight that is not finite at a pass rate inside (0, 1).
    """
    closed = _closed_form(objective, degree + 1)
    if closed is not None:
        return Fit(closed, True)
    rational = None if isinstance(objective, Objective) else _in_fractions(objective, min(degree, FRACTIONS_DEGREE))
    if rational is not None:
        return Fit(bernstein.elevate(rational, degree), True)
    smooth = _interpolated(objective, min(degree, INTERPOLATED_DEGREE))
    if smooth is not None:
        return Fit(bernstein.elevate(smooth, degree), True)
    return Fit(least_squares(objective, degree, groups), False)


def _closed_form(objective: AnyWeight, rollouts: int) -> Tensor | None:
    """Return the coefficients (N,) that an unbiased success-only table must have: they are unique."""
    counts = torch.arange(rollouts + 1, dtype=torch.float64)
    if isinstance(objective, ExpectedReward):
        return counts[1:] ** 0
    if isinstance(objective, TruncatedLikelihood) and objective.order <= rollouts:
        return torch.as_tensor(maxrl_order(counts, rollouts, order=objective.order)[0])[1:]
    if isinstance(objective, PassAtK) and objective.k <= rollouts:
        return torch.as_tensor(pkpo(counts, rollouts, k=objective.k)[0])[1:]
    return None


def _in_fractions(function: Callable[[Any], object], degree: int) -> Tensor | None:
    """Return the Bernstein coefficients, at the lowest degree, of a polynomial that is computed in fractions.

    Two more values than a polynomial of this degree has coefficients must lie on it.
    """
    steps = degree + 4
    try:
        values = [function(Fraction(i, steps)) for i in range(1, steps)]
    except Exception:  # a function of tensors may raise anything
        return None
    fractions = [Fraction(value) for value in values if isinstance(value, int | Fraction)]
    if len(fractions) < len(values):
        return None
    coefficients = bernstein.from_equal_steps(fractions, steps, degree)
    return torch.tensor([float(c) for c in coefficients], dtype=torch.float64) if coefficients else None


def _interpolated(objective: AnyWeight, degree: int) -> Tensor | None:
    """Return the Bernstein coefficients, at the lowest degree, of a weight that a polynomial equals to rounding."""
    values = _finite_weight(objective, _nodes(degree + 1)).numpy()
    angles = (np.arange(degree + 1) + 0.5) / (degree + 1) * np.pi
    series = 2 / (degree + 1) * np.cos(np.outer(np.arange(degree + 1), angles)) @ values
    series[0] /= 2
    scale = float(np.abs(values).max())
    used = np.flatnonzero(np.abs(series) > 1e-15 * scale)
    series = series[: int(used[-1]) + 1] if len(used) else series[:1]
    between = _nodes(8 * (degree + 2))
    target = _finite_weight(objective, between).numpy()
    deviation = np.abs(np.polynomial.chebyshev.chebval(2 * between.numpy() - 1, series) - target).max()
    return bernstein.from_chebyshev(series.tolist()) if deviation <= EXACT * np.abs(target).max() else None


def least_squares(objective: AnyWeight, degree: int, groups: int) -> Tensor:
    """Return the coefficients beta that minimise bias and noise of w_N(p) = E[beta_J] over all pass rates.

        E_p[ ((w_N(p) - w(p))^2 + Var_J(beta_J) / groups) / (w(p)^2 + m^2) ],     J ~ Binomial(degree, p)

    with m the median of |w|, so that errors count relative to w where w is large. p has Jeffreys' prior,
    Beta(1/2, 1/2), which looks closely at both ends. Without the noise the best polynomial has coefficients of
    alternating signs that grow like 2^N: a mean that no number of groups would show. `groups` is the number of groups
    whose estimates are averaged in a step: the larger, the smaller the bias and the larger the noise.
    """
    p = _nodes(max(2 * (degree + 1), FEWEST_NODES))
    target = _finite_weight(objective, p)
    share = 1 / (target.square() + target.abs().median().square()) / len(p)
    basis = bernstein.probabilities(degree, p)
    weighted = basis * share[:, None]
    normal = (1 - 1 / groups) * basis.T @ weighted + torch.diag(weighted.sum(0) / groups)
    scale = normal.diagonal().rsqrt()
    factor = torch.linalg.cholesky(scale[:, None] * normal * scale)
    return scale * torch.cholesky_solve((scale * (weighted.T @ target))[:, None], factor)[:, 0]


def _nodes(count: int) -> Tensor:
    """Return the Chebyshev points of [0, 1], from 1 down: equal masses of Jeffreys' prior."""
    angles = (torch.arange(count, dtype=torch.float64) + 0.5) / count * torch.pi / 2
    return angles.cos().square()


def _finite_weight(objective: AnyWeight, pass_rate: Tensor) -> Tensor:
    weight = weight_of(objective, pass_rate)
    wrong = ~weight.isfinite()
    if wrong.any():
        raise InputError(
            f"the weight must be finite inside (0, 1), got {weight[wrong][0]} at p = {pass_rate[wrong][0]:.6g}"
        )
    return weight
