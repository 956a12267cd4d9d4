"""Group estimators: rewards of a group's N rollouts in, one advantage per rollout out.

With right-or-wrong rewards, an estimator that treats rollouts alike is only a table of 2(N+1) numbers: the advantage
a(K) of every success and b(K) of every failure in a group with K successes. So each estimator is one formula of
(K, N) that returns the two columns, and all are applied by the same three lines (`counted.look_up`). The gradient
estimate of a group is (1/N) sum_i A_i S_i with S_i the score (gradient of the log-probability) of rollout i.

    >>> import torch
    >>> make("maxrl")(torch.tensor([1, 0, 0, 0]))
    tensor([ 3., -1., -1., -1.])

Formulas that share an idea share a file: `expected_reward`, `one_sided`, `standardised`, `likelihood`, `pass_at_k`,
`power`; `table` lists them all. Source: "Maximum Likelihood Reinforcement Learning", arXiv:2602.02710v1, unless a
docstring says otherwise.
"""

from maxrl_lab.estimators.columns import Columns, GroupTooSmallError
from maxrl_lab.estimators.counted import CountEstimator, look_up
from maxrl_lab.estimators.expected_reward import constant_baseline, mean_centred, reinforce, rloo
from maxrl_lab.estimators.from_weight import FORMS, FromObjective, from_objective
from maxrl_lab.estimators.graded import Graded, graded
from maxrl_lab.estimators.likelihood import (
    maclaurin,
    maxrl,
    maxrl_centred,
    maxrl_control_variate,
    maxrl_cross_fitted,
    maxrl_leave_one_out,
    maxrl_no_baseline,
    maxrl_order,
)
from maxrl_lab.estimators.one_sided import nsr, psr, reinforce_rej, w_reinforce
from maxrl_lab.estimators.pass_at_k import passk_training, pkpo, pkpo_centred
from maxrl_lab.estimators.power import power, rs_grpo, tsallis
from maxrl_lab.estimators.ragged import grouped, ragged, zero_if_too_small
from maxrl_lab.estimators.rewards import check_rewards
from maxrl_lab.estimators.standardised import f_grpo, grpo, grpo_leave_one_out, mapo, qae
from maxrl_lab.estimators.table import ESTIMATORS, Estimator, make, resolve
from maxrl_lab.estimators.zero_sum import zero_sum

__all__ = [
    "ESTIMATORS",
    "FORMS",
    "Columns",
    "CountEstimator",
    "Estimator",
    "FromObjective",
    "Graded",
    "GroupTooSmallError",
    "check_rewards",
    "constant_baseline",
    "f_grpo",
    "from_objective",
    "graded",
    "grouped",
    "grpo",
    "grpo_leave_one_out",
    "look_up",
    "maclaurin",
    "make",
    "mapo",
    "maxrl",
    "maxrl_centred",
    "maxrl_control_variate",
    "maxrl_cross_fitted",
    "maxrl_leave_one_out",
    "maxrl_no_baseline",
    "maxrl_order",
    "mean_centred",
    "nsr",
    "passk_training",
    "pkpo",
    "pkpo_centred",
    "power",
    "psr",
    "qae",
    "ragged",
    "reinforce",
    "reinforce_rej",
    "resolve",
    "rloo",
    "rs_grpo",
    "tsallis",
    "w_reinforce",
    "zero_if_too_small",
    "zero_sum",
]
