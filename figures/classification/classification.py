"""Fig. 2 and 9 of the paper at our scale: learning curves and coverage beside cross-entropy."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

COLUMNS = (
    "stage", "method", "rollouts", "learning_rate", "seed", "step", "train_pass_at_1", "pass_at_1", "pass_at_128",
    "top_1", "k", "coverage",
)  # fmt: skip


def draw(rows: pd.DataFrame) -> Figure:
    """Return a grid: a column per N with three learning curves and the final coverage, and the sweep below."""
    style.check_columns(rows, COLUMNS)
    counts = sorted(rows.rollouts.dropna().unique())
    figure = Figure(figsize=(4.4 * len(counts), 16.5))
    axes = figure.subplots(5, len(counts), squeeze=False, sharey="row")
    curves = rows[rows.stage == "report"]
    for place, count in enumerate(counts):
        column = axes[:, place]
        for ax, metric, name in zip(
            column,
            ("pass_at_1", "pass_at_128", "top_1"),
            ("pass@1 (exact)", "pass@128 (exact)", "top-1 accuracy"),
            strict=False,
        ):
            _panel(ax, curves, count, "step", metric)
            ax.set(xlabel="update", ylabel=name if place == 0 else "")
        _panel(column[3], rows[rows.stage == "coverage"], count, "k", "coverage")
        column[3].set(xscale="log", xlabel="samples k", ylabel="final coverage, pass@k" if place == 0 else "")
        _sweep(column[4], rows[rows.stage == "sweep"], count)
        column[4].set_ylabel("sweep: final training pass@1" if place == 0 else "")
        for ax in (column[0], column[4]):
            ax.set(yscale="log", ylim=(5e-4, 1.1))
        column[1].legend(fontsize=9, loc="center right", bbox_to_anchor=(1.0, 0.42))
        column[0].set_title(f"N = {int(count)} rollouts an image")
    axes[4, 0].legend(fontsize=9)
    seeds = curves.seed.nunique()
    figure.suptitle(
        "Three handwritten digits, 1000 classes, held-out pictures; learning rate swept alike for every method\n"
        f"mean and 95% bootstrap interval over {seeds} seeds; every point is an exact probability, no evaluation noise"
        + _distance_to_likelihood(curves)
    )
    return figure


def _distance_to_likelihood(curves: pd.DataFrame) -> str:
    """Say how near MaxRL comes to cross-entropy here, beside what the paper found."""
    final = curves[
        (curves.step == curves.step.max()) & (curves.rollouts.isna() | (curves.rollouts == curves.rollouts.max()))
    ]
    means = final.groupby("method").pass_at_1.mean()
    if not {"maxrl", "maximum_likelihood"} <= set(means.index):
        return ""
    return (
        f"\nfinal pass@1 at N = {curves.rollouts.max():.0f}: MaxRL {means['maxrl']:.2g}, cross-entropy "
        f"{means['maximum_likelihood']:.2g} (the paper's, on ImageNet at N = 1024, nearly coincide)"
    )


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the final held-out metrics of every method and N over seeds, with 95% intervals."""
    report = rows[rows.stage == "report"]
    final = report[report.step == report.step.max()]
    return style.final_table(final, ["method", "rollouts", "learning_rate"], ["pass_at_1", "pass_at_128", "top_1"])


def _select(rows: pd.DataFrame, count: float) -> list[tuple[str, pd.DataFrame]]:
    """The methods of one panel: cross-entropy, which has no N, and every estimator at this N."""
    chosen = rows[rows.rollouts.isna() | (rows.rollouts == count)]
    return [(str(name), chosen[chosen.method == name]) for name in chosen.method.unique()]


def _panel(ax: Axes, rows: pd.DataFrame, count: float, x: str, y: str) -> None:
    for name, runs in _select(rows, count):
        style.band(ax, runs, x, y, name, label=f"{_name(name)} (lr {runs.learning_rate.iloc[0]:g})")


def _sweep(ax: Axes, rows: pd.DataFrame, count: float) -> None:
    for name, runs in _select(rows, count):
        mean = runs.groupby("learning_rate").train_pass_at_1.mean()
        ax.plot(mean.index, mean, "o-", color=style.colour(name), label=_name(name), markersize=4)
    ax.set(xscale="log", xlabel=f"learning rate (mean of {rows.seed.nunique()} other seeds)")


def _name(spec: str) -> str:
    return "cross-entropy" if spec == "maximum_likelihood" else style.label(spec)
