"""MaxRL in all its forms: estimators of the gradient of log p, truncated after T terms (Eq. 7).

"Order T" means: unbiased for the gradient of `objectives.TruncatedLikelihood(T)`.
"""

import torch
from torch import Tensor

from maxrl_lab.combinatorics import log_miss_probability
from maxrl_lab.estimators.columns import Columns, need_rollouts
from maxrl_lab.settings import Count


def maxrl(successes: Tensor, rollouts: int) -> Columns:
    """A_i = (r_i - mean(r)) / mean(r), 0 in a group without success: Algorithm 1, the form that is shipped.

    Unbiased for order T = N-1, not N: without the control variate at K = 0 the last term of the series is missing (a
    later version of the paper is reported to prove this). So Algorithm 1 is plain RL at N = 2, and at N = 1 every
    advantage is 0: a group of one teaches nothing. `maxrl_leave_one_out` is of order N and learns from groups of one.

    (r - mean) / mean was published for groups of right-or-wrong rewards before, in MAPO (arXiv:2509.18849).
    """
    return rollouts / successes - 1, torch.where(successes > 0, -1.0, 0.0)


def maxrl_no_baseline(successes: Tensor, rollouts: int) -> Columns:
    """A_i = r_i / mean(r): the average score of the successes (Eq. 9). Order T = N, exactly (Theorem 2)."""
    return rollouts / successes, 0.0


def maxrl_control_variate(successes: Tensor, rollouts: int) -> Columns:
    """A_i = r_i / mean(r) - 1, and -1 throughout a group without success (Eq. 10). Order T = N, exactly."""
    return rollouts / successes - 1, -1.0


def maxrl_leave_one_out(successes: Tensor, rollouts: int) -> Columns:
    """A_i = r_i / mean(r) - 1{another rollout succeeded}. Order T = N, exactly; REINFORCE at N = 1; 0 at K = 0.

    The form is the lab's. Its baseline does not depend on the rollout's own reward, so subtracting the baseline leaves
    the mean as it is.
    """
    return rollouts / successes - (successes >= 2).double(), -(successes >= 1).double()


def maxrl_cross_fitted(successes: Tensor, rollouts: int) -> Columns:
    """a = N(N-K) / (K(N-1)), b = -NK / ((N-1)(K+1)). Order T = N, exactly, for N >= 2; 0 at K = 0 and at K = N.

    It is RLOO's advantage over a pass rate that is estimated without the rollout's own reward: A_i = (r_i - mean of the
    others) N / (J_i + 1), with J_i the number of successes among the others.
    """
    need_rollouts("maxrl_cross_fitted", rollouts, 2)
    scale = rollouts / (rollouts - 1)
    return scale * (rollouts - successes) / successes, -scale * successes / (successes + 1)


def maxrl_order(successes: Tensor, rollouts: int, *, order: Count) -> Columns:
    """a = (N/K) (1 - C(N-K,T)/C(N,T)), b = 0. Order T exactly, for any T from 1 (REINFORCE) to N (Eq. 9).

    It is the subset average of Eq. 9 over all T-subsets of the group; it also equals sum_{k=1..T} pkpo_k / k.
    """
    need_rollouts(f"maxrl_order of order {order}", rollouts, order)
    return -rollouts / successes * torch.expm1(log_miss_probability(rollouts, order)), 0.0


def maxrl_centred(successes: Tensor, rollouts: int, *, order: Count) -> Columns:
    """a = (N-K)/K m, b = -m with m = 1 - C(N-1-T,K)/C(N-1,K). Order T exactly, for any T from 1 to N-1; sums to zero.

    The dial from RLOO (T = 1) to Algorithm 1 (T = N-1): Algorithm 1's advantages, times the chance m that T draws
    without replacement from N-1 rollouts of which K are right hold a right one. It is the only table of order T whose
    advantages sum to zero in every group, and none is of order N (`zero_sum` has the proof).  [lab]
    """
    need_rollouts(f"maxrl_centred of order {order}", rollouts, order + 1)
    hit = torch.cat([-torch.expm1(log_miss_probability(rollouts - 1, order)), successes.new_zeros(1)])
    return (rollouts - successes) / successes * hit, -hit


def maclaurin(successes: Tensor, rollouts: int, *, order: Count) -> Columns:
    """a = 1, b = -sum_{k=2..T} C(N-K-1,k-1)/C(N-1,k-1). Order T exactly, for any T from 1 (REINFORCE) to N.

    A success counts as in REINFORCE; all that goes beyond the first term of the series pushes failures down: term k
    does so if k-1 of the other rollouts would all have failed. Source: the official code (tajwarfahim/maxrl).
    """
    need_rollouts(f"maclaurin of order {order}", rollouts, order)
    every = -rollouts / (successes[:-1] + 1) * torch.expm1(log_miss_probability(rollouts, order)[1:])  # k = 1..T
    return 1.0, torch.cat([1 - every, successes.new_zeros(1)])
