"""One look for every picture: a colour and a name for every estimator, checked tables, intervals over seeds.

A plotting function is decorated with `styled`, so that matplotlib's settings are ours while it plots and the user's
before and after.
"""

import functools
import io
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from maxrl_lab.errors import InputError
from maxrl_lab.intervals import Interval, t_interval
from maxrl_lab.runs.files import write_atomically
from maxrl_lab.specs import SEPARATOR

Arguments = ParamSpec("Arguments")

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
    "maxrl_centred": "#225522",
    "pkpo_centred": "#EECC66",
    "constant_baseline": "#EE3377",
    "psr": "#99DDFF",
    "nsr": "#FFAABB",
    "w_reinforce": "#666633",
    "reinforce_rej": "#4477AA",
    "grpo_leave_one_out": "#EE8866",
    "f_grpo": "#BBCC33",
    "qae": "#004488",
    "mapo": "#997700",
    "power": "#222255",
    "tsallis": "#228833",
    "rs_grpo": "#EE7733",
    "maclaurin": "#AAAA00",
    "passk_training": "#AA3377",
    "tilted": "#EE7733",
    "arcsine_pass_at_k": "#AA3377",
    "resampled_grpo": "#7F4F00",
    "maximum_likelihood": "#000000",
    "entropy_bonus": "#F0C300",
    "differential_smoothing": "#44AA99",
    "greedy_gate": "#8C564B",
    "sequence_sum": "#000000",
    "token_mean": "#117733",
    "rollout_mean": "#AA4499",
    "base": "#000000",
}
"""Okabe & Ito's palette, extended with colours of Paul Tol's palettes: the estimators of one figure are told apart with
any colour vision."""

DASHES = {
    "mean_centred": (4, 2),
    "maxrl_order": (6, 2),
    "maxrl_centred": (3, 1),
    "pkpo_centred": (4, 1),
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
    "maxrl_centred": "MaxRL, zero-sum of order",
    "pkpo_centred": "PKPO, zero-sum",
    "constant_baseline": "constant baseline",
    "psr": "PSR",
    "nsr": "NSR",
    "w_reinforce": "W-REINFORCE",
    "reinforce_rej": "Reinforce-Rej",
    "grpo_leave_one_out": "GRPO, leave-one-out",
    "f_grpo": "F-GRPO",
    "qae": "QAE",
    "mapo": "MAPO",
    "power": "power",
    "tsallis": "Tsallis",
    "rs_grpo": "RS-GRPO",
    "maclaurin": "Maclaurin, order",
    "passk_training": "Pass@k Training",
    "tilted": "tilted",
    "arcsine_pass_at_k": "arcsin √pass@k",
    "resampled_grpo": "GRPO, mixed groups only",
    "maximum_likelihood": "maximum likelihood",
    "entropy_bonus": "entropy bonus",
    "differential_smoothing": "Differential Smoothing",
    "greedy_gate": "SELF",
    "sequence_sum": "sum over tokens",
    "token_mean": "mean over the batch's tokens",
    "rollout_mean": "mean over each answer",
    "base": "base (not trained)",
}

