"""Rewards divided by their group's standard deviation: GRPO and what has been built on it."""

from typing import Annotated

import torch
from torch import Tensor

from maxrl_lab.estimators.columns import Columns, need_rollouts
from maxrl_lab.settings import Interval, StrictProbability, Whole


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


def grpo_leave_one_out(successes: Tensor, rollouts: int) -> Columns:
    """A_i = (r_i - mean of the others) / (sample standard deviation of the others), undivided where that is 0; N >= 2.

    It is unbiased for no named objective. Where one rollout differs from all others, these have no deviation and its
    advantage is just 1 or -1; at N = 2 this is so always, and the estimator is RLOO. It is NeMo-RL's default.
    """
    need_rollouts("grpo_leave_one_out", rollouts, 2)
    others = rollouts - 1
    success_mean, failure_mean = (successes - 1) / others, successes / others
    return (1 - success_mean) / _sample_deviation(success_mean, others), -failure_mean / _sample_deviation(
        failure_mean, others
    )


def f_grpo(successes: Tensor, rollouts: int, *, gamma: Annotated[float, Interval(closed_low=True)] = 1.0) -> Columns:
    """A_i = GRPO's advantage times (1 - mean(r))^gamma: groups with many successes count less; GRPO at gamma = 0.

    Unbiased for no named objective; its weight tends to p^-1/2 (1-p)^(gamma-1/2), `objectives.Power`, as N grows.
    Source: F-GRPO, arXiv:2602.06717.
    """
    focus = (1 - successes / rollouts) ** gamma
    success, failure = grpo(successes, rollouts)
    return success * focus, failure * focus


def qae(successes: Tensor, rollouts: int, *, kappa: StrictProbability = 0.4) -> Columns:
    """A_i = (r_i - quantile(r)) / std(r), 0 in a group without spread: the kappa-quantile instead of the mean.

    The quantile is 0 where K/N <= 1 - kappa, so that only successes count there, and 1 elsewhere, where only failures
    count. Unbiased for no named objective. Source: Quantile Advantage Estimation, arXiv:2509.22611.
    """
    mean = successes / rollouts
    deviation = (mean * (1 - mean)).sqrt()
    scale = torch.where(deviation > 0, 1 / deviation, 0.0)
    hard = successes <= rollouts * (1 - kappa) + 1e-9  # 1 - 0.9 is a little less than 0.1
    return torch.where(hard, scale, 0.0), torch.where(hard, 0.0, -scale)


def mapo(successes: Tensor, rollouts: int) -> Columns:
    """A_i = (1 - c) GRPO's advantage + c (r_i - mean(r)) / mean(r), with the certainty c = 1 - 4 q (1-q), q = mean(r).

    So it is GRPO where half of the group is right and Algorithm 1 of MaxRL in nearly unanimous groups. Unbiased for no
    named objective. Source: MAPO, arXiv:2509.18849, which calls (r - mean) / mean the advantage percent deviation.
    """
    mean = successes / rollouts
    certainty = 1 - 4 * mean * (1 - mean)
    success, failure = grpo(successes, rollouts)
    percent = torch.where(successes > 0, -1.0, 0.0)
    return (
        (1 - certainty) * success + certainty * (1 - mean) / mean,
        (1 - certainty) * failure + certainty * percent,
    )


def _sample_deviation(mean: Tensor, rollouts: int) -> Tensor:
    """Return the sample standard deviation of right-or-wrong rewards with this mean, 1 where they are all the same."""
    square = mean * (1 - mean) * rollouts / max(rollouts - 1, 1)
    return torch.where(square > 0, square.clamp(min=0.0).sqrt(), 1.0)
