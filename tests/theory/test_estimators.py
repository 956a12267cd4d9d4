"""Every estimator's table of coefficients by hand, by slow loops from its definition, at its edges and at large N."""

import dataclasses
import doctest
import itertools
import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl_lab import estimators, exact

NAMES = [
    "reinforce",
    "mean_centred",
    "rloo",
    "grpo",
    "maxrl",
    "maxrl_no_baseline",
    "maxrl_control_variate",
    "maxrl_leave_one_out",
    "maxrl_cross_fitted",
    "maxrl_order",
    "maxrl_centred",
    "pkpo",
    "pkpo_centred",
    "constant_baseline",
    "psr",
    "nsr",
    "w_reinforce",
    "reinforce_rej",
    "grpo_leave_one_out",
    "f_grpo",
    "qae",
    "mapo",
    "power",
    "tsallis",
    "rs_grpo",
    "maclaurin",
    "passk_training",
]
R2, R3 = math.sqrt(2), math.sqrt(3)

# TABLES[text][N] = (a(0), ..., a(N)), (b(0), ..., b(N)). No group reaches a(0) and b(N): they are 0 by convention.
TABLES = {
    # A_i = r_i
    "reinforce": {
        1: ([0, 1], [0, 0]),
        2: ([0, 1, 1], [0, 0, 0]),
        3: ([0, 1, 1, 1], [0, 0, 0, 0]),
        4: ([0, 1, 1, 1, 1], [0, 0, 0, 0, 0]),
    },
    # A_i = r_i - K/N: with one success of four, 1 - 1/4 and 0 - 1/4
    "mean_centred": {
        1: ([0, 0], [0, 0]),
        2: ([0, 1 / 2, 0], [0, -1 / 2, 0]),
        3: ([0, 2 / 3, 1 / 3, 0], [0, -1 / 3, -2 / 3, 0]),
        4: ([0, 3 / 4, 2 / 4, 1 / 4, 0], [0, -1 / 4, -2 / 4, -3 / 4, 0]),
    },
    # A_i = r_i - mean of the N-1 others: a success sees K-1 other successes, a failure sees K
    "rloo": {
        2: ([0, 1, 0], [0, -1, 0]),
        3: ([0, 1, 1 / 2, 0], [0, -1 / 2, -1, 0]),
        4: ([0, 1, 2 / 3, 1 / 3, 0], [0, -1 / 3, -2 / 3, -1, 0]),
    },
    # (r_i - K/N) / sigma: sigma = 1/2 at N=2, sqrt(2)/3 at N=3, sqrt(3)/4 and 1/2 at N=4
    "grpo": {
        1: ([0, 0], [0, 0]),
        2: ([0, 1, 0], [0, -1, 0]),
        3: ([0, R2, 1 / R2, 0], [0, -1 / R2, -R2, 0]),
        4: ([0, R3, 1, 1 / R3, 0], [0, -1 / R3, -1, -R3, 0]),
    },
    # sample sigma, larger by sqrt(N/(N-1)): 1/sqrt(2) at N=2, 1/sqrt(3) at N=3, 1/2 and 1/sqrt(3) at N=4
    "grpo:ddof=1": {
        2: ([0, 1 / R2, 0], [0, -1 / R2, 0]),
        3: ([0, 2 / R3, 1 / R3, 0], [0, -1 / R3, -2 / R3, 0]),
        4: ([0, 3 / 2, R3 / 2, 1 / 2, 0], [0, -1 / 2, -R3 / 2, -3 / 2, 0]),
    },
    # sigma + 1/2: 1 at N=2; at N=4 with ddof=1 it is 1 for K=1 and K=3
    "grpo:epsilon=0.5": {
        1: ([0, 0], [0, 0]),
        2: ([0, 1 / 2, 0], [0, -1 / 2, 0]),
    },
    "grpo:ddof=1,epsilon=0.5": {
        4: ([0, 3 / 4, R3 / (2 + R3), 1 / 4, 0], [0, -1 / 4, -R3 / (2 + R3), -3 / 4, 0]),
    },
    # Algorithm 1: N/K - 1 and -1, but all zero at K=0
    "maxrl": {
        1: ([0, 0], [0, 0]),
        2: ([0, 1, 0], [0, -1, 0]),
        3: ([0, 2, 1 / 2, 0], [0, -1, -1, 0]),
        4: ([0, 3, 1, 1 / 3, 0], [0, -1, -1, -1, 0]),
    },
    # N/K and 0
    "maxrl_no_baseline": {
        1: ([0, 1], [0, 0]),
        2: ([0, 2, 1], [0, 0, 0]),
        3: ([0, 3, 3 / 2, 1], [0, 0, 0, 0]),
        4: ([0, 4, 2, 4 / 3, 1], [0, 0, 0, 0, 0]),
    },
    # N/K - 1 and -1, at K=0 too
    "maxrl_control_variate": {
        1: ([0, 0], [-1, 0]),
        2: ([0, 1, 0], [-1, -1, 0]),
        3: ([0, 2, 1 / 2, 0], [-1, -1, -1, 0]),
        4: ([0, 3, 1, 1 / 3, 0], [-1, -1, -1, -1, 0]),
    },
    # N/K, less 1 if another rollout succeeded: never for the only success
    "maxrl_leave_one_out": {
        1: ([0, 1], [0, 0]),
        2: ([0, 2, 0], [0, -1, 0]),
        3: ([0, 3, 1 / 2, 0], [0, -1, -1, 0]),
        4: ([0, 4, 1, 1 / 3, 0], [0, -1, -1, -1, 0]),
    },
    # N(N-K)/(K(N-1)) and -NK/((N-1)(K+1)): at N=4, K=2: 4*2/(2*3) = 4/3 and -4*2/(3*3) = -8/9
    "maxrl_cross_fitted": {
        2: ([0, 2, 0], [0, -1, 0]),
        3: ([0, 3, 3 / 4, 0], [0, -3 / 4, -1, 0]),
        4: ([0, 4, 4 / 3, 4 / 9, 0], [0, -2 / 3, -8 / 9, -1, 0]),
    },
    # passhat@T times N/K: at N=4, T=2 the chance that 2 draws hold a success is 1/2, 5/6, 1, 1 for K = 1..4
    "maxrl_order:order=1": {
        1: ([0, 1], [0, 0]),
        4: ([0, 1, 1, 1, 1], [0, 0, 0, 0, 0]),
    },
    "maxrl_order:order=2": {
        2: ([0, 2, 1], [0, 0, 0]),
        3: ([0, 2, 3 / 2, 1], [0, 0, 0, 0]),
        4: ([0, 2, 5 / 3, 4 / 3, 1], [0, 0, 0, 0, 0]),
    },
    "maxrl_order:order=3": {
        3: ([0, 3, 3 / 2, 1], [0, 0, 0, 0]),
        4: ([0, 3, 2, 4 / 3, 1], [0, 0, 0, 0, 0]),
    },
    "maxrl_order:order=4": {4: ([0, 4, 2, 4 / 3, 1], [0, 0, 0, 0, 0])},
    # k times the chance that k-1 of the other N-1 hold no success: at N=4, k=2 it is 3/3, 2/3, 1/3, 0 for K = 1..4
    "pkpo:k=1": {
        1: ([0, 1], [0, 0]),
        4: ([0, 1, 1, 1, 1], [0, 0, 0, 0, 0]),
    },
    "pkpo:k=2": {
        2: ([0, 2, 0], [0, 0, 0]),
        3: ([0, 2, 1, 0], [0, 0, 0, 0]),
        4: ([0, 2, 4 / 3, 2 / 3, 0], [0, 0, 0, 0, 0]),
    },
    # at k=3 two of the three others must fail: 3/3, 1/3, 0, 0
    "pkpo:k=3": {
        3: ([0, 3, 0, 0], [0, 0, 0, 0]),
        4: ([0, 3, 1, 0, 0], [0, 0, 0, 0, 0]),
    },
    "pkpo:k=4": {4: ([0, 4, 0, 0, 0], [0, 0, 0, 0, 0])},
    # Algorithm 1 times the chance that T of N-1 rollouts hold one of the K successes: at N=4, T=2 it is 2/3, 1, 1
    "maxrl_centred:order=2": {
        3: ([0, 2, 1 / 2, 0], [0, -1, -1, 0]),
        4: ([0, 2, 1, 1 / 3, 0], [0, -2 / 3, -1, -1, 0]),
    },
    # k times the chance that k of the other N-1 hold no success: at N=4, k=2 it is 3/3, 1/3, 0; failures share the sum
    "pkpo_centred:k=2": {
        3: ([0, 2, 0, 0], [0, -1, 0, 0]),
        4: ([0, 2, 2 / 3, 0, 0], [0, -2 / 3, -2 / 3, 0, 0]),
    },
}
ROWS = [(text, rollouts) for text, by_rollouts in TABLES.items() for rollouts in by_rollouts]

