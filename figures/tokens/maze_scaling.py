"""What rollouts buy on mazes in tokens: -log pass@k against N, and the learning curves."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.tokens import _panels as token_panels
from figures.tokens._panels import COLUMNS

__all__ = ["COLUMNS", "draw", "summarise"]
_PANELS = 4


@style.styled
def draw(rows: pd.DataFrame) -> Figure:
    """Return -log pass@k against N for four k (Fig. 3), and learning curves beside the sweep (Fig. 17)."""
    style.check_columns(rows, COLUMNS)
    figure = Figure(figsize=(17, 8.6))
    axes = figure.subplots(2, _PANELS)
    shown = token_panels.ks(rows, _PANELS)
    for ax, k in zip(axes[0], shown, strict=False):
        _against_rollouts(ax, rows, k)
    report = token_panels.evaluations(rows)
    fewest, most = report.rollouts.min(), report.rollouts.max()
    during = token_panels.ks_during(rows)
    for ax, (count, k) in zip(axes[1], ((fewest, 1), (most, 1), (most, during[-1])), strict=False):
        token_panels.curves(ax, rows[(rows.rollouts == count) | (rows.stage == "base")], k)
        ax.set_title(f"N = {count:g}")
    token_panels.sweep(axes[1, -1], rows)
    for ax in axes.flat:
        ax.set_visible(ax.has_data())
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=12)
    figure.suptitle(
        "Mazes in tokens, fresh ones in every update: what do more rollouts buy?\n"
        f"held-out mazes, pass@k estimated from {report.samples.max():g} samples each at the end; "
        f"{style.seeds_text(report.seed.nunique())}; learning rate swept alike"
    )
    return figure


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return every method's final held-out pass@k and majority vote, with 95% intervals over seeds, and the base's."""
    return token_panels.table(rows, ["method", "rollouts", "learning_rate"], token_panels.ks(rows, _PANELS))


def _against_rollouts(ax: Axes, rows: pd.DataFrame, k: int) -> None:
    found = token_panels.final(rows)
    found = found[found.k == k].assign(loss=lambda each: -np.log(each.pass_at_k.clip(lower=1e-4)))
    for name in token_panels.methods(found):
        own = found[found.estimator == name]
        style.band(ax, own, "rollouts", "loss", name, marker="o", markersize=5, **token_panels.line_style(name))
    token_panels.base_line(ax, -np.log(max(token_panels.base(rows, k), 1e-4)))
    ax.set(xscale="log", xlabel="rollouts N", ylabel=f"−log pass@{k} (nats)", title=f"k = {k}, after training")
    style.plain_x(ax, found.rollouts)
