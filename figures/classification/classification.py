"""Fig. 2 and 9 of the paper on three handwritten digits: how near to cross-entropy, and what the gap is made of."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

_RUN = ("kind", "method", "rollouts", "learning_rate", "seed", "step")
COLUMNS = {
    "curves": (*_RUN, "pass_at_1", "pass_at_128", "top_1"),
    "coverage": (*_RUN, "k", "coverage"),
}
_METRICS = ["pass_at_1", "pass_at_128", "top_1"]
_NAMES = {"maximum_likelihood": "cross-entropy", "mean_centred": "REINFORCE, r - mean", "maxrl": "MaxRL, Algorithm 1"}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return six panels: curves and coverage at the largest N, metrics against N, the gap to cross-entropy, rates."""
    style.check_tables(tables, COLUMNS)
    most = max(settings.rollouts)
    figure = Figure(figsize=(11, 7.4))
    axes = figure.subplots(2, 3).flatten()
    final = _final(tables["curves"], settings)
    _curves(axes[0], tables["curves"], most)
    _against_rollouts(axes[1], final, "pass_at_1", "final pass@1 (exact)")
    _gaps(axes[2], final, settings)
    _coverage(axes[3], tables["coverage"], most)
    _against_rollouts(axes[4], final, "top_1", "final top-1 accuracy")
    _rates(axes[5], tables, most)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(
        "Three digits, 1000 classes, held-out pictures: how near to cross-entropy do N sampled classes come?\n"
        f"{style.seeds_text(settings.seeds)}; every point is exact, no evaluation noise"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:
    """Return the final held-out metrics of every method and N over seeds, with 95% intervals."""
    final = _final(tables["curves"], settings)
    return style.final_table(final, ["kind", "method", "rollouts", "learning_rate"], _METRICS)


def _final(curves: pd.DataFrame, settings: Any) -> pd.DataFrame:
    return curves[curves.step == settings.steps]


def _methods(rows: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any], pd.DataFrame]]:
    """Yield every method's name in rows, its look and its rows: cross-entropy, sampled ones, exact means."""
    for (kind, name), runs in rows.groupby(["kind", "method"], sort=False):
        text = _NAMES.get(name, style.label(name))
        look = {"color": style.colour(name), "label": text}
        if kind == "expected":
            look |= {"label": f"{text}: its exact mean, no sampling", "linestyle": "--"}
        yield str(name), look, runs


def _at(runs: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the rows at one N, or those of a method without N."""
    return runs[runs.rollouts.isna() | (runs.rollouts == count)]


def _curves(ax: Axes, curves: pd.DataFrame, count: int) -> None:
    for name, look, runs in _methods(curves):
        style.band(ax, _at(runs, count), "step", "pass_at_1", name, **look)
    ax.set(yscale="log", ylim=(5e-4, 1.05), xlabel="update", ylabel="pass@1 (exact)", title=f"learning at N = {count}")
    style.plain_ticks(ax)


def _coverage(ax: Axes, coverage: pd.DataFrame, count: int) -> None:
    for name, look, runs in _methods(coverage):
        style.band(ax, _at(runs, count), "k", "coverage", name, **look)
    ax.set(xscale="log", ylim=(-0.02, 1.02), xlabel="samples k", ylabel="final pass@k (exact)")
    ax.set_title(f"coverage at N = {count}")
    style.plain_x(ax, coverage.k)


def _against_rollouts(ax: Axes, final: pd.DataFrame, metric: str, text: str) -> None:
    """Plot a final metric against N: a level line for cross-entropy, which has no N."""
    counts = sorted(final.rollouts.dropna().unique())
    for name, look, runs in _methods(final):
        if runs.rollouts.isna().all():
            runs = pd.concat([runs.assign(rollouts=count) for count in {counts[0], counts[-1]}])
        else:
            look["marker"] = "o"
        style.band(ax, runs, "rollouts", metric, name, **look)
    ax.set(xscale="log", ylim=(-0.02, 1.02), xlabel="rollouts N of each image", ylabel=text)
    ax.set_title(f"{text.partition(' (')[0]} against N")
    style.plain_x(ax, counts)


def _gaps(ax: Axes, final: pd.DataFrame, settings: Any) -> None:
    """Plot how far from cross-entropy each estimator ends whose exact mean is known, and how much of that is bias."""
    exact = final[final.kind == "exact"].set_index("seed").pass_at_1
    gaps = final.assign(gap=final.seed.map(exact) - final.pass_at_1)
    names = [name for name in settings.expected if name in settings.estimators]
    for name in names:
        for kind, text, line in (("sampled", "bias and noise", "-"), ("expected", "bias alone", "--")):
            runs = gaps[(gaps.kind == kind) & (gaps.method == name)]
            label = f"{_NAMES.get(name, style.label(name))}: {text}"
            style.band(ax, runs, "rollouts", "gap", name, label=label, linestyle=line, marker="o")
    ax.set(xscale="log", xlabel="rollouts N of each image", ylabel="pass@1 behind cross-entropy")
    ax.set(title="bias (dashed), bias and noise", visible=bool(names))
    style.plain_x(ax, final.rollouts.dropna())


def _rates(ax: Axes, tables: Mapping[str, pd.DataFrame], count: int) -> None:
    """Plot the sweep at one N; without a sweep, the rate that every method was given at every N."""
    if "sweep" in tables:
        sweep = tables["sweep"]
        for _, look, runs in _methods(sweep):
            mean = style.means(_at(runs, count), "learning_rate", "train_pass_at_1")
            ax.plot(mean.index, mean, marker="o", markersize=4, **look)
        ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="pass@1, training pictures")
        ax.set_title(f"sweep at N = {count} (other seeds)")
        style.plain_x(ax, sweep.learning_rate)
        style.plain_ticks(ax)
    else:
        curves = tables["curves"]
        for name, look, runs in _methods(curves[curves.step == 0]):
            given = runs.assign(rollouts=runs.rollouts.fillna(count))
            style.band(ax, given, "rollouts", "learning_rate", name, marker="o", **look)
        ax.set(xscale="log", yscale="log", xlabel="rollouts N of each image", ylabel="learning rate")
        ax.set_title("learning rates, chosen before")
        style.plain_x(ax, curves.rollouts.dropna())
        rates = sorted(curves.learning_rate.unique())
        ax.set_yticks(rates, [f"{rate:g}" for rate in rates])
        ax.set_yticks([], minor=True)
