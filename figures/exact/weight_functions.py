"""Fig. 1 of the paper and its finite-N twin: w(p) of every objective, w_N(p) of every estimator."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

COLUMNS = {"rows": ("kind", "name", "rollouts", "pass_rate", "weight")}
_SHOWN = ("rloo", "grpo", "pkpo", "maxrl", "maxrl_leave_one_out")
"""The estimators whose curves are drawn; the weights of the others are constant, or equal a curve that is drawn."""
_PANELS = (2, 4, 16, 64)
_GAP_AT = 0.01
"""Pass rate of the last panel."""


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return a panel for the population, one for each of up to four N, and one for the gap between them against N."""
    style.check_tables(tables, COLUMNS)
    rows = tables["rows"]
    figure = Figure(figsize=(14.4, 8.8))
    population, *finite, gap = figure.subplots(2, 3).flatten()
    _population(population, rows[rows.kind == "objective"])
    counts = [count for count in sorted(settings.rollouts) if count in _PANELS]
    for ax, count in zip(finite, counts, strict=False):
        _finite(ax, rows, count)
    for ax in finite[len(counts) :]:
        ax.remove()
    for ax in (population, *finite[: len(counts)]):
        ax.set(xscale="logit", yscale="log", xlabel="pass rate p")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(lambda *_: "")
        ax.legend(fontsize=9, loc="upper right")
        style.plain_ticks(ax)
    _gap(gap, rows)
    for ax in (population, finite[2]):
        ax.set_ylabel("weight w(p) of ∇p")
    figure.suptitle(
        "How hard does a gradient pull on a task of pass rate p?  Objectives, and what N rollouts really give (exact)"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return w_N(p) at the smallest, a middle and the largest pass rate for every curve."""
    rows = tables["rows"]
    pass_rates = sorted(rows.pass_rate.unique())
    shown = rows[rows.pass_rate.isin([pass_rates[0], pass_rates[len(pass_rates) // 2], pass_rates[-1]])]
    shown = shown.assign(rollouts=shown.rollouts.fillna(float("inf")))
    table = shown.pivot(index=["rollouts", "name"], columns="pass_rate", values="weight")
    return table.reindex(pd.MultiIndex.from_frame(shown[["rollouts", "name"]].drop_duplicates()))


def _population(ax: Axes, rows: pd.DataFrame) -> None:
    names = list(rows.name.unique())
    orders = [name for name in names if style.base(name) == "truncated_likelihood"]
    for name in names:
        curve = rows[rows.name == name]
        fade = 0.35 + 0.65 * (orders.index(name) + 1) / len(orders) if name in orders else 1.0
        ax.plot(curve.pass_rate, curve.weight, color=style.colour(name), alpha=fade, label=style.label(name))
    ax.set_title("population (N → ∞): the objectives")
    ax.set_ylim(0.2, 1.5 * rows.weight.max())


def _finite(ax: Axes, rows: pd.DataFrame, count: int) -> None:
    at = rows[rows.rollouts == count]
    limit = rows[(rows.kind == "objective") & (rows.name == "grpo_limit")]
    for name in at.name.unique():
        if style.base(name) in _SHOWN:
            curve = at[at.name == name]
            wide = _width(name)
            shade, text = style.colour(name), style.label(name)
            ax.plot(curve.pass_rate, curve.weight, color=shade, linewidth=wide, zorder=4 - wide / 2, label=text)
    text = style.label("grpo_limit")
    ax.plot(limit.pass_rate, limit.weight, color=style.colour("grpo_limit"), linewidth=1, dashes=(1, 2), label=text)
    flat = {name for name in ("grpo", "maxrl") if at[at.name == name].weight.std() < 1e-9}
    ax.set_title(f"N = {count}" + (": GRPO and Algorithm 1 are plain RL" if flat == {"grpo", "maxrl"} else ""))
    ax.set_ylim(0.3, 2.2 * max(count, 4))


def _gap(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot what share of its population weight each estimator has at a hard task, against N."""
    p = min(rows.pass_rate.unique(), key=lambda rate: abs(rate - _GAP_AT))
    at = rows[(rows.pass_rate == p) & (rows.kind == "estimator")]
    limits = {"grpo": (p * (1 - p)) ** -0.5, "maxrl": 1 / p, "maxrl_leave_one_out": 1 / p}
    for name, limit in limits.items():
        curve = at[at.name == name].sort_values("rollouts")
        goal = "its limit" if name == "grpo" else "ML"
        text, shade, wide = f"{style.label(name)} / {goal}", style.colour(name), _width(name)
        share = curve.weight / limit
        ax.plot(curve.rollouts, share, "o-", color=shade, markersize=4, linewidth=wide, zorder=4 - wide / 2, label=text)
    ax.set(xscale="log", xlabel="rollouts N", ylim=(0, 1.05), title=f"share of the population weight at p = {p:.2g}")
    ax.set_ylabel("w_N(p) / w(p)")
    ax.legend(fontsize=9)


def _width(spec: str) -> float:
    """Return the width of a curve: one that another may cover exactly is wide, and lies below it."""
    return 3.6 if style.base(spec) in ("rloo", "maxrl_leave_one_out") else 1.8
