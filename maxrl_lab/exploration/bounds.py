"""Certified bounds on the best pass rate, from a box of chances, and which moves they rule out.

With an outcome that is right or wrong and a horizon H, the value of a state is a probability of success, and for every
table within the box [lab, after van Hulst et al. 2025, arXiv:2504.05978, who discount and have rewards]:

    lower_t(s) = max_a min_p p . lower_{t+1}   <=   best_t(s)   <=   upper_t(s) = max_a max_p p . upper_{t+1}

where both are 1 on success states and 0 on failure states. The recursion is in t, because a discount is no horizon.
With counts and a `strength` the inner problems are regularised by lambda = strength sqrt(N / log(S A / delta)) times
KL(observed || p), as in the official code; such bounds are tighter, follow what was seen, and certify nothing.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.exploration.boxes import Box, Experience, look_ahead
from maxrl_lab.exploration.chances import COARSE, Inner
from maxrl_lab.settings import Interval
from maxrl_lab.tabular.tables import Tables

UNDECIDED_FLOOR = 1e-8
"""Exploring weight of a move that nothing speaks for."""
_SAME = 1e-9
"""Values that differ by less are equal."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """Bounds of the best probability of success from each state on, and of what each move leaves of it."""

    lower: Tensor
    """(H+1, B, S) lower bounds after t = 0..H steps."""
    upper: Tensor
    """(H+1, B, S) upper bounds."""
    lower_moves: Tensor
    """(H, B, S, A) lower bounds once a move is taken."""
    upper_moves: Tensor
    """(H, B, S, A) upper bounds once a move is taken."""
    start: Tensor
    """(B, S) start distribution."""
    certified: bool
    """Whether the bounds hold for every table in the box; regularised ones do not."""


def backward(
    tables: Tables, inner: Inner, candidates: Tensor, sign: int = 1, seen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the values (H+1, B, S) and (H, B, S, A) where the chances are the best (sign 1) or the worst (-1) allowed.

    The moves are the best ones in both cases. A candidate S is the best state, or the worst. seen: (B, S) bool, the
    states of which it is known whether they are failures, None for all; others are none where one hopes, and are
    failures where one fears. Success states are always known.
    """
    active = tables.active
    if seen is not None:
        active = ~tables.success & ~(tables.failure & seen) if sign > 0 else active & seen
    value = tables.success.double()
    values, moves = [value], []
    for _ in range(tables.horizon):
        anywhere = value.amax(1, keepdim=True) if sign > 0 else value.amin(1, keepdim=True)
        after = sign * inner.best(sign * look_ahead(candidates, value, anywhere))
        value = torch.where(active, after.amax(-1), value)
        moves.append(after)
        values.append(value)
    return torch.stack(values[::-1]), torch.stack(moves[::-1])


def value_bounds(tables: Tables, box: Box, seen: Tensor | None = None) -> Bounds:
    """Return certified bounds: they hold for every table within the box, so also for the truth if it is there.

    Only sizes, absorbing states and the horizon are read of the tables, their chances never. seen: (B, S) bool, the
    states of which it is known whether they are failures; None for all.
    """
    _check_fits(tables, box)
    inner = Inner(box.low, box.high)
    lower, lower_moves = backward(tables, inner, box.candidates, -1, seen)
    upper, upper_moves = backward(tables, inner, box.candidates, 1, seen)
    return Bounds(lower, upper, lower_moves, upper_moves, tables.start.double(), certified=True)


