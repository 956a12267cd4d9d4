"""Where trained policies go, on a map of visits with right and wrong paths, and what became of every pass rate."""

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
    "policies": (*_POLICY, "rollouts", "seed", "distance", "untrained", "pass_rate"),
    "visits": (*_POLICY, "row", "col", "visits"),
    "paths": (*_POLICY, "path", "success", "time", "row", "col"),
}
_RIGHT, _WRONG = "#0072B2", "#E69F00"
_PATHS = 3
"""Most paths of each kind in a panel."""
_MAPPED = 2
"""Most methods with maps: the first and the last of those compared; the panel of all pass rates has every one."""
_FLOOR = 1e-12
"""Pass rates below that are plotted there."""


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return a line of panels for each level, a column for two methods, and all pass rates before and after."""
    style.check_tables(tables, COLUMNS)
    levels, policies = tables["levels"].sort_values("distance"), tables["policies"]
    methods = style.ends(list(policies.method.unique()), _MAPPED)
    figure = Figure(figsize=(2.9 * len(methods) + 5, 3.1 * len(levels) + 0.9))
    parts: Any = figure.subfigures(1, 2, width_ratios=(2.9 * len(methods) + 0.6, 4.4))
    left, right = parts
    axes = left.subplots(len(levels), len(methods), squeeze=False)
    for line, level in zip(axes, levels.itertuples(), strict=True):
        for ax, method in zip(line, methods, strict=True):
            image = _heat(ax, str(level.text), _of(tables["visits"], method, level.level))
            plot_paths(ax, _of(tables["paths"], method, level.level))
            policy = _of(policies[policies.seed == 0], method, level.level)
            rate = policy.learning_rate.item()
            ax.set_title(f"{style.label(method)} ({rate:g})\n{_chance(policy.pass_rate.item())}", fontsize=10)
        line[0].set_ylabel(f"{level.distance:.0f} moves", fontsize=12)
    left.colorbar(image, ax=axes, shrink=0.6, label="expected steps on the cell (exact)")
    _before_and_after(right.subplots(), policies)
    figure.suptitle(
        f"Training mazes after training with N = {settings.rollouts} (learning rate); S start, G goal, p exact pass "
        "rate\nblue: reaches the goal in time, orange: does not (at most three of each, whatever p)",
        fontsize=12,
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return by method and distance the share of mazes with p above a half, and of those with a lower p than before."""
    policies = tables["policies"]
    rows = policies.assign(solved=policies.pass_rate > 0.5, pushed_down=policies.pass_rate < policies.untrained)
    keys, shares = ["method", "learning_rate", "distance"], ["solved", "pushed_down"]
    return style.final_table(rows.groupby([*keys, "seed"], sort=False)[shares].mean().reset_index(), keys, shares)


def _before_and_after(ax: Axes, policies: pd.DataFrame) -> None:
    """Plot the pass rate of every training maze of every seed after training against that before it."""
    for method, rows in policies.groupby("method", sort=False):
        after = rows.pass_rate.clip(lower=_FLOOR)
        colour = style.colour(str(method))
        ax.plot(rows.untrained, after, ".", color=colour, markersize=2.5, alpha=0.6, label=style.label(str(method)))
    low = policies.untrained.min()
    ax.plot([low, 1], [low, 1], color="black", linewidth=1, dashes=(1, 2))
    ax.set(xscale="log", yscale="log", xlabel="pass rate before training (exact)", ylabel="after training (exact)")
    ax.set_ylim(_FLOOR / 3, 3)
    seeds = policies.seed.nunique()
    whose = f"of {seeds} seeds" if seeds > 1 else "of one seed"
    ax.set_title(f"all training mazes {whose}\n(dotted: as before; below 1e-12: at 1e-12)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, markerscale=5, fontsize=9)


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
