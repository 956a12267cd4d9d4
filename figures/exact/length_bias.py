"""Which right answer a step favours, the short or the long one, for each way of dividing by tokens; exact."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from figures import style

COLUMNS = {"rows": ("estimator", "surrogate", "long", "drift")}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return a panel per estimator: the drift of the odds against the ratio of lengths."""
    style.check_tables(tables, COLUMNS)
    rows, estimators = tables["rows"], settings.estimators
    figure = Figure(figsize=(4.6 * len(estimators), 4.6))
    axes = figure.subplots(1, len(estimators), sharey=True, squeeze=False)[0]
    for ax, estimator in zip(axes, estimators, strict=True):
        for surrogate, curve in rows[rows.estimator == estimator].groupby("surrogate", sort=False):
            line = {"color": style.colour(str(surrogate)), "label": style.label(str(surrogate))}
            ax.plot(curve.long / settings.short, curve.drift, "o-", markersize=4, **line)
        ax.set(xlabel="length of long / length of short", title=style.label(estimator))
    axes[0].set_ylabel("drift of log-odds, long against short\n(per unit step; below 0 favours short)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=11)
    figure.suptitle(
        "Dividing by tokens is a bias: two right answers, equally likely, and a wrong one\n"
        f"N = {settings.rollouts}, expected gradient, exact over all groups"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return the drift of each estimator and surrogate by length."""
    rows = tables["rows"]
    table = rows.pivot(index=["estimator", "surrogate"], columns="long", values="drift")
    return table.reindex(pd.MultiIndex.from_frame(rows[["estimator", "surrogate"]].drop_duplicates()))
