"""The panel of scaling efficiency: how many times more samples does one coverage curve need for another's pass@k?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from figures import style
from maxrl_lab import evaluate

Curve = Sequence[float]
"""Coverage, pass@k, at each k."""


def plot_efficiency(ax: Axes, ks: Sequence[int], pairs: Mapping[str, tuple[Curve, Curve]]) -> None:
    """Plot for each name, whose pair is (coverage, baseline), the samples k' at which the baseline gets there, over k.

    A triangle at the top stands for a coverage that the baseline reaches at none of the `ks`.
    """
    for index, (name, (coverage, baseline)) in enumerate(pairs.items()):
        ratio = evaluate.scaling_efficiency(coverage, baseline, ks).numpy()
        reached = np.isfinite(ratio)
        look: dict[str, Any] = {"color": style.colour(name), "markersize": 5}
        ax.plot(np.array(ks)[reached], ratio[reached], "o-", label=style.label(name), **look)
        aside = 1.12 ** (index - len(pairs) / 2)  # so that triangles at one k stand side by side
        never = np.array(ks)[~reached] * aside
        ax.plot(never, np.full(len(never), 2 * max(ks)), linestyle="none", marker=6, **{**look, "markersize": 8})
    ax.set(xscale="log", yscale="log", xlabel="samples k")
    style.plain_ticks(ax)
    style.plain_x(ax, ks)
