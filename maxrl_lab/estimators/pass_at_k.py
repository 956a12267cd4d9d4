"""Estimators of the gradient of pass@k, the chance that one of k rollouts is right."""

import torch
from torch import Tensor

from maxrl_lab.combinatorics import log_miss_probability
from maxrl_lab.estimators.columns import Columns, need_rollouts
from maxrl_lab.settings import Count


def pkpo(successes: Tensor, rollouts: int, *, k: Count) -> Columns:
    """a = k C(N-K,k-1)/C(N-1,k-1), b = 0. Unbiased for pass@k, for any k from 1 (REINFORCE) to N.

    A success counts if k-1 of the other rollouts would all have failed (Walder & Karkhanis 2025, "loo-1").
    """
    need_rollouts(f"pkpo with k={k}", rollouts, k)
    others = log_miss_probability(rollouts - 1, k - 1).exp()
    return k * torch.cat([successes.new_zeros(1), others]), 0.0
