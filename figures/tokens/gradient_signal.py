"""Which prompts push, and how signal, entropy, length and gradient norm go while training."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style

COLUMNS = (
    "view", "example", "estimator", "method", "rollouts", "pass_rate", "gradient_norm", "seed", "step", "signal",
    "entropy", "length",
)  # fmt: skip
_DYNAMICS = {
    "signal": "share of prompts with K ≥ 1",
    "entropy": "entropy (nats per token)",
    "length": "mean answer length (tokens)",
    "gradient_norm": "gradient norm",
}


@style.styled
def draw(rows: pd.DataFrame) -> Figure:
    """Return gradient norm against pass rate, sampled and exact (Fig. 6), and the dynamics (Fig. 7, 12, 13, 16)."""
    style.check_columns(rows, COLUMNS)
    figure = Figure(figsize=(15.5, 9))
    axes = figure.subplots(2, 3)
    count = rows.rollouts.iloc[0]
    _norms(axes[0, 0], rows[rows["view"] == "maze"], binned=True)
    axes[0, 0].set_title(
        f"mazes, base policy, one group of N = {count:g} each\n(sampled; line: median of a tenth of the prompts)"
    )
    _norms(axes[0, 1], rows[rows["view"] == "sum"], binned=False)
    axes[0, 1].set_title(f"modular sums, pretrained policy\n(exact expected gradient at N = {count:g})")
    training = rows[rows["view"] == "dynamics"]
    for ax, (metric, label) in zip([axes[0, 2], *axes[1]], _DYNAMICS.items(), strict=True):
        for name in dict.fromkeys(training.estimator):
            own = training[training.estimator == name].assign(
                **{metric: lambda found, metric=metric: _smooth(found, metric)}
            )
            style.band(ax, own, "step", metric, str(name))
        ax.set(xlabel="update", ylabel=label)
    axes[0, 2].set_title("training on mazes (mean of the last five updates)")
    if (training.gradient_norm > 0).any():
        axes[1, 2].set_yscale("log")
        style.plain_ticks(axes[1, 2])
    axes[0, 0].legend(fontsize=10, markerscale=2)
    figure.suptitle(
        "Where the signal is: per-prompt gradients, and training dynamics; " + style.seeds_text(training.seed.nunique())
    )
    return figure


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the median gradient norm by pass rate, and the dynamics of the last quarter of training."""
    prompts = rows[rows["view"].isin(["maze", "sum"])]
    bins = pd.cut(prompts.pass_rate, [-0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0])
    norms = prompts.assign(bin=bins.astype(str)).pivot_table(
        index="estimator", columns=["view", "bin"], values="gradient_norm", aggfunc="median", sort=False
    )
    training = rows[(rows["view"] == "dynamics") & (rows.step > 0.75 * rows.step.max())]
    means = training.groupby("estimator", sort=False)[list(_DYNAMICS)].mean()
    return norms.join(pd.concat({"last quarter": means}, axis=1)).T


def _smooth(found: pd.DataFrame, metric: str) -> pd.Series:
    return found.groupby("seed")[metric].transform(lambda each: each.rolling(5, min_periods=1).mean())


def _norms(ax: Axes, rows: pd.DataFrame, *, binned: bool) -> None:
    for name, found in rows.groupby("estimator", sort=False):
        colour = style.colour(str(name))
        ax.plot(
            found.pass_rate,
            found.gradient_norm,
            ".",
            color=colour,
            markersize=4,
            alpha=0.5,
            label=style.label(str(name)),
        )
        if binned:
            ordered = found.sort_values("pass_rate")
            parts = [part for part in np.array_split(np.arange(len(ordered)), 10) if len(part)]
            middle = [ordered.iloc[part][["pass_rate", "gradient_norm"]].median() for part in parts]
            ax.plot([each.pass_rate for each in middle], [each.gradient_norm for each in middle], color=colour)
    ax.set(xlabel="pass rate p", ylabel="norm of a prompt's gradient")
