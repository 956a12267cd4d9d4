"""Fig. 8 of the paper, exact: how hard each example pushes, against how often it is already right."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

COLUMNS = {"rows": ("seed", "example", "curve", "rollouts", "pass_rate", "gradient_norm")}
_BINS = np.concatenate([np.logspace(-5, -1, 13)[:-1], np.linspace(0.1, 1.0, 13)])
_FEWEST = 5
"""A bin with fewer examples in a seed is left out."""


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return one panel for the population limits and one per N: median norm per bin of pass rate, and examples."""
    style.check_tables(tables, COLUMNS)
    rows = tables["rows"]
    panels = [None, *sorted(settings.rollouts)]
    figure = Figure(figsize=(4.3 * len(panels), 5.0))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, count in zip(axes, panels, strict=True):
        _panel(ax, rows[rows.rollouts.isna()] if count is None else rows[rows.rollouts == count])
        if count is not None:
            _panel(ax, rows[rows.rollouts.isna() & (rows.curve == "maximum_likelihood")])
        ax.set(xscale="log", yscale="log", xlabel="pass rate p of the example", xlim=(1e-4, 1.05))
        ax.set_title("population limit" if count is None else f"expected gradient at N = {count}")
        ax.legend(fontsize=9, loc="lower left")
    axes[0].set_ylabel("norm of the example's gradient |w_N(p) ∇p|")
    networks = f"95% t interval over {settings.seeds} networks" if settings.seeds > 1 else "one network"
    figure.suptitle(
        f"Half-trained classifier, {settings.examples} training images: exact per-example gradients; median per bin, "
        f"{networks}"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return the median gradient norm of hard, middling and easy examples for every curve."""
    rows = tables["rows"]
    edges = [0, 0.01, 0.1, 0.4, 0.6, 0.9, 1]
    bins = pd.cut(rows.pass_rate, edges).rename("pass_rate")
    named = rows.assign(rollouts=rows.rollouts.fillna(float("inf")))
    return named.pivot_table(
        index=["curve", "rollouts"], columns=bins, values="gradient_norm", aggfunc="median", sort=False, observed=True
    ).sort_index(axis="columns")


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    for name in rows.curve.unique():
        curve = rows[rows.curve == name]
        medians = _binned(curve)
        at = np.sqrt(_BINS[:-1] * _BINS[1:])
        shade = style.colour(name)
        thin = curve[curve.seed == curve.seed.min()]
        ax.plot(thin.pass_rate, thin.gradient_norm, ".", color=shade, alpha=0.12, markersize=2.5, zorder=1)
        full = ~np.isnan(medians).any(axis=0)
        interval = style.interval_over_seeds(medians[:, full])
        text = "cross-entropy" if name == "maximum_likelihood" else style.label(name)
        ax.plot(at[full], interval.mean, color=shade, label=text)
        ax.fill_between(at[full], interval.low, interval.high, color=shade, alpha=0.25, linewidth=0)


def _binned(rows: pd.DataFrame) -> np.ndarray:
    """Return the median norm per seed and bin, NaN where a seed has too few examples."""
    bins = pd.cut(rows.pass_rate, _BINS, labels=False)
    grouped = rows.groupby(["seed", bins]).gradient_norm.agg(["median", "size"])
    medians = grouped["median"].where(grouped["size"] >= _FEWEST)
    table: np.ndarray = medians.unstack().reindex(columns=range(len(_BINS) - 1)).to_numpy()
    return table
