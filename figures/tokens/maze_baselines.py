"""MaxRL beside remedies for lost diversity: learning curves, final pass@k, and the paper's table as context."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.tokens import _panels as token_panels
from figures.tokens._panels import COLUMNS
from maxrl_lab.evaluate import bootstrap_interval

__all__ = ["COLUMNS", "draw", "summarise"]
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
def draw(rows: pd.DataFrame) -> Figure:
    """Return curves of pass@1 and of the largest k (Fig. 18), our finals, and the paper's (Table 3)."""
    style.check_columns(rows, COLUMNS)
    first, last = token_panels.ks(rows, 2)
    figure = Figure(figsize=(17, 5.6))
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1.1, 0.8))
    for ax, k in zip(axes, (first, token_panels.ks_during(rows)[-1]), strict=False):
        token_panels.curves(ax, rows, k)
    _finals(axes[2], rows, first, last)
    _paper(axes[3])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=11)
    report = token_panels.evaluations(rows)
    figure.suptitle(
        f"Mazes in tokens, N = {report.rollouts.iloc[0]:g}: MaxRL and remedies for lost diversity; "
        f"pass@k estimated from {report.samples.max():g} samples at the end; {style.seeds_text(report.seed.nunique())}"
    )
    return figure


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return every method's final held-out pass@k and majority vote, with 95% intervals over seeds, and the base's."""
    return token_panels.table(rows, ["method", "rollouts", "learning_rate"], token_panels.ks(rows, 3))


def _finals(ax: Axes, rows: pd.DataFrame, first: int, last: int) -> None:
    """A line per method: a filled mark at pass@1, an open one at the largest k, with intervals."""
    found = token_panels.final(rows)
    names = token_panels.methods(found)
    for place, name in enumerate(names):
        for k, face in ((first, style.colour(name)), (last, "white")):
            values = found[(found.estimator == name) & (found.k == k)].pass_at_k.to_numpy()
            each = bootstrap_interval(values, single_allowed=True)
            ax.plot([each.low, each.high], [place, place], color=style.colour(name), linewidth=2)
            ax.plot(each.mean, place, "o", color=style.colour(name), markerfacecolor=face, markersize=7)
    for k, dashes in ((first, (1, 2)), (last, (4, 2))):
        ax.axvline(token_panels.base(rows, k), color="black", linewidth=1, dashes=dashes)
    ax.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=9)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel=f"filled: pass@{first}; open: pass@{last}", title="ours, after training (lines: base)")


def _paper(ax: Axes) -> None:
    for place, (name, (one, many)) in enumerate(PAPER.items()):
        ax.plot(one / 100, place, "o", color=style.colour(name), markersize=7)
        ax.plot(many / 100, place, "o", color=style.colour(name), markerfacecolor="white", markersize=7)
    ax.set_yticks(range(len(PAPER)), [style.label(name) for name in PAPER], fontsize=9)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="filled: pass@1; open: pass@128", title="the paper's Table 3, for context")


def _short(name: str) -> str:
    return style.label(name.partition(":")[0])
