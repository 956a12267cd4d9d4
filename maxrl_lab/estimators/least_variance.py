"""The baseline of least variance: given a table's weight, the b(K) for which E|g|^2 is smallest.

With a(J+1) = beta_J + b(J) for fixed beta the mean is fixed, and E|g|^2 (`exact.variance`) is quadratic in b:

    N E|g|^2 = sum_J [ q1_J (beta_J + b_J)^2 + q0_J b_J^2 ]
               + sum_J c_J [ (beta_{J+1} + b_{J+1})^2 + b_J^2 - 2 (beta_J + b_J) b_{J+1} ],

    q1_J = E_p[Bin(J; N-1, p) q1],  q0_J likewise,  c_J = (N-1) E_p[Bin(J; N-2, p) |grad p|^2],  c_{-1} = c_{N-1} = 0.

Its minimum solves a tridiagonal system, in which every row's diagonal outweighs the other entries:

    (q1_J + q0_J) b_J + c_{J-1} (b_J - b_{J-1}) + c_J (b_J - b_{J+1}) = -q1_J beta_J - c_{J-1} (beta_J - beta_{J-1})

Every row is divided by its largest probability, so that no row underflows; the rows that no group reaches keep the
values that their neighbours give them.  [lab]
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxrl_lab import bernstein
from maxrl_lab.errors import InputError


@dataclass(frozen=True)
class Prior:
    """Pass rates inside (0, 1), their masses, and the moments of the scores there, as in `exact.variance`."""

    pass_rate: tuple[float, ...]
    mass: tuple[float, ...]
    gradient_norm_squared: tuple[float, ...]
    success_moment: tuple[float, ...]
    failure_moment: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the ranges."""
        for p in self.pass_rate:
            if not 0 < p < 1:
                raise InputError(f"least_variance needs pass rates inside (0, 1), got {p}")
        for name in ("mass", "gradient_norm_squared", "success_moment", "failure_moment"):
            for value in getattr(self, name):
                if not (math.isfinite(value) and value >= 0):
                    raise InputError(f"{name} must be finite and not negative, got {value}")
        if not self.pass_rate:
            raise InputError("least_variance needs a pass rate with mass at which scores are not 0, got none")


def prior(
    pass_rate: object,
    mass: object = 1.0,
    *,
    gradient_norm_squared: object = None,
    success_moment: object = None,
    failure_moment: object = None,
) -> Prior:
    """Return the prior over `pass_rate` () or (P,), with `mass` and moments that broadcast against the pass rates.

    The moments are |grad p|^2, E[|S|^2 1{r=1}] and E[|S|^2 1{r=0}], as in `exact.variance`. By default they are 0, p
    and 1-p: rollouts of many parameters, whose scores are equally long and nearly orthogonal. Then b(J) is -beta_J
    times the mean of p among groups with J of N-1 right.
    """
    p = _row(pass_rate)
    moments = [
        default if given is None else _row(given)
        for given, default in (
            (gradient_norm_squared, torch.zeros_like(p)),
            (success_moment, p),
            (failure_moment, 1 - p),
        )
    ]
    try:
        columns = torch.broadcast_tensors(p, _row(mass), *moments)
    except RuntimeError:
        raise InputError(f"mass and moments must broadcast against {len(p)} pass rates, got other lengths") from None
    counts = (columns[1] != 0) & (columns[3] + columns[4] != 0)  # the others have no variance
    return Prior(*(tuple(column[counts].tolist()) for column in columns))


def best_baseline(weight: Tensor, over: Prior) -> Tensor:
    """Return b(0..N-1) of least variance for the Bernstein coefficients (N,) of a weight, float64."""
    own_success, own_failure, below, above = _rows(len(weight), over)
    step = weight.diff(prepend=weight[:1])
    return _tridiagonal(own_success + own_failure + below + above, -below, -above, -own_success * weight - below * step)


def _rows(rollouts: int, over: Prior) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return q1_J, q0_J, c_{J-1}, c_J for J = 0..N-1, each row divided by its largest probability."""
    p, mass, norm, q1, q0 = (
        torch.tensor(column, dtype=torch.float64)[:, None]
        for column in (
            over.pass_rate,
            over.mass,
            over.gradient_norm_squared,
            over.success_moment,
            over.failure_moment,
        )
    )
    log_chance = bernstein.log_probabilities(rollouts - 1, p[:, 0]) + mass.log()
    chance = (log_chance - log_chance.max(0).values).exp()
    j = torch.arange(rollouts, dtype=torch.float64)
    below, above = j / p * norm, (rollouts - 1 - j) / (1 - p) * norm
    own_success, own_failure, below, above = ((chance * value).sum(0) for value in (q1, q0, below, above))
    return own_success, own_failure, below, above


def _tridiagonal(diagonal: Tensor, lower: Tensor, upper: Tensor, right: Tensor) -> Tensor:
    """Return the solution of a tridiagonal system whose diagonal outweighs its neighbours (Thomas' elimination)."""
    d, low, up, y = (column.tolist() for column in (diagonal, lower, upper, right))
    for j in range(1, len(d)):
        factor = low[j] / d[j - 1]
        d[j] -= factor * up[j - 1]
        y[j] -= factor * y[j - 1]
    solution = [0.0] * len(d)
    for j in reversed(range(len(d))):
        above = up[j] * solution[j + 1] if j + 1 < len(d) else 0.0
        solution[j] = (y[j] - above) / d[j]
    return torch.tensor(solution, dtype=torch.float64)


def _row(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64).reshape(-1)
