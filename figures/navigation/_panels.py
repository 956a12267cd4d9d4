"""Panels that the navigation figures share: learning curves, what N buys, difficulty, sweeps; and the printed table."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

RUN = ("estimator", "method", "rollouts", "learning_rate", "seed", "step")
SPLITS = {"train": "training", "held_out": "held-out"}
_MARKERS = "osD^vP*"


def middle(rows: pd.DataFrame) -> float:
    """Return the N nearest to 16."""
    return float(min(rows.rollouts.unique(), key=lambda n: abs(n - 16)))


def last(rows: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Return the rows after the last update, of each combination of `keys` if there are any."""
    return rows[rows.step == (rows.groupby(list(keys)).step.transform("max") if keys else rows.step.max())]


def curves(ax: Axes, rows: pd.DataFrame, y: str, ylabel: str) -> None:
    """Plot a learning curve for each estimator; the legend names its learning rate."""
    for name, runs in rows.groupby("estimator", sort=False):
        named = f"{style.label(name)} ({runs.learning_rate.iloc[0]:g})"
        style.band(ax, runs, "step", y, str(name), label=named, dashes=style.dashes(str(name)))
    ax.set(xlabel="update", ylabel=ylabel)
    if y.startswith("pass_at"):
        style.keep_pass_rates(ax)


def untrained(ax: Axes, value: float) -> None:
    """Mark where the policies start."""
    ax.axhline(value, color="black", linewidth=1, dashes=(1, 2))
    ax.annotate("untrained", (1, value), (-2, 2), ax.get_yaxis_transform(), "offset points", ha="right", fontsize=9)


_SMALLEST_LOSS = 1e-3
"""The smallest -log pass@k that has a place in a panel."""


def against_rollouts(ax: Axes, rows: pd.DataFrame, k: int) -> None:
    """Plot -log pass@k of the final policies against N as in Fig. 3, on a logarithmic axis: some runs break down.

    An interval that reaches below 0 runs out of the panel.
    """
    final = last(rows)
    final = final.assign(loss=-np.log(final[f"pass_at_{k}"]))
    for name, runs in final.groupby("estimator", sort=False):
        dashes = style.dashes(str(name))
        style.band(ax, runs, "rollouts", "loss", str(name), marker="o", markersize=4, dashes=dashes)
    untrained(ax, -np.log(rows[rows.step == 0][f"pass_at_{k}"].mean()))
    ax.set(xscale="log", xlabel="rollouts N", ylabel=f"−log pass@{k} (nats)")
    losses = final.groupby(["estimator", "rollouts"]).loss.mean()
    shown = losses[losses > _SMALLEST_LOSS]
    if len(shown):
        ax.set(yscale="log", ylim=(0.6 * shown.min(), None))
        style.plain_ticks(ax, span=300)
    style.plain_x(ax, rows.rollouts)


def difficulty(ax: Axes, rows: pd.DataFrame, xlabel: str, *, numeric: bool = True, dotted: bool = False) -> None:
    """Plot the final pass rate by difficulty, with a marker for each estimator."""
    rows = rows.assign(difficulty=rows.difficulty.astype(float)) if numeric else rows
    for (name, runs), marker in zip(rows.groupby("estimator", sort=False), itertools.cycle(_MARKERS), strict=False):
        mean = runs.groupby("difficulty", sort=numeric).pass_rate.mean()
        face = "white" if dotted else None
        look: Any = {"marker": marker, "color": style.colour(str(name)), "markerfacecolor": face, "markersize": 5}
        ax.plot(mean.index, mean, ":" if dotted else "-", **look)
    ax.set(xlabel=xlabel, ylabel="final pass rate (exact)")


def sweep(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot the final training pass@1 of the swept runs against the learning rate, the mean over sweep seeds."""
    for (name, runs), marker in zip(rows.groupby("estimator", sort=False), itertools.cycle(_MARKERS), strict=False):
        mean = style.means(runs, "learning_rate", "pass_at_1")
        ax.plot(mean.index, mean, "-", marker=marker, color=style.colour(str(name)), markersize=4)
    ax.set(xscale="log", xlabel="learning rate", ylabel="sweep: final training pass@1")
    style.plain_x(ax, rows.learning_rate)


def legend(figure: Figure, ax: Axes, columns: int = 4) -> None:
    """Put the legend of one panel below all of them."""
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=11)


def rates_text(tables: Mapping[str, pd.DataFrame], count: float | None = None) -> str:
    """Return how the learning rates, which the legend names, those at N = `count`, were chosen."""
    named = "in brackets" if count is None else f"in brackets: at N = {count:g}"
    if "sweep" not in tables:
        return f"learning rates ({named}) are those that the preset `standard` chose"
    seeds = tables["sweep"].seed.nunique()
    return f"learning rates ({named}) chosen by final training pass@1 on {seeds} other seed{'s' * (seeds > 1)}"


def final_and_peak(curves: pd.DataFrame, keys: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return for each combination of keys the final value and the peak of each metric, over seeds.

    The peak of a run is its greatest measured value: what stopping at the best moment would have kept.
    """
    keys = list(keys)
    runs = [*keys, "seed"]
    final = last(curves, *runs).set_index(runs)[list(metrics)]
    peak = curves.groupby(runs, sort=False)[list(metrics)].agg(lambda values: values.max(skipna=False))
    both = final.join(peak.add_suffix(" (peak)")).reset_index()
    return style.final_table(both, keys, [name for metric in metrics for name in (metric, f"{metric} (peak)")])
