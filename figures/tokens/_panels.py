"""Panels and tables that the figures of the token experiments share: estimated pass@k, with intervals over seeds."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from figures import style
from maxrl_lab import specs

Frames = Mapping[str, pd.DataFrame]
"""Tables by name."""

_SWEPT = ("method", "rollouts", "learning_rate", "seed")
_RUN = ("estimator", *_SWEPT, "step")
COLUMNS = {
    "dynamics": (*_RUN, "pass_rate", "signal", "entropy", "length", "gradient_norm"),
    "evaluations": (*_RUN, "samples", "k", "pass_at_k"),
    "votes": (*_RUN, "samples", "majority"),
    "base": ("seed", "k", "pass_at_k"),
    "base_votes": ("seed", "majority"),
}
"""The tables of every comparison, and the columns that the figures read."""
SWEEP = (*_SWEPT, "pass_rate")
"""Those of the table `sweep`, which is there unless all rates were known."""
KEYS = ("method", "rollouts", "learning_rate")
"""What names a line of the table of results."""
_WIDTH = 130
"""Characters of a line of a title."""


def select(tables: Frames, **values: object) -> dict[str, pd.DataFrame]:
    """Return every table's rows with these values; a table without such a column is kept whole."""
    selected = dict(tables)
    for column, value in values.items():
        for name, rows in selected.items():
            selected[name] = rows[rows[column] == value] if column in rows else rows
    return selected


def final(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows after the last update."""
    return rows[rows.step == rows.step.max()]


def base(tables: Frames, k: int) -> float:
    """Return the mean pass@k of the seeds' base policies."""
    rows = tables["base"]
    return float(rows[rows.k == k].pass_at_k.mean())


def methods(rows: pd.DataFrame) -> list[str]:
    """Return the methods as the settings name them, in their order."""
    return list(dict.fromkeys(rows.estimator))


def ks(tables: Frames, count: int) -> list[int]:
    """Return `count` of the k that were measured at the end, evenly from the first to the last."""
    measured = sorted(int(k) for k in final(tables["evaluations"]).k.unique())
    indices = {round(index * (len(measured) - 1) / max(1, count - 1)) for index in range(count)}
    return [measured[index] for index in sorted(indices)]


def ks_during(tables: Frames) -> list[int]:
    """Return the k that every evaluation measured, those during training, with fewer samples, too."""
    counts = tables["evaluations"].groupby("k").step.nunique()
    return sorted(int(k) for k in counts[counts == counts.max()].index)


def line_style(name: str) -> dict[str, Any]:
    """Return label and dashes of a method."""
    return {"label": style.label(name), "dashes": style.dashes(name)}


def plot_curves(ax: Axes, tables: Frames, k: int, x: str = "step") -> None:
    """Plot learning curves of held-out pass@k, and the base as a dotted line."""
    rows = tables["evaluations"]
    for name in methods(rows):
        style.band(ax, rows[(rows.estimator == name) & (rows.k == k)], x, "pass_at_k", name, **line_style(name))
    plot_base(ax, base(tables, k))
    ax.set(xlabel="update" if x == "step" else x, ylabel=f"pass@{k}, held-out (estimated)")
    style.keep_pass_rates(ax)


def plot_base(ax: Axes, value: float) -> None:
    """Plot a dotted line where everything started."""
    ax.axhline(value, color="black", linewidth=1.2, dashes=(1, 2), label="base")


def plot_sweep(ax: Axes, swept: pd.DataFrame, rollouts: int) -> None:
    """Plot validation pass@1 at one N against the learning rate, on the seeds that chose it."""
    style.check_columns(swept, SWEEP, "sweep")
    swept = swept[swept.rollouts == rollouts]
    for name, rows in swept.groupby("method", sort=False):
        line = style.means(rows, "learning_rate", "pass_rate")
        ax.plot(line.index, line, "o-", color=style.colour(str(name)), dashes=style.dashes(str(name)), markersize=4)
    ax.set(xscale="log", xlabel="learning rate", ylabel="pass@1 on validation problems")
    ax.set_xticks(sorted(set(swept.learning_rate)), map(rate_text, sorted(set(swept.learning_rate))))
    ax.set_xticks([], minor=True)
    ax.set_title(f"sweep, N = {rollouts} (seeds not reported)")


def result_table(tables: Frames, shown: Sequence[int]) -> pd.DataFrame:
    """Return every method's final held-out pass@k and majority vote with 95% intervals, and the base's."""
    keys = [*KEYS, "seed"]
    wide = final(tables["evaluations"]).pivot(index=keys, columns="k", values="pass_at_k")
    wide = wide.rename(columns={k: f"pass@{k}" for k in shown}).reset_index()
    votes = final(tables["votes"])[[*keys, "majority"]]
    metrics = [*(f"pass@{k}" for k in shown), "majority"]
    result = style.final_table(votes.merge(wide, on=keys, validate="1:1"), list(KEYS), metrics)
    bases = tables["base"].pivot(index="seed", columns="k", values="pass_at_k")
    votes_of_bases = tables["base_votes"].set_index("seed").majority
    line = [style.interval_text(values.to_numpy()) for values in (*(bases[k] for k in shown), votes_of_bases)]
    result.loc[("base", *[""] * (len(KEYS) - 1)), :] = line
    return result


def chosen_rates(tables: Frames, settings: Any) -> dict[tuple[str, int], float]:
    """Return each reported method's learning rate by its name and N: of its runs, or chosen by the sweep, or known."""
    for name in ("dynamics", "evaluations"):
        if name in tables:
            runs = tables[name].drop_duplicates(["method", "rollouts"])
            return {(row.method, int(row.rollouts)): float(row.learning_rate) for row in runs.itertuples()}
    if "sweep" in tables:
        means = tables["sweep"].groupby(["method", "rollouts", "learning_rate"]).pass_rate.mean().dropna()
        best = means.groupby(["method", "rollouts"]).idxmax()
        return {(method, int(rollouts)): float(rate) for method, rollouts, rate in best}
    names = (name.rpartition(", N = ") for name in settings.fixed)
    return dict(zip(((name, int(count)) for name, _, count in names), settings.fixed.values(), strict=True))


def rates_text(tables: Frames, settings: Any, rollouts: Sequence[int], shown: Sequence[str]) -> str:
    """Return the learning rates of some methods, for a title: `rates at N = 4, 16: RLOO 1e-4, 3e-4; GRPO ...`."""
    rates = chosen_rates(tables, settings)
    parts = []
    for name in shown:
        values = [rates.get((_name_at(name, count), count)) for count in rollouts]
        numbers = [rate_text(value) for value in values if value is not None]
        parts += [f"{style.label(name)} {', '.join(numbers)}"] if numbers else []
    counts = ", ".join(map(str, rollouts))
    return textwrap.fill(f"learning rates at N = {counts}: {'; '.join(parts)}", _WIDTH) if parts else ""


def rate_text(rate: float) -> str:
    """Return a learning rate as a reader would write it: 3e-4."""
    return f"{rate:.0e}".replace("e-0", "e-")


def result_text(settings: Any) -> str:
    """Return how pass@k was estimated, for a title."""
    return f"pass@k estimated from {settings.samples} samples at the end; {style.seeds_text(settings.seeds)}"


def _name_at(name: str, rollouts: int) -> str:
    """Return a method's name at N: `pkpo:k=N/2 | greedy_gate` is `pkpo:k=8 | greedy_gate` at 16 rollouts."""
    estimator, separator, surrogate = name.partition(specs.SEPARATOR)
    return specs.format_at(estimator, rollouts) + separator + surrogate
