"""Estimators that learn from successes alone, from failures alone, or from the two with a weight between them."""

from typing import Annotated

import torch
from torch import Tensor

from maxrl_lab.estimators.columns import Columns
from maxrl_lab.settings import Interval, Whole


def psr(successes: Tensor, rollouts: int) -> Columns:  # noqa: ARG001
    """a = 1, b = 0: positive sample reinforcement. Unbiased for the expected reward at every N; equal to REINFORCE.

    Source: arXiv:2506.01347, which has the rewards 1 and -1 and drops the failures.
    """
    return 1.0, 0.0


def nsr(successes: Tensor, rollouts: int) -> Columns:  # noqa: ARG001
    """a = 0, b = -1: negative sample reinforcement. Unbiased for the expected reward at every N.

    Its mean is that of `psr`, its noise is not: where p is small nearly every rollout has an advantage, where p is
    large nearly none has. Source: arXiv:2506.01347.
    """
    return 0.0, -1.0


def w_reinforce(
    successes: Tensor,  # noqa: ARG001
    rollouts: int,  # noqa: ARG001
    *,
    weight: Annotated[float, Interval(closed_low=True)] = 0.1,
) -> Columns:
    """a = weight, b = -1. Unbiased for 1 + weight times the expected reward, at every N.

    Source: arXiv:2506.01347 (Weighted-REINFORCE), which recommends the weight 0.1. So the weight changes the noise and
    the step, and not the objective.
    """
    return float(weight), -1.0


def reinforce_rej(
    successes: Tensor,
    rollouts: int,
    *,
    two_sided: Annotated[int, Whole(0, 1)] = 0,
) -> Columns:
    """a = 1, b = 0, and 0 throughout a group without failure: its mean has the weight 1 - p^(N-1), at every N.

    Source: Reinforce-Rej, arXiv:2504.11343, which drops groups that are all wrong or all right. With `two_sided` = 1
    the rewards are 1 and -1 before groups are dropped: b = -1 where K > 0, and the weight is 2 - p^(N-1) - (1-p)^(N-1).
    """
    failure = -(successes > 0).double() if two_sided else 0.0
    return torch.where(successes < rollouts, 1.0, 0.0), failure
