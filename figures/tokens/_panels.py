"""Panels and tables that the figures of the token experiments share: estimated pass@k, with intervals over seeds."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from figures import style

COLUMNS = (
    "view", "stage", "estimator", "method", "rollouts", "learning_rate", "seed", "step", "k", "pass_at_k", "samples",
    "majority", "pass_rate", "signal", "entropy", "length", "gradient_norm",
)  # fmt: skip


def evaluations(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluations of the reported runs."""
    return rows[(rows["view"] == "evaluation") & (rows.stage == "report")]


def final(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluations after the last update."""
    found = evaluations(rows)
    return found[found.step == found.step.max()]


def base(rows: pd.DataFrame, k: int) -> float:
    """Return the base policy's pass@k."""
    found = rows[(rows["view"] == "evaluation") & (rows.stage == "base") & (rows.k == k)]
    return float(found.pass_at_k.iloc[0])


def methods(rows: pd.DataFrame) -> list[str]:
    """Return the methods as the settings name them, in their order."""
    return list(dict.fromkeys(rows.estimator.dropna()))


def ks(rows: pd.DataFrame, count: int) -> list[int]:
    """Return `count` of the k that were measured at the end, evenly from the first to the last."""
    found = sorted(int(k) for k in final(rows).k.unique())
    places = {round(place * (len(found) - 1) / max(1, count - 1)) for place in range(count)}
    return [found[place] for place in sorted(places)]


def ks_during(rows: pd.DataFrame) -> list[int]:
    """Return the k that every evaluation measured, those during training with fewer samples too."""
    counts = evaluations(rows).groupby("k").step.nunique()
    return sorted(int(k) for k in counts[counts == counts.max()].index)


def line_style(name: str) -> dict[str, Any]:
    """Return label and dashes of a method."""
    return {"label": style.label(name), "dashes": style.dashes(name)}


def curves(ax: Axes, rows: pd.DataFrame, k: int, x: str = "step") -> None:
    """Learning curves of held-out pass@k, and the base as a dotted line."""
    shown = evaluations(rows)
    for name in methods(shown):
        style.band(ax, shown[(shown.estimator == name) & (shown.k == k)], x, "pass_at_k", name, **line_style(name))
    base_line(ax, base(rows, k))
    ax.set(xlabel="update" if x == "step" else x, ylabel=f"pass@{k}, held-out (estimated)")


def base_line(ax: Axes, value: float) -> None:
    """A dotted line where everything started."""
    ax.axhline(value, color="black", linewidth=1.2, dashes=(1, 2), label="base")


def sweep(ax: Axes, rows: pd.DataFrame) -> None:
    """Validation pass@1 against the learning rate, on the seeds that chose it."""
    swept = rows[rows["view"] == "sweep"]
    for name, found in swept.groupby("method", sort=False):
        line = found.groupby("learning_rate").pass_rate.mean()
        ax.plot(line.index, line, "o-", color=style.colour(str(name)), dashes=style.dashes(str(name)), markersize=4)
    ax.set(xscale="log", xlabel="learning rate", ylabel="pass@1 on validation problems")
    style.plain_x(ax, swept.learning_rate)
    ax.set_title(f"sweep, N = {swept.rollouts.iloc[0]:g} (seeds not reported)")


def table(rows: pd.DataFrame, keys: Sequence[str], shown: Sequence[int]) -> pd.DataFrame:
    """Return every method's final held-out pass@k and majority vote with 95% intervals, and the base's."""
    found = final(rows)
    wide = found.pivot_table(
        index=[*keys, "seed", "majority"], columns="k", values="pass_at_k", sort=False
    ).reset_index()
    names = {k: f"pass@{k}" for k in shown}
    wide = wide.rename(columns=names)
    result = style.final_table(wide, list(keys), [*names.values(), "majority"])
    bases = rows[(rows["view"] == "evaluation") & (rows.stage == "base")]
    line = [*(f"{base(rows, k):.4f}" for k in shown), f"{bases.majority.iloc[0]:.4f}"]
    result.loc[("base", *[""] * (len(keys) - 1)), :] = line
    return result
