"""Which order between RLOO and MaxRL is nearest to the likelihood gradient, at which pass rate, N and number of groups?

`maxrl_centred:order=T` is the only estimator of order T whose advantages sum to zero in every group: RLOO at T = 1,
Algorithm 1 at T = N-1. A higher order has less bias for the likelihood, (1-p)^T relatively, and more noise. A batch
averages B groups of tasks alike: noise falls by B, bias does not. So the best order depends on p, on N and on B.
Everything is exact, on the categorical policies of `bias_variance`, in units of |grad log p|^2.

    maxrl-lab run best_order        (a second)

Table: `rows` (a row per N, order and pass rate).
"""

from dataclasses import dataclass

import torch

from experiments._shared import PassRates
from experiments.exact.bias_variance import moments_of
from maxrl_lab import exact
from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Counts
from maxrl_lab.settings import Settings as Base


@dataclass(frozen=True)
class Settings(Base):
    """The dial: its positions are the powers of two below N-1, and N-1 itself."""

    rollouts: Counts = (4, 8, 16, 32, 64, 128, 256)
    """Numbers N of rollouts in a group."""
    pass_rates: PassRates = tuple(round(10 ** (-3 + step / 10), 6) for step in range(30))
    """Pass rates p of the policies."""
    groups: Counts = (1, 16, 256)
    """Numbers B of groups that are averaged; the groups are alike, so noise falls by B and bias does not."""

    def __post_init__(self) -> None:
        """Check also that every N has a zero-sum table."""
        super().__post_init__()
        if min(self.rollouts) < 2:
            raise InputError(f"rollouts must be whole numbers >= 2, got {min(self.rollouts)}")


PRESETS = {
    "smoke": Settings(rollouts=(4, 8), pass_rates=(0.01, 0.1, 0.5), groups=(1, 16)),
    "quick": Settings(),
    "standard": Settings(),
    "full": Settings(
        rollouts=(4, 8, 16, 32, 64, 128, 256, 512, 1024),
        pass_rates=tuple(round(10 ** (-4 + step / 20), 8) for step in range(80)),
        groups=(1, 4, 16, 64, 256, 1024),
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return a row per N, order and p, with the squared bias and the variance of one group's estimate."""
    p = torch.tensor(settings.pass_rates, dtype=torch.float64)
    sizes = moments_of(p)
    rows: list[Row] = []
    for count in context.progress("best_order")(settings.rollouts):
        for order in orders(count):
            estimator = f"maxrl_centred:order={order}"
            bias = (exact.weight(estimator, rollouts=count, pass_rate=p) - 1 / p) * p
            variance = exact.variance(estimator, rollouts=count, pass_rate=p, **sizes)
            unit = sizes["gradient_norm_squared"] / p.square()
            columns = zip(p.tolist(), bias.square().tolist(), (variance / unit).tolist(), strict=True)
            rows += [
                {"rollouts": count, "order": order, "pass_rate": rate, "squared_bias": squared, "variance": noise}
                for rate, squared, noise in columns
            ]
    return {"rows": rows}


def orders(rollouts: int) -> list[int]:
    """Return the positions of the dial: 1, 2, 4, ... below N-1, and N-1."""
    return [2**power for power in range(rollouts.bit_length()) if 2**power < rollouts - 1] + [rollouts - 1]
