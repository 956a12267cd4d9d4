"""Where the trained policies go: visit heat-maps with right and wrong paths, a row per method, a column per level."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from figures import style

_POLICY = ("method", "learning_rate", "level")
COLUMNS = {
    "levels": ("level", "distance", "text"),
    "policies": (*_POLICY, "pass_rate"),
    "visits": (*_POLICY, "row", "col", "visits"),
    "paths": (*_POLICY, "path", "success", "time", "row", "col"),
}
_RIGHT, _WRONG = "#0072B2", "#E69F00"
_PATHS = 3
"""Most paths of each kind in a panel."""


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return the grid of levels and methods."""
    style.check_tables(tables, COLUMNS)
    levels, policies = tables["levels"].sort_values("distance"), tables["policies"]
    methods = list(policies.method.unique())
    figure = Figure(figsize=(3.1 * len(levels) + 1.2, 3.3 * len(methods) + 0.9))
    axes = figure.subplots(len(methods), len(levels), squeeze=False)
    for line, method in zip(axes, methods, strict=True):
        rate = policies[policies.method == method].learning_rate.iloc[0]
        for ax, level in zip(line, levels.itertuples(), strict=True):
            shown = {name: _of(tables[name], method, level.level) for name in ("policies", "visits", "paths")}
            image = _heat(ax, str(level.text), shown["visits"])
            plot_paths(ax, shown["paths"])
            ax.set_title(f"{level.distance:.0f} moves, {_chance(shown['policies'].pass_rate.item())}", fontsize=11)
        line[0].set_ylabel(f"{style.label(method)} (lr {rate:g})", fontsize=12)
    figure.colorbar(image, ax=axes, shrink=0.5, label="expected steps on the cell (exact)")
    figure.suptitle(
        f"Training levels after training with N = {settings.rollouts}; S start, G goal, p exact pass rate\n"
        "blue: reaches the goal in time, orange: does not\n(at most three of each, whatever p)"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return the exact pass rate of each method on each level shown."""
    rates = tables["policies"].merge(tables["levels"], on="level")
    return rates.pivot(index=["level", "distance"], columns="method", values="pass_rate")[rates.method.unique()]


def _of(rows: pd.DataFrame, method: str, level: object) -> pd.DataFrame:
    return rows[(rows.method == method) & (rows.level == level)]


def _chance(rate: float) -> str:
    return f"p = {rate:.2g}" if rate < 0.99 else f"1 − p = {1 - rate:.1g}" if rate < 1 else "p = 1"


def _heat(ax: Axes, text: str, visits: pd.DataFrame) -> AxesImage:
    """Plot walls dark grey, expected visits on a logarithmic scale, start and goal lettered."""
    cells = np.array([list(line) for line in text.split()])
    heat = np.full(cells.shape, np.nan)
    heat[visits["row"].astype(int), visits["col"].astype(int)] = visits.visits
    ax.imshow(np.where(cells == "#", 0.2, np.nan), cmap="gray", vmin=0, vmax=1)
    image = ax.imshow(np.where(heat > 0, heat, np.nan), cmap="Purples", norm=LogNorm(0.01, 30))
    for mark in "SG":
        row, col = np.argwhere(cells == mark)[0]
        ax.text(col, row, mark, ha="center", va="center", fontsize=12, fontweight="bold", color="black", zorder=5)
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    return image


def plot_paths(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot a line per path, shifted a little so that paths on the same cells can be told apart."""
    for success, colour in ((False, _WRONG), (True, _RIGHT)):
        paths = rows[rows.success.astype("boolean") == success]
        for index, (_, path) in enumerate(list(paths.groupby("path"))[:_PATHS]):
            shift = (index - 1) * 0.16 + (0.05 if success else -0.05)
            ordered = path.sort_values("time")
            ax.plot(ordered.col + shift, ordered.row + shift, "-", color=colour, linewidth=1.6, alpha=0.9)
            ax.plot(ordered.col.iloc[-1] + shift, ordered.row.iloc[-1] + shift, "o", color=colour, markersize=4)
