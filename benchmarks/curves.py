"""How does the lab's cost grow with N, with the grid and with the model? A small picture for the speed page.

python -m benchmarks.curves        (writes docs/speed.png from the committed results)
"""

import statistics
from typing import Any

from matplotlib.figure import Figure

from benchmarks import page
from benchmarks.record import records
from figures import style
from maxrl_lab.rows import Row

LABELS = {"N": "answers N of a prompt", "grid": "cells along a side of the maze", "width": "width of the model"}


def main() -> None:
    """Write the picture if a machine has measured the costs."""
    for record in records("machine"):
        rows = [row for content in record["sections"].values() for row in content["rows"] if "cost" in row]
        if rows:
            style.save(plot(rows, record["machine"]), page.PAGE.parent / page.PICTURE)


@style.styled
def plot(rows: list[Row], machine: str) -> Figure:
    """Return the seconds of sampling and of the gradient against each size, on logarithmic axes."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, (cost, label) in zip(figure.subplots(1, 3, sharey=True), LABELS.items(), strict=True):
        of_cost = [row for row in rows if row["cost"] == cost]
        _curves(axes, of_cost)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        sizes = [row["at"] for row in of_cost]
        axes.set_xticks(sizes, list(map(str, sizes)))
        axes.set_xlabel(label)
    figure.axes[0].set_ylabel("seconds of 8 prompts, float32")
    figure.axes[0].legend()
    figure.suptitle(machine)
    return figure


def _curves(axes: Any, rows: list[Row]) -> None:
    for part, marker in (("sampling", "o"), ("gradient", "s")):
        medians = [statistics.median(row[part]) for row in rows]
        axes.plot([row["at"] for row in rows], medians, marker=marker, label=part)
