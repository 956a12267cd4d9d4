"""A language model before and after training with each estimator: pass@k on held-out problems, and how it learnt."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from maxrl_lab import evaluate, intervals

COLUMNS = {
    "problems": ("estimator", "seed", "source", "problem", "correct", "vote_right", "distinct", "cut_off"),
    "training": ("estimator", "seed", "step", "pass_rate", "with_success", "entropy"),
}
_DYNAMICS = {
    "pass_rate": "pass rate of the update's rollouts",
    "with_success": "share of prompts with K ≥ 1",
    "entropy": "entropy (nats per token)",
}
_SMOOTH = 5


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return pass@k of every policy with intervals over problems, and the dynamics of training."""
    style.check_tables(tables, COLUMNS)
    figure = Figure(figsize=(15.5, 4.8))
    axes = figure.subplots(1, 1 + len(_DYNAMICS))
    _plot_coverage(axes[0], tables["problems"], settings.samples)
    training = tables["training"]
    for ax, (metric, label) in zip(axes[1:], _DYNAMICS.items(), strict=True):
        for name, rows in training.groupby("estimator", sort=False):
            smooth = rows.groupby("seed")[metric].transform(lambda curve: curve.rolling(_SMOOTH, min_periods=1).mean())
            style.band(ax, rows.assign(**{metric: smooth}), "step", metric, str(name), dashes=style.dashes(str(name)))
        ax.set(xlabel="update", ylabel=label)
    axes[1].set_title(f"training (mean of the last {_SMOOTH} updates)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=11)
    figure.suptitle(
        f"A language model, trained with N = {settings.rollouts} rollouts a prompt; in training: "
        + style.seeds_text(training.seed.nunique())
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:
    """Return pass@k of every policy, then of each what it gained on the one before it, with 95% intervals.

    Intervals are over problems, and of paired differences. `base needs` is k'/k of the scaling efficiency (Fig. 5):
    how many times more samples the untrained policy needs for as much. `majority` is the share of right votes, and
    `distinct answers` the mean number of different answers to a problem.
    """
    ks = _ks(settings.samples)
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for source, problems in tables["problems"].groupby("source", sort=False):
        passed = {name: _pass_at_ks(rows, settings.samples) for name, rows in _policies(problems)}
        base = next(iter(passed.values()))
        for name, rows in _policies(problems):
            needed = evaluate.scaling_efficiency(passed[name].mean(0), base.mean(0), ks)
            lines[str(source), name] = {
                **_texts(ks, passed[name]),
                **{f"base needs @{k}": _times(factor) for k, factor in zip(ks, needed.tolist(), strict=True)},
                "majority": f"{rows.vote_right.astype(float).mean():.3f}",
                "distinct answers": f"{rows.distinct.mean():.2g}",
                "cut off": f"{rows.cut_off.mean():.1%}",
            }
        for (before, one), (after, other) in itertools.pairwise(passed.items()):
            lines[str(source), f"{after} - {before}"] = _texts(ks, other - one)
    return pd.DataFrame(lines).T.fillna("")


def _times(factor: float) -> str:
    return f"{factor:.2g}x" if factor < float("inf") else "not reached"


def _texts(ks: list[int], values: np.ndarray) -> dict[str, str]:
    """Return means and 95% intervals over problems of values (problems, k), by the name of their column."""
    interval = intervals.bootstrap_interval(values, single_allowed=True)
    bounds = [
        f"[{low:.3f}, {high:.3f}]" if len(values) > 1 else "(one problem)"
        for low, high in zip(interval.low, interval.high, strict=True)
    ]
    return {f"pass@{k}": f"{mean:.3f} {text}" for k, mean, text in zip(ks, interval.mean, bounds, strict=True)}


def _plot_coverage(ax: Axes, problems: pd.DataFrame, samples: int) -> None:
    """Plot pass@k of every policy with intervals over problems."""
    ks = _ks(samples)
    for name, rows in _policies(problems):
        interval = intervals.bootstrap_interval(_pass_at_ks(rows, samples), single_allowed=True)
        line: dict[str, Any] = {"color": style.colour(name), "label": style.label(name), "dashes": style.dashes(name)}
        ax.plot(ks, interval.mean, marker="o", markersize=4, **line)
        ax.fill_between(ks, interval.low, interval.high, color=style.colour(name), alpha=0.15, linewidth=0)
    ax.set_xscale("log", base=2)
    style.plain_x(ax, ks)
    count = problems.groupby("source").problem.nunique().sum()
    ax.set(xlabel="k", ylabel="pass@k", title=f"{count} held-out problems\n(95% bootstrap intervals over problems)")


def _policies(problems: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the rows of each policy with its name."""
    for name, rows in problems.groupby("estimator", sort=False):
        yield str(name), rows


def _ks(samples: int) -> list[int]:
    """Return powers of 4, and the number of samples."""
    return sorted({*(4**power for power in range(10) if 4**power <= samples), samples})


def _pass_at_ks(rows: pd.DataFrame, samples: int) -> np.ndarray:
    """Return the unbiased pass@k (problems, k) of each problem, the mean over seeds."""
    correct = rows.pivot(index=["source", "problem"], columns="seed", values="correct").to_numpy(copy=True)
    return np.stack([evaluate.pass_at_k(correct, samples, k).numpy().mean(1) for k in _ks(samples)], 1)
