"""Theorems 1 and 2 of the paper, and the order of Algorithm 1."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import exact
from experiments.exact.unbiasedness import Settings
from maxrl_lab.claims import Claim

TOLERANCE = 1e-9
"""What rounding may make of an identity."""
OTHER_FORMS = ("maxrl_control_variate", "maxrl_leave_one_out", "maxrl_cross_fitted")
"""Forms of MaxRL with a baseline that are of order N as well."""


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return both theorems, the orders of MaxRL's forms, and whether the training code agrees."""
    rows, means = tables["rows"], tables["conditional_means"]
    counts = ", ".join(map(str, sorted(settings.rollouts)))
    residual = exact(means.right_residual.max())
    lowest, highest = (f"{p:g}" for p in (means.pass_rate.min(), means.pass_rate.max()))
    sentence = (
        "The mean score of right rollouts is the likelihood gradient: enumerated at pass rates from "
        f"{lowest} to {highest} it is off by at most {residual}, relatively (exact)."
    )
    made = [residual.claim("theorem_1", "Theorem 1", sentence, direction="below", boundary=TOLERANCE)]
    if "maxrl_no_baseline" in settings.estimators:
        residual = exact(max(_residual(row, row.rollouts) for row in _of(rows, "maxrl_no_baseline")))
        sentence = (
            f"MaxRL without a baseline is unbiased for order T = N: at N = {counts} its weight is off that of order N "
            f"by at most {residual}, relatively (exact)."
        )
        made.append(residual.claim("theorem_2", "Theorem 2", sentence, direction="below", boundary=TOLERANCE))
    if "maxrl" in settings.estimators:
        residual = exact(max(_residual(row, row.rollouts - 1) for row in _of(rows, "maxrl")))
        sentence = (
            f"MaxRL's Algorithm 1 is of order N-1, not N: at N = {counts} its weight is off that of order N-1 by at "
            f"most {residual}, relatively (exact)."
        )
        made.append(residual.claim("algorithm_1_order", "Algorithm 1", sentence, direction="below", boundary=TOLERANCE))
    if others := [name for name in OTHER_FORMS if name in settings.estimators]:
        residual = exact(max(_residual(row, row.rollouts) for name in others for row in _of(rows, name)))
        sentence = (
            f"Forms with a baseline keep order N ({', '.join(others)}): at N = {counts} their weights are off that of "
            f"order N by at most {residual}, relatively (exact)."
        )
        made.append(residual.claim("order_n_with_a_baseline", "", sentence, direction="below", boundary=TOLERANCE))
    return [*made, _sampled(rows, settings)]


def _sampled(rows: pd.DataFrame, settings: Settings) -> Claim:
    """The training code, averaged over groups, agrees with the exact weights."""
    worst = exact(rows.z.abs().max())
    groups = settings.groups * settings.batches
    sentence = (
        f"The training code's sampled gradients have the exact means: of {len(rows)} estimators and N the largest |z| "
        f"is {worst} at p = {settings.pass_rate:g} over {groups:,} groups, and {settings.threshold:.3g} would be "
        f"passed by chance in {settings.false_alarm_rate:.0%} of cases."
    )
    return worst.claim("sampled_means_agree", "", sentence, direction="below", boundary=settings.threshold)


def _of(rows: pd.DataFrame, estimator: str) -> "list[pd.Series[float]]":
    return [row for _, row in rows[rows.estimator == estimator].iterrows()]


def _residual(row: "pd.Series[float]", order: int) -> float:
    """Return how far the weight is from that of an order; 1 where the audit names another objective or a factor."""
    objective = "expected_reward" if order == 1 else f"truncated_likelihood:order={order}"
    is_named = row.objective == objective and abs(row.scale - 1) < TOLERANCE
    return float(row.residual) if is_named else 1.0
