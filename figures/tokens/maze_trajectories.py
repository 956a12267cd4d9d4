"""Paths through two held-out mazes: a row per maze, a column per policy, right ones blue, wrong ones orange."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.navigation.trajectories import plot_paths
from figures.tokens._panels import Frames, methods, rates_text, select

COLUMNS = {
    "mazes": ("maze", "text"),
    "rates": ("maze", "estimator", "pass_rate"),
    "paths": ("maze", "estimator", "path", "success", "time", "row", "col"),
}

_SHOWN = 2
"""Most mazes in the picture; the table has all."""
_POLICIES = 3
"""Most policies in the picture: the base, the first and the last that were compared; the table has all."""


@style.styled
def plot(tables: Frames, settings: Any) -> Figure:
    """Return the grid of policies and mazes (Fig. 10)."""
    style.check_tables(tables, COLUMNS)
    mazes = tables["mazes"].iloc[:: max(1, len(tables["mazes"]) // _SHOWN)][:_SHOWN]
    policies = style.ends(methods(tables["rates"]), _POLICIES)
    figure = Figure(figsize=(3 * len(policies) + 0.6, 3.2 * len(mazes) + 1.1))
    axes = figure.subplots(len(mazes), len(policies), squeeze=False)
    for line, maze, text in zip(axes, mazes.maze, mazes.text, strict=True):
        for ax, name in zip(line, policies, strict=True):
            panel = select(tables, maze=maze, estimator=name)
            _plot_walls(ax, text)
            plot_paths(ax, panel["paths"])
            ax.set_title(f"{style.label(name)}: p̂ = {panel['rates'].pass_rate.iloc[0]:.2g}", fontsize=11)
    figure.suptitle(
        f"Held-out mazes, an easier and a harder one for the base; trained with N = {settings.rollouts}, seed 0\n"
        "blue: reaches the goal G and stops; orange: does not (at most three of each, whatever the estimate p̂)\n"
        f"{rates_text(tables, settings, (settings.rollouts,), settings.estimators)}"
    )
    return figure


def summarise(tables: Frames, settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return each policy's estimated pass rate on each maze shown."""
    return tables["rates"].pivot_table(index="maze", columns="estimator", values="pass_rate", sort=False)


def _plot_walls(ax: Axes, text: str) -> None:
    cells = np.array([list(line) for line in text.split()])
    ax.imshow(np.where(cells == "#", 0.25, 1.0), cmap="gray", vmin=0, vmax=1)
    for mark in "SG":
        for row, col in np.argwhere(cells == mark):
            ax.text(col, row, mark, ha="center", va="center", fontsize=11, fontweight="bold", zorder=5)
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
