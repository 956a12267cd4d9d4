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
_PANELS = 3
_FLOOR = 1e-4
"""Pass rates below it are shown as if they were it: their logarithm would hide the others."""


@style.styled
def plot(tables: Frames, settings: Any) -> Figure:
    """Return -log pass@k against N for three k (Fig. 3); below, learning curves (Fig. 17) and the sweep if any."""
    style.check_tables(tables, COLUMNS)
    figure = Figure(figsize=(12.5, 7.8))
    axes = figure.subplots(2, _PANELS)
    for ax, k in zip(axes[0], _panels.ks(tables, _PANELS), strict=False):
        _against_rollouts(ax, tables, k)
    fewest, most = min(settings.rollouts), max(settings.rollouts)
    curves = [(most, 1), (most, _panels.ks_during(tables)[-1]), *([] if "sweep" in tables else [(fewest, 1)])]
    for ax, (count, k) in zip(axes[1], dict.fromkeys(curves), strict=False):
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
        f"held-out mazes, {_panels.result_text(settings)}\n"
        f"{_panels.rates_text(tables, settings, settings.rollouts, settings.estimators)}"
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
