"""Learning to navigate with each estimator: learning curves on the training mazes, and -log pass@k against N."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.navigation import _panels as panels
from maxrl_lab import specs

COLUMNS = {
    "curves": (*panels.RUN, "signal", "pass_at_1", "pass_at_64", "pass_at_512"),
    "difficulty": (*panels.RUN, "difficulty", "pass_rate"),
}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return six panels: above how runs at the middle N go, below where they end, against N and by distance.

    Orders between RLOO's and Algorithm 1's have the third panel, and are in no other one.
    """
    style.check_tables(tables, COLUMNS)
    every = tables["curves"]
    curves, difficulty = _without_dial(every), _without_dial(tables["difficulty"])
    count = panels.middle(curves)
    shown = curves[curves.rollouts == count]
    figure = Figure(figsize=(13.5, 8.4))
    axes = figure.subplots(2, 3)
    panels.curves(axes[0, 0], shown, "pass_at_1", "pass@1 (exact)")
    panels.curves(axes[0, 1], shown, "pass_at_512", "pass@512 (exact)")
    panels.untrained(axes[0, 1], shown[shown.step == 0].pass_at_512.mean())
    for ax in axes[0]:
        ax.set_title(f"N = {count:g}")
    if len(curves) < len(every):
        _dial(axes[0, 2], panels.last(every))
    else:
        panels.curves(axes[0, 2], shown, "signal", "share of mazes with K ≥ 1 (exact)")
    panels.against_rollouts(axes[1, 0], curves, 1)
    panels.against_rollouts(axes[1, 1], curves, 512)
    panels.difficulty(axes[1, 2], difficulty[difficulty.rollouts == count], "moves from start to goal")
    for ax, title in zip(axes[1], ("final", "final", f"final, N = {count:g}"), strict=True):
        ax.set_title(title)
    panels.legend(figure, axes[0, 0])
    levels = len(settings.distances) * settings.levels
    figure.suptitle(
        f"{levels} training mazes from hard to hopeless, other ones for each seed; {style.seeds_text(settings.seeds)}\n"
        f"{panels.rates_text(tables, count)}",
        fontsize=13,
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return every method's pass@1, 64 and 512 at the end and at its peak, with 95% intervals over seeds."""
    metrics = ["pass_at_1", "pass_at_64", "pass_at_512"]
    return panels.final_and_peak(tables["curves"], ["rollouts", "method", "learning_rate"], metrics)


def _dial(ax: Axes, final: pd.DataFrame) -> None:
    """Plot the final pass@1 of RLOO, of the centred orders between and of Algorithm 1 against their order, for each N.

    At N = 4 order N/4 is RLOO, and counts once.
    """
    rows = final.assign(order=[_order(*pair) for pair in zip(final.method, final.rollouts, strict=True)])
    rows = rows.dropna(subset="order").drop_duplicates(["rollouts", "order", "seed"])
    counts = sorted(rows.rollouts.unique())
    for index, count in enumerate(counts):
        shade = colormaps["viridis_r"](0.15 + 0.7 * index / max(1, len(counts) - 1))
        runs = rows[rows.rollouts == count]
        style.band(
            ax, runs, "order", "pass_at_1", "maxrl", color=shade, label=f"N = {count:g}", marker="o", markersize=4
        )
    ax.set(xscale="log", xlabel="order T, from RLOO (1) to Algorithm 1 (N−1)", ylabel="final pass@1 (exact)")
    ax.set_title("centred estimators of order T")
    style.plain_x(ax, [1, *counts])
    style.keep_pass_rates(ax)
    style.legend_above_curves(ax, 3)


def _order(method: str, rollouts: float) -> float:
    """Return the order of a centred estimator, NaN for any other one."""
    if _is_between(method):
        return float(specs.parse(method)[1]["order"])
    return {"rloo": 1.0, "maxrl": rollouts - 1}.get(method, math.nan)


def _is_between(method: str) -> bool:
    """Return whether an estimator is on the dial between RLOO and Algorithm 1."""
    return style.base(method) == "maxrl_centred"


def _without_dial(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[~rows.estimator.map(_is_between)]
