"""BUMEX: explore where the bounds of a move leave something to gain (van Hulst et al. 2025, arXiv:2504.05978).

With probability epsilon a move is sampled in proportion to its exploring weight, else the best estimated move is taken;
estimates are clipped to the bounds, and the bounds are computed anew now and then. The official code learns its
estimates by Q-learning. Here they come from dynamic programming on the observed shares, because a table that depends on
time would need H times its samples: a departure, and so is the shape of the schedule of epsilon.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.exploration.bounds import Bounds, exploring_weights, regularised_bounds
from maxrl_lab.exploration.boxes import Experience, look_ahead
from maxrl_lab.exploration.mex import greedy
from maxrl_lab.settings import Interval
from maxrl_lab.specs import check_count
from maxrl_lab.tabular.tables import Tables


class Policies(NamedTuple):
    """What BUMEX plays and what it would hand over, (H, B, S, A) log-probabilities, and the bounds behind both."""

    played: Tensor
    """With probability epsilon an exploring move, else a greedy one."""
    greedy: Tensor
    """Best estimated moves, ties at random."""
    bounds: Bounds
    """Regularised bounds; they certify nothing."""


def exploring_share(episode: int, decay: float = 10.0, floor: float = 0.01) -> float:
    """Return epsilon after some episodes: 1 / (1 + episode / decay), at least the floor (the official code's 0.01)."""
    check_count("episode", episode, 0)
    Interval().check("decay", decay)
    return max(floor, 1 / (1 + episode / decay))


def bumex_policies(
    tables: Tables, experience: Experience, epsilon: float, *, strength: float = 5.0, delta: float = 0.05
) -> Policies:
    """Return the policies of the next episodes, from what has been seen; other options as in `regularised_bounds`."""
    Interval(0, 1, closed_low=True, closed_high=True).check("epsilon", epsilon)
    bounds = regularised_bounds(tables, experience, strength, delta)
    best = greedy(estimates(tables, experience, bounds))
    weights = exploring_weights(bounds)
    explore = weights / weights.sum(-1, keepdim=True)
    return Policies(((1 - epsilon) * best.exp() + epsilon * explore).log(), best, bounds)


def estimates(tables: Tables, experience: Experience, bounds: Bounds) -> Tensor:
    """Return the estimated chance of success after each move, (H, B, S, A), within the bounds.

    Of a tried move it is the mean over the observed shares, of an untried one the middle of its bounds.
    """
    tried, nominal = experience.visits > 0, experience.nominal
    middle = (bounds.lower_moves + bounds.upper_moves) / 2
    value = tables.success.double()
    rows = []
    for step in reversed(range(tables.horizon)):
        ahead = look_ahead(experience.box.candidates, value, value.amax(1, keepdim=True))
        moves = torch.where(tried, (nominal * ahead).sum(-1), middle[step])
        moves = torch.minimum(torch.maximum(moves, bounds.lower_moves[step]), bounds.upper_moves[step])
        value = torch.where(tables.active | ~experience.seen, moves.amax(-1), value)
        value = torch.where(tables.success, 1.0, value)
        rows.append(moves)
    return torch.stack(rows[::-1])
