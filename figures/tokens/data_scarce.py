"""Many epochs over a fixed training set: pass rate on it, and pass@k on held-out problems, a row per task."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.tokens import _panels as token_panels

COLUMNS = ("task", "epoch", *token_panels.COLUMNS)
_NAMES = {"modular_sum": "modular sums with a scratchpad", "countdown": "countdown"}


@style.styled
def draw(rows: pd.DataFrame) -> Figure:
    """Return, per task, training pass rate and held-out pass@k for three k, against epochs (Fig. 4)."""
    style.check_columns(rows, COLUMNS)
    tasks = list(dict.fromkeys(rows.task))
    figure = Figure(figsize=(17, 4.4 * len(tasks) + 0.8))
    axes = figure.subplots(len(tasks), 4, squeeze=False)
    for line, task in zip(axes, tasks, strict=True):
        own = rows[rows.task == task]
        _training(line[0], own[own["view"] == "dynamics"])
        line[0].set_title(_NAMES.get(task, task))
        for ax, k in zip(line[1:], _ks(own), strict=False):
            token_panels.curves(ax, own, k, "epoch")
    for ax in axes.flat:
        ax.set_visible(ax.has_data())
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=12)
    report = token_panels.evaluations(rows)
    figure.suptitle(
        f"A fixed training set, N = {report.rollouts.iloc[0]:g}: who keeps pass@k on problems never seen?\n"
        f"pass@k estimated from {report.samples.min():g} samples of each held-out problem "
        f"({report.samples.max():g} at the end); {style.seeds_text(report.seed.nunique())}"
    )
    return figure


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return every method's final held-out pass@k and majority vote by task, with 95% intervals, and the base's."""
    keys = ["method", "rollouts", "learning_rate"]
    return pd.concat({task: token_panels.table(own, keys, _ks(own)) for task, own in rows.groupby("task", sort=False)})


def _ks(rows: pd.DataFrame) -> list[int]:
    """Three of the k that every evaluation measured."""
    usual = token_panels.ks_during(rows)
    return sorted({usual[0], usual[len(usual) // 2], usual[-1]})


def _training(ax: Axes, rows: pd.DataFrame) -> None:
    """Mean pass rate of each epoch's rollouts."""
    epochs = rows.assign(epoch=rows.epoch.sub(1e-9).floordiv(1) + 1)
    means = epochs.groupby(["estimator", "seed", "epoch"], sort=False).pass_rate.mean().reset_index()
    for name in dict.fromkeys(means.estimator):
        style.band(
            ax, means[means.estimator == name], "epoch", "pass_rate", str(name), **token_panels.line_style(str(name))
        )
    ax.set(xlabel="epoch", ylabel="pass rate on the training set")
