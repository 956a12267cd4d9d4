"""Fig. 2 and 9 of the paper at our scale: learning curves and coverage beside cross-entropy."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

_RUN = ("method", "rollouts", "learning_rate", "seed", "step")
COLUMNS = {
    "sweep": (*_RUN, "train_pass_at_1"),
    "curves": (*_RUN, "pass_at_1", "pass_at_128", "top_1"),
    "coverage": (*_RUN, "k", "coverage"),
}
_METRICS = {"pass_at_1": "pass@1 (exact)", "pass_at_128": "pass@128 (exact)", "top_1": "top-1 accuracy"}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return a grid: a column per N with three learning curves and the final coverage, and the sweep below."""
    style.check_tables(tables, COLUMNS)
    counts = sorted(settings.rollouts)
    figure = Figure(figsize=(4.4 * len(counts), 16.5))
    axes = figure.subplots(5, len(counts), squeeze=False, sharey="row")
    for index, count in enumerate(counts):
        _column(list(axes[:, index]), tables, count)
    for ax, name in zip(axes[:, 0], (*_METRICS.values(), "final coverage, pass@k"), strict=False):
        ax.set_ylabel(name)
    axes[4, 0].set_ylabel("sweep: final training pass@1")
    axes[4, 0].legend(fontsize=9)
    figure.suptitle(
        "Three handwritten digits, 1000 classes, held-out pictures; learning rate swept alike for every method\n"
        f"{style.seeds_text(settings.seeds)}; every point is an exact probability, no evaluation noise"
        + _distance_to_likelihood(tables["curves"], settings)
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:
    """Return the final held-out metrics of every method and N over seeds, with 95% intervals."""
    final = _final(tables["curves"], settings)
    return style.final_table(final, ["method", "rollouts", "learning_rate"], list(_METRICS))


def _final(curves: pd.DataFrame, settings: Any) -> pd.DataFrame:
    return curves[curves.step == settings.steps]


def _distance_to_likelihood(curves: pd.DataFrame, settings: Any) -> str:
    """Say how near MaxRL comes to cross-entropy here, beside what the paper found."""
    if "maxrl" not in settings.estimators:
        return ""
    most = max(settings.rollouts)
    final = _final(curves, settings)
    means = final[final.rollouts.isna() | (final.rollouts == most)].groupby("method").pass_at_1.mean()
    return (
        f"\nfinal pass@1 at N = {most}: MaxRL {means['maxrl']:.2g}, cross-entropy "
        f"{means['maximum_likelihood']:.2g} (the paper's, on ImageNet at N = 1024, nearly coincide)"
    )


def _column(axes: Sequence[Axes], tables: Mapping[str, pd.DataFrame], count: int) -> None:
    """Plot all panels of one N."""
    for ax, metric in zip(axes, _METRICS, strict=False):
        _panel(ax, tables["curves"], count, "step", metric)
        ax.set_xlabel("update")
    _panel(axes[3], tables["coverage"], count, "k", "coverage")
    axes[3].set(xscale="log", xlabel="samples k")
    _sweep(axes[4], tables["sweep"], count)
    for ax in (axes[0], axes[4]):
        ax.set(yscale="log", ylim=(5e-4, 1.1))
    axes[1].legend(fontsize=9, loc="center right", bbox_to_anchor=(1.0, 0.42))
    axes[0].set_title(f"N = {count} rollouts an image")


def _methods(rows: pd.DataFrame, count: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the methods of one column with their rows: cross-entropy, which has no N, and every estimator at this N."""
    shown = rows[rows.rollouts.isna() | (rows.rollouts == count)]
    for name in shown.method.unique():
        yield str(name), shown[shown.method == name]


def _panel(ax: Axes, rows: pd.DataFrame, count: int, x: str, y: str) -> None:
    for name, runs in _methods(rows, count):
        style.band(ax, runs, x, y, name, label=f"{_name(name)} (lr {runs.learning_rate.iloc[0]:g})")


def _sweep(ax: Axes, rows: pd.DataFrame, count: int) -> None:
    for name, runs in _methods(rows, count):
        mean = style.means(runs, "learning_rate", "train_pass_at_1")
        ax.plot(mean.index, mean, "o-", color=style.colour(name), label=_name(name), markersize=4)
    ax.set(xscale="log", xlabel=f"learning rate (mean of {rows.seed.nunique()} other seeds)")


def _name(spec: str) -> str:
    return "cross-entropy" if spec == "maximum_likelihood" else style.label(spec)
