"""Exact bias and noise of every estimator against the likelihood gradient, and the least noisy exact form."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

_COLUMNS = ("squared_bias", "variance", "mean_squared_error", "budget_mean_squared_error")
COLUMNS = {
    "rows": ("estimator", "rollouts", "pass_rate", *_COLUMNS),
    "least": ("order", "rollouts", "pass_rate", "variance"),
}
EXACT_ORDER_N = ("maxrl_no_baseline", "maxrl_control_variate", "maxrl_leave_one_out", "maxrl_cross_fitted")
"""Forms that are unbiased for order T = N at every N; Algorithm 1, of order N-1, is shown beside them."""
_SHOWN = (
    *("rloo", "grpo", "maxrl", "maxrl_leave_one_out", "maxrl_no_baseline", "maxrl_order:order=N/2"),
    *("maxrl_centred:order=N/2", "pkpo_centred:k=N/2", "reinforce"),
)


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return six panels: bias, variance and error against N at a hard p; error at equal budget; against p; who wins."""
    style.check_tables(tables, COLUMNS)
    rows = tables["rows"]
    hard = min(settings.pass_rates, key=lambda p: abs(p - 0.01))
    count = min(settings.rollouts, key=lambda n: abs(n - 16))
    figure = Figure(figsize=(14.5, 8.6))
    axes = figure.subplots(2, 3)
    at_p, at_n = rows[rows.pass_rate == hard], rows[rows.rollouts == count]
    for ax, column, title in zip(axes[0], _COLUMNS, ("squared bias", "variance", "their sum"), strict=False):
        _curves(ax, at_p, "rollouts", column)
        ax.set(xlabel="rollouts N in one group", title=f"{title} against N, at p = {hard:g}")
    _curves(axes[1, 0], at_p, "rollouts", "budget_mean_squared_error")
    axes[1, 0].set(
        xlabel=f"rollouts N in each of {settings.budget}/N groups",
        title=f"error at equal budget M = {settings.budget}, p = {hard:g}",
    )
    _curves(axes[1, 1], at_n, "pass_rate", "mean_squared_error")
    axes[1, 1].set(xlabel="pass rate p", title=f"error against p, at N = {count}")
    _relative_noise(axes[1, 2], at_n, tables["least"], count)
    axes[0, 0].set_ylabel("in units of |∇ log p|²")
    axes[1, 0].set_ylabel("in units of |∇ log p|²")
    axes[0, 0].legend(fontsize=8.5)
    figure.suptitle(
        "Distance of one estimate from the maximum-likelihood gradient (exact; categorical policy, 3 right answers)"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return, per N and p, the least noisy exact order-N form and how much noisier the others are (variance ratio)."""
    rows = tables["rows"]
    forms = rows[rows.estimator.isin(EXACT_ORDER_N)]
    table = forms.pivot(index=["rollouts", "pass_rate"], columns="estimator", values="variance")
    best = table.min(axis=1)
    return table.div(best, axis=0).assign(least_noisy=table.idxmin(axis=1))


def _curves(ax: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    for name in _SHOWN:
        curve = rows[rows.estimator == name].sort_values(x)
        if len(curve):
            ax.plot(
                curve[x],
                curve[y].clip(lower=1e-8),
                color=style.colour(name),
                dashes=style.dashes(name),
                label=style.label(name),
                marker="o",
                markersize=3,
            )
    ax.set(xscale="log", yscale="log")
    style.plain_ticks(ax)


def _relative_noise(ax: Axes, rows: pd.DataFrame, least: pd.DataFrame, count: int) -> None:
    """Plot the variance over the smallest among the exact order-N forms, so that 1 is the best named form at each p."""
    table = rows.pivot(index="pass_rate", columns="estimator", values="variance")
    forms = [name for name in EXACT_ORDER_N if name in table.columns]
    best = table[forms].min(axis=1)
    for name in (*forms, "maxrl"):
        if name in table.columns:
            ax.plot(
                table.index,
                table[name] / best,
                color=style.colour(name),
                dashes=style.dashes(name),
                label=style.label(name) + (" (order N-1)" if name == "maxrl" else ""),
                marker="o",
                markersize=3,
            )
    lowest = least[(least.rollouts == count) & (least.order == count)].set_index("pass_rate").variance
    ax.plot(best.index, lowest.reindex(best.index) / best, color="black", linewidth=1, label="least variance at this p")
    ax.set(
        xscale="log",
        xlabel="pass rate p",
        ylim=(0.6, 3.2),
        title=f"variance over the best named form of order N, N = {count}",
    )
    ax.legend(fontsize=8.5, loc="upper center", bbox_to_anchor=(0.62, 1.01))
