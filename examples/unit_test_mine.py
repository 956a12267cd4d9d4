"""How does a test in your own suite keep an advantage function from drifting to another objective?

    pytest examples/unit_test_mine.py

The fixture `assert_optimises` comes with the package and needs no registration. It computes the function's exact mean
gradient at N rollouts, so such a test has no seed, no tolerance to tune and no false alarms. Where it fails, it prints
the whole report of the audit.
"""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor


def leave_one_out(rewards: Tensor) -> Tensor:
    """Return r_i minus the mean reward of the other rollouts, for rewards (..., N)."""
    others = (rewards.sum(-1, keepdim=True) - rewards) / (rewards.shape[-1] - 1)
    return rewards - others


@pytest.mark.parametrize("rollouts", [2, 4, 16])
def test_leave_one_out_is_unbiased_for_the_pass_rate(assert_optimises: Callable[..., Any], rollouts: int) -> None:
    """The factor 1 is asked for, so a bias in scale would fail as well."""
    assert_optimises(leave_one_out, "expected_reward", rollouts=rollouts, scale=1)


def test_dividing_by_the_pass_rate_climbs_a_truncated_likelihood(assert_optimises: Callable[..., Any]) -> None:
    """`N` stands for the number of rollouts: centring by the group's own mean costs one order."""

    def divided(rewards: Tensor) -> Tensor:
        mean = rewards.mean(-1, keepdim=True)
        return (rewards - mean) / mean.clamp(min=1e-6)

    assert_optimises(divided, "truncated_likelihood:order=N-1", rollouts=8)
