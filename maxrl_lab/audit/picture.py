"""The weight curve that an audit found beside the nearest known objective's, as a picture; needs matplotlib."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from maxrl_lab import objectives
from maxrl_lab.audit.report import Report
from maxrl_lab.errors import InputError
from maxrl_lab.runs.files import write_atomically

_FOUND, _NEAREST = "#D55E00", "#000000"


def plot(report: Report) -> Figure:
    """Return w_N(p) of the audited function and of its nearest objective; `InputError` if it has no curve."""
    if not report.weight:
        raise InputError(f"{report.name} has no weight curve to plot: {report.traps[0].message}")
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    ax = figure.subplots()
    label = f"{report.name}, N = {report.rollouts}"
    ax.plot(report.pass_rate, report.weight, color=_FOUND, linewidth=2.5, label=label)
    if report.nearest:
        match = report.nearest
        weight = objectives.resolve(match.objective).weight(list(report.pass_rate))
        text = f"{match.objective} × {match.scale:.4g}"
        ax.plot(report.pass_rate, match.scale * weight, color=_NEAREST, dashes=(3, 2), label=text)
        ax.set_title(f"largest relative deviation {match.residual:.1e}")
    ax.set(xscale="logit", xlabel="pass rate p", ylabel="weight of grad p: w(p)")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(lambda *_: "")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
    ax.legend(frameon=False)
    return figure


def save(report: Report, path: Path) -> None:
    """Write the picture as PNG, whole or not at all; `InputError` if the report has no curve."""
    buffer = io.BytesIO()
    plot(report).savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
