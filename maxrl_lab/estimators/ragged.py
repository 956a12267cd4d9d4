"""Groups of unequal size: lists of groups, or rows that name their group, and what happens where N is too small."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.estimators.columns import GroupTooSmallError
from maxrl_lab.estimators.counted import CountEstimator, numbers
from maxrl_lab.estimators.rewards import check_rewards
from maxrl_lab.estimators.table import resolve


@dataclass(frozen=True)
class ZeroIfTooSmall(CountEstimator):
    """An estimator that gives zeros to groups that are too small for it, empty ones too, in place of an error."""

    estimator: CountEstimator

    @property
    def spec(self) -> str:
        """The text form of the estimator, with what happens to small groups."""
        return f"{self.estimator.spec} (0 if too small)"

    def coefficients(self, rollouts: int) -> tuple[Tensor, Tensor]:
        """Return the estimator's table, or zeros (N+1,) where there is none because N is too small."""
        zeros = torch.zeros(rollouts + 1, dtype=torch.float64)
        if rollouts == 0:
            return zeros, zeros.clone()
        try:
            return self.estimator.coefficients(rollouts)
        except GroupTooSmallError:
            return zeros, zeros.clone()


def zero_if_too_small(estimator: str | CountEstimator) -> ZeroIfTooSmall:
    """Return the estimator with zeros for groups too small for it: `zero_if_too_small("rloo")` for groups of one."""
    made = resolve(estimator)
    if not isinstance(made, CountEstimator):
        raise InputError(f"expected an estimator's name or a made estimator, got {type(made).__name__}")
    return ZeroIfTooSmall(made)


def ragged(estimator: str | Callable[..., Any], groups: Sequence[Any]) -> list[Tensor]:
    """Return the advantages of each group of rewards (N_g,): groups may have different sizes N_g.

    `N` in an estimator's text is each group's own: `pkpo:k=N/2`. Raises `InputError` as the estimator does, with the
    group's number.
    """
    if len(groups) == 0:
        raise InputError("expected at least one group of rewards, got none")
    return [_one_group(estimator, rewards, str(number)) for number, rewards in enumerate(groups)]


def grouped(
    estimator: str | Callable[..., Any], rewards: Any, groups: Any, *, mask: Any = None, rollouts: Any = None
) -> Tensor:
    """Return advantages (M,) of rewards (M,) whose `groups` (M,) name their prompts: in any order, of any size.

    The names may be numbers or text. `mask` (M,) is true where a row counts; other rows get 0. `rollouts` (M,), if
    given, tells the rows of a group apart: a pair of group and rollout that comes twice is refused, because a copy
    inflates K. Raises `InputError`, naming the row, for a name that is None or NaN and for a reward that is not 0 or 1.
    """
    values = numbers("rewards", rewards)
    if values.ndim != 1 or len(values) == 0:
        raise InputError(f"expected rewards (M,), one for each row, got {tuple(values.shape)}")
    left = torch.ones_like(values, dtype=torch.bool) if mask is None else _column("mask", mask, len(values))
    rows = rows_of_groups(groups, keep=[bool(kept) for kept in left], rollouts=rollouts)
    advantages = torch.zeros(
        len(values), dtype=values.dtype if values.is_floating_point() else torch.get_default_dtype()
    ).to(values.device)
    for name, members in rows.items():
        advantages[members] = _one_group(estimator, values[members], repr(name)).to(advantages)
    return advantages


def rows_of_groups(groups: Any, keep: Sequence[bool] | None = None, rollouts: Any = None) -> dict[Hashable, list[int]]:
    """Return the rows that each name in `groups` (M,) stands at, without those that are not kept.

    Raises `InputError` for a name that is None or NaN, for lengths that differ, and for a rollout that comes twice.
    """
    names = np.asarray(groups).tolist()
    numbers = range(len(names)) if rollouts is None else np.asarray(rollouts).tolist()
    kept = [True] * len(names) if keep is None else keep
    if not len(names) == len(kept) == len(numbers):
        raise InputError(f"expected a group for each of {len(kept)} rows, got {len(names)} and {len(numbers)} rollouts")
    rows: dict[Hashable, list[int]] = {}
    seen: dict[tuple[Hashable, Hashable], int] = {}
    for row, (name, number) in enumerate(zip(names, numbers, strict=True)):
        if name is None or (isinstance(name, float) and math.isnan(name)):
            raise InputError(f"every row must name its group, got {name} at row {row}")
        if kept[row] and (other := seen.setdefault((name, number), row)) != row:
            raise InputError(f"rows {other} and {row} are the same rollout {number!r} of group {name!r}: give it once")
        if kept[row]:
            rows.setdefault(name, []).append(row)
    return rows


def _one_group(estimator: str | Callable[..., Any], rewards: Any, name: str) -> Tensor:
    try:
        values = check_rewards(rewards)
        if values.ndim != 1:
            raise InputError(f"expected rewards (N,), got {tuple(values.shape)}")
        specs.check_rollouts(len(values))
        return torch.as_tensor(resolve(estimator, len(values))(values))
    except InputError as error:
        raise type(error)(f"group {name}: {error}") from None


def _column(name: str, values: Any, rows: int) -> list[Any]:
    column: list[Any] = numbers(name, values).tolist()
    if len(column) != rows or any(value not in (0, 1) for value in column):
        raise InputError(f"{name} must have one true or false for each of {rows} rows, got {column[:8]}")
    return column
