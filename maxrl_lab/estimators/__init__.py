"""Group estimators: rewards of a group's N rollouts in, one advantage per rollout out.

With right-or-wrong rewards, an estimator that treats rollouts alike is only a table of 2(N+1) numbers: the advantage
a(K) of every success and b(K) of every failure in a group with K successes. So each estimator is one formula of
(K, N) that returns the two columns, and all are applied by the same three lines (`table.look_up`). The gradient
estimate of a group is (1/N) sum_i A_i S_i with S_i the score (gradient of the log-probability) of rollout i.

    >>> import torch
    >>> make("maxrl")(torch.tensor([1, 0, 0, 0]))
    tensor([ 3., -1., -1., -1.])

Formulas that share an idea share a file: `expected_reward`, `standardised`, `likelihood`, `pass_at_k`; `table` lists
them all. Source: "Maximum Likelihood Reinforcement Learning", arXiv:2602.02710v1, unless a docstring says otherwise.
"""

from maxrl_lab.estimators.columns import Columns
from maxrl_lab.estimators.expected_reward import mean_centred, reinforce, rloo
from maxrl_lab.estimators.likelihood import (
    maxrl,
    maxrl_control_variate,
    maxrl_cross_fitted,
    maxrl_leave_one_out,
    maxrl_no_baseline,
    maxrl_order,
)
from maxrl_lab.estimators.pass_at_k import pkpo
from maxrl_lab.estimators.rewards import check_rewards
from maxrl_lab.estimators.standardised import grpo
from maxrl_lab.estimators.table import ESTIMATORS, Estimator, look_up, make, resolve

__all__ = [
    "ESTIMATORS",
    "Columns",
    "Estimator",
    "check_rewards",
    "grpo",
    "look_up",
    "make",
    "maxrl",
    "maxrl_control_variate",
    "maxrl_cross_fitted",
    "maxrl_leave_one_out",
    "maxrl_no_baseline",
    "maxrl_order",
    "mean_centred",
    "pkpo",
    "reinforce",
    "resolve",
    "rloo",
]
