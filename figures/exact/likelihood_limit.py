"""The limit to maximum likelihood: distance against order, and what bias alone does to training."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

_METRICS = ("pass_rate", "log_pass_rate", "hard_pass_rate")
COLUMNS = {
    "distance": ("order", "pass_rate", "distance"),
    "curves": ("kind", "method", "learning_rate", "seed", "step", *_METRICS),
}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return three panels: distance to the likelihood gradient; pass rate and log-likelihood over training."""
    style.check_tables(tables, COLUMNS)
    figure = Figure(figsize=(15, 5.2))
    left, middle, right = figure.subplots(1, 3)
    _distance(left, tables["distance"])
    training = tables["curves"]
    for ax, column, name in (
        (middle, "pass_rate", "mean pass rate"),
        (right, "log_pass_rate", "mean log pass rate (nats)"),
    ):
        _training(ax, training, column, settings.rollouts)
        ax.set(xlabel="update (exact gradient, no sampling)", ylabel=name)
    shown = f"{settings.seeds} task sets, 95% t intervals" if settings.seeds > 1 else "one task set, no interval"
    middle.set_title(f"bias alone: training on exact gradients\n({shown})")
    right.set_title("the same runs, as log-likelihood")
    right.legend(fontsize=8.5, loc="upper left", bbox_to_anchor=(1.0, 1.0), title="gradient followed (best rate)")
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:
    """Return each method's final mean pass rate and mean log pass rate over task sets, with 95% intervals."""
    final = tables["curves"][tables["curves"].step == settings.steps]
    return style.final_table(final, ["method", "learning_rate"], list(_METRICS))


def _distance(ax: Axes, rows: pd.DataFrame) -> None:
    for index, (p, curve) in enumerate(rows.groupby("pass_rate")):
        shade = ("#0072B2", "#56B4E9", "#E69F00", "#D55E00")[index % 4]
        theory = (1 - float(p)) ** curve.order
        ax.plot(curve.order, theory, color=shade, linewidth=1.2, label=f"p = {p:g}")
        ax.plot(curve.order, curve.distance, "o", color=shade, markersize=5)
    ax.set(xscale="log", yscale="log", ylim=(1e-8, 2), xlabel="order T", ylabel="relative distance to the ML gradient")
    ax.set_title("dots: measured by autograd\nlines: theory, (1 − p)^T")
    ax.legend(fontsize=9)


def _training(ax: Axes, rows: pd.DataFrame, column: str, rollouts: int) -> None:
    """Plot objectives from RL to ML in order, light to dark, then the estimators' exact means, dashed."""
    objectives = sorted(rows[rows.kind == "exact"].method.unique(), key=_order)
    for index, name in enumerate(objectives):
        runs = rows[rows.method == name]
        shade = colormaps["viridis_r"](0.1 + 0.8 * index / len(objectives))
        last = style.base(name) == "maximum_likelihood"
        text = f"{style.label(name)} (lr {runs.learning_rate.iloc[0]:g})"
        style.band(ax, runs, "step", column, name, color="black" if last else shade, label=text)
    for name in rows[rows.kind == "expected"].method.unique():
        runs = rows[rows.method == name]
        text = f"{style.label(name)}, N = {rollouts} (lr {runs.learning_rate.iloc[0]:g})"
        style.band(ax, runs, "step", column, name, label=text, dashes=(3, 1.5))


def _order(name: str) -> float:
    """Return an objective's order T: 1 for the expected reward, infinite for likelihood; others come between."""
    if style.base(name) == "truncated_likelihood":
        return float(name.partition("=")[2])
    return {"expected_reward": 1.0, "maximum_likelihood": float("inf")}.get(name, 1.5)
