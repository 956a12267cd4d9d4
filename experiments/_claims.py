"""What claims are made of: estimates over seeds, differences within a seed, trends, and the claim they end in.

ours, theirs = by_seed(rows, "pass_at_1", method="maxrl"), by_seed(rows, "pass_at_1", method="grpo")
lead = difference(ours, theirs)
lead.claim("maxrl_leads", "Table 3", f"MaxRL ends above GRPO: the difference is {lead}.")
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from maxrl_lab.claims import Claim, Direction, interval_text, number
from maxrl_lab.errors import InputError
from maxrl_lab.intervals import t_interval, wilson_interval


class Estimate(NamedTuple):
    """A value with its 95% interval over seeds; exact if `seeds` is None. It is written `0.1 [0.02, 0.18]`."""

    value: float
    low: float
    high: float
    seeds: int | None = None

    def claim(
        self, name: str, paper: str, sentence: str, *, direction: Direction = "above", boundary: float = 0.0
    ) -> Claim:
        """Return the claim that this estimate is on one side of the boundary; above 0 unless told otherwise."""
        return Claim(name, paper, sentence, *self[:3], boundary=boundary, direction=direction, seeds=self.seeds)

    def __str__(self) -> str:
        return number(self.value) if self.seeds is None else interval_text(*self[:3])


def exact(value: float) -> Estimate:
    """Return an estimate that needs no interval."""
    return Estimate(float(value), float(value), float(value))


def over_seeds(values: "pd.Series[float]") -> Estimate:
    """Return the mean of one value a seed with its t interval; without bounds for one seed, NaN if a run diverged."""
    data, nan = values.to_numpy(dtype=float), float("nan")
    if np.isnan(data).any():
        return Estimate(nan, nan, nan, len(data))
    mean, low, high = map(float, t_interval(data, single_allowed=True))
    return Estimate(mean, low, high, len(data))


def share_over_seeds(shares: "pd.Series[float]") -> Estimate:
    """Return the mean of one share a seed with its t interval; Wilson's, with seeds as trials, if each is 0 or 1.

    A t interval leaves [0, 1] there, or has no width where all agree, though a few seeds do not exclude others.
    """
    if len(shares) > 1 and shares.isin((0, 1)).all():
        mean, low, high = map(float, wilson_interval(shares.sum(), len(shares)))
        return Estimate(mean, low, high, len(shares))
    return over_seeds(shares)


def difference(ours: "pd.Series[float]", theirs: "pd.Series[float]") -> Estimate:
    """Return the mean of `ours - theirs` with its interval, paired by seed.

    Raises `InputError` unless both have the same seeds.
    """
    if sorted(ours.index) != sorted(theirs.index):
        raise InputError(f"expected pairs of one seed, got seeds {sorted(ours.index)} and {sorted(theirs.index)}")
    return over_seeds(ours - theirs)


def ratio(ours: "pd.Series[float]", theirs: "pd.Series[float]") -> Estimate:
    """Return the geometric mean of `ours / theirs` with its interval, paired by seed; both are positive."""
    logarithm = difference(np.log(ours), np.log(theirs))
    value, low, high = np.exp(logarithm[:3]).tolist()
    return Estimate(value, low, high, logarithm.seeds)


def select(rows: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """Return the rows with these values in these columns; None stands for an empty cell."""
    for column, value in where.items():
        rows = rows[rows[column].isna() if value is None else rows[column] == value]
    return rows


def by_seed(rows: pd.DataFrame, value: str, **where: Any) -> "pd.Series[float]":
    """Return a column of the selected rows by seed; raise `InputError` unless each seed has one row."""
    matching = select(rows, **where)
    if matching.empty or matching.seed.duplicated().any():
        got = "no row" if matching.empty else "several rows for a seed"
        raise InputError(f"expected one row for each seed with {where}, got {got}")
    return matching.set_index("seed")[value].sort_index()


def slopes(rows: pd.DataFrame, value: str, x: str = "rollouts") -> "pd.Series[float]":
    """Return by seed the slope of a column for each doubling of `x`, by least squares; `rows` of one method."""
    table = rows.pivot(index="seed", columns=x, values=value).sort_index(axis=1)
    doublings = np.log2(table.columns.to_numpy(dtype=float))
    centred = doublings - doublings.mean()
    return pd.Series(table.to_numpy(dtype=float) @ centred / (centred @ centred), index=table.index)


def ends_text(
    rows: pd.DataFrame,
    value: str,
    x: str = "rollouts",
    *,
    at: str = "at N = {:g}",
    form: Callable[[float], str] = number,
) -> str:
    """Return a column's means at the smallest and the largest `x`: `from 0.1 at N = 4 to 0.3 at N = 64`."""
    means = rows.groupby(x)[value].mean()
    first, last = (f"{form(means.iloc[end])} {at.format(means.index[end])}" for end in (0, -1))
    return f"from {first} to {last}"


def mean_text(values: "pd.Series[float]") -> str:
    """Return the mean over seeds as a reader would write it."""
    return number(float(values.mean()))


def seeds_text(estimate: Estimate) -> str:
    """Return over what the estimate is: `exact`, `over 5 seeds`, `in one seed`."""
    if estimate.seeds is None:
        return "exact"
    return "in one seed" if estimate.seeds == 1 else f"over {estimate.seeds} seeds"
