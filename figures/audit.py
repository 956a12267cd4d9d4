"""The curve an audit found, beside the nearest known objective."""

from matplotlib.figure import Figure

from figures import style
from maxrl_lab import audit, objectives


def draw(report: audit.Report) -> Figure:
    """Return w_N(p) of the audited function and of its nearest objective; `ValueError` if it has no curve."""
    if not report.weight:
        raise ValueError(f"{report.name} has no weight curve to plot: {report.traps[0].message}")
    figure = Figure(figsize=(6.4, 4.6))
    ax = figure.subplots()
    ax.plot(
        report.pass_rate, report.weight, color="#D55E00", linewidth=2.5, label=f"{report.name}, N = {report.rollouts}"
    )
    if report.nearest:
        match = report.nearest
        weight = objectives.resolve(match.objective).weight(list(report.pass_rate))
        text = f"{style.label(match.objective)} × {match.scale:.4g}"
        ax.plot(report.pass_rate, match.scale * weight, color="#000000", dashes=(3, 2), label=text)
        ax.set_title(f"largest relative deviation {match.residual:.1e}")
    ax.set(xscale="logit", xlabel="pass rate p", ylabel="weight of grad p: w(p)")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(lambda *_: "")
    ax.legend()
    return figure
