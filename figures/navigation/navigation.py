"""Learning to navigate with each estimator: learning curves on the training mazes, and -log pass@k against N."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from figures import style
from figures.navigation import _panels as panels

COLUMNS = {
    "curves": (*panels.RUN, "signal", "pass_at_1", "pass_at_64", "pass_at_512"),
    "difficulty": (*panels.RUN, "difficulty", "pass_rate"),
}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return six panels: above how runs at the middle N go, below where they end, against N and by distance."""
    style.check_tables(tables, COLUMNS)
    curves, difficulty = tables["curves"], tables["difficulty"]
    count = panels.middle(curves)
    shown = curves[curves.rollouts == count]
    figure = Figure(figsize=(13.5, 8.4))
    axes = figure.subplots(2, 3)
    panels.curves(axes[0, 0], shown, "pass_at_1", "pass@1 (exact)")
    panels.curves(axes[0, 1], shown, "pass_at_512", "pass@512 (exact)")
    panels.untrained(axes[0, 1], shown[shown.step == 0].pass_at_512.mean())
    panels.curves(axes[0, 2], shown, "signal", "share of mazes with K ≥ 1 (exact)")
    for ax in axes[0]:
        ax.set_title(f"N = {count:g}")
    panels.against_rollouts(axes[1, 0], curves, 1)
    panels.against_rollouts(axes[1, 1], curves, 512)
    panels.difficulty(axes[1, 2], difficulty[difficulty.rollouts == count], "moves from start to goal")
    for ax, title in zip(axes[1], ("final", "final", f"final, N = {count:g}"), strict=True):
        ax.set_title(title)
    panels.legend(figure, axes[0, 0])
    levels = len(settings.distances) * settings.levels
    figure.suptitle(
        f"{levels} training mazes from hard to hopeless, other ones for each seed; {style.seeds_text(settings.seeds)}\n"
        f"{panels.rates_text(tables)}",
        fontsize=13,
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return every method's pass@1, 64 and 512 at the end and at its peak, with 95% intervals over seeds."""
    metrics = ["pass_at_1", "pass_at_64", "pass_at_512"]
    return panels.final_and_peak(tables["curves"], ["rollouts", "method", "learning_rate"], metrics)
