"""Where an order between RLOO and Algorithm 1 has less error than both."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import exact, select
from experiments.exact.best_order import Settings
from maxrl_lab.claims import Claim, number


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return what one group says of the middle of the dial, and what many groups say of its upper end."""
    rows = tables["rows"]
    return [*_middle(rows, settings), *_upper_end(rows, settings)]


def _middle(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """One group of the N nearest to 64 at p near 0.03."""
    count = min(settings.rollouts, key=lambda n: abs(n - 64))
    rate = min(settings.pass_rates, key=lambda p: abs(p - 0.03))
    errors = _errors(select(rows, rollouts=count, pass_rate=rate), groups=1)
    between = errors.drop([1, count - 1])
    if between.empty:
        return []
    ends = errors[[1, count - 1]]
    ratio = exact(between.min() / ends.min())
    sentence = (
        f"For one group the middle of the dial is best: at N = {count} and p = {number(rate)} order "
        f"{between.idxmin()} has {ratio} of the least error of both ends ({number(errors[1])} for RLOO, "
        f"{number(errors[count - 1])} for Algorithm 1, in units of the likelihood gradient squared; exact)."
    )
    return [ratio.claim("one_group_wants_the_middle", "", sentence, direction="below", boundary=1)]


def _upper_end(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """The mean of many groups where p is below 1/N."""
    groups = max(settings.groups)
    hard = rows[rows.pass_rate * rows.rollouts < 1]
    if groups == 1 or hard.empty:
        return []
    ratios = []
    for (count, _), at in hard.groupby(["rollouts", "pass_rate"]):
        errors = _errors(at, groups)
        ratios.append(errors[count - 1] / errors.min())
    worst = exact(max(ratios))
    sentence = (
        f"For the mean of {groups} groups the upper end is best on hard tasks: wherever p < 1/N, the error of "
        f"Algorithm 1 is at most {worst} times that of the best order (exact)."
    )
    return [worst.claim("many_groups_want_the_end", "", sentence, direction="below", boundary=1.01)]


def _errors(rows: pd.DataFrame, groups: int) -> "pd.Series[float]":
    """Return the error of every order where so many groups are averaged."""
    return rows.set_index("order").pipe(lambda at: at.squared_bias + at.variance / groups)
