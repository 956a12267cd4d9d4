"""What stands for an answer's likelihood: bias, noise, memory, off-policy objectives, training, the bound's gap."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

Frames = Mapping[str, pd.DataFrame]
COLUMNS = {
    "moments": ("seed", "surrogate", "passes", "estimator", "pass_rate", "relative_bias", "noise", "drift", "cosine"),
    "off_policy": ("seed", "steps", "objective", "value"),
    "bytes": ("objective", "samples", "bytes"),
    "gaps": ("seed", "prompt", "verifier", "sampler", "block", "gap"),
    "training": ("seed", "method", "rollouts", "share", "updates", "pass_rate"),
}
LOOKS = {
    "path": ("#000000", "o", "path"),
    "own_step": ("#777777", "s", "own step × L"),
    "elbo": ("#0072B2", "o", "bound (ELBO)"),
    "two_times": ("#E69F00", "^", "two-times mean field"),
    "mean_field": ("#D55E00", "v", "mean field"),
    "coupled": ("#009E73", "D", "coupled"),
    "spg": ("#CC79A7", "P", "SPG"),
}
"""Colour, marker and name of every surrogate, whatever its number of masks."""
_NO_DRIFT = 1e-9
"""Below it the second term of an estimate's mean is rounding."""
VERIFIERS = {"sum": ("#0072B2", "o"), "pairs": ("#D55E00", "s"), "running": ("#009E73", "^")}


@style.styled
def plot(tables: Frames, settings: Any) -> Figure:
    """Return bias, noise, off-policy objectives, memory, training and the bound's gap."""
    style.check_tables(tables, COLUMNS)
    figure = Figure(figsize=(16, 9.4))
    (bias, noise, off), (memory, training, gaps) = figure.subplots(2, 3)
    _bias(bias, tables["moments"])
    _noise(noise, tables["moments"], settings)
    _off_policy(off, tables["off_policy"])
    _bytes(memory, tables["bytes"])
    _training(training, tables["training"], settings)
    _gaps(gaps, tables["gaps"])
    figure.suptitle(
        f"What may stand for the likelihood of a denoised answer? {settings.length} digits base {settings.base}, "
        f"{settings.base**settings.length} answers; {style.seeds_text(settings.seeds)}"
    )
    return figure


