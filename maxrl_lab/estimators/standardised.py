"""Rewards divided by their group's standard deviation: GRPO."""

from typing import Annotated

import torch
from torch import Tensor

from maxrl_lab.estimators.columns import Columns, need_rollouts
from maxrl_lab.settings import Interval, Whole


def grpo(
    successes: Tensor,
    rollouts: int,
    *,
    ddof: Annotated[int, Whole(0, 1)] = 0,
    epsilon: Annotated[float, Interval(closed_low=True)] = 0.0,
) -> Columns:
    """A_i = (r_i - mean(r)) / (std(r) + epsilon), 0 in a group without spread (Shao et al. 2024).

    Unbiased for no named objective: its weight is a polynomial of its own at each N, constant (so plain RL, scaled) at
    N = 2 and N = 3, that tends to `objectives.GrpoLimit` as N grows. `ddof` is 0 (population) or 1 (sample). At N = 1
    every advantage is 0.
    """
    if ddof:
        need_rollouts("grpo with ddof=1", rollouts, 2)
    mean = successes / rollouts
    deviation = (mean * (1 - mean) * (rollouts / (rollouts - ddof))).sqrt()
    scale = torch.where(deviation > 0, 1 / (deviation + epsilon), 0.0)
    return (1 - mean) * scale, -mean * scale
