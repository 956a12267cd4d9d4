"""Pass rate against evaluations of the network, what training does to both, and the surrogates against the path."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

COLUMNS = {
    "decoding": ("seed", "method", "rollouts", "verifier", "bound", "pass_rate", "in_time", "evaluations"),
    "training": ("seed", "method", "rollouts", "updates", "pass_rate", "in_time", "evaluations"),
    "bounds": ("seed", "method", "rollouts", "verifier", "bound", "share"),
    "anchors": ("seed", "verifier", "anchors", "weights", "relative_bias", "noise"),
    "steps": ("seed", "anchors", "step", "divergence"),
    "sets": ("seed", "verifier", "bound", "evaluations", "relative_bias"),
}
METHODS = {
    "model": ("#0072B2", "o", "model, at bound {:g}"),
    "sampler": ("#009E73", "s", "bounds alone"),
    "joint": ("#D55E00", "^", "both"),
}
"""Colour, marker and name of what is trained."""
VERIFIERS = {"sum": "#0072B2", "running": "#E69F00", "pairs": "#CC79A7"}
WEIGHTS = {"none": "#000000", "uncapped": "#D55E00"}
EVERY = "all"
"""The rows of all verifiers together."""


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return six panels: decoding and training at two N, and four of surrogates on random denoisers."""
    style.check_tables(tables, COLUMNS)
    figure = Figure(figsize=(15, 9.2))
    axes = figure.subplots(2, 3).flatten()
    shown = list(dict.fromkeys((settings.rollouts[0], settings.rollouts[-1])))
    for ax, count in zip(axes[:2], shown, strict=False):
        _plane(ax, tables, settings, count)
    for ax in axes[len(shown) : 2]:
        ax.remove()
    _sets(axes[2], tables["sets"])
    _bias(axes[3], tables["anchors"])
    _weights(axes[4], tables["anchors"])
    _steps(axes[5], tables["steps"])
    figure.suptitle(
        "Learnt entropy-bounded decoding (a reconstruction of DiFFPO), and surrogates with m anchors: exact, "
        + style.seeds_text(settings.seeds)
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return pass rates and costs at the end of every training, and of the base at every bound."""
    rows = tables["decoding"]
    rows = rows[rows.verifier == EVERY].fillna({"bound": -1.0, "rollouts": 0})
    ends = rows[(rows.bound == -1) | rows.method.isin(["base", "model"])]
    return style.final_table(ends, ["method", "rollouts", "bound"], ["pass_rate", "in_time", "evaluations"])


def _plane(ax: Axes, tables: Mapping[str, pd.DataFrame], settings: Any, rollouts: int) -> None:
    """Plot pass rate against evaluations: the base at every bound, and every training from its start to its end."""
    base = tables["decoding"].query("method == 'base' and verifier == @EVERY")
    curve = base.groupby("bound")[["evaluations", "pass_rate"]].mean()
    ax.plot(curve.evaluations, curve.pass_rate, "D-", color="#777777", markersize=5, label="pretrained, at each bound")
    for point, bounds in curve.round(2).reset_index().groupby(["evaluations", "pass_rate"]).bound:
        text = ", ".join(map(_bound, bounds))
        ax.annotate(text, point, (0, -13), textcoords="offset points", fontsize=8, ha="center")
    training = tables["training"][tables["training"].rollouts == rollouts]
    for method, (colour, marker, name) in METHODS.items():
        rows = training[training.method == method]
        if rows.empty:
            continue
        path = rows.groupby("updates")[["evaluations", "pass_rate"]].mean()
        label = name.format(settings.model_bound)
        ax.plot(
            path.evaluations, path.pass_rate, "-", marker=marker, color=colour, markersize=4, alpha=0.8, label=label
        )
        _end(ax, rows[rows.updates == rows.updates.max()], colour, marker)
    best = tables["decoding"].query("method == 'best bound' and verifier == @EVERY")
    ax.plot(best.evaluations.mean(), best.pass_rate.mean(), "*", color="#000000", markersize=11, label=_BEST)
    ax.set(xlabel="evaluations of the network for an answer", ylabel="pass rate", ylim=(0, None))
    ax.set_title(f"what {settings.steps} updates of training move, N = {rollouts}")
    style.legend_above_curves(ax, columns=1, fontsize=8.5)
    ax.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])


def _bound(bound: float) -> str:
    return "∞" if np.isinf(bound) else f"{bound:g}"


_BEST = "best bound in time for each prompt, untrained"


def _end(ax: Axes, rows: pd.DataFrame, colour: str, marker: str) -> None:
    """Mark where a training ends, with its interval over seeds in both directions."""
    values = rows[["evaluations", "pass_rate"]].to_numpy(dtype=float)
    x, y = values.mean(0).tolist()
    ax.plot(x, y, marker=marker, color=colour, markersize=9)
    if len(values) > 1:
        interval = style.interval_over_seeds(values)
        errors = np.stack([interval.mean - interval.low, interval.high - interval.mean])
        ax.errorbar(x, y, xerr=errors[:, :1], yerr=errors[:, 1:], color=colour, linewidth=1, capsize=2)


def _sets(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot the bias of d1 against the entropy bound under which answers were sampled."""
    bounds = sorted(rows.bound.unique())
    at = {bound: index for index, bound in enumerate(bounds)}
    for verifier, lines in rows.groupby("verifier", sort=False):
        lines = lines.assign(index=lines.bound.map(at))
        style.band(ax, lines, "index", "relative_bias", "", color=VERIFIERS[str(verifier)], label=verifier, marker="o")
    ax.set_xticks(range(len(bounds)), [_bound(bound) for bound in bounds])
    ax.set(xlabel="entropy bound of the sampler, nats", ylabel="relative bias", ylim=(0, None))
    ax.set_title("bias of d1 by what its sampler fills at once")
    style.legend_above_curves(ax, columns=3)


def _bias(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot the relative bias against the number of anchors; the noise beside it is that of one group."""
    rows = rows[rows.weights == "none"]
    for verifier, lines in rows.groupby("verifier", sort=False):
        style.band(
            ax, lines, "anchors", "relative_bias", "", color=VERIFIERS[str(verifier)], label=verifier, marker="o"
        )
        noise = lines.groupby("anchors").noise.mean()
        noise = noise / noise.iloc[-1]
        ax.plot(noise.index, noise, ":", color=VERIFIERS[str(verifier)], label=f"{verifier}: noise / path's")
    ax.set_xticks(sorted(rows.anchors.unique()))
    ax.set(xlabel="anchors m (1: d1, 2: DiFFPO, L: the path), one pass each", ylabel="relative bias", ylim=(0, None))
    ax.set_title("bias and noise by number of anchors")
    style.legend_above_curves(ax, columns=2, fontsize=8.5)


def _weights(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot bias against noise with and without importance weights, for every number of anchors below L."""
    kinds = list(dict.fromkeys(rows.weights))
    anchors = sorted(rows.anchors.unique())[:-1]
    colours = WEIGHTS | dict(zip(kinds[1:-1], ("#56B4E9", "#009E73", "#E69F00"), strict=False))
    for kind in kinds:
        at = rows[(rows.weights == kind) & rows.anchors.isin(anchors)]
        means = at.groupby("anchors")[["noise", "relative_bias"]].mean()
        colour = colours.get(kind, "#999999")
        ax.plot(means.noise, means.relative_bias, "o-", color=colour, label=_kind(kind), markersize=5)
        for count, point in means.iterrows():
            if kind == kinds[-1]:
                ax.annotate(
                    f"m = {count}", (point.noise, point.relative_bias), (6, 3), textcoords="offset points", fontsize=9
                )
    ax.set(xlabel="noise of a group / length of the mean", ylabel="relative bias", xscale="log", ylim=(0, None))
    ax.set_title("what importance weights per token do to both")
    style.plain_x(ax, [1, 2, 5, 10, 20])
    style.legend_above_curves(ax, columns=2)


def _kind(kind: str) -> str:
    return {"none": "no weights", "uncapped": "weights, no cap"}.get(kind, f"weights, C = {kind.removeprefix('cap ')}")


def _steps(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot the divergence of what a surrogate scores from what the sampler wrote, at each step."""
    for index, (count, lines) in enumerate(rows.groupby("anchors")):
        shade = ("#000000", "#0072B2", "#56B4E9", "#009E73", "#CC79A7")[index % 5]
        style.band(ax, lines, "step", "divergence", "", color=shade, label=f"m = {count}", marker="o")
    ax.set_xticks(sorted(rows.step.unique()))
    ax.set(xlabel="step of the rollout", ylabel="KL, nats", ylim=(0, None))
    ax.set_title("how far the scored distribution is from the sampled one")
    style.legend_above_curves(ax, columns=3)
