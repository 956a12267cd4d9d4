"""What an advantage function optimises as its groups grow: its table at two sizes of the group is compared.

A function of the group's mean q = K/N alone has the weight a(K) - b(K) at p = q in the limit: GRPO's is
1 / sqrt(q (1-q)), whatever N is. So the limit is read exactly from a small group, and a second size confirms that the
form is the same there.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab import exact, objectives
from maxrl_lab.audit import families, identify
from maxrl_lab.errors import InputError
from maxrl_lab.estimators import CountEstimator
from maxrl_lab.objectives import TruncatedLikelihood
from maxrl_lab.probe import Probe, probe, read_coefficients

LARGEST_DOUBLED = 64
"""Up to this N the second size of the group is 2N, beyond it N/2: a function is called several times for each K."""
SMALLEST = 8
"""Below this N two sizes are read that are not N: the form does not show in fewer coefficients."""
_Table = tuple[Tensor, Tensor]


class Limit(NamedTuple):
    """The objective whose weight a function's weight tends to, up to a positive factor, as its groups grow."""

    objective: str
    """Its text form."""
    rollouts: int
    """The second size of the group, at which the form was confirmed."""


def limit(probed: Probe, success: Tensor, failure: Tensor) -> Limit | None:
    """Return the limit of a function whose coefficients at N are `success` and `failure`, or None if none is known.

    None also if the function cannot be called with another size of the group.
    """
    rollouts = len(success) - 1
    other = max(2 * rollouts, 2 * SMALLEST) if rollouts <= LARGEST_DOUBLED else rollouts // 2
    tables = [(success, failure) if rollouts >= SMALLEST else _read(probed, SMALLEST), _read(probed, other)]
    known = [table for table in tables if table]
    if len(known) < len(tables):
        return None
    small, large = sorted(known, key=lambda table: len(table[0]))
    name = _exact(small, large) or _plugged_in(small, large)
    return Limit(name, other) if name else None


def _read(probed: Probe, rollouts: int) -> _Table | None:
    try:
        table = coefficients(probed, rollouts)
    except InputError:
        return None
    return table if all(bool(column.isfinite().all()) for column in table) else None


def coefficients(probed: Probe, rollouts: int) -> _Table:
    """Return (a, b) of the probed function at another size of the group; raises `InputError` as `probe` does."""
    if isinstance(probed.function, CountEstimator):
        return probed.function.coefficients(rollouts)
    return read_coefficients(probe(probed.function, rollouts, probed.batched), rollouts)


def _exact(small: _Table, large: _Table) -> str | None:
    """Return the limit of a function that optimises an objective exactly at both sizes, or None.

    The same objective at both sizes is its limit, and an order that grows with N tends to the likelihood.
    """
    before, after = _named(*small), _named(*large)
    if before is None or after is None or before == after:
        return before.spec if before and before == after else None
    orders = [objective.order for objective in (before, after) if isinstance(objective, TruncatedLikelihood)]
    return "maximum_likelihood" if len(orders) == 2 and orders[0] < orders[1] else None


def _named(success: Tensor, failure: Tensor) -> objectives.Objective | None:
    rollouts = len(success) - 1
    p = identify.grid(rollouts)
    match = identify.nearest(exact.table_weight(success, failure, p), p, rollouts)
    is_exact = match.residual <= identify.tolerance(rollouts) and match.scale > 0
    return objectives.resolve(match.objective) if is_exact else None


def _plugged_in(small: _Table, large: _Table) -> str | None:
    """Return the objective whose weight is a(K) - b(K) at p = K/N, up to a factor, in both tables.

    The weight itself must come nearer to it from the small group to the large one, which a b(K) without a limit spoils.
    """
    points = [_points(*table) for table in (small, large)]
    if not all(bool((curve > 0).all()) for curve, _ in points):
        return None
    curve, q = points[1]
    named = [objectives.ExpectedReward(), objectives.MaximumLikelihood(), objectives.GrpoLimit()]
    for objective in (*named, *families.proposals(curve, q)):
        residuals = [identify.compare(curve, objective, q).residual for curve, q in points]
        if max(residuals) <= identify.TOLERANCE and _approaches(small, large, objective):
            return objective.spec
    return None


def _approaches(small: _Table, large: _Table, objective: objectives.Objective) -> bool:
    p = torch.linspace(0.2, 0.8, 61, dtype=torch.float64)
    before, after = (identify.compare(exact.table_weight(*table, p), objective, p).residual for table in (small, large))
    return after <= max(before, identify.TOLERANCE)


def _points(success: Tensor, failure: Tensor) -> tuple[Tensor, Tensor]:
    """Return a(K) - b(K) and K/N for the groups that hold both right and wrong, K = 1..N-1."""
    rollouts = len(success) - 1
    q = torch.arange(1, rollouts, dtype=torch.float64) / rollouts
    return (success - failure)[1:rollouts], q
