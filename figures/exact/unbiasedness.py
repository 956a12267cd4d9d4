"""A table: the objective each estimator is unbiased for at each N, and whether the sampling path agrees."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from figures import style

COLUMNS = {"rows": ("estimator", "rollouts", "objective", "nearest", "scale", "residual", "z")}
_SHADES = {"likelihood": "#f6d5c3", "reward": "#cfe3f1", "pass": "#f1dbe8", "none": "#fbe9bf"}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return the table as a picture: colour by kind of objective, z-score below its name."""
    style.check_tables(tables, COLUMNS)
    rows, threshold = tables["rows"], settings.threshold
    names, counts = list(settings.estimators), sorted(settings.rollouts)
    figure = Figure(figsize=(3.4 + 2.05 * len(counts), 1.6 + 0.52 * len(names)))
    ax = figure.subplots()
    for _, row in rows.iterrows():
        x, y = counts.index(row.rollouts), names.index(row.estimator)
        text, shade = _cell(row)
        beyond = abs(row.z) > threshold
        ax.add_patch(_box(x, y, shade))
        ax.text(x, y - 0.14, text, ha="center", va="center", fontsize=9.5)
        ax.text(
            x,
            y + 0.25,
            f"z = {row.z:+.1f}{' BIASED' if beyond else ''}",
            ha="center",
            va="center",
            fontsize=8,
            color="#b00000" if beyond else "#555555",
        )
    ax.set(xlim=(-0.5, len(counts) - 0.5), ylim=(len(names) - 0.5, -0.5))
    ax.set_xticks(range(len(counts)), [f"N = {count}" for count in counts])
    ax.set_yticks(range(len(names)), [style.label(name) for name in names])
    ax.xaxis.tick_top()
    ax.grid(visible=False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    worst = rows[rows.objective.notna()].residual.max()
    beyond = int((rows.z.abs() > threshold).sum())
    ax.set_title(
        "Exact objective of each estimator (times its constant factor), and z of the training code's sampled mean\n"
        f"largest residual of a named objective {worst:.0e};  {beyond} of {len(rows)} cells beyond |z| = "
        f"{threshold:.2f} at p = {settings.pass_rate:g} (family false-alarm rate {settings.false_alarm_rate:.0%})",
        fontsize=10,
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return the table as text: objective (or nearest), scale, residual and z per estimator and N."""
    rows = tables["rows"]
    named = rows.assign(objective=rows.objective.fillna("none; nearest " + rows.nearest))
    return named.set_index(["estimator", "rollouts"])[["objective", "scale", "residual", "z"]]


def _cell(row: pd.Series) -> tuple[str, str]:
    factor = "" if abs(row.scale - 1) < 1e-6 else f" × {row.scale:.3g}"
    if not isinstance(row.objective, str):
        if not isinstance(row.nearest, str):
            return "nothing", _SHADES["none"]
        return f"no known one (RL off by {row.residual:.0%})" if row.nearest == "expected_reward" else (
            f"no known one; near {style.label(row.nearest)} ({row.residual:.0%})"
        ), _SHADES["none"]
    if row.objective == "expected_reward":
        return f"RL (T = 1){factor}", _SHADES["reward"]
    if style.base(row.objective) == "pass_at_k":
        return f"pass@{row.objective.partition('=')[2]}{factor}", _SHADES["pass"]
    return f"T = {row.objective.partition('=')[2]}{factor}", _SHADES["likelihood"]


def _box(x: float, y: float, shade: str) -> Rectangle:
    return Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=shade, linewidth=0)
