"""Paths through held-out mazes: a row per policy, a column per maze, right ones blue, wrong ones orange."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.navigation.trajectories import draw_paths

COLUMNS = ("view", "maze", "text", "estimator", "rollouts", "pass_rate", "path", "success", "time", "row", "col")


@style.styled
def draw(rows: pd.DataFrame) -> Figure:
    """Return the grid of policies and mazes (Fig. 10)."""
    style.check_columns(rows, COLUMNS)
    mazes = rows[rows["view"] == "maze"]
    policies = list(dict.fromkeys(rows.estimator.dropna()))
    figure = Figure(figsize=(3 * len(mazes) + 0.6, 3.2 * len(policies) + 0.9))
    axes = figure.subplots(len(policies), len(mazes), squeeze=False)
    for line, name in zip(axes, policies, strict=True):
        for ax, maze in zip(line, mazes.itertuples(), strict=True):
            own = rows[(rows.maze == maze.maze) & (rows.estimator == name)]
            _walls(ax, str(maze.text))
            draw_paths(ax, own[own["view"] == "path"])
            ax.set_title(f"p̂ = {own.pass_rate.iloc[0]:.2g}", fontsize=11)
        line[0].set_ylabel(style.label(name), fontsize=12)
    count = rows.rollouts.dropna().iloc[0]
    figure.suptitle(
        f"Held-out mazes, easy to hard for the base policy; trained with N = {count:g}; p̂ estimated\n"
        "blue: reaches the goal G and stops; orange: does not (at most three of each, whatever p̂)"
    )
    return figure


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each policy's estimated pass rate on each maze shown."""
    found = rows[rows["view"] == "rate"]
    return found.pivot_table(index="maze", columns="estimator", values="pass_rate", sort=False)


def _walls(ax: Axes, text: str) -> None:
    cells = np.array([list(line) for line in text.split()])
    ax.imshow(np.where(cells == "#", 0.25, 1.0), cmap="gray", vmin=0, vmax=1)
    for mark in "SG":
        for row, col in np.argwhere(cells == mark):
            ax.text(col, row, mark, ha="center", va="center", fontsize=11, fontweight="bold", zorder=5)
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
