"""What samples at test time buy: coverage curves, scaling efficiency over each baseline, majority votes."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from maxrl_lab import evaluate

COLUMNS = (
    "estimator",
    "seed",
    "samples",
    "majority",
    "k",
    "pass_at_k",
    "method",
    "rollouts",
    "learning_rate",
    "temperature",
    "top_p",
)
_OURS = "maxrl"


@style.styled
def draw(rows: pd.DataFrame) -> Figure:
    """Return coverage, efficiency of MaxRL over the others (Fig. 5), and votes beside single answers (Table 7)."""
    style.check_columns(rows, COLUMNS)
    figure = Figure(figsize=(15, 5.2))
    axes = figure.subplots(1, 3)
    for name, found in rows.groupby("estimator", sort=False):
        style.band(
            axes[0], found, "k", "pass_at_k", str(name), marker="o", markersize=4, dashes=style.dashes(str(name))
        )
    axes[0].set(xscale="log", xlabel="samples k", ylabel="coverage, pass@k (estimated)", title="held-out mazes")
    style.plain_x(axes[0], rows.k)
    axes[0].legend(fontsize=10, loc="lower right")
    _efficiency(axes[1], rows)
    _votes(axes[2], rows)
    figure.suptitle(
        f"After training with N = {rows.rollouts.dropna().iloc[0]:g}: what do samples buy? "
        f"{rows.samples.iloc[0]:g} answers of each maze "
        f"at temperature {rows.temperature.iloc[0]:g}, top-p {rows.top_p.iloc[0]:g}\n"
        f"{style.seeds_text(rows.seed.nunique())}"
    )
    return figure


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return pass@k and the share of right majority votes, with 95% intervals over seeds."""
    wide = rows.pivot_table(index=["estimator", "seed", "majority"], columns="k", values="pass_at_k", sort=False)
    wide = wide.rename(columns={k: f"pass@{k}" for k in wide.columns}).reset_index()
    metrics = [name for name in wide.columns if str(name).startswith("pass@")]
    return style.final_table(wide, ["estimator"], [*metrics, "majority"])


def _efficiency(ax: Axes, rows: pd.DataFrame) -> None:
    """How many times more samples a policy needs for MaxRL's mean coverage at k."""
    table = rows.pivot_table(index="k", columns="estimator", values="pass_at_k", sort=False)
    if _OURS not in table:
        ax.set_visible(False)
        return
    ks = [int(k) for k in table.index]
    others = [name for name in table.columns if name != _OURS]
    for place, name in enumerate(others):
        ratio = evaluate.scaling_efficiency(table[_OURS].tolist(), table[name].tolist(), ks).numpy()
        reached = np.isfinite(ratio)
        ax.plot(
            np.array(ks)[reached],
            ratio[reached],
            "o-",
            color=style.colour(str(name)),
            markersize=5,
            label=style.label(str(name)),
        )
        never = np.array(ks)[~reached] * 1.12 ** (place - len(others) / 2)
        ax.plot(
            never,
            np.full(len(never), 2 * max(ks)),
            linestyle="none",
            marker=6,
            color=style.colour(str(name)),
            markersize=8,
        )
    ax.axhline(1, color="black", linewidth=1, dashes=(1, 2))
    ax.set(xscale="log", yscale="log", xlabel="samples k", ylabel="samples it needs for MaxRL's pass@k, divided by k")
    style.plain_ticks(ax)
    style.plain_x(ax, ks)
    ax.set_title("efficiency of MaxRL, of mean coverage\n(▲: never reached with the samples drawn)")
    ax.legend(fontsize=10)


def _votes(ax: Axes, rows: pd.DataFrame) -> None:
    """Filled: one answer; open: the majority of all."""
    single = rows[rows.k == rows.k.min()]
    names = list(dict.fromkeys(rows.estimator))
    for place, name in enumerate(names):
        own = single[single.estimator == name]
        for metric, face in (("pass_at_k", style.colour(name)), ("majority", "white")):
            each = evaluate.bootstrap_interval(own[metric].to_numpy(), single_allowed=True)
            ax.plot([place, place], [each.low, each.high], color=style.colour(name), linewidth=2)
            ax.plot(place, each.mean, "o", color=style.colour(name), markerfacecolor=face, markersize=8)
    ax.set_xticks(range(len(names)), [style.label(name).replace(", ", ",\n") for name in names], fontsize=10)
    ax.set(ylim=(0, 1), ylabel="share of mazes", title="filled: one answer right; open: majority vote right")
