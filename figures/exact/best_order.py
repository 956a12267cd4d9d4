"""The order of least error on the dial from RLOO to Algorithm 1, over pass rates, rollouts and numbers of groups."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

COLUMNS = {"rows": ("rollouts", "order", "pass_rate", "squared_bias", "variance")}
_PANELS = 3
_LARGE, _HARD = 64, 0.03
"""N and p of the panel of errors; the nearest of the rows are taken."""


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return a map of the best order for each of up to three numbers of groups, and the errors behind one column."""
    style.check_tables(tables, COLUMNS)
    rows = tables["rows"]
    figure = Figure(figsize=(14.4, 8.6))
    *maps, errors = figure.subplots(2, 2).flatten()
    shown = [settings.groups[0], *settings.groups[1:-1][-1:], *settings.groups[1:][-1:]]
    for ax, groups in zip(maps, shown, strict=False):
        _map(ax, best(rows, groups), groups)
    for ax in maps[len(shown) :]:
        ax.remove()
    _errors(errors, rows, settings.groups)
    figure.suptitle(
        "Which order T of maxrl_centred is nearest to the likelihood gradient? From RLOO (T = 1, light) to Algorithm 1 "
        "(T = N−1, dark), exact"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:
    """Return the best order at every N (rows, for each number of groups) and a selection of pass rates."""
    orders = pd.concat([best(tables["rows"], groups).assign(groups=groups) for groups in settings.groups])
    table = orders.pivot(index=["groups", "rollouts"], columns="pass_rate", values="order")
    return table.iloc[:, :: max(1, len(table.columns) // 8)]


def best(rows: pd.DataFrame, groups: int) -> pd.DataFrame:
    """Return the row of least error at every N and p, with its `error`, where B = `groups` groups are averaged."""
    scored = rows.assign(error=rows.squared_bias + rows.variance / groups).reset_index(drop=True)
    return scored.loc[scored.groupby(["rollouts", "pass_rate"]).error.idxmin()]


def _map(ax: Axes, bests: pd.DataFrame, groups: int) -> None:
    table = bests.pivot(index="rollouts", columns="pass_rate", values="order")
    largest = np.log2(np.maximum(table.index.to_numpy(dtype=float) - 1, 2))[:, None]
    share = np.log2(table.to_numpy(dtype=float)) / largest
    ax.imshow(share, aspect="auto", origin="lower", cmap="YlGnBu", vmin=0, vmax=1.15)
    step = max(1, len(table.columns) // 10)
    for row, orders in enumerate(table.to_numpy()):
        for column in range(step // 2, len(orders), step):
            colour = "white" if share[row, column] > 0.6 else "black"
            ax.text(column, row, f"{orders[column]:g}", ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(range(step // 2, len(table.columns), step), [f"{p:.2g}" for p in table.columns[step // 2 :: step]])
    ax.set_yticks(range(len(table.index)), [f"{count}" for count in table.index])
    ax.grid(visible=False)
    averaged = "one group" if groups == 1 else f"the mean of {groups} groups"
    ax.set(xlabel="pass rate p", ylabel="rollouts N", title=f"best order T for {averaged}")


def _errors(ax: Axes, rows: pd.DataFrame, all_groups: tuple[int, ...]) -> None:
    """Plot the error against the order at one N and p, with the best order marked, for every number of groups."""
    count = min(rows.rollouts.unique(), key=lambda n: abs(n - _LARGE))
    rate = min(rows.pass_rate.unique(), key=lambda p: abs(p - _HARD))
    at = rows[(rows.rollouts == count) & (rows.pass_rate == rate)].sort_values("order")
    for index, groups in enumerate(all_groups):
        error = at.squared_bias + at.variance / groups
        shade = colormaps["plasma"](0.1 + 0.7 * index / max(1, len(all_groups) - 1))
        ax.plot(at.order, error, "o-", color=shade, markersize=4, label=f"B = {groups}")
        ax.plot(at.order[error.idxmin()], error.min(), "o", color=shade, markersize=10, fillstyle="none")
    ax.plot(at.order, at.squared_bias, ":", color="#444444", label="squared bias")
    ax.set(xscale="log", yscale="log", xlabel="order T", ylabel="error in units of |∇ log p|²")
    ax.set_title(f"error against the order at N = {count}, p = {rate:.2g} (circles: the least)")
    style.plain_x(ax, at.order)
    style.plain_ticks(ax)
    ax.legend(fontsize=9, title="groups averaged")
