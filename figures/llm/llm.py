"""A language model before and after training with each estimator: pass@k on held-out problems, and how it learnt."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from maxrl_lab import evaluate

COLUMNS = (
    "view", "estimator", "seed", "rollouts", "source", "problem", "samples", "correct", "vote_right", "distinct",
    "cut_off", "step",
    "pass_rate", "with_success", "entropy",
)  # fmt: skip
_DYNAMICS = {
    "pass_rate": "pass rate of the update's rollouts",
    "with_success": "share of prompts with K ≥ 1",
    "entropy": "entropy (nats per token)",
}
_SMOOTH = 5


@style.styled
def draw(rows: pd.DataFrame) -> Figure:
    """Return pass@k of every policy with intervals over problems, and the dynamics of training."""
    style.check_columns(rows, COLUMNS)
    figure = Figure(figsize=(15.5, 4.8))
    axes = figure.subplots(1, 1 + len(_DYNAMICS))
    _coverage(axes[0], rows[rows["view"] == "problem"])
    training = rows[rows["view"] == "training"]
    for ax, (metric, label) in zip(axes[1:], _DYNAMICS.items(), strict=True):
        for name, found in training.groupby("estimator", sort=False):
            smooth = found.groupby("seed")[metric].transform(lambda each: each.rolling(_SMOOTH, min_periods=1).mean())
            style.band(ax, found.assign(**{metric: smooth}), "step", metric, str(name), dashes=style.dashes(str(name)))
        ax.set(xlabel="update", ylabel=label)
    axes[1].set_title(f"training (mean of the last {_SMOOTH} updates)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=11)
    figure.suptitle(
        f"A language model, trained with N = {training.rollouts.iloc[0]:g} rollouts a prompt; in training: "
        + style.seeds_text(training.seed.nunique())
    )
    return figure


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return pass@k of every policy, then of each what it gained on the one before it, with 95% intervals.

    Intervals are over problems, and of paired differences. `base needs` is k'/k of the scaling efficiency (Fig. 5):
    how many times more samples the untrained policy needs for as much. `majority` is the share of right votes, and
    `distinct answers` the mean number of those to a problem.
    """
    problems = rows[rows["view"] == "problem"]
    table: dict[tuple[str, str], dict[str, str]] = {}
    for source, found in problems.groupby("source", sort=False):
        ks, passed = _ks(found), {name: _pass_at_ks(own) for name, own in _policies(found)}
        base = next(iter(passed.values()))
        for name, own in _policies(found):
            needed = evaluate.scaling_efficiency(passed[name].mean(0), base.mean(0), ks)
            table[str(source), name] = {
                **_texts("pass@", ks, passed[name]),
                **{f"base needs @{k}": _times(each) for k, each in zip(ks, needed.tolist(), strict=True)},
                "majority": f"{own.vote_right.astype(float).mean():.3f}",
                "distinct answers": f"{own.distinct.mean():.2g}",
                "cut off": f"{own.cut_off.mean():.1%}",
            }
        for (before, one), (after, other) in itertools.pairwise(passed.items()):
            table[str(source), f"{after} - {before}"] = _texts("pass@", ks, other - one)
    return pd.DataFrame(table).T.fillna("")


def _times(factor: float) -> str:
    return f"{factor:.2g}x" if factor < float("inf") else "not reached"


def _texts(name: str, ks: list[int], values: np.ndarray) -> dict[str, str]:
    """Means and 95% intervals over problems of values (problems, k)."""
    low_to_high = evaluate.bootstrap_interval(values, single_allowed=True)
    return {
        f"{name}{k}": f"{mean:.3f} [{low:.3f}, {high:.3f}]" for k, mean, low, high in zip(ks, *low_to_high, strict=True)
    }


def _coverage(ax: Axes, problems: pd.DataFrame) -> None:
    for name, own in _policies(problems):
        interval = evaluate.bootstrap_interval(_pass_at_ks(own), single_allowed=True)
        line: dict[str, Any] = {"color": style.colour(name), "label": style.label(name), "dashes": style.dashes(name)}
        ax.plot(_ks(own), interval.mean, marker="o", markersize=4, **line)
        ax.fill_between(_ks(own), interval.low, interval.high, color=style.colour(name), alpha=0.15, linewidth=0)
    ax.set_xscale("log", base=2)
    style.plain_x(ax, _ks(problems))
    count = problems.groupby("source").problem.nunique().sum()
    ax.set(xlabel="k", ylabel="pass@k", title=f"{count} held-out problems\n(95% bootstrap intervals over problems)")


def _policies(problems: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for name, own in problems.groupby("estimator", sort=False):
        yield str(name), own


def _ks(own: pd.DataFrame) -> list[int]:
    """Powers of 4, and the number of samples."""
    samples = int(own.samples.iloc[0])
    return sorted({*(4**power for power in range(10) if 4**power <= samples), samples})


def _pass_at_ks(own: pd.DataFrame) -> np.ndarray:
    """The unbiased pass@k (problems, k) of each problem, the mean over seeds."""
    correct = own.pivot_table(index=["source", "problem"], columns="seed", values="correct").to_numpy(copy=True)
    samples = int(own.samples.iloc[0])
    return np.stack([evaluate.pass_at_k(correct, samples, k).numpy().mean(1) for k in _ks(own)], 1)