LOOK: Any = {
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
"""Settings of matplotlib while a figure is made or saved."""


def styled(plot: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Return the plotting function with the lab's look; matplotlib's settings are the user's again when it returns.

    Titles that are too wide for their figure, which has as many panels as there is to see, are broken into lines. A
    panel without any finite value, because every run has diverged, is empty.
    """

    @functools.wraps(plot)
    def look(*arguments: Arguments.args, **options: Arguments.kwargs) -> Figure:
        with mpl.rc_context(LOOK):
            figure = plot(*arguments, **options)
            for ax in figure.axes:
                keep_limits_positive(ax)
            break_titles(figure)
        return figure

    return look


def break_titles(figure: Figure) -> None:
    """Break the lines of the figure's title that are wider than it, and of a panel's that are wider than its column."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    width = figure.bbox.width
    if title := getattr(figure, "_suptitle", None):
        _break_lines(title, 0.98 * width, renderer)
    for ax in figure.axes:
        if spec := ax.get_subplotspec():
            ratios = np.array(spec.get_gridspec().get_width_ratios())
            _break_lines(ax.title, 0.95 * width * ratios[spec.colspan].sum() / ratios.sum(), renderer)


def _break_lines(text: Text, width: float, renderer: Any) -> None:
    """Break the lines of a text, between words and never inside a formula, until it is no wider than `width` pixels."""
    lines = text.get_text().split("\n")
    for _ in range(5):
        share = width / max(text.get_window_extent(renderer).width, 1.0)
        if share >= 1 or not any(lines):
            return
        most = int(max(map(len, lines)) * share)
        lines = [part for line in lines for part in (_wrapped(line, most) if "$" not in line else [line])]
        text.set_text("\n".join(lines))


def _wrapped(line: str, most: int) -> list[str]:
    return textwrap.wrap(line, max(most, 1), break_long_words=False, break_on_hyphens=False) or [line]


def ends(names: Sequence[str], most: int) -> list[str]:
    """Return at most so many of the names, the first ones and the last, for which a picture has room."""
    return [*names[: most - 1], *names[most - 1 :][-1:]]


def base(spec: str) -> str:
    """Return the name that decides the look: `pkpo:k=4` -> `pkpo`, `grpo | greedy_gate` -> `greedy_gate`."""
    return spec.split(_BAR)[-1].strip().partition(":")[0]


def colour(spec: str) -> str:
    """Return the colour of an estimator or objective."""
    return COLOURS.get(base(spec), "#444444")


def label(spec: str) -> str:
    """Return the name for a legend: `pkpo:k=4` -> `PKPO k=4`, `grpo | greedy_gate` -> `GRPO + SELF`."""
    return " + ".join(_label(part.strip()) for part in spec.split(_BAR))


_BAR = SEPARATOR.strip()


def _label(spec: str) -> str:
    name, _, options = spec.partition(":")
    shown = NAMES.get(name, name)
    if name == "pass_at_k":
        return f"pass@{options.partition('=')[2]}"
    if name in ("truncated_likelihood", "maxrl_order", "maxrl_centred", "maclaurin"):
        return f"{shown} T={options.partition('=')[2]}"
    return f"{shown} {options}".strip()


def dashes(spec: str) -> tuple[float, ...] | tuple[None, None]:
    """Return the line pattern of an estimator."""
    return DASHES.get(base(spec), (None, None))


def check_columns(rows: pd.DataFrame, columns: Iterable[str], table: str = "rows") -> None:
    """Raise `InputError` unless there are rows and they have the columns."""
    columns = list(columns)
    missing = [name for name in columns if name not in rows.columns]
    if missing or rows.empty:
        raise InputError(
            f"expected {table} with the columns {', '.join(columns)}; missing: {', '.join(missing) or 'rows'}"
        )


def check_tables(tables: Mapping[str, pd.DataFrame], columns: Mapping[str, Iterable[str]]) -> None:
    """Raise `InputError` unless every named table is there, with rows and with its columns."""
    for name in columns:
        if name not in tables:
            raise InputError(f"expected the tables {', '.join(columns)}; missing: {name}")
        check_columns(tables[name], columns[name], name)


def over_seeds(rows: pd.DataFrame, x: str, y: str) -> tuple[pd.Index, Interval]:
    """Return x and the mean of y over seeds with its 95% t interval, from long rows with a column `seed`.

    One seed has a mean and no interval: its bounds are NaN. Where a run has diverged, so that its y is NaN, mean and
    bounds are NaN. Raises `InputError` unless every seed has exactly one row at every x.
    """
    if rows.duplicated(["seed", x]).any():
        raise InputError(f"expected one row for each seed and {x}, got {_twice(rows, x)}")
    table = rows.pivot(index="seed", columns=x, values=y)
    if table.size != len(rows):
        raise InputError(f"expected a row for each seed at every {x}, got {len(rows)} rows for {table.size}")
    return table.columns, interval_over_seeds(table.to_numpy(dtype=float))


def means(rows: pd.DataFrame, x: str, y: str) -> pd.Series:
    """Return the mean of y at every x, NaN where a y is NaN because its run has diverged."""
    averages: pd.Series = rows.groupby(x)[y].agg(lambda values: values.mean(skipna=False))
    return averages


def interval_over_seeds(values: np.ndarray) -> Interval:
    """Return the mean of values (seeds, ...) with its interval; NaN where a seed has none, no bounds for one seed."""
    undefined = np.isnan(values).any(axis=0)
    interval = t_interval(np.where(undefined, 0.0, values), single_allowed=True)
    return Interval(*(np.where(undefined, np.nan, part) for part in interval))


def interval_text(values: np.ndarray) -> str:
    """Return values of seeds as 'mean [low, high]' (95%, by Student's t), or why there is no interval."""
    if (diverged := _diverged(values)) is not None:
        return f"nan ({diverged})"
    interval = interval_over_seeds(values)
    return f"{interval.mean:.4f} " + (f"[{interval.low:.4f}, {interval.high:.4f}]" if len(values) > 1 else "(one seed)")


def final_table(rows: pd.DataFrame, keys: list[str], metrics: list[str]) -> pd.DataFrame:
    """Return one line per combination of `keys`, with each metric over seeds as `interval_text` writes it.

    Raises `InputError` if a combination has a seed twice.
    """
    if rows.duplicated([*keys, "seed"]).any():
        raise InputError(f"expected one row for each seed and {', '.join(keys)}, got {_twice(rows, *keys)}")
    lines = [
        [*key, *(interval_text(group[metric].to_numpy(dtype=float)) for metric in metrics)]
        for key, group in rows.groupby(keys, sort=False, dropna=False)
    ]
    return pd.DataFrame(lines, columns=[*keys, *metrics]).set_index(keys)


def band(ax: Axes, rows: pd.DataFrame, x: str, y: str, spec: str, **line: Any) -> None:
    """Plot the mean over seeds as a line and its 95% interval as a band; the legend tells of seeds that diverged."""
    at, interval = over_seeds(rows, x, y)
    style: dict[str, Any] = {"color": colour(spec), "label": label(spec), **line}
    if (diverged := _diverged(means(rows, "seed", y).to_numpy(dtype=float))) is not None:
        style["label"] += f" ({diverged})"
    ax.plot(at, interval.mean, **style)
    ax.fill_between(at, interval.low, interval.high, color=style["color"], alpha=0.2, linewidth=0)


def _diverged(values: np.ndarray) -> str | None:
    """Return how many of the seeds' values are NaN, in words; None if none is."""
    count = int(np.isnan(values).sum())
    return f"{count} of {len(values)} seeds diverged" if count else None


def _twice(rows: pd.DataFrame, *keys: str) -> str:
    """Return the first combination of seed and keys that is there twice, in words."""
    repeated = rows[rows.duplicated(["seed", *keys])]
    return "two with " + ", ".join(f"{name} {repeated[name].iloc[0]}" for name in ("seed", *keys))


def plain_ticks(ax: Axes, span: float = 30) -> None:
    """Write the numbers of a logarithmic y-axis as 0.01, 1, 100, and a few between decades below a ratio of `span`."""
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = ax.get_ylim()
    few = high / low < span
    ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if few and f"{value:e}"[0] in "25" else "")


_TICKS = 7
"""Most numbers beside one another below an axis."""


def plain_x(ax: Axes, values: Iterable[float]) -> None:
    """Write a logarithmic x-axis's own values as plain numbers, and nothing between them.

    Of many values every second one is written, the last one among them: side by side they would touch.
    """
    shown = sorted(set(values))
    apart = 1 if len(shown) <= _TICKS else 2
    labels = ["" if (len(shown) - rank) % apart else f"{value:g}" for rank, value in enumerate(shown, 1)]
    ax.set_xticks(shown, labels, minor=False)
    ax.set_xticks([], minor=True)


_ROOM = 0.02
"""What the axes of pass rates show beside 0 and 1."""


def keep_pass_rates(ax: Axes) -> None:
    """Show of the y-axis only what a pass rate can be: intervals by Student's t over few seeds reach beyond."""
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, -_ROOM), min(high, 1 + _ROOM))


