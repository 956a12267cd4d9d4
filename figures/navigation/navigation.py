"""Learning to navigate with each estimator: curves of exact pass@k, what N and rollouts buy, and on which tasks."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.efficiency import plot_efficiency

_SECTION = ("comparison", "world", "optimiser")
_RUN = ("estimator", "method", "rollouts", "learning_rate", "seed", "step")
_KS = (1, 8, 64, 512)
COLUMNS = {
    "sweep": (*_SECTION, *_RUN, "pass_at_1"),
    "curves": (*_SECTION, *_RUN, "split", "total_rollouts", "signal", *(f"pass_at_{k}" for k in _KS)),
    "coverage": (*_SECTION, *_RUN, "split", "k", "coverage"),
    "difficulty": (*_SECTION, *_RUN, "split", "difficulty", "pass_rate"),
}
_SPLITS = {"train": "training levels", "held_out": "held-out levels"}
_MARKERS = "osD^vP*"


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return a grid of panels: a row of learning curves per world and split, then what explains them."""
    style.check_tables(tables, COLUMNS)
    curves = tables["curves"]
    worlds = [name for name in ("gridworld", "minigrid") if name in set(curves.world)]
    figure = Figure(figsize=(18, 4.1 * (2 * len(worlds) + 2)))
    axes = figure.subplots(2 * len(worlds) + 2, 4)
    panels = iter(axes)
    for world in worlds:
        for split in _SPLITS:
            _curves(next(panels), _equal_steps(curves, world), world, split)
    _buy(axes[-2], curves)
    _explain(axes[-1], {name: _equal_steps(rows, "gridworld") for name, rows in tables.items()})
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=12)
    figure.suptitle(
        f"Gridworld levels from easy to hopeless{', and MiniGrid' if 'minigrid' in worlds else ''}: "
        f"exact pass rates, no evaluation noise; {style.seeds_text(settings.seeds)}\n"
        "learning rate swept alike for every method and chosen by final training pass@1",
        fontsize=14,
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return every method's final pass@1, 64 and 512 on both splits, with 95% intervals over seeds."""
    curves = tables["curves"]
    last = curves.groupby(["comparison", "world", "optimiser", "rollouts"]).step.transform("max")
    keys = ["comparison", "world", "optimiser", "rollouts", "method", "learning_rate", "split"]
    return style.final_table(curves[curves.step == last], keys, ["pass_at_1", "pass_at_64", "pass_at_512"])


def _equal_steps(rows: pd.DataFrame, world: str) -> pd.DataFrame:
    return rows[(rows.comparison == "equal steps") & (rows.world == world)]


def _adam(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    return rows[(rows.optimiser == "adam") & (rows.split == split)]


def _buy(axes: Sequence[Axes], curves: pd.DataFrame) -> None:
    """Plot what rollouts buy: the final policies against N, all rollouts counted, and the signal of one group."""
    train = _adam(_equal_steps(curves, "gridworld"), "train")
    _against_rollouts(axes[0], train, 1)
    _against_rollouts(axes[1], train, 64)
    _equal_rollouts(axes[2], curves[(curves.comparison == "equal rollouts") & (curves.split == "train")])
    _signal(axes[3], train, _middle(train))


def _explain(axes: Sequence[Axes], tables: Mapping[str, pd.DataFrame]) -> None:
    """Plot the final policies in the gridworld at the middle N: coverage, efficiency, difficulty; and the sweep."""
    count = _middle(_adam(tables["curves"], "train"))
    coverage = _adam(tables["coverage"], "held_out")
    _coverage(axes[0], coverage[coverage.rollouts == count], count)
    _efficiency(axes[1], coverage[coverage.rollouts == count], count)
    _difficulty(axes[2], tables["difficulty"][tables["difficulty"].rollouts == count], count)
    _sweep(axes[3], tables["sweep"])


def _middle(rows: pd.DataFrame) -> float:
    """The N nearest to 16."""
    return float(min(rows.rollouts.unique(), key=lambda n: abs(n - 16)))


def _of(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows[rows.estimator == name]


def _curves(axes: Sequence[Axes], rows: pd.DataFrame, world: str, split: str) -> None:
    """Plot learning curves of pass@k at the middle N, a panel per k."""
    shown = _adam(rows, split)
    count = _middle(shown)
    shown = shown[shown.rollouts == count]
    for ax, k in zip(axes, _KS, strict=True):
        for name in shown.estimator.unique():
            runs = _of(shown, name)
            style.band(ax, runs, "step", f"pass_at_{k}", name, dashes=style.dashes(name))
        ax.set(xlabel="update", ylabel=f"pass@{k} (exact)")
        ax.set_title(f"{world}, {_SPLITS[split]}, N = {count:g}")


def _against_rollouts(ax: Axes, rows: pd.DataFrame, k: int) -> None:
    """Plot -log pass@k of the final policies against N: the form of Fig. 3."""
    final = rows[rows.step == rows.step.max()]
    final = final.assign(loss=-np.log(final[f"pass_at_{k}"]))
    for name in final.estimator.unique():
        style.band(ax, _of(final, name), "rollouts", "loss", name, marker="o", markersize=4, dashes=style.dashes(name))
    start = -np.log(rows[rows.step == 0][f"pass_at_{k}"].mean())
    ax.axhline(start, color="black", linewidth=1, dashes=(1, 2))
    ax.text(rows.rollouts.min(), start, "untrained", fontsize=9, va="bottom")
    ax.set(xscale="log", xlabel="rollouts N", ylabel=f"−log pass@{k} (nats)", title="gridworld, training levels, final")
    style.plain_x(ax, rows.rollouts)


def _equal_rollouts(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot pass@1 against all rollouts, each N with its own number of updates: small groups often, or large seldom?"""
    if rows.empty:
        ax.set_axis_off()
        return
    patterns = itertools.cycle([(1, 1), (4, 1.5), (None, None), (6, 1, 1, 1)])
    for count, pattern in zip(sorted(rows.rollouts.unique()), patterns, strict=False):
        for name in rows.estimator.unique():
            runs = _of(rows[rows.rollouts == count], name)
            label = f"{style.label(name)}, N = {count:g}"
            style.band(ax, runs, "total_rollouts", "pass_at_1", name, label=label, dashes=pattern)
    ax.set(xlabel="rollouts of each level, in all", ylabel="pass@1 (exact)")
    ax.set_title("gridworld, training levels, equal rollouts")
    ax.legend(fontsize=7.5, loc="upper left")


def _signal(ax: Axes, rows: pd.DataFrame, count: float) -> None:
    """Plot the expected share of training tasks that show a success: Fig. 7."""
    shown = rows[rows.rollouts == count]
    for name in shown.estimator.unique():
        style.band(ax, _of(shown, name), "step", "signal", name, dashes=style.dashes(name))
    ax.set(xlabel="update", ylabel="share of tasks with K ≥ 1 (exact)")
    ax.set_title(f"gridworld, training levels, N = {count:g}")


def _coverage(ax: Axes, rows: pd.DataFrame, count: float) -> None:
    for name in rows.estimator.unique():
        style.band(ax, _of(rows, name), "k", "coverage", name, marker="o", markersize=3, dashes=style.dashes(name))
    ax.set(xscale="log", xlabel="samples k", ylabel="coverage, pass@k (exact)")
    style.plain_x(ax, rows.k)
    ax.set_title(f"gridworld, held-out levels, final, N = {count:g}")


def _efficiency(ax: Axes, rows: pd.DataFrame, count: float) -> None:
    """Plot how many times more samples GRPO needs for the same held-out coverage: Fig. 5."""
    table = rows.groupby(["k", "estimator"]).coverage.mean().unstack()
    if "grpo" not in table.columns:
        ax.set_axis_off()
        return
    grpo = table["grpo"].tolist()
    plot_efficiency(ax, [int(k) for k in table.index], {name: (table[name].tolist(), grpo) for name in table.columns})
    ax.set_ylabel("samples GRPO needs / k")
    ax.set_title(f"held-out, N = {count:g}: efficiency over GRPO, of mean coverage\n(▲: GRPO gets there at no k shown)")


def _difficulty(ax: Axes, rows: pd.DataFrame, count: float) -> None:
    """Plot the final pass rate by distance, on training (filled) and held-out levels (open)."""
    for split, face in (("train", None), ("held_out", "white")):
        final = _adam(rows, split)
        final = final.assign(distance=final.difficulty.astype(float))
        for name, marker in zip(final.estimator.unique(), itertools.cycle(_MARKERS), strict=False):
            mean = _of(final, name).groupby("distance").pass_rate.mean()
            pattern = "-" if split == "train" else ":"
            colour = style.colour(name)
            ax.plot(mean.index, mean, pattern, marker=marker, color=colour, markerfacecolor=face, markersize=5)
    ax.set(xlabel="moves from start to goal", ylabel="final pass rate (exact)")
    ax.set_title(f"gridworld by difficulty, N = {count:g}\nsolid: training levels, dotted: held-out")


def _sweep(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot final pass@1 against the learning rate: SGD needs another one for every estimator's scale, Adam does not."""
    shared = set.intersection(*(set(swept.rollouts) for _, swept in rows.groupby("optimiser")))
    if not shared:
        ax.set_axis_off()
        return
    count = min(shared, key=lambda n: abs(n - 16))
    for optimiser, pattern in (("adam", "-"), ("sgd", ":")):
        shown = rows[(rows.optimiser == optimiser) & (rows.rollouts == count)]
        for name, marker in zip(shown.estimator.unique(), itertools.cycle(_MARKERS), strict=False):
            mean = style.means(_of(shown, name), "learning_rate", "pass_at_1")
            ax.plot(mean.index, mean, pattern, marker=marker, color=style.colour(name), markersize=4)
    ax.set(xscale="log", xlabel="learning rate", ylabel="sweep: final training pass@1")
    both = (
        "solid: Adam, which divides out constant scale\ndotted: SGD, which does not"
        if rows.optimiser.nunique() > 1
        else "Adam"
    )
    ax.set_title(f"{both}; N = {count:g}")
