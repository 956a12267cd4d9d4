"""Many epochs over a fixed training set: pass rate on it, and pass@k on held-out problems, a row per task."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.tokens import _panels
from figures.tokens._panels import Frames

_WITH_EPOCHS = ("dynamics", "evaluations", "votes")
COLUMNS = {
    name: ("task", *columns, *(["epoch"] if name in _WITH_EPOCHS else [])) for name, columns in _panels.COLUMNS.items()
}
_OURS, _OTHERS = "maxrl", ("rloo", "grpo")
_NAMES = {"modular_sum": "modular sums with a scratchpad", "countdown": "countdown"}


@style.styled
def plot(tables: Frames, settings: Any) -> Figure:
    """Return, per task, training pass rate and held-out pass@k for three k, against epochs (Fig. 4).

    Several tasks have the smallest and the largest k alone.
    """
    style.check_tables(tables, COLUMNS)
    columns = 4 if len(settings.tasks) == 1 else 3
    figure = Figure(figsize=(4.25 * columns, 4.4 * len(settings.tasks) + 0.8))
    axes = figure.subplots(len(settings.tasks), columns, squeeze=False)
    for line, task in zip(axes, settings.tasks, strict=True):
        part = _panels.select(tables, task=task)
        _plot_training(line[0], part["dynamics"])
        line[0].set_title("\n".join([f"{_NAMES[task]}, training set", *_overtaken(part["dynamics"])]))
        for ax, k in zip(line[1:], _ks(part, columns - 1), strict=False):
            _panels.plot_curves(ax, part, k, "epoch")
            ax.set_title(f"{_NAMES[task]}, never seen")
    for ax in axes.flat:
        ax.set_visible(ax.has_data())
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=12)
    figure.suptitle(
        f"A fixed training set, N = {settings.rollouts}: who keeps pass@k on problems never seen?\n"
        f"pass@k estimated from {settings.samples // 4} samples of each held-out problem "
        f"({settings.samples} at the end); {style.seeds_text(settings.seeds)}\n"
        + "\n".join(
            _panels.rates_text(_panels.select(tables, task=task), settings, (settings.rollouts,), settings.estimators)
            for task in settings.tasks
        )
    )
    return figure


def summarise(tables: Frames, settings: Any) -> pd.DataFrame:
    """Return every method's final held-out pass@k and majority vote by task, with 95% intervals, and the base's.

    Beside them stands the peak of each mean over seeds, with its epoch.
    """
    lines = {}
    for task in settings.tasks:
        part = _panels.select(tables, task=task)
        lines[task] = _panels.result_table(part, _ks(part)).join(_peaks(part["evaluations"], _ks(part))).fillna("")
    return pd.concat(lines)


def _peaks(rows: pd.DataFrame, ks: Sequence[int]) -> pd.DataFrame:
    """Return the highest mean pass@k over seeds of each method and k, and after which epoch it was measured."""
    keys = list(_panels.KEYS)
    means = rows[rows.k.isin(ks)].groupby([*keys, "k", "epoch"], sort=False).pass_at_k.mean().reset_index()
    best = means.loc[means.groupby([*keys, "k"], sort=False).pass_at_k.idxmax()]
    best = best.assign(text=[f"{row.pass_at_k:.4f} (epoch {row.epoch:.3g})" for row in best.itertuples()])
    peaks = best.pivot(index=keys, columns="k", values="text")
    return peaks.rename(columns={k: f"peak of pass@{k}" for k in ks})


def _ks(tables: Frames, count: int = 3) -> list[int]:
    """Return three of the k that every evaluation measured, or the smallest and the largest."""
    usual = _panels.ks_during(tables)
    middle = {usual[len(usual) // 2]} if count > 2 else set()
    return sorted({usual[0], usual[-1]} | middle)


def _overtaken(rows: pd.DataFrame) -> list[str]:
    """Return from which epoch on MaxRL's mean pass rate is above RLOO's and GRPO's."""
    means = _by_epoch(rows).groupby(["estimator", "epoch"], sort=False).pass_rate.mean().unstack("estimator")
    lines = []
    for name in [name for name in _OTHERS if name in means] if _OURS in means else []:
        behind = means.index[means[_OURS] <= means[name]]
        first = means.index[0] if behind.empty else behind[-1] + 1
        when = f"from epoch {first:g} on" if first <= means.index[-1] else "never for good"
        lines.append(f"MaxRL above {style.label(str(name))} {when}")
    return lines


def _by_epoch(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean pass rate of each run's rollouts over every epoch."""
    epochs = rows.assign(epoch=rows.epoch.sub(1e-9).floordiv(1) + 1)
    return epochs.groupby(["estimator", "seed", "epoch"], sort=False).pass_rate.mean().reset_index()


def _plot_training(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot the mean pass rate of each epoch's rollouts."""
    means = _by_epoch(rows)
    for name in _panels.methods(means):
        runs = means[means.estimator == name]
        style.band(ax, runs, "epoch", "pass_rate", name, **_panels.line_style(name))
    ax.set(xlabel="epoch", ylabel="pass rate on the training set")
    style.keep_pass_rates(ax)
