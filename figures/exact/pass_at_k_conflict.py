"""Two prompts that compete: where each objective takes their pass rates, and what that does to pass@1 and pass@k."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

COLUMNS = {"rows": ("objective", "step", "easy", "hard", "pass_at_1", "pass_at_k", "cosine")}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return four panels: the two pass rates, pass@1, pass@k, and the angle between the gradients."""
    style.check_tables(tables, COLUMNS)
    rows = tables["rows"]
    figure = Figure(figsize=(14.4, 8.2))
    plane, single, several, angle = figure.subplots(2, 2).flatten()
    _plane(plane, rows)
    for ax, column, title in (
        (single, "pass_at_1", "pass@1 over training"),
        (several, "pass_at_k", f"pass@{settings.k} over training"),
        (angle, "cosine", "below 0, the update lowers pass@1"),
    ):
        for name, path in rows.groupby("objective", sort=False):
            ax.plot(path.step, path[column], **_look(str(name), list(rows.objective.unique())))
        ax.set(xlabel="update (exact gradient, steps of one length)", title=title)
    single.set_ylabel("mean of the two prompts")
    several.set_ylabel("mean of the two prompts")
    angle.set_ylabel("cosine with the gradient of pass@1")
    angle.axhline(0, color="#444444", linewidth=0.8)
    single.legend(fontsize=9, title="gradient followed")
    figure.suptitle(
        "Why training for pass@k can lower pass@1: two prompts compete for a parameter, and the hard one has the weight"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return, for each objective, the start, the update of the lowest pass@1 and the end."""
    parts = []
    for _, path in tables["rows"].groupby("objective", sort=False):
        rows = path.sort_values("step").reset_index(drop=True)
        parts.append(rows.loc[sorted({0, int(rows.pass_at_1.idxmin()), len(rows) - 1})])
    return pd.concat(parts).set_index(["objective", "step"])


def _plane(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot each objective's path through the two pass rates over lines of equal pass@1."""
    grid = np.linspace(0, 1, 101)
    easy, hard = np.meshgrid(grid, grid)
    lines = ax.contour(easy, hard, (easy + hard) / 2, levels=np.arange(0.1, 1, 0.1), colors="#cccccc", linewidths=0.8)
    ax.clabel(lines, fontsize=7, fmt="%.1f")
    for name, path in rows.groupby("objective", sort=False):
        look = _look(str(name), list(rows.objective.unique()))
        ax.plot(path.easy, path.hard, **look)
        ax.plot(path.easy.iloc[-1], path.hard.iloc[-1], "o", color=look["color"], markersize=5)
    ax.plot(rows.easy.iloc[0], rows.hard.iloc[0], "s", color="#444444", markersize=7)
    ax.set(xlabel="pass rate of the easy prompt", ylabel="pass rate of the hard prompt")
    ax.set_title("paths from the square; grey: lines of equal pass@1")


def _look(name: str, names: list[str]) -> dict[str, Any]:
    """Return the colour and label of an objective: those of one family go from light to dark."""
    family = [other for other in names if style.base(other) == style.base(name)]
    if len(family) == 1:
        return {"color": style.colour(name), "label": style.label(name)}
    shade = colormaps["RdPu"](0.45 + 0.5 * family.index(name) / (len(family) - 1))
    return {"color": shade, "label": style.label(name)}