OPTIONS = {
    "constant_baseline": "value=0.3",
    "power": "s=0.5,t=0",
    "tsallis": "q=0.5",
    "rs_grpo": "beta=2",
    "maclaurin": "order=2",
    "passk_training": "k=2",
}
EVERY = [
    *(name for name in NAMES if name not in ("maxrl_order", "pkpo", "maxrl_centred", "pkpo_centred", *OPTIONS)),
    *(f"{name}:{options}" for name, options in OPTIONS.items()),
    "maxrl_centred:order=1",
    "maxrl_centred:order=N-1",
    "pkpo_centred:k=1",
    "pkpo_centred:k=N-1",
    "grpo:ddof=1",
    "grpo:epsilon=0.001",
    "maxrl_order:order=2",
    "maxrl_order:order=N",
    "pkpo:k=2",
    "pkpo:k=N",
]


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def groups(rollouts):
    """All 2^N groups of rewards, (2^N, N)."""
    return double(list(itertools.product([0, 1], repeat=rollouts)))


@pytest.mark.parametrize(("text", "rollouts"), ROWS)
def test_hand_worked_tables(text, rollouts):
    success, failure = estimators.resolve(text).coefficients(rollouts)
    expected_success, expected_failure = TABLES[text][rollouts]
    torch.testing.assert_close(success, double(expected_success), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(failure, double(expected_failure), rtol=1e-14, atol=1e-15)
    assert success[0] == 0
    assert failure[rollouts] == 0
    # and a zero is never written -0
    assert not (success.eq(0) & success.signbit()).any()
    assert not (failure.eq(0) & failure.signbit()).any()


@pytest.mark.parametrize(("text", "rollouts"), ROWS)
def test_advantages_are_read_from_the_table(text, rollouts):
    success, failure = TABLES[text][rollouts]
    rewards = groups(rollouts)
    # slow loop: each rollout looks up its own coefficient
    expected = [
        [success[int(group.sum())] if reward else failure[int(group.sum())] for reward in group] for group in rewards
    ]
    torch.testing.assert_close(estimators.resolve(text)(rewards), double(expected), rtol=1e-14, atol=1e-15)


def mean_of_others(rewards, i):
    return statistics.fmean(reward for j, reward in enumerate(rewards) if j != i)


def from_subsets_of_the_group(rewards, i, order):
    """Eq. 9 averaged over all T-subsets: N times the mean of r_i / (successes of the subset), for subsets with i."""
    subsets = list(itertools.combinations(range(len(rewards)), order))
    held = [sum(rewards[j] for j in subset) for subset in subsets if i in subset]
    return len(rewards) * sum(rewards[i] / successes for successes in held if successes) / len(subsets)


def from_subsets_of_the_others(rewards, i, k):
    """k times the share of (k-1)-subsets of the others without success, for a success."""
    others = [reward for j, reward in enumerate(rewards) if j != i]
    subsets = list(itertools.combinations(others, k - 1))
    return k * rewards[i] * sum(not any(subset) for subset in subsets) / len(subsets)


def standardised(rewards, i, deviation, epsilon=0.0):
    spread = deviation(rewards)
    return (rewards[i] - statistics.fmean(rewards)) / (spread + epsilon) if spread else 0.0


# One rollout's advantage from the estimator's definition on the raw rewards; "other" sums are over j != i.
DEFINITIONS = {
    "reinforce": lambda r, i: r[i],
    "mean_centred": lambda r, i: r[i] - statistics.fmean(r),
    "rloo": lambda r, i: r[i] - mean_of_others(r, i),
    "grpo": lambda r, i: standardised(r, i, statistics.pstdev),
    "grpo:ddof=1": lambda r, i: standardised(r, i, statistics.stdev),
    "grpo:ddof=1,epsilon=0.25": lambda r, i: standardised(r, i, statistics.stdev, 0.25),
    "maxrl": lambda r, i: (r[i] - statistics.fmean(r)) / statistics.fmean(r) if any(r) else 0.0,
    "maxrl_no_baseline": lambda r, i: r[i] / statistics.fmean(r) if any(r) else 0.0,
    "maxrl_control_variate": lambda r, i: r[i] / max(statistics.fmean(r), 1e-9) - 1,
    "maxrl_leave_one_out": lambda r, i: (r[i] / statistics.fmean(r) if any(r) else 0.0) - (sum(r) - r[i] >= 1),
    "maxrl_cross_fitted": lambda r, i: (r[i] - mean_of_others(r, i)) * len(r) / (sum(r) - r[i] + 1),
    "maxrl_order:order=1": lambda r, i: from_subsets_of_the_group(r, i, 1),
    "maxrl_order:order=3": lambda r, i: from_subsets_of_the_group(r, i, 3),
    "maxrl_order:order=5": lambda r, i: from_subsets_of_the_group(r, i, 5),
    "pkpo:k=1": lambda r, i: from_subsets_of_the_others(r, i, 1),
    "pkpo:k=3": lambda r, i: from_subsets_of_the_others(r, i, 3),
    "pkpo:k=5": lambda r, i: from_subsets_of_the_others(r, i, 5),
}


@pytest.mark.parametrize("text", DEFINITIONS)
def test_slow_loops_from_the_definitions_over_all_groups_of_five(text):
    rewards = groups(5)
    expected = [[float(DEFINITIONS[text](group, i)) for i in range(5)] for group in rewards.tolist()]
    torch.testing.assert_close(estimators.resolve(text)(rewards), double(expected), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("rollouts", [2, 3, 8, 33])
def test_groups_that_must_give_no_gradient_give_exactly_none(rollouts):
    none, every = torch.zeros(rollouts), torch.ones(rollouts)
    quiet = ["grpo", "grpo:ddof=1", "grpo:epsilon=0.001", "maxrl", "maxrl_cross_fitted"]
    for text in [*quiet, "maxrl_leave_one_out", "reinforce", "mean_centred", "rloo", "maxrl_no_baseline"]:
        assert estimators.resolve(text)(none).tolist() == [0.0] * rollouts, text
    for text in [*quiet, "rloo", "mean_centred"]:
        assert estimators.resolve(text)(every).tolist() == [0.0] * rollouts, text


def test_a_single_rollout():
    for text in ("maxrl", "grpo", "grpo:epsilon=1e-06", "mean_centred"):
        assert estimators.resolve(text)(double([[0], [1]])).tolist() == [[0], [0]], text
    for text in ("reinforce", "maxrl_leave_one_out", "maxrl_no_baseline", "maxrl_order:order=1", "pkpo:k=1"):
        assert estimators.resolve(text)(double([[0], [1]])).tolist() == [[0], [1]], text


@settings(max_examples=60)
@given(data=st.data(), rewards=st.lists(st.integers(0, 1), min_size=2, max_size=40))
def test_permuting_the_rewards_permutes_the_advantages(data, rewards):
    order = data.draw(st.permutations(range(len(rewards))))
    rewards = torch.tensor(rewards)
    for text in EVERY:
        estimator = estimators.resolve(text, rollouts=len(rewards))
        assert torch.equal(estimator(rewards[order]), estimator(rewards)[order])


@settings(max_examples=40)
@given(
    rewards=st.integers(2, 9).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 1), min_size=n, max_size=n), min_size=6, max_size=6)
    )
)
def test_groups_of_a_batch_do_not_see_each_other(rewards):
    rewards = torch.tensor(rewards)
    rollouts = rewards.shape[-1]
    for text in EVERY:
        estimator = estimators.resolve(text, rollouts)
        one_by_one = torch.stack([estimator(group) for group in rewards])
        assert torch.equal(estimator(rewards), one_by_one)
        assert torch.equal(estimator(rewards.reshape(3, 1, 2, rollouts)), one_by_one.reshape(3, 1, 2, rollouts))


