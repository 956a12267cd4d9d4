"""Exact bias and variance of every estimator on the levels of a learning policy, and which one is nearest."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

COLUMNS = {
    "rows": (
        *("seed", "step", "estimator", "rollouts", "level", "distance", "pass_rate"),
        *("squared_bias", "variance", "mean_squared_error", "budget_mean_squared_error"),
    )
}
_NOBODY = "none: no nearer than a zero gradient"
_WORTH = 0.99
"""A zero gradient has the error 1; an estimator whose error is not below this is no nearer."""
_SHOWN = ("rloo", "grpo", "pkpo", "maxrl_order", "maxrl_centred", "maxrl", "maxrl_leave_one_out")
_NOT_SHOWN = "maxrl_centred:order=N/2"
"""It would lie between order N/4 and Algorithm 1."""
_OPTION = re.compile(r"=(\d+)$")
_INVERSE = "#000000"
_PARTS = {"squared_bias": "squared bias", "variance": "variance", "mean_squared_error": "their sum"}
_EDGES = (0, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 0.6, 0.9, 1.0)
"""Bins of the pass rate."""


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return six panels: bias, variance and error of one group at the N nearest to 16, and its error at the largest N;
    the error at equal rollouts, and which estimator has the least.
    """
    style.check_tables(tables, COLUMNS)
    rows = tables["rows"]
    count, most = min(settings.rollouts, key=lambda n: abs(n - 16)), max(settings.rollouts)
    binned = rows[(rows.pass_rate > _EDGES[1]) & (rows.pass_rate < _EDGES[-2])]
    binned = binned.assign(bin=pd.cut(binned.pass_rate, _EDGES))
    figure = Figure(figsize=(14, 9))
    axes = figure.subplots(2, 3)
    for ax, (column, title) in zip(axes[0], _PARTS.items(), strict=True):
        _curves(ax, binned[binned.rollouts == count], column)
        ax.set_title(f"{title}, one group of N = {count}")
    _curves(axes[1, 0], binned[binned.rollouts == most], "mean_squared_error")
    axes[1, 0].set_title(f"their sum, one group of N = {most}")
    _curves(axes[1, 1], binned[binned.rollouts.isna() | (binned.rollouts == count)], "budget_mean_squared_error")
    axes[1, 1].set_title(f"error of {settings.budget} rollouts, groups of N = {count}")
    _winners(axes[1, 2], nearest(rows))
    for ax in axes[:, 0]:
        ax.set_ylabel("median over levels, in units of |∇ log p|²")
    named: dict[str, Any] = {}
    for ax in (axes[1, 1], axes[1, 2]):
        handles, labels = ax.get_legend_handles_labels()
        named = {**dict(zip(labels, handles, strict=True)), **named}
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=4, fontsize=9.5)
    figure.suptitle(
        "Distance to the maximum-likelihood gradient through a network that is learning to navigate\n"
        f"exact; mazes: {rows.level.nunique()}, checkpoints of each run: {rows.step.nunique()}, runs: {settings.seeds}"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return, per bin of the pass rate, on how many levels and checkpoints each estimator is nearest, N free."""
    won = nearest(tables["rows"])
    return pd.crosstab(won["name"], won["bin"])


def nearest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, per seed, checkpoint and level, the row with the least error at equal rollouts, its `bin` and `name`.

    The name is `none` where even the least error is not below that of a zero gradient.
    """
    best = rows.loc[rows.groupby(["seed", "step", "level"]).budget_mean_squared_error.idxmin()]
    names = [
        _name(row.estimator, row.rollouts) if row.budget_mean_squared_error < _WORTH else _NOBODY
        for row in best.itertuples()
    ]
    return best.assign(bin=pd.cut(best.pass_rate, _EDGES), name=names)


def _name(estimator: str, rollouts: float) -> str:
    """Return a name without the options that depend on N, so that the rows of all N can be counted together."""
    if np.isnan(rollouts):
        return "inverse sampling"
    return f"{style.label(_relative(estimator, rollouts))}, N = {rollouts:.0f}"


def _relative(estimator: str, rollouts: float) -> str:
    """Return the estimator with its option as a part of N: `pkpo:k=8` at 16 rollouts is `pkpo:k=N/2`."""
    return _OPTION.sub(lambda option: f"=N/{rollouts / int(option[1]):g}", estimator)


def _curves(ax: Axes, rows: pd.DataFrame, column: str) -> None:
    """Plot the median over the levels of a bin of p, at the bin's median p."""
    for name, count in rows.groupby("estimator", sort=False).rollouts.first().items():
        if style.base(name) not in (*_SHOWN, "inverse_sampling") or _relative(name, count) == _NOT_SHOWN:
            continue
        groups = rows[rows.estimator == name].groupby("bin", observed=True)
        inverse = style.base(name) == "inverse_sampling"
        m = name.partition("=")[2]
        label = f"inverse sampling, m = {m}" if inverse else style.label(_relative(name, count))
        colour = _INVERSE if inverse else style.colour(name)
        pattern = ((1, 1) if name.endswith("=1") else (4, 1.5)) if inverse else style.dashes(name)
        curve = groups[column].median().clip(lower=1e-6)
        ax.plot(groups.pass_rate.median(), curve, "o", color=colour, dashes=pattern, linestyle="-", label=label, ms=3)
    if "error" in column:
        ax.axhline(1, color="black", linewidth=1, dashes=(1, 2))  # a zero gradient
    ax.set(xscale="log", yscale="log", xlabel="pass rate p of the level")
    style.plain_x(ax, (1e-5, 1e-4, 1e-3, 0.01, 0.1, 1))
    style.plain_ticks(ax)


def _winners(ax: Axes, won: pd.DataFrame) -> None:
    """Plot the share of levels on which each estimator is nearest, at whichever N, by pass rate."""
    names = won["name"].str.partition(", N = ")[0]
    table = pd.crosstab(won["bin"], names, normalize="index")
    bottom = np.zeros(len(table))
    for name in sorted(table.columns, key=lambda name: (name == _NOBODY, -table[name].sum())):
        look = _look(won[names == name].iloc[0])
        ax.bar(range(len(table)), table[name], bottom=bottom, label=name, edgecolor="white", **look)
        bottom += table[name].to_numpy()
    ticks = [f"{interval.left:g}–{interval.right:g}" for interval in table.index]
    ax.set_xticks(range(len(table)), ticks, rotation=40, ha="right", fontsize=9)
    ax.set(xlabel="pass rate p of the level", ylabel="share of levels", ylim=(0, 1))
    ax.set_title("who has the least error, N free")
    ax.grid(visible=False)


def _look(winner: pd.Series) -> dict[str, Any]:
    """Return the look of a winner's bars: its colour in the other panels."""
    if winner["name"] == _NOBODY:
        return {"color": "#EEEEEE"}
    if np.isnan(winner.rollouts):
        return {"color": _INVERSE}
    half = _relative(winner.estimator, winner.rollouts) == _NOT_SHOWN
    return {"color": style.colour(winner.estimator), "hatch": "//" if half else ""}
