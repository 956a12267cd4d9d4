"""MaxRL beside remedies for lost diversity: learning curves, final pass@k, and the paper's table as context."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.tokens import _panels
from figures.tokens._panels import COLUMNS, Frames

__all__ = ["COLUMNS", "PAPER", "plot", "summarise"]
PAPER = {
    "rloo": (25.2, 28.7),
    "grpo": (43.6, 49.0),
    "grpo | entropy_bonus": (47.2, 53.4),
    "grpo | differential_smoothing": (50.0, 57.8),
    "pkpo:k=16": (74.5, 77.6),
    "maxrl": (84.4, 92.0),
}
"""pass@1 and pass@128 in percent: Table 3 of arXiv:2602.02710v1, 17 x 17 mazes, 128 rollouts."""


@style.styled
def plot(tables: Frames, settings: Any) -> Figure:
    """Return curves of pass@1 and of the largest k (Fig. 18), our finals, and the paper's (Table 3).

    Of a method with several coefficients the curves have the first, the finals all.
    """
    style.check_tables(tables, COLUMNS)
    first, last = _panels.ks(tables, 2)
    figure = Figure(figsize=(17, 6.4))
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1.1, 0.8))
    rows = tables["evaluations"]
    first_of_family = {name.partition(":")[0]: name for name in reversed(_panels.methods(rows))}
    curves = {**tables, "evaluations": rows[rows.estimator.isin(first_of_family.values())]}
    for ax, k in zip(axes, (first, _panels.ks_during(tables)[-1]), strict=False):
        _panels.plot_curves(ax, curves, k)
    _plot_finals(axes[2], tables, first, last)
    _plot_paper(axes[3])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=11)
    figure.suptitle(
        f"Mazes in tokens, N = {settings.rollouts}: MaxRL and remedies for lost diversity; learning rates in brackets\n"
        f"{_panels.result_text(settings)}"
    )
    return figure


def summarise(tables: Frames, settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return every method's final held-out pass@k and majority vote, with 95% intervals over seeds, and the base's."""
    return _panels.result_table(tables, _panels.ks(tables, 3))


def _plot_finals(ax: Axes, tables: Frames, first: int, last: int) -> None:
    """Plot a line per method: a filled mark at pass@1, an open one at the largest k, with intervals."""
    rows = _panels.final(tables["evaluations"])
    listed = _panels.methods(rows)
    families = list(dict.fromkeys(name.partition(":")[0] for name in listed))
    names = sorted(listed, key=lambda name: families.index(name.partition(":")[0]))
    for index, name in enumerate(names):
        for k, face in ((first, style.colour(name)), (last, "white")):
            values = rows[(rows.estimator == name) & (rows.k == k)].pass_at_k.to_numpy()
            interval = style.interval_over_seeds(values)
            ax.plot([interval.low, interval.high], [index, index], color=style.colour(name), linewidth=2)
            ax.plot(interval.mean, index, "o", color=style.colour(name), markerfacecolor=face, markersize=7)
    for k, dashes in ((first, (1, 2)), (last, (4, 2))):
        ax.axvline(_panels.base(tables, k), color="black", linewidth=1, dashes=dashes)
    ax.set_yticks(range(len(names)), [_named(name, rows[rows.estimator == name]) for name in names], fontsize=8)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel=f"filled: pass@{first}; open: pass@{last}", title="ours, after training (lines: base)")


def _plot_paper(ax: Axes) -> None:
    for index, (name, (one, many)) in enumerate(PAPER.items()):
        ax.plot(one / 100, index, "o", color=style.colour(name), markersize=7)
        ax.plot(many / 100, index, "o", color=style.colour(name), markerfacecolor="white", markersize=7)
    ax.set_yticks(range(len(PAPER)), [style.label(name) for name in PAPER], fontsize=9)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="filled: pass@1; open: pass@128", title="the paper's Table 3, for context")


def _named(name: str, rows: pd.DataFrame) -> str:
    """Return a method's name on two lines, its options and its learning rate on the second."""
    label, options = style.label(name), name.partition(":")[2]
    family = label.removesuffix(options).rstrip()
    second = f"({_panels.rate_text(rows.learning_rate.iloc[0])})"
    return f"{family}\n{options if family != label else ''} {second}"
