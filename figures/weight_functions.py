"""Fig. 1 of the paper and its finite-N twin: w(p) of every objective, w_N(p) of every estimator."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

COLUMNS = ("kind", "name", "rollouts", "pass_rate", "weight")
_NOT_DRAWN = ("reinforce", "mean_centred", "maxrl_order", "maxrl_control_variate", "maxrl_no_baseline")
"""Their weights are constant, or those of another curve in the panel; the rows have them."""


def draw(rows: pd.DataFrame) -> Figure:
    """Return one panel for the population and one per N (at most five, the smallest and the largest)."""
    style.check_columns(rows, COLUMNS)
    counts = sorted(rows.rollouts.dropna().unique())
    counts = counts[:4] + counts[-1:] if len(counts) > 5 else counts
    panels = len(counts) + 1
    figure = Figure(figsize=(4.6 * ((panels + 1) // 2), 8.4))
    axes = figure.subplots(2, (panels + 1) // 2, sharex=True, squeeze=False).flatten()
    _population(axes[0], rows[rows.kind == "objective"])
    for ax, count in zip(axes[1:], counts, strict=False):
        _finite(ax, rows, int(count))
    for ax in axes[panels:]:
        ax.remove()
    for ax in axes[:panels]:
        ax.set(xscale="logit", yscale="log", xlabel="pass rate p")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(lambda *_: "")
        ax.legend(fontsize=8.5, loc="upper right")
    axes[0].set_ylabel("weight of grad p: w(p)")
    figure.suptitle(
        "Which pass rates does a gradient weigh?  Population objectives, and estimators at N rollouts (exact)"
    )
    return figure


def _population(ax: Axes, rows: pd.DataFrame) -> None:
    names = list(rows.name.unique())
    orders = [name for name in names if style.base(name) == "truncated_likelihood"]
    for name in names:
        curve = rows[rows.name == name]
        fade = 0.35 + 0.65 * (orders.index(name) + 1) / len(orders) if name in orders else 1.0
        ax.plot(curve.pass_rate, curve.weight, color=style.colour(name), alpha=fade, label=style.label(name))
    ax.set_title("population (N → ∞): the objectives")


def _finite(ax: Axes, rows: pd.DataFrame, count: int) -> None:
    at = rows[rows.rollouts == count]
    for name in at.name.unique():
        if name not in _NOT_DRAWN and style.base(name) not in _NOT_DRAWN:
            curve = at[at.name == name]
            ax.plot(
                curve.pass_rate,
                curve.weight.clip(lower=1e-4),
                color=style.colour(name),
                dashes=style.dashes(name),
                label=style.label(name),
            )
    limit = rows[(rows.kind == "objective") & (rows.name == "grpo_limit")]
    ax.plot(limit.pass_rate, limit.weight, color=style.colour("grpo_limit"), alpha=0.5, linewidth=1, dashes=(1, 2))
    ax.set_title(f"estimators at N = {count}: {_remark(at, count)}", fontsize=10)
    ax.set_ylim(0.3, 1.6 * max(count, 4))


def _remark(rows: pd.DataFrame, count: int) -> str:
    """Say where practice and population part, with numbers read off the rows."""
    weights = rows.pivot_table(index="pass_rate", columns="name", values="weight")
    if count == 2 and {"grpo", "maxrl"} <= set(weights.columns):
        spread = max((weights[name] / weights[name].iloc[0] - 1).abs().max() for name in ("grpo", "maxrl"))
        if spread < 1e-9:
            return "GRPO and\nAlgorithm 1 are plain RL"
    if {"maxrl", "maxrl_leave_one_out", "grpo"} <= set(weights.columns):
        lowest = weights.index[0]
        return (
            f"at p = {lowest:g} Algorithm 1\nhas {weights['maxrl'].iloc[0]:.3g}, the exact order-N form "
            f"{weights['maxrl_leave_one_out'].iloc[0]:.3g}, GRPO {weights['grpo'].iloc[0]:.3g} (limit {lowest**-0.5:.3g})"
        )
    return "exact"