def test_trap_pooling_the_successes_of_two_tasks_is_another_estimator():
    """Pooled, the 8 rewards have K/N = 1/2 and all get +1 or -1; per task the rare success counts nine times more."""
    rewards = double([[1, 0, 0, 0], [1, 1, 1, 0]])
    estimator = estimators.make("maxrl")
    per_task = double([[3, -1, -1, -1], [1 / 3, 1 / 3, 1 / 3, -1]])
    torch.testing.assert_close(estimator(rewards), per_task)
    pooled = estimator(rewards.flatten()).reshape(2, 4)
    torch.testing.assert_close(pooled, double([[1, -1, -1, -1], [1, 1, 1, -1]]))


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64]
)
@pytest.mark.parametrize("text", EVERY)
def test_any_kind_of_number_may_hold_the_rewards(text, dtype):
    estimator = estimators.resolve(text, rollouts=5)
    rewards = torch.tensor([1, 0, 0, 1, 0])
    advantages = estimator(rewards.to(dtype))
    assert advantages.dtype == (dtype if dtype.is_floating_point else torch.float32)
    assert torch.equal(advantages, estimator(rewards.double()).to(advantages.dtype))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_rewards_on_a_gpu_give_advantages_there():
    advantages = estimators.make("maxrl")(torch.tensor([1, 0, 0, 0], device="cuda"))
    assert advantages.is_cuda
    assert advantages.tolist() == [3, -1, -1, -1]


