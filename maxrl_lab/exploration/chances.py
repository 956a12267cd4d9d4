"""The best distribution within a box, near a nominal one: the one inner problem of certified bounds and of MEX.

Over all p with low <= p <= high and sum p = 1:

    max_p  sum_i p_i V_i  -  lambda KL(nominal || p)

Without a penalty (lambda = 0) this is a linear programme, which is filled like basins with water: the mass that the
lower limits leave goes to the values in falling order, as far as the upper limits allow. With a penalty the solution is
p_i = clip(lambda nominal_i / (nu - V_i), low_i, high_i), and nu is found by bisection, or by Newton's method where
nothing is clipped. The box alone is what bounds
need (van Hulst et al. 2025, arXiv:2504.05978, whose official code solves the same two problems); the penalty alone is
the log-likelihood of what was seen, as in MEX (Liu et al. 2023, arXiv:2305.18258). The worst distribution is the best
one of -V.
"""

import torch
from torch import Tensor

from maxrl_lab.errors import InputError

ITERATIONS = 60
"""Halvings of the bracket around nu. The value is flat at its maximum, so that an error in nu counts squared."""
COARSE = 16
"""Halvings while a policy is planned: the value is then off by less than 1e-6."""
NEWTON = 8
"""Newton's steps where the limits are 0 and 1."""
_TOLERANCE = 1e-9


def check_box(low: Tensor, high: Tensor) -> None:
    """Raise `InputError` unless 0 <= low <= high <= 1 and some distribution lies between low and high, (..., C)."""
    if low.shape != high.shape:
        raise InputError(f"low and high must have the same shape, got {tuple(low.shape)} and {tuple(high.shape)}")
    wrong = ~((low >= 0) & (low <= high) & (high <= 1))
    if bool(wrong.any()):
        at = tuple(wrong.nonzero()[0].tolist())
        raise InputError(f"limits must fulfil 0 <= low <= high <= 1, got {float(low[at]):g} and {float(high[at]):g}")
    least, most = low.sum(-1), high.sum(-1)
    empty = (least > 1 + _TOLERANCE) | (most < 1 - _TOLERANCE)
    if bool(empty.any()):
        at = tuple(empty.nonzero()[0].tolist())
        raise InputError(
            f"the box at {at} contains no distribution: its lower limits sum to {float(least[at]):g} and its upper "
            f"limits to {float(most[at]):g}"
        )


def check_penalty(penalty: Tensor) -> None:
    """Raise `InputError` for a penalty that is negative or NaN; infinity is allowed."""
    wrong = ~(penalty >= 0)
    if bool(wrong.any()):
        raise InputError(f"a penalty must be >= 0, got {float(penalty[wrong][0]):g}")


