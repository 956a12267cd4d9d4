"""A language model before and after training with each estimator: pass@k on held-out problems, and how it learnt."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from maxrl_lab import evaluate

COLUMNS = (
    "view", "estimator", "seed", "rollouts", "source", "problem", "samples", "correct", "vote_right", "step",
    "pass_rate", "with_success", "entropy",
)  # fmt: skip
_DYNAMICS = {
    "pass_rate": "pass rate of the update's rollouts",
    "with_success": "share of prompts with K ≥ 1",
    "entropy": "entropy (nats per token)",
}
_SMOOTH = 5


def draw(rows: pd.DataFrame) -> Figure:
    """Return pass@k of every policy with intervals over problems, and the dynamics of training."""
    style.check_columns(rows, COLUMNS)
    figure = Figure(figsize=(15.5, 4.8))
    axes = figure.subplots(1, 1 + len(_DYNAMICS))
    _coverage(axes[0], rows[rows["view"] == "problem"])
    training = rows[rows["view"] == "training"]
    for ax, (metric, label) in zip(axes[1:], _DYNAMICS.items(), strict=True):
        for name, found in training.groupby("estimator", sort=False):
            line = found.groupby("step")[metric].mean().rolling(_SMOOTH, min_periods=1).mean()
            ax.plot(line.index, line, color=style.colour(str(name)), dashes=style.dashes(str(name)))
        ax.set(xlabel="update", ylabel=label)
    axes[1].set_title(f"training (mean of the last {_SMOOTH} updates)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=11)
    seeds = training.seed.nunique()
    figure.suptitle(
        f"A language model, trained with N = {training.rollouts.iloc[0]:g} rollouts a prompt; "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    )
    return figure


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return pass@k of every policy, and its difference to the untrained one, with 95% intervals over problems."""
    problems = rows[rows["view"] == "problem"]
    table = {}
    for source, found in problems.groupby("source", sort=False):
        base: np.ndarray | None = None
        for name, own in _policies(found):
            values = _pass_at_ks(own)
            base = values if base is None else base
            line = {f"pass@{k}": _text(values[:, place]) for place, k in enumerate(_ks(own))}
            line |= {f"pass@{k} gained": _text((values - base)[:, place]) for place, k in enumerate(_ks(own))}
            table[source, name] = {**line, "majority": f"{own.vote_right.astype(float).mean():.3f}"}
    return pd.DataFrame(table).T


def _coverage(ax: Axes, problems: pd.DataFrame) -> None:
    for name, own in _policies(problems):
        interval = evaluate.bootstrap_interval(_pass_at_ks(own))
        line = {"color": style.colour(name), "label": style.label(name), "dashes": style.dashes(name)}
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


def _text(values: np.ndarray) -> str:
    interval = evaluate.bootstrap_interval(values)
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