def regularised_bounds(
    tables: Tables, experience: Experience, strength: float = 5.0, delta: float = 0.05, iterations: int = COARSE
) -> Bounds:
    """Return the bounds of BUMEX that lean on what was seen; strength and delta are those of its official code.

    Both are clipped to [0, 1] and to each other. They are no certificates.
    """
    box = experience.box
    _check_fits(tables, box)
    penalty = root_penalty(experience.visits, strength, delta)
    inner = Inner(box.low, box.high, experience.nominal, penalty, iterations)
    lower, lower_moves = backward(tables, inner, box.candidates, -1, experience.seen)
    upper, upper_moves = backward(tables, inner, box.candidates, 1, experience.seen)
    lower, upper, lower_moves, upper_moves = (part.clamp(0, 1) for part in (lower, upper, lower_moves, upper_moves))
    start = tables.start.double()
    lower, lower_moves = torch.minimum(lower, upper), torch.minimum(lower_moves, upper_moves)
    return Bounds(lower, upper, lower_moves, upper_moves, start, certified=False)


def root_penalty(visits: Tensor, strength: float, delta: float) -> Tensor:
    """Return BUMEX's penalty strength sqrt(N / log(S A / delta)) of visits N, (B, S, A)."""
    Interval(0, closed_low=True).check("strength", strength)
    Interval(0, 1).check("delta", delta)
    return strength * (visits / math.log(visits[0].numel() / delta)).sqrt()


def certified_pass_rate(bounds: Bounds) -> tuple[Tensor, Tensor]:
    """Return the lower and the upper bound of each task's best pass rate, two tensors (B,).

    Raises `InputError` for regularised bounds, which certify nothing.
    """
    if not bounds.certified:
        raise InputError(
            "certified_pass_rate needs bounds that certify something (`value_bounds`), got regularised ones"
        )
    return pass_rate_bounds(bounds)


def pass_rate_bounds(bounds: Bounds) -> tuple[Tensor, Tensor]:
    """Return the means of both bounds over the start distribution, (B,) each, certified or not."""
    lower, upper = ((bounds.start * value[0]).sum(-1).clamp(0, 1) for value in (bounds.lower, bounds.upper))
    return lower, upper


def exploring_weights(bounds: Bounds) -> Tensor:
    """Return BUMEX's exploring weight of every move at every time, (H, B, S, A).

    1 for a move that is certainly best (its lower bound reaches every other move's upper bound). For an undecided one
    (upper - V)+^2 / (2 (upper - lower)) with V the state's lower bound: the expected improvement over V of a uniform
    draw between the move's bounds [lab]. Else `UNDECIDED_FLOOR`.
    """
    lower, upper = bounds.lower_moves, bounds.upper_moves
    best, second = _two_largest(upper)
    others = torch.where(upper >= best[..., None], second[..., None], best[..., None])
    gain = (upper - bounds.lower[:-1, ..., None]).clamp(min=0)
    weights = gain.square() / (2 * (upper - lower).clamp(min=1e-12))
    return torch.where(lower >= others - _SAME, 1.0, weights).clamp(min=UNDECIDED_FLOOR)


def provably_wrong(bounds: Bounds) -> Tensor:
    """Return which moves at which time cannot be best, (H, B, S, A) bool: below the lower bound of their state."""
    return bounds.upper_moves < bounds.lower[:-1, ..., None] - _SAME


def masked(log_policy: Tensor, wrong: Tensor) -> Tensor:
    """Return a policy ([T,] B, S, A) without some moves (H, B, S, A), renormalised: (H, B, S, A).

    A state whose moves are all ruled out, or all have probability 0, keeps its policy.
    """
    full = log_policy.expand(wrong.shape)
    kept = full.masked_fill(wrong, -torch.inf)
    total = kept.logsumexp(-1, keepdim=True)
    return torch.where(total.isinf(), full, kept - total)


def _two_largest(values: Tensor) -> tuple[Tensor, Tensor]:
    if values.shape[-1] == 1:
        return values[..., 0], torch.full_like(values[..., 0], -torch.inf)
    top = values.topk(2, -1).values
    return top[..., 0], top[..., 1]


def _check_fits(tables: Tables, box: Box) -> None:
    if box.candidates.shape[:3] != tables.shape:
        raise InputError(f"expected a box of {tables.shape} tasks, states and moves, got {box.candidates.shape[:3]}")