def water_fill(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the distribution within the box that has the largest mean of the values, (..., C)."""
    order = values.argsort(-1, descending=True)
    room = (high - low).gather(-1, order)
    filled_before = room.cumsum(-1) - room
    rest = (1 - low.sum(-1, keepdim=True)).clamp(min=0)
    poured = torch.minimum(room, (rest - filled_before).clamp(min=0))
    return low + torch.zeros_like(low).scatter(-1, order, poured)


def bisect(
    values: Tensor, low: Tensor, high: Tensor, nominal: Tensor, penalty: Tensor, iterations: int = ITERATIONS
) -> Tensor:
    """Return the distribution within the box that has the largest penalised mean of the values, (..., C).

    nominal: (..., C), a distribution; penalty: (...), > 0, where infinity asks for the distribution of least
    divergence. In units of the penalty, with mu = (nu - max V) / lambda, every mass falls with mu. Entries of nominal
    mass 0 fall from high to low at once, where mu passes their value; a last step between the two ends of the bracket
    fills what such a jump leaves.
    """
    behind = (values.amax(-1, keepdim=True) - values) / penalty[..., None]
    below = -behind.amax(-1) - 1
    above = 1 / (1 - low.sum(-1)).clamp(min=1e-15)
    for _ in range(iterations):
        middle = (below + above) / 2
        too_much = _masses(middle, behind, low, high, nominal).sum(-1) >= 1
        below, above = torch.where(too_much, middle, below), torch.where(too_much, above, middle)
    most, least = (_masses(end, behind, low, high, nominal) for end in (below, above))
    missing, jump = 1 - least.sum(-1), (most - least).sum(-1)
    share = torch.where(jump > 0, missing / jump.clamp(min=1e-300), 0.0).clamp(0, 1)
    return least + share[..., None] * (most - least)


def _masses(mu: Tensor, behind: Tensor, low: Tensor, high: Tensor, nominal: Tensor) -> Tensor:
    """Return p for a multiplier mu (...), which need not sum to 1."""
    gap = mu[..., None] + behind
    ratio = torch.where(gap > 0, nominal / gap.clamp(min=1e-300), torch.inf)
    seen = torch.minimum(torch.maximum(ratio, low), high)
    return torch.where(nominal > 0, seen, torch.where(gap < 0, high, low))


def newton(values: Tensor, is_open: Tensor, nominal: Tensor, penalty: Tensor, iterations: int = NEWTON) -> Tensor:
    """Return what `bisect` returns where every limit is 0 to 1, or closed (0 to 0), in fewer steps, (..., C).

    The sum of nominal_i / (mu + behind_i) is convex and falls with mu, so Newton's steps from the left never pass the
    solution. If the sum is below 1 at mu = 0 already, the rest goes to the best column, which was never seen then.
    """
    best, column = values.masked_fill(~is_open, -torch.inf).max(-1, keepdim=True)
    behind = (best - values) / penalty[..., None]
    mu = torch.where(nominal > 0, nominal - behind, 0.0).amax(-1, keepdim=True).clamp(min=0)
    for _ in range(iterations):
        gap = (mu + behind).clamp(min=1e-300)
        share = nominal / gap
        mu = (mu + (share.sum(-1, keepdim=True) - 1) / (share / gap).sum(-1, keepdim=True)).clamp(min=0)
    chances = nominal / (mu + behind).clamp(min=1e-300)
    total = chances.sum(-1, keepdim=True)
    chances = chances / total.clamp(min=1)
    return chances.scatter_add(-1, column, (1 - total).clamp(min=0))


def divergence(nominal: Tensor, chances: Tensor) -> Tensor:
    """Return KL(nominal || chances) in nats, (...): infinite where something seen has no chance."""
    return (torch.xlogy(nominal, nominal) - torch.xlogy(nominal, chances)).sum(-1)


class Inner:
    """The inner problem of many pairs of a state and a move, prepared once and solved for many values.

    low, high, nominal: (..., C); penalty: (...). Where the penalty is 0 the nominal distribution does not matter; where
    it is infinite the distribution of least divergence counts, and the penalty is not subtracted. Where the box
    excludes the nominal distribution, the least divergence within it is subtracted from every divergence: it is a
    constant of the objective, which a plan would pay anew at every visit. Raises `InputError`
    for a box without a distribution and a penalty below 0.
    """

    def __init__(
        self,
        low: Tensor,
        high: Tensor,
        nominal: Tensor | None = None,
        penalty: Tensor | None = None,
        iterations: int = ITERATIONS,
    ) -> None:
        check_box(low, high)
        self.shape, self.iterations = low.shape[:-1], iterations
        width = low.shape[-1]
        self.low, self.high = low.double().reshape(-1, width), high.double().reshape(-1, width)
        self.curved = torch.zeros(0, dtype=torch.long)
        if nominal is not None and penalty is not None:
            check_penalty(penalty)
            self._prepare(nominal.double().reshape(-1, width), penalty.double().flatten())
        room = self.high - self.low
        self.closed = room <= 0
        rest = (1 - self.low.sum(-1)).clamp(min=0)
        self.rest = torch.where(self.closed.all(-1), 0.0, rest)  # a point whose sum is 1 up to rounding has no rest
        # the mass that the lower limits leave fits into any single column that has room at all
        self.fits = bool((self.closed | (room >= self.rest[:, None] - 1e-12)).all())

    def _prepare(self, nominal: Tensor, penalty: Tensor) -> None:
        """Turn rows of infinite penalty into points, and remember the rows whose problem is not linear."""
        trusted = penalty.isinf()
        if bool(trusted.any()):
            inside = ((nominal >= self.low) & (nominal <= self.high)).all(-1)
            nearest, outside = nominal.clone(), trusted & ~inside
            if bool(outside.any()):
                arguments = (self.low[outside], self.high[outside], nominal[outside], penalty[outside])
                nearest[outside] = bisect(torch.zeros_like(self.low[outside]), *arguments)
            self.low, self.high = (torch.where(trusted[:, None], nearest, part) for part in (self.low, self.high))
        self.curved = ((penalty > 0) & ~trusted).nonzero().flatten()
        self.nominal, self.penalty = nominal[self.curved], penalty[self.curved]
        self.curved_low, self.curved_high = self.low[self.curved], self.high[self.curved]
        self.is_open = self.curved_high > 0
        self.floor = self._least_divergence()
        self.free = bool((self.curved_low == 0).all()) and bool(((self.curved_high == 1) | ~self.is_open).all())

    def _least_divergence(self) -> Tensor:
        """Return the least KL(nominal || p) over the box, 0 where the nominal distribution lies within it."""
        floor = torch.zeros_like(self.penalty)
        outside = ~((self.nominal >= self.curved_low) & (self.nominal <= self.curved_high)).all(-1)
        if bool(outside.any()):
            low, high, nominal = (part[outside] for part in (self.curved_low, self.curved_high, self.nominal))
            nearest = bisect(torch.zeros_like(low), low, high, nominal, torch.ones(len(low), dtype=torch.float64))
            floor[outside] = divergence(nominal, nearest).clamp(min=0)
        return floor

    def best(self, values: Tensor) -> Tensor:
        """Return max_p p V - lambda (KL(nominal || p) - least), (...), of values (..., C)."""
        flat = values.reshape(-1, values.shape[-1])
        if self.fits:
            filled = flat.masked_fill(self.closed, -torch.inf).amax(-1).clamp(min=-1e300)
            result = (self.low * flat).sum(-1) + torch.where(self.rest > 0, self.rest * filled, 0.0)
        else:
            result = (water_fill(flat, self.low, self.high) * flat).sum(-1)
        if len(self.curved):
            part = flat[self.curved]
            chances = self._solved(part)
            result[self.curved] = (chances * part).sum(-1) - self.penalty * (
                divergence(self.nominal, chances) - self.floor
            )
        return result.view(self.shape)

    def chances(self, values: Tensor) -> Tensor:
        """Return the maximising distributions, (..., C)."""
        flat = values.reshape(-1, values.shape[-1])
        result = water_fill(flat, self.low, self.high)
        if len(self.curved):
            result[self.curved] = self._solved(flat[self.curved])
        return result.view(*self.shape, -1)

    def _solved(self, values: Tensor) -> Tensor:
        if self.free:
            return newton(values, self.is_open, self.nominal, self.penalty)
        limits = self.curved_low, self.curved_high
        return bisect(values, *limits, self.nominal, self.penalty, self.iterations)
