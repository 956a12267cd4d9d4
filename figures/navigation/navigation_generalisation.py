"""What carries over to held-out mazes: pass@k while training, coverage, efficiency over GRPO, few and many mazes."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.efficiency import plot_efficiency
from figures.navigation import _panels as panels

_RUN = ("comparison", "split", *panels.RUN)
COLUMNS = {
    "curves": (*_RUN, "pass_at_1", "pass_at_64", "pass_at_512"),
    "coverage": (*_RUN, "k", "coverage"),
    "difficulty": (*_RUN, "difficulty", "pass_rate"),
}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return six panels, the first five of which are about the policies that were trained on the most levels."""
    style.check_tables(tables, COLUMNS)
    most = max((settings.levels, *settings.other_levels))
    main = {name: rows[rows.comparison == f"{most} levels"] for name, rows in tables.items()}
    held_out = {name: main[name][main[name].split == "held_out"] for name in COLUMNS}
    figure = Figure(figsize=(13.5, 8.4))
    axes = figure.subplots(2, 3)
    for ax, k in zip(axes[0], (1, 512), strict=False):
        panels.curves(ax, held_out["curves"], f"pass_at_{k}", f"held-out pass@{k} (exact)")
        start = held_out["curves"].query("step == 0")
        panels.untrained(ax, start[f"pass_at_{k}"].mean())
    _coverage(axes[0, 2], held_out["coverage"])
    _efficiency(axes[1, 0], held_out["coverage"])
    _difficulty(axes[1, 1], main["difficulty"])
    _levels(axes[1, 2], tables["curves"])
    panels.legend(figure, axes[0, 0], 3)
    held = len(settings.distances) * settings.held_out
    trained = len(settings.distances) * most
    figure.suptitle(
        f"Trained on {trained} mazes with N = {settings.rollouts}, evaluated on {held} held-out ones, other ones for "
        f"each seed; {style.seeds_text(settings.seeds)}\n{panels.rates_text(tables)}",
        fontsize=13,
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return every method's pass@1, 64 and 512 on both splits, at the end and at its peak, with 95% intervals."""
    keys = ["comparison", "method", "learning_rate", "split"]
    return panels.final_and_peak(tables["curves"], keys, ["pass_at_1", "pass_at_64", "pass_at_512"])


def _coverage(ax: Axes, rows: pd.DataFrame) -> None:
    for name, runs in rows.groupby("estimator", sort=False):
        dashes = style.dashes(str(name))
        style.band(ax, runs, "k", "coverage", str(name), marker="o", markersize=3, dashes=dashes)
    ax.set(xscale="log", xlabel="samples k", ylabel="held-out coverage, pass@k (exact)")
    style.plain_x(ax, rows.k)
    style.keep_pass_rates(ax)


def _efficiency(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot how many times more samples GRPO needs for the same held-out coverage: Fig. 5."""
    table = rows.groupby(["k", "estimator"], sort=False).coverage.mean().unstack(sort=False).sort_index()
    if "grpo" not in table.columns:
        ax.set_axis_off()
        return
    grpo = table["grpo"].tolist()
    plot_efficiency(ax, [int(k) for k in table.index], {name: (table[name].tolist(), grpo) for name in table.columns})
    ax.set_ylabel("samples GRPO needs / k")
    ax.set_title("efficiency over GRPO, of mean held-out coverage\n(▲: GRPO gets there at no k shown)")


def _difficulty(ax: Axes, rows: pd.DataFrame) -> None:
    for split in panels.SPLITS:
        shown = rows[rows.split == split]
        panels.difficulty(ax, shown, "moves from start to goal", dotted=split == "held_out")
    ax.set_title("solid: training mazes, dotted: held-out")


def _levels(ax: Axes, curves: pd.DataFrame) -> None:
    """Plot the final pass@1 on both splits against the number of training mazes of each distance."""
    final = panels.last(curves, "comparison")
    final = final.assign(levels=final.comparison.str.split().str[0].astype(int))
    for (name, split), runs in final.groupby(["estimator", "split"], sort=False):
        look = {"marker": "o", "markersize": 4, "linestyle": "-" if split == "train" else ":"}
        style.band(ax, runs, "levels", "pass_at_1", name, **look)
    ax.set(xscale="log", xlabel="training mazes of each distance", ylabel="final pass@1 (exact)")
    style.plain_x(ax, final.levels)
    style.keep_pass_rates(ax)
    ax.set_title("solid: training mazes, dotted: held-out")
