"""What samples at test time buy: coverage curves, scaling efficiency over each baseline, majority votes."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.efficiency import plot_efficiency
from figures.tokens import _panels
from figures.tokens._panels import Frames, methods

COLUMNS = {
    "coverage": ("estimator", "seed", "k", "pass_at_k"),
    "votes": ("estimator", "seed", "majority"),
}
_OURS = "maxrl"


@style.styled
def plot(tables: Frames, settings: Any) -> Figure:
    """Return coverage, efficiency of MaxRL over the others (Fig. 5), and votes beside single answers (Table 7)."""
    style.check_tables(tables, COLUMNS)
    rows = tables["coverage"]
    figure = Figure(figsize=(15, 5.2))
    axes = figure.subplots(1, 3)
    for name in methods(rows):
        runs = rows[rows.estimator == name]
        style.band(axes[0], runs, "k", "pass_at_k", name, marker="o", markersize=4, dashes=style.dashes(name))
    axes[0].set(xscale="log", xlabel="samples k", ylabel="coverage, pass@k (estimated)", title="held-out mazes")
    style.plain_x(axes[0], rows.k)
    style.keep_pass_rates(axes[0])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=11)
    _plot_efficiency(axes[1], rows)
    _plot_votes(axes[2], tables)
    figure.suptitle(
        f"After training with N = {settings.rollouts}: what do samples buy? {settings.coverage_samples} answers of "
        f"each maze at temperature {settings.temperature:g}, top-p {settings.top_p:g}\n"
        f"{style.seeds_text(settings.seeds)}; "
        f"{_panels.rates_text(tables, settings, (settings.rollouts,), settings.estimators)}"
    )
    return figure


def summarise(tables: Frames, settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return pass@k and the share of right majority votes, with 95% intervals over seeds."""
    keys = ["estimator", "seed"]
    wide = tables["coverage"].pivot(index=keys, columns="k", values="pass_at_k")
    metrics = [f"pass@{k}" for k in wide.columns]
    wide.columns = pd.Index(metrics)
    joined = tables["votes"].merge(wide.reset_index(), on=keys, validate="1:1")
    return style.final_table(joined, ["estimator"], [*metrics, "majority"])


def _plot_efficiency(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot how many times more samples each policy needs for MaxRL's mean coverage at k."""
    curves = {name: style.means(rows[rows.estimator == name], "k", "pass_at_k") for name in methods(rows)}
    if _OURS not in curves:
        ax.set_visible(False)
        return
    ours = curves.pop(_OURS)
    plot_efficiency(ax, [int(k) for k in ours.index], {name: (list(ours), list(curves[name])) for name in curves})
    ax.axhline(1, color="black", linewidth=1, dashes=(1, 2))
    ax.set_ylabel("samples for MaxRL's pass@k, over k")
    ax.set_title("efficiency of MaxRL, of mean coverage\n(▲: never reached with the samples that were taken)")


def _plot_votes(ax: Axes, tables: Frames) -> None:
    """Plot a filled mark for one answer, and an open one for the majority of all."""
    rows = tables["coverage"]
    names = methods(rows)
    for index, name in enumerate(names):
        single = rows[(rows.estimator == name) & (rows.k == rows.k.min())].pass_at_k
        votes = tables["votes"][tables["votes"].estimator == name].majority
        for values, face in ((single, style.colour(name)), (votes, "white")):
            interval = style.interval_over_seeds(values.to_numpy())
            ax.plot([index, index], [interval.low, interval.high], color=style.colour(name), linewidth=2)
            ax.plot(index, interval.mean, "o", color=style.colour(name), markerfacecolor=face, markersize=8)
    ax.set_xticks(range(len(names)), [style.label(name).replace(", ", ",\n") for name in names], fontsize=10)
    ax.set_ylim(bottom=0)
    ax.set(ylabel="share of mazes", title="filled: one answer right; open: majority vote right")
