"""The weight that an audit has measured beside those of the nearest objective and power; needs matplotlib."""

import io
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maxrl_lab import objectives
from maxrl_lab.audit.report import Report
from maxrl_lab.errors import InputError
from maxrl_lab.runs.files import write_atomically

_FOUND, _NEAREST, _POWER = "#D55E00", "#000000", "#0072B2"


def plot(report: Report) -> Figure:
    """Return w_N(p) of the audited function, of its nearest objective, and of the nearest power where that is known.

    Raises `InputError` if the report has no curve.
    """
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
    _plot_power(ax, report)
    ax.set(xscale="logit", xlabel="pass rate p", ylabel="weight of grad p: w(p)")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(lambda *_: "")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
    ax.legend(frameon=False)
    return figure


def _plot_power(ax: Axes, report: Report) -> None:
    if not report.power:
        return
    fit = report.power
    p, weight = (torch.tensor(values, dtype=torch.float64) for values in (report.pass_rate, report.weight))
    inside = (p >= fit.low) & (p <= 1 - fit.low)
    power = p[inside] ** -fit.s * (1 - p[inside]) ** -fit.t
    ratios = weight[inside] / power
    scale = float(ratios.max() + ratios.min()) / 2
    text = f"p^{-fit.s:.3g} (1-p)^{-fit.t:.3g} × {scale:.4g}"
    ax.plot(p[inside], scale * power, color=_POWER, linestyle="dotted", linewidth=2, label=text)


def save(report: Report, path: Path) -> None:
    """Write the picture as PNG, whole or not at all; `InputError` if the report has no curve."""
    buffer = io.BytesIO()
    plot(report).savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
