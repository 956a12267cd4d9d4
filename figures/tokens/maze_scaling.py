"""What rollouts buy on mazes in tokens: -log pass@k against N, and the learning curves."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.tokens import _panels
from figures.tokens._panels import COLUMNS, Frames

__all__ = ["COLUMNS", "plot", "summarise"]
_PANELS = 4
_FLOOR = 1e-4
"""Pass rates below it are shown as if they were it: their logarithm would hide the others."""


@style.styled
def plot(tables: Frames, settings: Any) -> Figure:
    """Return -log pass@k against N for four k (Fig. 3), and learning curves beside the sweep (Fig. 17)."""
    style.check_tables(tables, COLUMNS)
    figure = Figure(figsize=(17, 8.6))
    axes = figure.subplots(2, _PANELS)
    for ax, k in zip(axes[0], _panels.ks(tables, _PANELS), strict=False):
        _against_rollouts(ax, tables, k)
    fewest, most = min(settings.rollouts), max(settings.rollouts)
    largest = _panels.ks_during(tables)[-1]
    for ax, (count, k) in zip(axes[1], ((fewest, 1), (most, 1), (most, largest)), strict=False):
        _panels.plot_curves(ax, _panels.select(tables, rollouts=count), k)
        ax.set_title(f"N = {count}")
    if "sweep" in tables:
        _panels.plot_sweep(axes[1, -1], tables["sweep"], most)
    for ax in axes.flat:
        ax.set_visible(ax.has_data())
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=12)
    figure.suptitle(
        "Mazes in tokens, fresh ones in every update: what do more rollouts buy?\n"
        f"held-out mazes, {_panels.result_text(settings)}; learning rate swept alike"
    )
    return figure


def summarise(tables: Frames, settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return every method's final held-out pass@k and majority vote, with 95% intervals over seeds, and the base's."""
    return _panels.result_table(tables, _panels.ks(tables, _PANELS))


def _against_rollouts(ax: Axes, tables: Frames, k: int) -> None:
    rows = _panels.final(tables["evaluations"])
    rows = rows[rows.k == k].assign(loss=lambda rows: -np.log(rows.pass_at_k.clip(lower=_FLOOR)))
    for name in _panels.methods(rows):
        runs = rows[rows.estimator == name]
        style.band(ax, runs, "rollouts", "loss", name, marker="o", markersize=5, **_panels.line_style(name))
    _panels.plot_base(ax, -np.log(max(_panels.base(tables, k), _FLOOR)))
    ax.set(xscale="log", xlabel="rollouts N", ylabel=f"−log pass@{k} (nats)", title=f"k = {k}, after training")
    style.plain_x(ax, rows.rollouts)
