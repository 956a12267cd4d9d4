"""Which estimate is nearest to the likelihood gradient on hard levels, through a network that is learning."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import exact, mean_text, over_seeds, ratio, seeds_text
from experiments.navigation.navigation_bias_variance import Settings
from maxrl_lab import specs
from maxrl_lab.claims import Claim, number

HOPELESS, HARD = (0.0, 1e-4), (1e-4, 0.01)
"""Pass rates of levels that no estimate helps on, and of those where the order decides."""
ORDER_N = ("maxrl_no_baseline", "maxrl_control_variate", "maxrl_leave_one_out", "maxrl_cross_fitted")
"""Estimators of order N, exactly."""
HALF = "maxrl_order:order=N/2"
QUARTER = "maxrl_centred:order=N/4"
ENDS = ("rloo", "maxrl")
"""The ends of the dial of centred estimators: order 1 and order N-1."""
DIAL = ((1e-4, 0.01), (0.01, 0.1), (0.1, 0.5))
"""Pass rates of levels at which an order between is compared with both ends."""


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return which estimator has the least error at equal rollouts on hard levels, and whether any helps on others."""
    rows = tables["rows"]
    made = _bias(rows)
    hopeless, hard = (_errors(rows, part) for part in (HOPELESS, HARD))
    if not hopeless.empty:
        least = over_seeds(hopeless.min(axis=1))
        sentence = (
            f"Where p < 1e-4 no estimate of {settings.budget} rollouts is nearer to the likelihood gradient than none: "
            f"the least mean squared error of all estimators is {least} of the squared gradient ({seeds_text(least)})."
        )
        made.append(least.claim("nothing_helps_on_hopeless_levels", "", sentence, boundary=0.95))
    most = max(settings.rollouts)
    half = (specs.format_at(HALF, most), most)
    others = hard.drop(columns=[name for name in hard if _order(name[0], most) == most // 2])
    if half in hard.columns and not others.empty:
        best = others.mean().idxmin()
        share = ratio(hard[half], others[best])
        name = best[0] + ("" if best[1] < 0 else f" at N = {best[1]:g}")
        sentence = (
            f"Where p is from 1e-4 to 0.01 order N/2 of one group of N = {most} has the least error of "
            f"{settings.budget} rollouts: it is {share} of that of the best estimate of another order, {name} "
            f"({seeds_text(share)}; {number(hard[half].mean())} of the squared gradient)."
        )
        made.append(share.claim("order_half_has_least_error", "", sentence, direction="below", boundary=1))
    if {QUARTER, *ENDS} <= set(settings.estimators):
        made += [claim for count in settings.rollouts if count > 4 for claim in _dial(rows, count)]
    return made


def _order(name: str, count: int) -> object:
    """Return the order that an estimator's name states; None if it states none."""
    return specs.parse(name, count)[1].get("order")


def _dial(rows: pd.DataFrame, count: int) -> list[Claim]:
    """Order N/4 is nearer to the likelihood gradient than both ends of the dial, in one group of N."""
    made = []
    middle = specs.format_at(QUARTER, count)
    for low, high in DIAL:
        errors = _errors(rows[rows.rollouts == count], (low, high), "mean_squared_error")
        names = [(name, count) for name in (middle, *ENDS)]
        if errors.empty or not set(names) <= set(errors.columns):
            continue
        between, rloo, algorithm_1 = (errors[name] for name in names)
        share = ratio(between, min(rloo, algorithm_1, key=lambda end: end.mean()))
        sentence = (
            f"Where p is from {low:g} to {high:g} one group of N = {count} is nearer to the likelihood gradient with "
            f"order N/4 than with RLOO and with Algorithm 1: the mean squared errors are {mean_text(between)}, "
            f"{mean_text(rloo)} and {mean_text(algorithm_1)} of the squared gradient, a ratio to the smaller of the "
            f"two of {share} ({seeds_text(share)})."
        )
        name = f"order_quarter_has_less_error_than_both_ends_at_{count}_up_to_p_{high:g}".replace(".", "_")
        made.append(share.claim(name, "", sentence, direction="below", boundary=1))
    return made


def _bias(rows: pd.DataFrame) -> list[Claim]:
    """Squared bias of order N is (1-p)^(2N), through the network and the table of the level."""
    exactly = rows[rows.estimator.isin(ORDER_N)]
    if exactly.empty:
        return []
    residual = exact((exactly.squared_bias - (1 - exactly.pass_rate) ** (2 * exactly.rollouts)).abs().max())
    sentence = (
        "Through a network and the table of a maze, the relative bias of order N for the likelihood gradient is "
        f"(1-p)^N: the squared bias deviates from (1-p)^(2N) by at most {residual} (exact)."
    )
    return [residual.claim("bias_of_order_n", "Eq. 7", sentence, direction="below", boundary=1e-9)]


def _errors(
    rows: pd.DataFrame, pass_rates: tuple[float, float], column: str = "budget_mean_squared_error"
) -> pd.DataFrame:
    """Return by seed and by estimator at N (-1: none) the mean error on levels with such pass rates.

    Levels of all checkpoints count; estimators that some seed lacks are left out.
    """
    low, high = pass_rates
    within = rows[(rows.pass_rate > low) & (rows.pass_rate <= high)].fillna({"rollouts": -1})
    if within.empty:
        return pd.DataFrame()
    errors = within.groupby(["seed", "estimator", "rollouts"])[column].mean()
    return errors.unstack(["estimator", "rollouts"]).dropna(axis="columns")
