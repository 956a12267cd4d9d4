"""Estimators of the gradient of the expected reward p: plain REINFORCE and two baselines."""

from torch import Tensor

from maxrl_lab.estimators.columns import Columns, need_rollouts
from maxrl_lab.settings import Finite


def reinforce(successes: Tensor, rollouts: int) -> Columns:  # noqa: ARG001
    """a = 1, b = 0. Unbiased for the expected reward (order 1) at every N."""
    return 1.0, 0.0


def mean_centred(successes: Tensor, rollouts: int) -> Columns:
    """A_i = r_i - mean(r), as in "Dr. GRPO". Its mean is (1 - 1/N) times the gradient of the expected reward.

    The estimate is therefore biased in scale, and at N = 1 every advantage is 0.
    """
    mean = successes / rollouts
    return 1 - mean, -mean


def rloo(successes: Tensor, rollouts: int) -> Columns:
    """A_i = r_i - mean of the other rewards. Unbiased for the expected reward (order 1) at every N >= 2.

    This is the leave-one-out baseline of Kool et al. 2019.
    """
    need_rollouts("rloo", rollouts, 2)
    return 1 - (successes - 1) / (rollouts - 1), -successes / (rollouts - 1)


def constant_baseline(successes: Tensor, rollouts: int, *, value: Finite) -> Columns:  # noqa: ARG001
    """a = 1 - v, b = -v. Unbiased for the expected reward (order 1) at every N, whatever the value v.

    Rewards of 1 and -1 are twice the case v = 1/2. Where v follows the policy, as a moving average does, the table
    holds for the v of that update.
    """
    return 1.0 - value, -value