def keep_limits_positive(ax: Axes) -> None:
    """Give the logarithmic axes of a panel without a finite value limits around 1: its own are around 0."""
    empty = not np.isfinite(ax.dataLim.get_points()).all()
    for axis, set_limits in ((ax.xaxis, ax.set_xlim), (ax.yaxis, ax.set_ylim)):
        low, high = axis.get_view_interval()
        if empty and axis.get_scale() == "log" and low <= 0:
            set_limits(0.1, max(high, 1.0))


def legend_above_curves(ax: Axes, columns: int = 2, fontsize: float = 9) -> None:
    """Put the legend into the top of a panel, whose y-axis is stretched so that the legend covers no curve.

    The y-axis needs its scale first, linear or logarithmic.
    """
    keep_limits_positive(ax)
    entries = len(ax.get_legend_handles_labels()[1])
    ax.legend(fontsize=fontsize, loc="upper left", ncols=columns, columnspacing=1, handlelength=1.6)
    lines = -(-entries // columns)
    height = ax.bbox.height * 72 / ax.figure.dpi
    share = min(0.6, (1.5 * fontsize * lines + 10) / height)
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(ax.get_ylim())
    ax.set_ylim(top=float(scale.inverted().transform(low + (high - low) / (1 - share))))


def seeds_text(seeds: int) -> str:
    """Return how curves over so many seeds are plotted, for a title."""
    return f"mean and 95% t interval over {seeds} seeds" if seeds > 1 else "one seed, so no interval"


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG of 256 colours, a third of the size, whole or not at all, without a date inside."""
    buffer, reduced = io.BytesIO(), io.BytesIO()
    break_titles(figure)  # a note may have been added since
    with mpl.rc_context(LOOK):  # ticks are made when they are first seen
        figure.savefig(buffer, format="png", dpi=130)
    in_256_colours(Image.open(buffer).convert("RGB")).save(reduced, format="png", optimize=True)
    write_atomically(path, reduced.getvalue())


def in_256_colours(picture: Image.Image) -> Image.Image:
    """Return a picture in its 160 most frequent colours and 96 of the others that are far apart.

    So areas keep their colours, and thin lines, which the usual methods paint like others, keep theirs nearly.
    """
    pixels = np.asarray(picture).astype(np.int64) @ (1 << 16, 1 << 8, 1)
    colours, index, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    parts = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)
    rare = picture.quantize(96, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).getpalette() or []
    palette = np.concatenate([parts[np.argsort(-counts, kind="stable")[:160]], np.reshape(rare[: 3 * 96], (-1, 3))])
    nearest = (np.square(palette).sum(1) - 2 * parts @ palette.T).argmin(1)  # |part|^2 is the same for all
    made = Image.fromarray(nearest[index].reshape(pixels.shape).astype(np.uint8), "P")
    made.putpalette(palette.flatten().tolist())
    return made
