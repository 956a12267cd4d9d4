"""Learning MiniGrid's levels: pass@k on training and held-out levels, -log pass@1 against N, and level by level."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from figures import style
from figures.navigation import _panels as panels

_RUN = ("split", *panels.RUN)
COLUMNS = {
    "curves": (*_RUN, "signal", "pass_at_1", "pass_at_64", "pass_at_512"),
    "difficulty": (*_RUN, "difficulty", "pass_rate"),
}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return six panels: above how runs at the middle N go, below where they end."""
    style.check_tables(tables, COLUMNS)
    curves, count = tables["curves"], panels.middle(tables["curves"])
    train, held_out = (curves[curves.split == split] for split in panels.SPLITS)
    at_train, at_held_out = (rows[rows.rollouts == count] for rows in (train, held_out))
    figure = Figure(figsize=(13.5, 8.8))
    axes = figure.subplots(2, 3)
    panels.curves(axes[0, 0], at_train, "pass_at_1", "training pass@1 (exact)")
    panels.curves(axes[0, 1], at_train, "signal", "training share with K ≥ 1 (exact)")
    panels.curves(axes[0, 2], at_held_out, "pass_at_1", "held-out pass@1 (exact)")
    for ax in axes[0]:
        ax.set_title(f"N = {count:g}")
    panels.against_rollouts(axes[1, 0], train, 1)
    axes[1, 0].set_title("training levels, final")
    panels.against_rollouts(axes[1, 1], held_out, 64)
    axes[1, 1].set_title("held-out levels, final")
    difficulty = tables["difficulty"]
    shown = difficulty[(difficulty.rollouts == count) & (difficulty.split == "train")]
    panels.difficulty(axes[1, 2], shown, "", numeric=False)
    axes[1, 2].tick_params(axis="x", labelrotation=25, labelsize=9)
    axes[1, 2].set_title(f"training levels, final, N = {count:g}")
    panels.legend(figure, axes[0, 0])
    figure.suptitle(
        f"MiniGrid: {settings.levels} training and {settings.levels} held-out levels of each name, other ones for each "
        f"seed; {style.seeds_text(settings.seeds)}\n{panels.rates_text(tables, count)}",
        fontsize=13,
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return every method's pass@1, 64 and 512 on both splits, at the end and at its peak, with 95% intervals."""
    keys = ["rollouts", "method", "learning_rate", "split"]
    return panels.final_and_peak(tables["curves"], keys, ["pass_at_1", "pass_at_64", "pass_at_512"])