def summarise(tables: Frames, settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return bias and noise of every surrogate and estimator, averaged over prompts, with intervals over seeds."""
    averaged = means_over_prompts(tables["moments"], ["relative_bias", "noise", "cosine"])
    return style.final_table(averaged, ["surrogate", "estimator"], ["relative_bias", "noise", "cosine"])


def means_over_prompts(rows: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Return a seed's mean over prompts for every surrogate and estimator."""
    keys = ["surrogate", "estimator", "seed", "passes"]
    return rows.groupby(keys, sort=False)[metrics].mean().reset_index()


def _look(surrogate: str) -> tuple[str, str, str]:
    name, _, options = surrogate.partition(":")
    colour, marker, label = LOOKS.get(name, ("#444444", "x", name))
    count = options.partition("samples=")[2]
    return colour, marker, f"{label}, {count} masks" if count else label


def _bias(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot the relative bias of every surrogate: a colour a kind of table, filled for hard prompts, open for others."""
    names = [name for name in dict.fromkeys(rows.surrogate) if "samples" not in name]
    kinds = _kinds(rows)
    border = rows.pass_rate.median()
    hard = rows.pass_rate <= border
    shifts = np.linspace(-0.3, 0.3, 2 * len(kinds))
    for index, (estimator, (label, colour)) in enumerate(kinds.items()):
        for easy, (part, words) in enumerate(((hard, f"p ≤ {border:.2f}"), (~hard, f"p > {border:.2f}"))):
            look: dict[str, Any] = {
                "color": colour,
                "markerfacecolor": "white" if easy else colour,
                "label": f"{label}, {words}",
            }
            of_kind = rows[part & (rows.estimator == estimator)]
            for column, name in enumerate(names):
                by_seed = of_kind[of_kind.surrogate == name].groupby("seed").relative_bias.mean()
                if not by_seed.empty:
                    at = column + shifts[2 * index + easy]
                    interval = style.interval_over_seeds(by_seed.to_numpy())
                    ax.plot([at, at], [interval.low, interval.high], color=colour, linewidth=1.5)
                    ax.plot(at, interval.mean, "o", markersize=5.5, **look)
                    look = {**look, "label": None}
    ax.set_xticks(
        range(len(names)),
        [_look(name)[2].replace(" × ", "\u00a0×\u00a0").replace(" ", "\n") for name in names],
        fontsize=9,
    )
    ax.set_ylim(bottom=0)
    ax.set(
        ylabel="|bias| / |mean of the path's estimate|", title="bias, by surrogate, kind of table and pass rate (exact)"
    )
    style.legend_above_curves(ax, columns=2, fontsize=8.5)


def _kinds(rows: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Return the name and colour of each kind of table by one estimator; those that sum to zero have the same bias."""
    kinds: dict[str, tuple[str, str]] = {}
    centred = False
    for name, drift in rows.groupby("estimator", sort=False).drift.max().items():
        estimator = str(name)
        if drift < _NO_DRIFT and not centred:
            kinds[estimator] = "zero-sum tables", style.colour("maxrl")
            centred = True
        elif drift >= _NO_DRIFT:
            kinds[estimator] = estimator.removeprefix("maxrl_").replace("_", " "), style.colour(estimator)
    return kinds


def _noise(ax: Axes, rows: pd.DataFrame, settings: Any) -> None:
    """Plot noise against backward passes for Algorithm 1, or the first estimator."""
    estimator = "maxrl" if "maxrl" in settings.estimators else settings.estimators[0]
    averaged = means_over_prompts(rows[rows.estimator == estimator], ["noise"])
    for name, of_name in averaged.groupby(averaged.surrogate.str.partition(":")[0], sort=False):
        colour, marker, label = _look(str(name))
        x, interval = style.over_seeds(of_name, "passes", "noise")
        errors = np.nan_to_num(np.stack([interval.mean - interval.low, interval.high - interval.mean]))
        ax.errorbar(x, interval.mean, errors, color=colour, marker=marker, markersize=7, capsize=2, label=label)
    ax.set(xscale="log", yscale="log", xlabel="backward passes for an answer", ylabel="noise / |mean of the path's|")
    ax.set_title(f"noise: {style.label(estimator)}, N = {settings.group} (exact)")
    style.plain_x(ax, averaged.passes)
    style.plain_ticks(ax)
    style.legend_above_curves(ax, columns=2)


def _off_policy(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot what every objective is worth while the policy moves away from its rollouts."""
    names = list(dict.fromkeys(rows.objective))
    masks = [name for name in names if name.startswith("vrpo")]
    for name in names:
        of_name = rows[rows.objective == name]
        if name in masks:
            shade = colormaps["Oranges"](0.45 + 0.5 * masks.index(name) / max(1, len(masks) - 1))
            look = {"color": shade, "label": f"VRPO, n = {name.partition('=')[2]}", "linewidth": 1.4}
        else:
            colour, label = {"true": ("#000000", "true ratio"), "bgpo": ("#0072B2", "BGPO, any n")}.get(
                name, ("#777777", "ratio of exact bounds")
            )
            look = {"color": colour, "label": label, "dashes": (4, 2) if name == "bound" else (None, None)}
        style.band(ax, of_name, "steps", "value", name, **look)
    ax.set_xticks(sorted(rows.steps.unique()))
    ax.set(xlabel="updates on the same rollouts", ylabel="objective on the old rollouts")
    ax.set_title("off-policy: the true objective and its estimates (exact)")
    style.legend_above_curves(ax, columns=2)


def _bytes(ax: Axes, rows: pd.DataFrame) -> None:
    for name, colour, marker, label in (
        ("vrpo", "#D55E00", "o", "VRPO: all masks in one graph"),
        ("bgpo", "#0072B2", "s", "BGPO: one mask after another"),
    ):
        of_name = rows[rows.objective == name].sort_values("samples")
        ax.plot(of_name.samples, of_name.bytes / 2**10, marker=marker, color=colour, label=label)
    ax.set(xscale="log", yscale="log", xlabel="masks n for an answer", ylabel="KiB kept for backward")
    ax.set_title("memory of one backward pass")
    style.plain_x(ax, rows.samples)
    style.plain_ticks(ax)
    ax.legend(loc="upper left")


def _training(ax: Axes, rows: pd.DataFrame, settings: Any) -> None:
    """Plot the exact pass rate at the end against N."""
    last = rows[rows.share == 1]
    for name in dict.fromkeys(last.method):
        colour, marker, label = _look(name)
        dashes = (2, 1) if "samples" in name else (None, None)
        style.band(
            ax,
            last[last.method == name],
            "rollouts",
            "pass_rate",
            name,
            color=colour,
            marker=marker,
            label=label,
            dashes=dashes,
        )
    start = rows[rows.share == 0].pass_rate.mean()
    ax.axhline(start, color="#444444", linewidth=1, dashes=(1, 2))
    ax.annotate("base", (last.rollouts.min(), start), xytext=(0, -12), textcoords="offset points", fontsize=9)
    ax.set(xscale="log", xlabel="rollouts N", ylabel="mean exact pass rate after training")
    passes = settings.path_updates * settings.length
    ax.set_title(f"training: MaxRL, {passes} backward passes for each rollout of a group")
    style.plain_x(ax, last.rollouts)
    ax.set_ylim(0, 1.02)
    ax.legend(fontsize=9, loc="center right", bbox_to_anchor=(1, 0.42), ncols=1)


def _gaps(ax: Axes, rows: pd.DataFrame) -> None:
    blocks = rows[rows.block.notna()]
    for name, (colour, marker) in VERIFIERS.items():
        of_name = blocks[blocks.verifier == name]
        if not of_name.empty:
            averaged = of_name.groupby(["seed", "block"]).gap.mean().reset_index()
            style.band(ax, averaged, "block", "gap", name, color=colour, marker=marker, label=name)
    ax.set_xticks(sorted(blocks.block.unique()))
    ax.set_ylim(bottom=0)
    ax.set(xlabel="places in a block (1: left to right; all: any order)", ylabel="E[log p(x) − bound], nats")
    ax.set_title("gap of the bound, by block length (exact)")
    ax.legend(title="verifier", loc="upper left")
