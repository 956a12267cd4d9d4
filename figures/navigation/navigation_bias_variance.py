"""Exact bias and variance of every estimator on the levels of a learning policy, and which one is nearest."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
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
_INVERSE = "#117733"
_PARTS = {"squared_bias": "squared bias", "variance": "variance", "mean_squared_error": "their sum"}
_EDGES = (0, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 0.6, 0.9, 1.0)
"""Bins of the pass rate."""


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return six panels: bias, variance, error at one N; error at equal rollouts; who is nearest; where levels are."""
    style.check_tables(tables, COLUMNS)
    rows = tables["rows"]
    count = min(settings.rollouts, key=lambda n: abs(n - 16))
    binned = rows[rows.pass_rate < _EDGES[-2]]
    binned = binned.assign(bin=pd.cut(binned.pass_rate, _EDGES))
    figure = Figure(figsize=(16, 9.6))
    axes = figure.subplots(2, 3)
    for ax, (column, title) in zip(axes[0], _PARTS.items(), strict=True):
        _curves(ax, binned[binned.rollouts == count], column)
        ax.set_title(f"{title}, one group of N = {count}")
    _curves(axes[1, 0], binned[binned.rollouts.isna() | (binned.rollouts == count)], "budget_mean_squared_error")
    axes[1, 0].set_title(
        f"error at equal rollouts: {settings.budget} per level\n(groups of {count}; inverse sampling: expected)"
    )
    _winners(axes[1, 1], nearest(rows))
    _where(axes[1, 2], rows)
    axes[0, 0].set_ylabel("median over levels, in units of |∇ log p|²")
    axes[1, 0].set_ylabel("median over levels, in units of |∇ log p|²")
    handles, labels = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9.5)
    figure.suptitle(
        "Distance to the maximum-likelihood gradient through a network that is learning to navigate "
        f"(exact; {rows.level.nunique()} levels x {rows.step.nunique()} checkpoints x {settings.seeds} runs)"
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
        label = f"inverse sampling, m = {name.partition('=')[2]}" if inverse else style.label(name)
        colour = _INVERSE if inverse else style.colour(name)
        pattern = ((1, 1) if name.endswith("=1") else (4, 1.5)) if inverse else style.dashes(name)
        curve = groups[column].median().clip(lower=1e-6)
        ax.plot(groups.pass_rate.median(), curve, "o", color=colour, dashes=pattern, linestyle="-", label=label, ms=3)
    if "error" in column:
        ax.axhline(1, color="black", linewidth=1, dashes=(1, 2))  # a zero gradient
    ax.set(xscale="log", yscale="log", xlabel=f"pass rate p of the level, below {_EDGES[-2]:g}")
    style.plain_ticks(ax)


def _winners(ax: Axes, won: pd.DataFrame) -> None:
    """Plot the share of levels on which each estimator is nearest, by pass rate."""
    table = pd.crosstab(won["bin"], won["name"], normalize="index")
    bottom = np.zeros(len(table))
    for name in sorted(table.columns, key=lambda name: (name == _NOBODY, -table[name].sum())):
        look = _look(won[won["name"] == name].iloc[0])
        ax.bar(range(len(table)), table[name], bottom=bottom, label=name, **look)
        bottom += table[name].to_numpy()
    ticks = [f"{interval.left:g}–{interval.right:g}" for interval in table.index]
    ax.set_xticks(range(len(table)), ticks, rotation=40, ha="right", fontsize=9)
    ax.set(xlabel="pass rate p of the level", ylabel="share of levels", ylim=(0, 1))
    ax.set_title("who is nearest at equal rollouts, N free")
    ax.legend(fontsize=7.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _look(winner: pd.Series) -> dict[str, Any]:
    """Return the look of a winner's bars: a colour per estimator, a hatch per N."""
    if winner["name"] == _NOBODY:
        return {"color": "#EEEEEE"}
    if np.isnan(winner.rollouts):
        return {"color": _INVERSE, "hatch": "**", "edgecolor": "white"}
    hatch = {4: "..", 16: "//", 64: "", 256: "xx"}.get(int(winner.rollouts), "++")
    return {"color": style.colour(winner.estimator), "hatch": hatch, "edgecolor": "white"}


def _where(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot the pass rates at the checkpoints, by distance."""
    levels = rows.drop_duplicates(["seed", "step", "level"])
    count = levels.step.nunique()
    for index, (step, at_step) in enumerate(levels.groupby("step")):
        colour = colormaps["viridis_r"](index / max(1, count - 1))
        distances = at_step.distance + 0.9 * (index - (count - 1) / 2) / count
        ax.plot(distances, at_step.pass_rate, "o", ms=4, alpha=0.7, color=colour, label=f"update {step:g}")
    ax.set(yscale="log", xlabel="moves from start to goal", ylabel="pass rate p")
    ax.set_title("the levels at the checkpoints")
    ax.set_xticks(sorted(levels.distance.unique()))
    ax.legend(fontsize=8.5, loc="lower left")
