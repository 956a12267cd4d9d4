"""One look for every picture: a colour and a name per estimator, checked rows, atomic files."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maxrl_lab.errors import InputError
from maxrl_lab.evaluate import Interval, bootstrap_interval
from maxrl_lab.runs.files import write_atomically

COLOURS = {
    "reinforce": "#777777",
    "mean_centred": "#b0b0b0",
    "rloo": "#0072B2",
    "expected_reward": "#0072B2",
    "grpo": "#E69F00",
    "grpo_limit": "#E69F00",
    "pkpo": "#CC79A7",
    "pass_at_k": "#CC79A7",
    "maxrl": "#D55E00",
    "truncated_likelihood": "#D55E00",
    "maxrl_order": "#999933",
    "maxrl_no_baseline": "#56B4E9",
    "maxrl_control_variate": "#009E73",
    "maxrl_leave_one_out": "#332288",
    "maxrl_cross_fitted": "#882255",
    "maximum_likelihood": "#000000",
    "entropy_bonus": "#F0C300",
    "differential_smoothing": "#44AA99",
    "greedy_gate": "#8C564B",
    "sequence_sum": "#000000",
    "token_mean": "#117733",
    "rollout_mean": "#AA4499",
    "base": "#000000",
}
"""Okabe & Ito's palette, extended with three of Paul Tol's; distinguishable with any colour vision."""

DASHES = {
    "mean_centred": (4, 2),
    "maxrl_order": (6, 2),
    "maxrl_no_baseline": (1, 1),
    "maxrl_control_variate": (3, 1, 1, 1),
    "maxrl_cross_fitted": (5, 1),
    "reinforce": (2, 2),
    "entropy_bonus": (4, 1.5),
    "differential_smoothing": (2, 1),
    "greedy_gate": (6, 1, 1, 1),
    "base": (1, 2),
}
"""Line patterns where curves may lie on each other."""

NAMES = {
    "reinforce": "REINFORCE",
    "mean_centred": "mean-centred (Dr. GRPO)",
    "rloo": "RLOO",
    "expected_reward": "expected reward (RL)",
    "grpo": "GRPO",
    "grpo_limit": "GRPO, N → ∞",
    "pkpo": "PKPO",
    "pass_at_k": "pass@k",
    "maxrl": "MaxRL, Algorithm 1",
    "truncated_likelihood": "order",
    "maxrl_order": "MaxRL of order",
    "maxrl_no_baseline": "MaxRL, no baseline (Eq. 9)",
    "maxrl_control_variate": "MaxRL, control variate (Eq. 10)",
    "maxrl_leave_one_out": "MaxRL, leave-one-out",
    "maxrl_cross_fitted": "MaxRL, cross-fitted",
    "maximum_likelihood": "maximum likelihood",
    "entropy_bonus": "entropy bonus",
    "differential_smoothing": "Differential Smoothing",
    "greedy_gate": "SELF",
    "sequence_sum": "sum over tokens",
    "token_mean": "mean over the batch's tokens",
    "rollout_mean": "mean over each answer",
    "base": "base (not trained)",
}

mpl.rcParams.update(
    {
        "font.size": 11,
        "axes.titlesize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "lines.linewidth": 1.8,
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
        "svg.hashsalt": "maxrl_lab",
    }
)


def base(spec: str) -> str:
    """Return the name part of a text form: `pkpo:k=4` -> `pkpo`, `grpo + greedy_gate` -> `greedy_gate`."""
    return spec.rpartition("+")[2].strip().partition(":")[0]


def colour(spec: str) -> str:
    """Return the colour of an estimator or objective."""
    return COLOURS.get(base(spec), "#444444")


def label(spec: str) -> str:
    """Return the name for a legend: `pkpo:k=4` -> `PKPO k=4`, `grpo + greedy_gate` -> `GRPO + SELF`."""
    if "+" in spec:
        return " + ".join(label(part.strip()) for part in spec.split("+"))
    name, _, options = spec.partition(":")
    shown = NAMES.get(name, name)
    if name == "pass_at_k":
        return f"pass@{options.partition('=')[2]}"
    if name in ("truncated_likelihood", "maxrl_order"):
        return f"{shown} T={options.partition('=')[2]}"
    return f"{shown} {options}".strip()


def dashes(spec: str) -> tuple[float, ...] | tuple[None, None]:
    """Return the line pattern of an estimator."""
    return DASHES.get(base(spec), (None, None))


def check_columns(rows: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raise `ValueError` unless there are rows and they have the columns."""
    missing = [name for name in columns if name not in rows.columns]
    if missing or rows.empty:
        raise InputError(
            f"expected rows with the columns {', '.join(columns)}; missing: {', '.join(missing) or 'rows'}"
        )


def over_seeds(rows: pd.DataFrame, x: str, y: str) -> tuple[pd.Index, Interval]:
    """Return x and the mean of y over seeds with its 95% bootstrap interval, from long rows with a column `seed`."""
    table = rows.pivot_table(index="seed", columns=x, values=y, dropna=False)
    return table.columns, bootstrap_interval(table.to_numpy(), single_allowed=True)


def final_table(rows: pd.DataFrame, keys: list[str], metrics: list[str]) -> pd.DataFrame:
    """Return one line per combination of `keys` with each metric over seeds as 'mean [low, high]' (95% bootstrap)."""
    lines = []
    for key, group in rows.groupby(keys, sort=False, dropna=False):
        intervals = [bootstrap_interval(group[metric].to_numpy(), single_allowed=True) for metric in metrics]
        lines.append([*key, *(f"{each.mean:.4f} [{each.low:.4f}, {each.high:.4f}]" for each in intervals)])
    return pd.DataFrame(lines, columns=[*keys, *metrics]).set_index(keys)


def band(ax: Axes, rows: pd.DataFrame, x: str, y: str, spec: str, **line: Any) -> None:
    """Draw the mean over seeds as a line and its 95% interval as a band."""
    at, interval = over_seeds(rows, x, y)
    style: dict[str, Any] = {"color": colour(spec), "label": label(spec), **line}
    ax.plot(at, interval.mean, **style)
    ax.fill_between(at, interval.low, interval.high, color=style["color"], alpha=0.2, linewidth=0)


def plain_ticks(ax: Axes) -> None:
    """Write the numbers of a logarithmic y-axis as 0.01, 1, 100, with a few between decades if it is short."""
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = ax.get_ylim()
    few = high / low < 30
    ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if few and f"{value:e}"[0] in "25" else "")


def plain_x(ax: Axes, values: Iterable[float]) -> None:
    """Write a logarithmic x-axis's own values as plain numbers, and nothing between them."""
    shown = sorted(set(values))
    ax.set_xticks(shown, [f"{value:g}" for value in shown], minor=False)
    ax.set_xticks([], minor=True)


def seeds_text(seeds: int) -> str:
    """Return how curves over so many seeds are drawn, for a title."""
    return f"mean and 95% bootstrap interval over {seeds} seeds" if seeds > 1 else "one seed, so no interval"


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, whole or not at all, without a date inside."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
