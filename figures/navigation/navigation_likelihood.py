"""Sampled MaxRL and inverse sampling beside training on the exact likelihood gradient, by updates and by rollouts."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.navigation import _panels as panels

_RUN = ("method", "rollouts", "learning_rate", "seed", "step")
COLUMNS = {"curves": (*_RUN, "split", "cost", "pass_at_1", "pass_at_64", "log_pass_rate")}
_INVERSE = ("#009E73", "#56B4E9", "#CC79A7", "#999933")


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return six panels: likelihood and pass@1 by update and by rollouts, held-out pass@64, and the cost."""
    style.check_tables(tables, COLUMNS)
    curves = with_total_cost(tables["curves"])
    curves = curves.assign(loss=-curves.log_pass_rate)
    train, held_out = curves[curves.split == "train"], curves[curves.split == "held_out"]
    figure = Figure(figsize=(15.5, 9.2))
    axes = figure.subplots(2, 3)
    _panel(axes[0, 0], train, "step", "loss")
    axes[0, 0].set(yscale="log", xlabel="update", ylabel="−mean log p (nats)", title="training levels, by update")
    _panel(axes[0, 1], train, "total_cost", "loss")
    axes[0, 1].set(yscale="log", xscale="log", xlabel="rollouts per level, in all", title="the same by rollouts")
    _panel(axes[0, 2], train, "total_cost", "pass_at_1")
    axes[0, 2].set(xscale="log", xlabel="rollouts per level, in all", ylabel="pass@1", title="training levels")
    _panel(axes[1, 0], held_out, "step", "pass_at_1")
    axes[1, 0].set(xlabel="update", ylabel="pass@1", title="held-out levels")
    _panel(axes[1, 1], held_out, "step", "pass_at_64")
    axes[1, 1].set(xlabel="update", ylabel="pass@64", title="held-out levels")
    _panel(axes[1, 2], train[train.cost.notna()], "step", "cost")
    axes[1, 2].set(yscale="log", xlabel="update", ylabel="rollouts per level and update", title="cost (expected)")
    for ax in (axes[0, 0], axes[0, 1], axes[1, 2]):
        style.plain_ticks(ax)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9.5)
    figure.suptitle(
        "Levels with an exact likelihood: how near do rollouts come to the exact gradient of log p?\n"
        f"all pass rates exact; {style.seeds_text(settings.seeds)}; learning rate swept alike for every method"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return each method's metrics on both splits, at the end and at their peak, and its total rollouts per level.

    All have 95% intervals over seeds. An exact gradient has no N, and costs no rollouts.
    """
    curves = with_total_cost(tables["curves"])
    costs = curves.total_cost.where(curves.rollouts.notna(), 0)
    counts = curves.rollouts.map(lambda count: "exact" if pd.isna(count) else f"{count:g}")
    curves = curves.assign(total_cost=costs, rollouts=counts)
    keys = ["method", "rollouts", "learning_rate", "split"]
    rates = panels.final_and_peak(curves, keys, ["pass_at_1", "pass_at_64", "log_pass_rate"])
    return rates.join(style.final_table(panels.last(curves), keys, ["total_cost"]))


def with_total_cost(curves: pd.DataFrame) -> pd.DataFrame:
    """Add the rollouts per level since the start: the trapezoidal rule over the measured expected costs per update."""
    keys = ["method", "rollouts", "seed", "split"]
    parts = []
    for _, run in curves.groupby(keys, dropna=False, sort=False):
        ordered = run.sort_values("step")
        cost, step = ordered.cost.to_numpy(float), ordered.step.to_numpy(float)
        spent = np.concatenate([[0.0], np.cumsum((cost[1:] + cost[:-1]) / 2 * np.diff(step))])
        parts.append(ordered.assign(total_cost=spent))
    return pd.concat(parts)


def _methods(rows: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, str, object, tuple[float, ...]]]:
    """Yield rows, label, colour and pattern of every method: sampled ones light to dark with N."""
    sampled = sorted(rows[~rows.method.str.contains("inverse|likelihood")].rollouts.unique())
    inverse = [name for name in rows.method.unique() if style.base(name) == "inverse_sampling"]
    for (name, count, rate), runs in rows.groupby(["method", "rollouts", "learning_rate"], dropna=False, sort=False):
        if style.base(name) == "maximum_likelihood":
            yield runs, f"exact gradient of log p (lr {rate:g})", "black", (4, 1.5)
        elif name in inverse:
            text = f"inverse sampling, m = {name.partition('=')[2]}, cap {count:g} (lr {rate:g})"
            yield runs, text, _INVERSE[inverse.index(name) % len(_INVERSE)], (1, 1)
        else:
            shade = colormaps["autumn_r"](0.2 + 0.75 * sampled.index(count) / max(1, len(sampled) - 1))
            yield runs, f"{style.label(name)}, N = {count:g} (lr {rate:g})", shade, ()


def _panel(ax: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    for runs, text, colour, pattern in _methods(rows):
        if x == "total_cost":
            _by_cost(ax, runs, y, text, colour, pattern)
        else:
            style.band(ax, runs, x, y, "", color=colour, label=text, dashes=pattern or (None, None))


def _by_cost(ax: Axes, runs: pd.DataFrame, y: str, text: str, colour: object, pattern: tuple[float, ...]) -> None:
    """Plot the mean metric at the mean cost of each step; the exact gradient costs no rollouts: a line at its end."""
    if runs.total_cost.isna().any():
        ax.axhline(runs[runs.step == runs.step.max()][y].mean(), color=colour, dashes=(4, 1.5), linewidth=1.2)
        return
    steps, interval = style.over_seeds(runs, "step", y)
    cost = runs.groupby("step").total_cost.mean().reindex(steps).to_numpy()
    shown = cost > 0
    ax.plot(cost[shown], interval.mean[shown], color=colour, dashes=pattern or (None, None), label=text)
    ax.fill_between(cost[shown], interval.low[shown], interval.high[shown], color=colour, alpha=0.2, linewidth=0)
