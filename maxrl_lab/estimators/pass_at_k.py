"""Estimators of the gradient of pass@k, the chance that one of k rollouts is right."""

from typing import Annotated

import torch
from torch import Tensor

from maxrl_lab.combinatorics import log_miss_probability
from maxrl_lab.estimators.columns import Columns, need_rollouts
from maxrl_lab.settings import Count, Whole


def pkpo(successes: Tensor, rollouts: int, *, k: Count) -> Columns:
    """a = k C(N-K,k-1)/C(N-1,k-1), b = 0. Unbiased for pass@k, for any k from 1 (REINFORCE) to N.

    A success counts if k-1 of the other rollouts would all have failed (Walder & Karkhanis 2025, "loo-1").
    """
    need_rollouts(f"pkpo with k={k}", rollouts, k)
    others = log_miss_probability(rollouts - 1, k - 1).exp()
    return k * torch.cat([successes.new_zeros(1), others]), 0.0


def pkpo_centred(successes: Tensor, rollouts: int, *, k: Count) -> Columns:
    """a = k C(N-1-k,K-1)/C(N-1,K-1), b = -k C(N-1-k,K-1)/C(N-1,K). Unbiased for pass@k, k <= N-1; sums to zero.

    A success counts if k of the other rollouts would all have failed, and the failures of the group share the same
    amount. At k = 1 it is RLOO. It is the only table for pass@k whose advantages sum to zero in every group, and at
    k = N there is none (`zero_sum` has the proof). So it is N k / (N-k) times `passk_training` without its division.
    """
    need_rollouts(f"pkpo_centred with k={k}", rollouts, k + 1)
    success = k * torch.cat([successes.new_zeros(1), log_miss_probability(rollouts - 1, k).exp()])
    return success, -successes / (rollouts - successes) * success


def passk_training(
    successes: Tensor,
    rollouts: int,
    *,
    k: Count,
    std: Annotated[int, Whole(0, 1)] = 1,
) -> Columns:
    """The mean advantage of a rollout over all subsets of k that hold it, each subset rewarded with its best: k <= N.

    With R = 1 - C(N-K,k)/C(N,k), the share of subsets with a success: a = 1 - R and
    b = 1 - R - C(N-K-1,k-1)/C(N-1,k-1); with `std` = 1, as published, both are divided by sqrt(R (1-R)), and 0 where
    that is 0. Undivided, it is unbiased for (N-k)/(N k) times pass@k at every N. Divided, it is unbiased for no named
    objective; k times its weight tends to that of `objectives.ArcsinePassAtK` as N grows.

    Source: Pass@k Training, arXiv:2508.10751, the analytical form.
    """
    need_rollouts(f"passk_training with k={k}", rollouts, k)
    miss = log_miss_probability(rollouts, k).exp()
    others_miss = log_miss_probability(rollouts - 1, k - 1).exp()
    failure = miss - torch.cat([others_miss, successes.new_zeros(1)])
    if not std:
        return miss, failure
    deviation = (miss * (1 - miss)).sqrt()
    scale = torch.where(deviation > 0, 1 / deviation, 0.0)
    return miss * scale, failure * scale
