"""Episodes until a policy succeeds half of the time, against the untrained pass rate; bounds, silence, a hand-over."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from figures import style

COLUMNS = {
    "worlds": ("world", "seed", "untrained", "best"),
    "reached": ("world", "method", "rollouts", "seed", "episodes", "reached"),
    "curves": ("world", "method", "rollouts", "seed", "episodes", "pass_rate"),
    "bounds": ("kind", "seed", "episodes", "lower", "upper", "best"),
    "handed": ("world", "method", "rollouts", "seed", "episodes", "pass_rate"),
}


class Look(NamedTuple):
    """How a method is shown: its name, its colour, its marker."""

    name: str
    colour: str
    marker: str


LOOKS = {
    "reinforce": Look("REINFORCE", style.colour("reinforce"), "v"),
    "grpo": Look("GRPO", style.colour("grpo"), "s"),
    "maxrl": Look("MaxRL", style.colour("maxrl"), "o"),
    "maxrl_control_variate": Look("MaxRL, control variate", style.colour("maxrl_control_variate"), "P"),
    "maxrl + counts": Look("MaxRL + count bonus", "#CC79A7", "X"),
    "bumex": Look("BUMEX (knows the neighbours)", "#56B4E9", "d"),
    "mex": Look("MEX (knows nothing)", "#000000", "D"),
    "mex_trusting": Look("MEX, η = ∞ (lakes)", "#999933", "<"),
    "mex_neighbours": Look("MEX (knows the neighbours)", "#332288", "*"),
}
_WIDTH = 1.12
"""Factor between neighbouring methods on the axis of pass rates."""


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return the episodes of all methods, what N does, bounds that close, P(K = 0), and the hand-over to MaxRL."""
    style.check_tables(tables, COLUMNS)
    figure = Figure(figsize=(16, 10.4))
    grid = figure.add_gridspec(2, 3)
    main = figure.add_subplot(grid[0, :2])
    _episodes(main, tables, settings)
    _group_sizes(figure.add_subplot(grid[0, 2]), tables, settings)
    _bounds(figure.add_subplot(grid[1, 0]), tables["bounds"], settings)
    _silence(figure.add_subplot(grid[1, 1]), tables["curves"], settings)
    _handed(figure.add_subplot(grid[1, 2]), tables["handed"], settings)
    handles, labels = main.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=10)
    figure.suptitle(
        f"Episodes until the exact pass rate is {settings.target:g}: policy gradients wait for a first success, about "
        "1/p; MEX and BUMEX do not, but they see states and plan\n"
        f"median and 95% interval of it over {settings.seeds} mazes a kind, {settings.lake_seeds} runs a lake; "
        "triangles: given up before, after so many episodes"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return the median episodes of every method and N on every world, hardest last; inf where half gave up."""
    style.check_tables(tables, COLUMNS)
    rows = tables["reached"]
    table = rows.assign(episodes=_uncensored(rows)).pivot_table(
        index=["method", "rollouts"],
        columns="world",
        values="episodes",
        aggfunc=lambda values: np.median(values),
        sort=False,
    )
    hardness = tables["worlds"].groupby("world").untrained.median().sort_values(ascending=False)
    made = table[hardness.index]
    made.columns = [f"{world} (1/p {1 / p:.3g})" for world, p in hardness.items()]
    return made


def median_interval(values: "np.ndarray[Any, Any]") -> tuple[float, float, float]:
    """Return the median and its 95% interval between two order statistics: at n = 5 all values, which cover 94%.

    The number of values below the true median is Bin(n, 1/2), whatever their law. Infinite values are allowed.
    """
    ordered = np.sort(values)
    rank = int(stats.binom.ppf(0.025, len(ordered), 0.5))
    rank = max(rank, 1)
    return float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[len(ordered) - rank])


def _uncensored(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return the episodes of the runs, infinite for those that gave up; at least 1, for the logarithmic axis."""
    episodes: pd.Series[float] = rows.episodes.clip(lower=1).where(rows.reached.astype(bool), np.inf)
    return episodes


def _episodes(ax: Axes, tables: Mapping[str, pd.DataFrame], settings: Any) -> None:
    hardness = tables["worlds"].groupby("world").untrained.median()
    rows = tables["reached"]
    shown = min(settings.rollouts, key=lambda count: abs(count - 16))
    rows = rows[(rows.rollouts == shown) | ~rows.method.isin(settings.estimators)]
    present = [method for method in LOOKS if method in set(rows.method)]
    for index, method in enumerate(present):
        look, points = LOOKS[method], []
        shift = _WIDTH ** (index - len(present) / 2)
        for world, runs in rows[rows.method == method].groupby("world"):
            points.append(
                (hardness[world] * shift, *median_interval(_uncensored(runs).to_numpy()), runs.episodes.max())
            )
        _points(ax, points, look)
    rates = np.array([hardness.min() / 3, hardness.max() * 3])
    ax.plot(rates, 1 / rates, color="#444444", dashes=(4, 2), linewidth=1.2, label="1/p")
    for index, (world, rate) in enumerate(hardness.sort_values().items()):
        ax.text(
            rate,
            (0.12, 0.35)[index % 2],
            str(world).replace("maze ", ""),
            ha="center",
            va="bottom",
            fontsize=8,
            color="#444444",
        )
    ax.set(xscale="log", yscale="log", xlabel="untrained pass rate p (mazes: size:moves:horizon)", ylabel="episodes")
    ax.set_ylim(0.1, 3 / hardness.min())
    ax.set_xlim(rates[1], rates[0])
    ax.set_title(f"who needs how many episodes (policy gradients at N = {shown})")


def _points(ax: Axes, points: list[tuple[float, float, float, float, float]], look: Look) -> None:
    """Plot medians with their intervals; a triangle at the episodes spent where half of the runs gave up."""
    at = [(x, median, low, high) for x, median, low, high, _ in points if np.isfinite(median)]
    ax.plot([], [], look.marker, color=look.colour, markersize=7, label=look.name)
    for x, median, low, high in at:
        top = high if np.isfinite(high) else median * 5
        ax.plot([x, x], [low, top], color=look.colour, linewidth=1.2, alpha=0.7)
        ax.plot(x, median, look.marker, color=look.colour, markersize=7)
    for x, median, _, _, spent in points:
        if not np.isfinite(median):
            ax.plot(x, spent, "^", color=look.colour, markersize=9, fillstyle="none", markeredgewidth=1.6)


def _group_sizes(ax: Axes, tables: Mapping[str, pd.DataFrame], settings: Any) -> None:
    """Plot episodes times p over the mazes: 1 is what a success costs on average."""
    rows = tables["reached"].merge(tables["worlds"], on=["world", "seed"])
    rows = rows[rows.world.str.startswith("maze")]
    for index, method in enumerate(settings.estimators):
        runs, look = (
            rows[rows.method == method],
            LOOKS.get(method, Look(style.label(method), style.colour(method), "o")),
        )
        for rollouts, group in runs.groupby("rollouts"):
            median, low, high = median_interval((_uncensored(group) * group.untrained).to_numpy())
            x = rollouts * 1.12 ** (index - 1)
            ax.plot([x, x], [low, min(high, 100)], color=look.colour, linewidth=1.2)
            ax.plot(x, min(median, 100), look.marker, color=look.colour, markersize=7)
    ax.axhline(1, color="#444444", dashes=(4, 2), linewidth=1.2)
    ax.set(xscale="log", yscale="log", xlabel="rollouts N in a group", ylabel="episodes · p")
    style.plain_x(ax, settings.rollouts)
    style.plain_ticks(ax)
    ax.set_title("no N and no estimator saves the wait\n(all mazes; dashed: 1/p episodes)")


def _bounds(ax: Axes, rows: pd.DataFrame, settings: Any) -> None:
    for kind, colour in (("certified", "#0072B2"), ("regularised", "#E69F00")):
        runs = rows[rows.kind == kind].groupby("episodes")
        at = np.array([episodes for episodes, _ in runs]).clip(min=1)
        lower, upper = runs.lower.median().to_numpy(), runs.upper.median().to_numpy()
        ax.fill_between(at, lower, upper, color=colour, alpha=0.2, linewidth=0)
        ax.plot(at, lower, color=colour, label=kind)
        ax.plot(at, upper, color=colour)
    ax.axhline(rows.best.median(), color="black", dashes=(2, 2), linewidth=1.2, label="the truth")
    ax.set(xscale="log", xlabel="episodes of BUMEX", ylabel="best pass rate", ylim=(-0.02, 1.02))
    ax.set_title(f"bounds on the best pass rate, {settings.bounds_world}\n(median of {rows.seed.nunique()} runs)")
    ax.legend(fontsize=9, loc="center left")


def _silence(ax: Axes, rows: pd.DataFrame, settings: Any) -> None:
    """Plot the mean over seeds of the chance that a group of N of the present policy is silent."""
    rollouts = settings.spoken
    rows = rows[(rows.rollouts == rollouts) | ~rows.method.isin(settings.estimators)]
    for method in [name for name in LOOKS if name in set(rows.method)]:
        table = rows[rows.method == method].pivot(index="seed", columns="episodes", values="pass_rate").ffill(axis=1)
        chance = (1 - table) ** rollouts
        ax.plot(chance.columns, chance.mean(), color=LOOKS[method].colour, dashes=style.dashes(method))
    ax.set(xscale="log", xlabel="episodes", ylabel=f"P(K = 0) = (1 − p)^{rollouts}", ylim=(-0.02, 1.04))
    ax.set_title(f"silence along training, {settings.shown}\n(mean over seeds; a curve ends where runs do)")


def _handed(ax: Axes, rows: pd.DataFrame, settings: Any) -> None:
    names = {
        "alone": ("MaxRL from nothing", LOOKS["maxrl"].colour),
        "after_mex": ("after MEX's first success", "#000000"),
    }
    for method, (name, colour) in names.items():
        table = rows[rows.method == method].pivot(index="seed", columns="episodes", values="pass_rate").ffill(axis=1)
        table = table.dropna(axis=1)
        interval = style.interval_over_seeds(table.to_numpy(dtype=float))
        ax.plot(table.columns, interval.mean, color=colour, label=name)
        ax.fill_between(table.columns, interval.low, interval.high, color=colour, alpha=0.2, linewidth=0)
    ax.axhline(settings.target, color="#444444", dashes=(2, 2), linewidth=1)
    ax.set(xscale="log", xlabel="episodes, those of MEX included", ylabel="exact pass rate", ylim=(-0.02, 1.02))
    ax.set_title(
        f"one step on a path that MEX found, {settings.shown}\n(N = {settings.spoken}; mean and 95% t interval)"
    )
    ax.legend(fontsize=9, loc="upper left")