def test_whole_number_rewards_give_advantages_of_torchs_default_type():
    torch.set_default_dtype(torch.float64)
    try:
        advantages = estimators.make("maxrl")(torch.tensor([1, 0, 0]))
    finally:
        torch.set_default_dtype(torch.float32)
    assert advantages.dtype == torch.float64
    assert advantages.tolist() == [2, -1, -1]


def test_the_rewards_are_left_alone():
    rewards = torch.tensor([1.0, 0.0, 0.0])
    estimators.make("reinforce")(rewards).zero_()
    assert rewards.tolist() == [1, 0, 0]


def test_nobody_can_spoil_a_table_for_the_next_caller():
    estimator = estimators.make("maxrl")
    for column in estimator.coefficients(4):
        column.fill_(7.0)
    assert estimator(double([1, 0, 0, 0])).tolist() == [3, -1, -1, -1]


def exact_ratio(text, rollouts, successes):
    """a(K) of the two estimators with binomial ratios, by whole-number arithmetic."""
    count = int(text.rpartition("=")[2])
    if text.startswith("pkpo"):
        return count * Fraction(math.comb(rollouts - successes, count - 1), math.comb(rollouts - 1, count - 1))
    miss = Fraction(math.comb(rollouts - successes, count), math.comb(rollouts, count))
    return Fraction(rollouts, successes) * (1 - miss)


