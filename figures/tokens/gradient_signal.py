"""Which prompts push, and how signal, entropy, length and gradient norm go while training."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.tokens import _panels
from figures.tokens._panels import Frames

_PROMPT = ("example", "estimator", "pass_rate", "gradient_norm")
COLUMNS = {"mazes": _PROMPT, "sums": _PROMPT, "dynamics": _panels.COLUMNS["dynamics"]}
_DYNAMICS = {
    "signal": "share of prompts with K ≥ 1",
    "entropy": "entropy (nats per token)",
    "length": "mean answer length (tokens)",
    "gradient_norm": "gradient norm, after clipping",
}


@style.styled
def plot(tables: Frames, settings: Any) -> Figure:
    """Return gradient norm against pass rate, sampled and exact (Fig. 6), and the dynamics (Fig. 7, 12, 13, 16)."""
    style.check_tables(tables, COLUMNS)
    figure = Figure(figsize=(14, 8))
    axes = figure.subplots(2, 3)
    count = settings.rollouts
    _plot_norms(axes[0, 0], tables["mazes"], binned=True)
    axes[0, 0].set_title(
        f"mazes, every seed's base, one group of N = {count} each\n(sampled; line: mean of a tenth of the prompts)"
    )
    _plot_norms(axes[0, 1], tables["sums"], binned=False)
    axes[0, 1].set_title(f"modular sums, pretrained policy\n(exact expected gradient at N = {count})")
    for ax, metric in zip([axes[0, 2], *axes[1]], _DYNAMICS, strict=True):
        _plot_dynamics(ax, tables["dynamics"], metric)
    axes[0, 2].set_title("training on mazes\n(mean of the last twenty updates)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=11, markerscale=2)
    figure.suptitle(
        "Where the signal is: per-prompt gradients, and training dynamics; "
        f"{style.seeds_text(settings.seeds)}\n"
        f"{_panels.rates_text(tables, settings, (settings.rollouts,), settings.estimators)}"
    )
    return figure


def summarise(tables: Frames, settings: Any) -> pd.DataFrame:
    """Return the median gradient norm by pass rate, and the dynamics of the last quarter of training."""
    prompts = pd.concat({name: tables[name] for name in ("mazes", "sums")}, names=["prompts"]).reset_index("prompts")
    bins = pd.cut(prompts.pass_rate, [-0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0])
    norms = prompts.assign(bin=bins.astype(str)).pivot_table(
        index="estimator", columns=["prompts", "bin"], values="gradient_norm", aggfunc="median", sort=False
    )
    training = tables["dynamics"]
    late = training[training.step > 0.75 * settings.steps]
    means = late.groupby("estimator", sort=False)[list(_DYNAMICS)].mean()
    return norms.join(pd.concat({"last quarter": means}, axis=1)).T


def _plot_dynamics(ax: Axes, rows: pd.DataFrame, metric: str) -> None:
    for name in _panels.methods(rows):
        runs = rows[rows.estimator == name]
        smooth = runs.groupby("seed")[metric].transform(lambda values: values.rolling(20, min_periods=1).mean())
        style.band(ax, runs.assign(**{metric: smooth}), "step", metric, name)
    ax.set(xlabel="update", ylabel=_DYNAMICS[metric])


def _plot_norms(ax: Axes, rows: pd.DataFrame, *, binned: bool) -> None:
    for name in _panels.methods(rows):
        prompts, colour = rows[rows.estimator == name].sort_values("pass_rate"), style.colour(name)
        dots: dict[str, Any] = {"color": colour, "markersize": 4, "alpha": 0.5, "label": style.label(name)}
        ax.plot(prompts.pass_rate, prompts.gradient_norm, ".", **dots)
        if binned:
            parts = [part for part in np.array_split(np.arange(len(prompts)), 10) if len(part)]
            middle = pd.DataFrame([prompts.iloc[part][["pass_rate", "gradient_norm"]].mean() for part in parts])
            ax.plot(middle.pass_rate, middle.gradient_norm, color=colour)
    ax.set(xlabel="pass rate p", ylabel="norm of a prompt's gradient")
