"""Pass rate against units of feedback: pairs of rollouts, rankings of answers with counts, demonstrations."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

COLUMNS = {
    "pairs": ("scale", "method", "model", "seed", "labels", "pass_rate"),
    "answers": ("verifier", "method", "alpha", "seed", "judged", "pass_rate", "coverage"),
    "coins": ("verifier", "method", "seed", "visits", "answers", "bonus"),
    "demonstrations": (
        *("start", "reward", "weight_decay", "method", "transitions", "penalty", "seed", "pass_rate", "believed"),
    ),
}
PAIRS = {
    "designed": ("#D55E00", "pairs designed before labels", "-"),
    "random": ("#E69F00", "random pairs of candidates", "-"),
    "adaptive": ("#009E73", "pairs after labels (count bonus)", "-"),
    "passive": ("#0072B2", "pairs of the uniform policy", "-"),
    "verified": ("#000000", "outcomes of candidates", ":"),
    "maxrl": ("#CC79A7", "outcomes of rollouts, MaxRL", "--"),
}
ANSWERS = {
    "dpo": ("#0072B2", "DPO", "-"),
    "copo_exact": ("#D55E00", "COPO, exact counts", "-"),
    "copo_coins": ("#E69F00", "COPO, coin flips", "--"),
    "copo_coins_prior": ("#009E73", "COPO, coin flips with a prior", "-."),
    "selm": ("#56B4E9", "SELM-type", ":"),
    "maxrl": ("#CC79A7", "MaxRL on outcomes", "--"),
}
LEVELS = {"expert": ("#777777", "the expert", (1, 1)), "bc": ("#000000", "actions: cloning", (1, 2))}


@style.styled
def plot(tables: Mapping[str, pd.DataFrame], settings: Any) -> Figure:
    """Return two panels of pairs, one of answers, one of what they cover, one of coin flips, one of demonstrations."""
    style.check_tables(tables, COLUMNS)
    figure = Figure(figsize=(16, 9.6))
    axes = figure.subplots(2, 3)
    shown = sorted(settings.scales, reverse=True)[:2]
    for ax, scale in zip(axes[:, 0], shown, strict=False):
        _pairs(ax, tables["pairs"], scale)
    for ax in axes[len(shown) :, 0]:
        ax.remove()
    style.legend_above_curves(axes[0, 0], columns=2, fontsize=8)
    _answers(axes[0, 1], tables["answers"], "pass_rate", settings)
    axes[0, 1].set(ylabel="pass rate (exact)", title=_title("rankings of answers: pass rate", settings.answer_seeds))
    _answers(axes[0, 2], tables["answers"], "coverage", settings)
    axes[0, 2].set(ylabel="untrained probability of what was seen", title="rankings of answers: coverage (exact)")
    axes[0, 2].legend(fontsize=9, loc="lower right")
    _coins(axes[1, 1], tables["coins"])
    _demonstrations(axes[1, 2], tables["demonstrations"], settings)
    figure.suptitle(
        "Feedback that is no outcome (reconstructions of REGIME, COPO and offline inverse RL), mean and 95% interval\n"
        "REGIME is told the maze without its goal, MaxRL sees outcomes alone; a pair of two failures is a coin flip"
    )
    return figure


def summarise(tables: Mapping[str, pd.DataFrame], settings: Any) -> pd.DataFrame:  # noqa: ARG001
    """Return the pass rate at the end of every method of every panel, with 95% intervals over seeds."""
    pairs, answers = tables["pairs"], tables["answers"]
    last = pairs[pairs.labels == pairs.groupby("method").labels.transform("max")]
    names = last.method + " " + last.model + last.scale.map(lambda s: "" if pd.isna(s) else f", s = {s:g}")
    parts = [last.assign(panel="pairs", name=names)]
    last = answers[answers.judged == answers.judged.max()]
    names = last.verifier + ", " + last.method + last.alpha.map(lambda a: f", alpha {a:g}" if a else "")
    parts.append(last.assign(panel="answers", name=names))
    rows = tables["demonstrations"]
    details = [
        f"{row.start} start, {row.method}, n = {row.transitions:g}"
        + ("" if pd.isna(row.penalty) else f", {row.reward}, decay {row.weight_decay:g}, penalty {row.penalty:g}")
        for row in rows.itertuples()
    ]
    parts.append(rows.assign(panel="demonstrations", name=details))
    joined = pd.concat([part[["panel", "name", "seed", "pass_rate"]] for part in parts])
    return style.final_table(joined, ["panel", "name"], ["pass_rate"])


def _title(text: str, seeds: int) -> str:
    return f"{text}, {seeds} seeds" if seeds > 1 else f"{text}, one seed"


def _pairs(ax: Axes, rows: pd.DataFrame, scale: float) -> None:
    """Plot pass rate against labels for pairs at one scale, and against outcomes for methods that see outcomes."""
    for method, (colour, label, line) in PAIRS.items():
        where = rows[(rows.method == method) & (rows.model == "exact") & (rows.scale.isna() | (rows.scale == scale))]
        if len(where):
            style.band(ax, where, "labels", "pass_rate", method, color=colour, label=label, linestyle=line)
    ax.set(xscale="log", xlabel="labels of pairs, or outcomes", ylabel="pass rate (exact)", ylim=(-0.02, 1.02))
    ax.set_title(_title(f"mazes: preferences of scale s = {scale:g}", rows.seed.nunique()))


def _answers(ax: Axes, rows: pd.DataFrame, column: str, settings: Any) -> None:
    """Plot a column against the answers that were judged, for right answers that share a prefix."""
    rows = rows[(rows.verifier == "prefix") & (rows.alpha != settings.too_much)]
    for method, (colour, label, line) in ANSWERS.items():
        where = rows[rows.method == method]
        style.band(ax, where, "judged", column, method, color=colour, label=label, linestyle=line)
    ax.set(xlabel="answers judged of each prompt", ylim=(-0.02, 1.02))


def _coins(ax: Axes, rows: pd.DataFrame) -> None:
    """Plot the mean bonus of coin-flip networks against the number of visits; unseen answers stand at 0.5."""
    rows = rows[rows.verifier == "prefix"]
    for method in ("copo_coins", "copo_coins_prior"):
        colour, label, _ = ANSWERS[method]
        where = rows[rows.method == method]
        weighted = where.assign(total=where.bonus * where.answers).groupby("visits")[["total", "answers"]].sum()
        means = weighted.total / weighted.answers
        seen = means[means.index > 0]
        ax.plot(seen.index, seen, ".", color=colour, markersize=4, label=label.replace("COPO, ", ""))
        if 0 in means.index:
            ax.plot(0.5, means[0], "s", color=colour, markersize=9)
    counts = sorted(rows.visits[rows.visits > 0].unique())
    ax.plot(counts, [count**-0.5 for count in counts], color="black", linewidth=1, label="n^(−1/2)")
    ax.set(xscale="log", yscale="log", xlabel="visits n (squares at the left: never seen)", ylabel="bonus c")
    ax.set_title("coin flips of a network against counts")
    style.plain_ticks(ax)
    ax.legend(fontsize=9, loc="lower left")


def _demonstrations(ax: Axes, rows: pd.DataFrame, settings: Any) -> None:
    """Plot true and believed pass rate against the transitions that the model is made of, or that MaxRL took."""
    rows = rows[rows.start == "every"]
    decay = rows.weight_decay.max()
    learnt = rows[(rows.method == "ml_irl") & (rows.reward == "landmarks") & (rows.weight_decay == decay)]
    curves = [
        (learnt[learnt.penalty == min(settings.penalties)], "#0072B2", "demonstrations, no penalty"),
        (learnt[learnt.penalty == max(settings.penalties)], "#D55E00", "demonstrations, penalty"),
        (rows[rows.method == "maxrl_model"], "#009E73", "outcomes: MaxRL in the model"),
    ]
    for where, colour, label in curves:
        style.band(ax, where, "transitions", "pass_rate", "", color=colour, label=label, marker="o", markersize=4)
        believed = style.means(where, "transitions", "believed")
        ax.plot(believed.index, believed, color=colour, dashes=(2, 2), linewidth=1.2)
    world = rows[rows.method == "maxrl_world"]
    style.band(ax, world, "transitions", "pass_rate", "", color="#CC79A7", label="outcomes: MaxRL in the maze")
    for method, (colour, label, dashes) in LEVELS.items():
        ax.axhline(rows[rows.method == method].pass_rate.mean(), color=colour, dashes=dashes, label=label)
    ax.set(xscale="log", xlabel="transitions in the maze, of the model or of rollouts", ylabel="pass rate (exact)")
    ax.set(
        ylim=(0, 1.02),
        title=_title(f"{settings.demonstrations} demonstrations (dashed: believed)", settings.demo_mazes),
    )
    style.legend_above_curves(ax, columns=2, fontsize=8)