@pytest.mark.parametrize("text", ["maxrl_order:order=3", "maxrl_order:order=500", "pkpo:k=4", "pkpo:k=500"])
def test_binomial_ratios_of_a_hundred_thousand_rollouts(text):
    success, failure = estimators.resolve(text).coefficients(100_000)
    assert success.isfinite().all()
    assert failure.eq(0).all()
    for successes in (1, 2, 3, 200, 2_000):
        expected = float(exact_ratio(text, 100_000, successes))
        assert float(success[successes]) == pytest.approx(expected, rel=1e-11)
    # with every rollout right, any T hold a success (a = N/N), and no k-1 others can all fail (a = 0)
    assert success[-1] == (0 if text.startswith("pkpo") else 1)


def test_large_groups_are_finite_and_right():
    rollouts = 100_000
    rewards = torch.zeros(rollouts, dtype=torch.float64)
    rewards[:2] = 1
    n, k = rollouts, 2
    deviation = math.sqrt(k * (n - k)) / n
    # advantage of each of the two successes, and of a failure, from the definitions
    expected = {
        "reinforce": (1, 0),
        "mean_centred": (1 - k / n, -k / n),
        "rloo": (1 - 1 / (n - 1), -2 / (n - 1)),
        "grpo": ((1 - k / n) / deviation, -k / n / deviation),
        "maxrl": (n / 2 - 1, -1),
        "maxrl_no_baseline": (n / 2, 0),
        "maxrl_control_variate": (n / 2 - 1, -1),
        "maxrl_leave_one_out": (n / 2 - 1, -1),
        "maxrl_cross_fitted": (n * (n - 2) / (2 * (n - 1)), -2 * n / (3 * (n - 1))),
        "maxrl_order:order=N": (n / 2, 0),
        "pkpo:k=N": (0, 0),
    }
    for text, (success, failure) in expected.items():
        estimator = estimators.resolve(text, rollouts)
        advantages = estimator(rewards)
        assert all(column.isfinite().all() for column in estimator.coefficients(rollouts)), text
        assert advantages[:2].tolist() == pytest.approx([success, success], rel=1e-12, abs=0), text
        assert float(advantages[2]) == pytest.approx(failure, rel=1e-12, abs=0), text
        assert advantages[2:].eq(advantages[2]).all(), text


