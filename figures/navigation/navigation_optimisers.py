"""Adam and SGD, the learning rates they want, and equal rollouts in small groups often or in large ones seldom."""

import itertools
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.navigation import _panels as panels

_RUN = ("comparison", "optimiser", *panels.RUN)
COLUMNS = {"curves": (*_RUN, "total_rollouts", "pass_at_1", "pass_at_64", "pass_at_512")}
_OPTIMISERS = {"adam": "Adam, which divides out constant scale", "sgd": "SGD, which does not"}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return a column of panels for each optimiser, with its sweep if there was one, and one for equal rollouts."""
    style.check_tables(tables, COLUMNS)
    curves, equal = tables["curves"], bool(settings.equal_rollouts)
    lines = 2 if "sweep" in tables or equal else 1
    figure = Figure(figsize=(13.5 if equal else 9, 4.4 * lines))
    axes = figure.subplots(lines, 3 if equal else 2, squeeze=False)
    for column, (optimiser, title) in enumerate(_OPTIMISERS.items()):
        rows = _section(curves, "equal steps", optimiser)
        count = panels.middle(rows)
        panels.curves(axes[0, column], rows[rows.rollouts == count], "pass_at_1", "pass@1 (exact)")
        axes[0, column].set_title(f"{title}, N = {count:g}")
        style.legend_above_curves(axes[0, column])
        if "sweep" in tables:
            swept = _section(tables["sweep"], "equal steps", optimiser)
            panels.sweep(axes[1, column], swept[swept.rollouts == count])
        elif lines > 1:
            axes[1, column].set_axis_off()
    if equal:
        rows = _section(curves, "equal rollouts", "adam")
        _equal_rollouts(axes[0, 2], rows)
        _against_rollouts(axes[1, 2], rows)
    figure.suptitle(
        f"Training mazes of `navigation`; {style.seeds_text(settings.seeds)}\n{panels.rates_text(tables)}", fontsize=13
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return every method's pass@1, 64 and 512 at the end and at its peak, with 95% intervals over seeds."""
    keys = ["comparison", "optimiser", "rollouts", "method", "learning_rate"]
    return panels.final_and_peak(tables["curves"], keys, ["pass_at_1", "pass_at_64", "pass_at_512"])


def _section(rows: pd.DataFrame, comparison: str, optimiser: str) -> pd.DataFrame:
    return rows[(rows.comparison == comparison) & (rows.optimiser == optimiser)]


def _equal_rollouts(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot pass@1 against all rollouts, each N with its own number of updates."""
    patterns = itertools.cycle([(1, 1), (None, None), (4, 1.5), (6, 1, 1, 1)])
    for count, pattern in zip(sorted(rows.rollouts.unique()), patterns, strict=False):
        for name, runs in rows[rows.rollouts == count].groupby("estimator", sort=False):
            label = f"{style.label(str(name))}, N = {count:g}"
            style.band(ax, runs, "total_rollouts", "pass_at_1", str(name), label=label, dashes=pattern)
    ax.set(xlabel="rollouts in all, for each place in an update", ylabel="pass@1 (exact)", title="equal rollouts, Adam")
    style.keep_pass_rates(ax)
    style.legend_above_curves(ax, fontsize=7.5)


def _against_rollouts(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot the final pass@1 at equal rollouts against N."""
    for name, runs in panels.last(rows, "rollouts").groupby("estimator", sort=False):
        style.band(ax, runs, "rollouts", "pass_at_1", str(name), marker="o", markersize=4)
    ax.set(xscale="log", xlabel="rollouts N", ylabel="final pass@1 (exact)", title="equal rollouts, Adam, final")
    style.plain_x(ax, rows.rollouts)
    style.keep_pass_rates(ax)
