"""The bias of order N, which order has the least error on hard tasks, and what the best baseline could gain."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import exact, select
from experiments.exact.bias_variance import Settings
from maxrl_lab.claims import Claim, number

ORDER_N = ("maxrl_no_baseline", "maxrl_control_variate", "maxrl_leave_one_out", "maxrl_cross_fitted")
"""Estimators of order N, exactly."""
HALF = ("maxrl_order:order=N/2", "maxrl_centred:order=N/2")
"""Estimators of order N/2, exactly."""


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return what the exact moments say of order N, of order N/2 and of baselines."""
    rows = tables["rows"]
    return [
        *_bias(rows, settings),
        *_least_error(rows, settings),
        *_cross_fitted(rows, settings),
        *_least_variance(rows, tables["least"], settings),
    ]


def _bias(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """Squared bias of order N is (1-p)^(2N)."""
    names = [name for name in ORDER_N if name in settings.estimators]
    if not names:
        return []
    exactly = rows[rows.estimator.isin(names)]
    residual = exact((exactly.squared_bias - (1 - exactly.pass_rate) ** (2 * exactly.rollouts)).abs().max())
    sentence = (
        "The relative bias of an estimator of order N for the likelihood gradient is (1-p)^N: over all N and p the "
        f"squared bias deviates from (1-p)^(2N) by at most {residual} (exact)."
    )
    return [residual.claim("bias_of_order_n", "Eq. 7", sentence, direction="below", boundary=1e-9)]


def _least_error(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """At the largest N and p near 0.01, order N/2 beats every other estimator."""
    most = max(settings.rollouts)
    small = min(settings.pass_rates, key=lambda p: abs(p - 0.01))
    errors = select(rows, rollouts=most, pass_rate=small).set_index("estimator").mean_squared_error
    halves = errors[errors.index.isin(HALF)]
    others = errors.drop(halves.index)
    if halves.empty or others.empty:
        return []
    ratio = exact(halves.min() / others.min())
    sentence = (
        f"Order N/2 has the least mean squared error on hard tasks: at p = {number(small)} and N = {most} that of "
        f"{halves.idxmin()} is {ratio} of that of the best estimator of another order, {others.idxmin()} (exact)."
    )
    return [ratio.claim("order_half_has_least_error", "", sentence, direction="below", boundary=1)]


def _cross_fitted(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """Among the order-N forms the cross-fitted one is never much noisier than the best."""
    if not set(ORDER_N) <= set(settings.estimators) or max(settings.rollouts) < 8:
        return []
    large = rows[rows.estimator.isin(ORDER_N) & (rows.rollouts >= 8)]
    table = large.pivot(index=["rollouts", "pass_rate"], columns="estimator", values="variance")
    ratio = exact((table["maxrl_cross_fitted"] / table.min(axis=1)).max())
    sentence = (
        "Of the estimators of exact order N the cross-fitted one is never much noisier than the best: at N >= 8 its "
        f"variance is at most {ratio} times the least (exact)."
    )
    return [ratio.claim("cross_fitted_is_never_far", "", sentence, direction="below", boundary=1.25)]


def _least_variance(rows: pd.DataFrame, least: pd.DataFrame, settings: Settings) -> list[Claim]:
    """The best baseline against the best of the named forms of order N."""
    names = [name for name in ORDER_N if name in settings.estimators]
    large = max(settings.rollouts)
    if not names:
        return []
    named = rows[rows.estimator.isin(names)].groupby(["rollouts", "pass_rate"]).variance.min()
    best = least[least.order == least.rollouts].set_index(["rollouts", "pass_rate"]).variance
    gains = (best / named).dropna()
    gain = exact(gains[large].min())
    sentence = (
        "A baseline chosen for the pass rate at hand gains little over the best named form of order N: its variance is "
        f"never above, and at N = {large} it is at least {gain} times that form's, at the p where it gains most "
        f"(p = {number(gains[large].idxmin())}; exact)."
    )
    never_above = gains.max() <= 1 + 1e-12
    return [gain.claim("best_baseline_gains_little", "", sentence, boundary=0.8 if never_above else float("inf"))]