@pytest.mark.parametrize(("rollouts", "order"), [(1, 1), (4, 2), (9, 9), (1000, 1000), (1000, 37)])
def test_order_t_is_the_sum_of_pkpo_k_over_k(rollouts, order):
    expected, _ = estimators.make("maxrl_order", order=order).coefficients(rollouts)
    added = sum(estimators.make("pkpo", k=k).coefficients(rollouts)[0] / k for k in range(1, order + 1))
    torch.testing.assert_close(added, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("rollouts", [1, 2, 7, 1000])
def test_order_n_is_eq_9_itself_and_order_1_is_reinforce(rollouts):
    whole = estimators.make("maxrl_order", order=rollouts).coefficients(rollouts)
    first = estimators.make("maxrl_order", order=1).coefficients(rollouts)
    for found, name in ((whole, "maxrl_no_baseline"), (first, "reinforce")):
        for column, expected in zip(found, estimators.make(name).coefficients(rollouts), strict=True):
            torch.testing.assert_close(column, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_rewards_need_a_last_axis_of_rollouts(refuses, shape):
    with refuses(f"rewards must have shape (..., N) with N >= 1, got {shape}"):
        estimators.make("reinforce")(torch.zeros(shape))


@pytest.mark.parametrize(
    ("rewards", "named"),
    [
        ([1.0, 0.5], "0.5; for graded rewards in [0, 1] there is estimators.graded"),
        ([0, 2], "2"),
        ([0, -1], "-1"),
        ([-1, 1], "-1; where -1 means wrong, give (r + 1) / 2"),
        ([[1.0, 1.0], [-1.0, 1.0]], "-1.0; where -1 means wrong, give (r + 1) / 2"),
        ([1.0, math.nan], "nan; a mask leaves lost rollouts out"),
        ([0.0, math.inf], "inf"),
        ([[1.0, 0.0], [3.0, 0.25]], "3.0"),
    ],
)
def test_a_reward_that_is_neither_right_nor_wrong_is_named(refuses, rewards, named):
    for text in ("reinforce", "maxrl", "pkpo:k=1"):
        with refuses(f"rewards must be 0 or 1 (right or wrong), got {named}"):
            estimators.resolve(text)(torch.tensor(rewards))


@pytest.mark.parametrize(
    ("rewards", "sizes"),
    [
        ([[1, 0, 1], [0, 1]], "3, 2"),
        ([torch.zeros(2), torch.zeros(3)], "2, 3"),
        ([[[1, 0], [0, 1]], [[1, 0], [0]]], "2, 1"),
        (np.array([[1, 0, 1], [0, 1]], dtype=object), "3, 2"),
        ([[0] * (1 + size % 2) for size in range(10)], "1, 2, 1, 2, 1, 2, 1, 2, ..."),
    ],
)
def test_groups_of_unequal_size_are_named_by_their_sizes(refuses, rewards, sizes):
    with refuses(f"rewards must come in groups of equal size, got groups of {sizes} rollouts"):
        estimators.make("maxrl")(rewards)


@pytest.mark.parametrize(
    "rewards",
    [[[1, 0], 1], [torch.tensor([1, 0]), 1], [[[1, 0], [0, 1]], [1, 0]], np.array([[1, 0], 1], dtype=object)],
)
def test_groups_beside_single_rewards_are_refused(refuses, rewards):
    with refuses("rewards must come in groups of equal size, got a list of both groups and single rewards"):
        estimators.make("maxrl")(rewards)


@pytest.mark.parametrize("of", [torch.tensor, np.array])
def test_groups_of_equal_size_may_be_a_list_of_tensors_or_arrays(of):
    found = estimators.make("maxrl")([of([1, 0]), of([0, 1])])
    assert found.tolist() == [[1, -1], [-1, 1]]
    assert estimators.make("reinforce")([of([1]), of([0])]).tolist() == [[1], [0]]  # two groups of one, not one of two
    assert estimators.make("maxrl")([of(1), of(0)]).tolist() == [1, -1]


def test_groups_of_equal_size_may_be_lists():
    found = estimators.make("maxrl")([[1, 0, 0, 0], (0, 0, 0, 0)])
    assert found.tolist() == [[3, -1, -1, -1], [0, 0, 0, 0]]


@pytest.mark.parametrize("rewards", [[1, None], [[1, 0], [None, 1]]])
def test_a_reward_of_none_is_named(refuses, rewards):
    with refuses("rewards must be 0 or 1 (right or wrong), got None"):
        estimators.make("maxrl")(rewards)


@pytest.mark.parametrize(
    ("text", "what", "minimum"),
    [
        ("rloo", "rloo", 2),
        ("grpo:ddof=1", "grpo with ddof=1", 2),
        ("maxrl_cross_fitted", "maxrl_cross_fitted", 2),
        ("maxrl_order:order=5", "maxrl_order of order 5", 5),
        ("pkpo:k=3", "pkpo with k=3", 3),
    ],
)
def test_a_group_too_small_for_the_estimator_is_refused(refuses, text, what, minimum):
    estimator = estimators.resolve(text)
    assert estimator(torch.ones(minimum)).shape == (minimum,)
    with refuses(f"{what} needs at least {minimum} rollouts in a group, got N = {minimum - 1}"):
        estimator(torch.ones(minimum - 1))
    with refuses(f"{what} needs at least {minimum} rollouts in a group, got N = {minimum - 1}"):
        estimator.coefficients(minimum - 1)


@pytest.mark.parametrize("rollouts", [0, -1, 2.0, True])
def test_the_number_of_rollouts_is_a_whole_number(refuses, rollouts):
    with refuses(f"rollouts must be a whole number >= 1, got {rollouts!r}"):
        estimators.make("reinforce").coefficients(rollouts)


def test_more_rollouts_than_a_table_can_hold_are_refused(refuses):
    message = "rollouts must be at most 1000000, got 1000000000000"
    for ask in (estimators.make("maxrl").coefficients, lambda count: exact.coefficients("maxrl", rollouts=count)):
        with refuses(message):
            ask(10**12)


def test_unknown_names_and_options_are_refused(refuses):
    with refuses(f"unknown estimator 'ppo'; choose one of: {', '.join(NAMES)}"):
        estimators.make("ppo")
    with refuses("estimator 'maxrl' has no option 'order'; its options: none"):
        estimators.make("maxrl", order=3)
    with refuses("estimator 'grpo' has no option 'eps'; its options: ddof, epsilon"):
        estimators.make("grpo", eps=1e-6)
    with refuses("estimator 'pkpo' needs the option 'k', as in 'pkpo:k=4'"):
        estimators.make("pkpo")
    with refuses("estimator 'maxrl_order' needs the option 'order', as in 'maxrl_order:order=4'"):
        estimators.resolve("maxrl_order")


@pytest.mark.parametrize("wrong", [0, -2, 1.0, True])
def test_order_and_k_are_whole_numbers_from_one_on(refuses, wrong):
    with refuses(f"order must be a whole number >= 1, got {wrong!r}"):
        estimators.make("maxrl_order", order=wrong)
    with refuses(f"k must be a whole number >= 1, got {wrong!r}"):
        estimators.make("pkpo", k=wrong)


def test_the_options_of_grpo_have_a_range(refuses):
    with refuses("ddof must be at most 1, got 2"):
        estimators.make("grpo", ddof=2)
    for ddof in (-1, 0.5):
        with refuses(f"ddof must be a whole number >= 0, got {ddof}"):
            estimators.make("grpo", ddof=ddof)
    for epsilon in (-1e-9, math.inf, math.nan):
        with refuses(f"epsilon must be finite and not negative, got {epsilon}"):
            estimators.make("grpo", epsilon=epsilon)
    plain, spelled_out = estimators.make("grpo"), estimators.make("grpo", ddof=0, epsilon=0.0)
    for column, expected in zip(plain.coefficients(5), spelled_out.coefficients(5), strict=True):
        assert torch.equal(column, expected)


def test_resolve_reads_the_text_form_and_passes_callables_on(refuses):
    assert estimators.resolve("pkpo:k=N-1", rollouts=6) == estimators.make("pkpo", k=5)
    made = estimators.make("grpo", ddof=1)
    assert estimators.resolve(made) is made
    assert estimators.resolve(math.prod) is math.prod
    with refuses("expected an estimator's name or a callable, got int"):
        estimators.resolve(3)
    with refuses("expected a number or an expression in N such as 'N-1', got 'N'"):
        estimators.resolve("pkpo:k=N")


def test_the_text_form_makes_the_same_estimator_again():
    assert list(estimators.ESTIMATORS) == NAMES
    for text in ("maxrl", "pkpo:k=4", "maxrl_order:order=2", "grpo:ddof=1,epsilon=1e-06"):
        estimator = estimators.resolve(text)
        assert estimator.spec == text
        assert str(estimator) == text


def test_estimators_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimators.make("maxrl").name = "grpo"


def test_the_example_in_the_docstring_holds():
    found = doctest.testmod(estimators)
    assert found.attempted > 0
    assert found.failed == 0


def test_made_estimators_are_hashable_values():
    assert len({estimators.make("pkpo", k=2), estimators.make("pkpo", k=2), estimators.make("pkpo", k=3)}) == 2


@pytest.mark.parametrize(("rewards", "kind"), [(None, "NoneType"), ("abc", "str")])
def test_what_is_no_array_of_rewards_is_refused(rewards, kind):
    with pytest.raises(ValueError, match=rf"\Arewards must be a tensor or array of 0 and 1, got {kind}: "):
        estimators.make("maxrl")(rewards)


def test_advantages_are_looked_up_by_each_group_s_own_successes():
    # N = 3: a(K) is 10 K, b(K) is -K
    success, failure = torch.tensor([0.0, 10.0, 20.0, 30.0]), torch.tensor([0.0, -1.0, -2.0, -3.0])
    rewards = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]])
    expected = torch.tensor([[[0.0, 0.0, 0.0], [-1.0, 10.0, -1.0]], [[20.0, -2.0, 20.0], [30.0, 30.0, 30.0]]])
    for each in (rewards, rewards.bool(), rewards.long()):
        assert torch.equal(estimators.look_up(success, failure, each), expected)
    assert torch.equal(estimators.look_up(success, failure, rewards[1, 0]), expected[1, 0])
    doubles = estimators.look_up(success.double(), failure.double(), rewards)
    assert doubles.dtype == torch.float64  # of the table
