"""What is played after how many pulls, on a needle, a hill, and a hill with a bump that may be there or not."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

COLUMNS = {
    "needles": ("dimension", "probability"),
    "curves": ("bandit", "dimension", "method", "rollouts", "seed", "pulls", "value"),
    "runs": ("bandit", "dimension", "method", "rollouts", "seed", "best", "final", "pulls_to_half", "mean_reward"),
}
_LOOK = {
    "maximum_likelihood": ("#000000", "o", "exact likelihood gradient, told the chances"),
    "maxrl": ("#D55E00", "s", "MaxRL"),
    "rloo": ("#0072B2", "D", "RLOO"),
    "viol": ("#009E73", "^", "ViOL with derivatives (reconstruction)"),
    "viol_values": ("#AA4499", "v", "ViOL by values alone"),
    "optimism": ("#E69F00", "P", "optimism over a version space"),
}
_DASHES: list[Any] = ["-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1))]
_TITLES = {
    "hill": "a hill",
    "phantom_bump": "two layers, and the truth has no bump",
    "real_bump": "two layers, and the truth has a bump",
}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return curves for every kind of bandit, and how many pulls a needle takes against its chance."""
    style.check_tables(tables, COLUMNS)
    figure = Figure(figsize=(15.6, 8.6))
    axes = figure.subplots(2, 3).flatten()
    curves = tables["curves"]
    dimension = sorted(settings.needle_dimensions)[len(settings.needle_dimensions) // 2]
    chance = tables["needles"].set_index("dimension").probability
    _curves(axes[0], curves[(curves.bandit == "needle") & (curves.dimension == dimension)], settings)
    _random_search(axes[0], float(chance.get(dimension, np.nan)), settings.needle_budget)
    axes[0].set_title(f"a needle in {dimension} dimensions")
    _wall(axes[1], tables["runs"], chance, settings)
    for ax, (bandit, title) in zip(axes[2:5], _TITLES.items(), strict=True):
        part = curves[curves.bandit == bandit]
        _curves(ax, part, settings)
        best = tables["runs"][tables["runs"].bandit == bandit].groupby("seed").best.first().mean()
        ax.axhline(best, color="#888888", linewidth=1)
        ax.text(1, best, "best action", va="bottom", fontsize=9, color="#555555")
        ax.set_title(title)
    handles, labels = axes[2].get_legend_handles_labels()
    search, name = axes[0].get_legend_handles_labels()
    axes[5].axis("off")
    axes[5].legend([*handles, search[-1]], [*labels, name[-1]], loc="center", fontsize=10.5, handlelength=3.2)
    told = f"The exact gradient makes an update every {max(settings.rollouts)} pulls, and pulls nothing."
    axes[5].text(0.5, 0.1, told, ha="center", fontsize=9.5, color="#555555")
    figure.suptitle(
        "What is played after so many pulls: is the wall information, or the estimator? "
        f"({style.seeds_text(settings.seeds)})"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return the chance of success in the end and the mean reward of all pulls, by bandit and method."""
    keys = ["bandit", "dimension", "method", "rollouts"]
    return style.final_table(tables["runs"], keys, ["final", "mean_reward"])


def _lines(rows: pd.DataFrame, settings: Any) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """Return the rows of each method at each N, with the look of its line."""
    lines = []
    for method, (colour, marker, label) in _LOOK.items():
        part = rows[rows.method == method]
        counts = [None] if part.rollouts.isna().all() else [n for n in settings.rollouts if (part.rollouts == n).any()]
        for index, count in enumerate(counts if len(part) else []):
            shown = part if count is None else part[part.rollouts == count]
            look = {
                "color": colour,
                "marker": marker,
                "markersize": 4,
                "linestyle": _DASHES[index % len(_DASHES)],
                "label": label if count is None else f"{label}, N = {count}",
            }
            lines.append((shown, look))
    return lines


def _curves(ax: Axes, rows: pd.DataFrame, settings: Any) -> None:
    for part, look in _lines(rows, settings):
        style.band(ax, part, "pulls", "value", "", **look)
    ax.set(xscale="log", xlabel="pulls so far", ylabel="chance of success of what is played", ylim=(0, None))
    ax.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    ax.set_xticks([], minor=True)


def _random_search(ax: Axes, chance: float, budget: int) -> None:
    """Plot how often uniform pulls have met the needle so far: what needs neither a model nor a gradient."""
    pulls = np.geomspace(1, budget, 100)
    ax.plot(pulls, 1 - (1 - chance) ** pulls, ":", color="#444444", label="uniform pulls have met the needle")


def _wall(ax: Axes, runs: pd.DataFrame, chance: "pd.Series[float]", settings: Any) -> None:
    """Plot the pulls until half the best chance is played, against 1/p; a run that never does counts as the budget."""
    needles = runs[runs.bandit == "needle"]
    for part, look in _lines(needles, settings):
        shown = part.assign(
            hardness=1 / part.dimension.map(chance), log_pulls=np.log(part.pulls_to_half.fillna(settings.needle_budget))
        )
        at, interval = style.over_seeds(shown, "hardness", "log_pulls")
        ax.plot(at, np.exp(interval.mean), **look)
        ax.fill_between(at, np.exp(interval.low), np.exp(interval.high), color=look["color"], alpha=0.2, linewidth=0)
    ends = np.array(sorted(1 / chance[chance.index.isin(settings.needle_dimensions)]))
    ax.plot(ends, ends, ":", color="#444444", linewidth=1)
    ax.axhline(settings.actions, color="#888888", linewidth=1)
    ax.text(ends[0], settings.actions, "as many pulls as actions", va="bottom", fontsize=9, color="#555555")
    ax.set_xlim(ends[0] / 1.5, ends[-1] * 1.5)
    ax.set(xscale="log", yscale="log", xlabel="1/p of a uniform action (dotted: that many pulls)")
    ax.set(ylabel="pulls until half the best is played", ylim=(None, 3 * settings.needle_budget))
    style.plain_ticks(ax)
    style.plain_x(ax, ())
    names = [f"{1 / chance[d]:.3g}\n(d = {d})" for d in sorted(settings.needle_dimensions)]
    ax.set_xticks([1 / chance[d] for d in sorted(settings.needle_dimensions)], names)
    far = chance.index.max()
    ax.set_title(f"the needle's wall; in {far} dimensions 1/p is {1 / chance[far]:.1g}")
