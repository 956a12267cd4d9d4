"""Graded rewards: both extensions against enumeration, against their definitions in loops, and at their edges."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl_lab import estimators, objectives
from maxrl_lab.estimators import graded, make

TABLES = ["reinforce", "rloo", "maxrl", "maxrl_no_baseline", "maxrl_leave_one_out", "pkpo:k=2", "grpo"]
rates = st.floats(0, 1)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def threshold_in_loops(success, failure, rewards):
    """The integral of the docstring, between neighbouring rewards; t is the upper end of each piece."""
    ends = sorted({0.0, 1.0, *rewards})
    advantages = [0.0] * len(rewards)
    for low, high in itertools.pairwise(ends):
        right = [r >= high for r in rewards]
        for i, is_right in enumerate(right):
            advantages[i] += (high - low) * (success if is_right else failure)[sum(right)]
    return advantages


def independent_in_loops(success, failure, rewards):
    """The mean advantage over all 2^N verdicts."""
    advantages = [0.0] * len(rewards)
    for verdicts in itertools.product([0, 1], repeat=len(rewards)):
        chance = math.prod(r if v else 1 - r for r, v in zip(rewards, verdicts, strict=True))
        for i, verdict in enumerate(verdicts):
            advantages[i] += chance * (success if verdict else failure)[sum(verdicts)]
    return advantages


LOOPS = {"threshold": threshold_in_loops, "independent": independent_in_loops}


@settings(max_examples=80)
@given(
    how=st.sampled_from(sorted(LOOPS)),
    text=st.sampled_from(TABLES),
    rewards=st.lists(st.one_of(rates, st.sampled_from([0.0, 0.5, 1.0])), min_size=2, max_size=7),
)
def test_both_extensions_are_what_their_definitions_say(how, text, rewards):
    success, failure = (column.tolist() for column in estimators.resolve(text).coefficients(len(rewards)))
    found = graded(text, how)(double(rewards))
    torch.testing.assert_close(found, double(LOOPS[how](success, failure, rewards)), rtol=1e-10, atol=1e-12)


def test_by_hand():
    """maxrl on (0, 1/2, 1): below 1/2 two of three are right, a = 1/2 and b = -1; above it one, a = 2 and b = -1."""
    assert graded("maxrl")(double([0, 0.5, 1])).tolist() == [-1, 1 / 4 - 1 / 2, 1 / 4 + 2 / 2]
    # verdicts 011 and 001, half and half: the second is right in one of them
    assert graded("maxrl", "independent")(double([0, 0.5, 1])).tolist() == [-1, 1 / 4 - 1 / 2, 1 / 4 + 2 / 2]
    # (1/2, 1/2): one threshold, or 11, 10, 01, 00 with a = 0, (1, -1), (-1, 1), 0
    assert graded("maxrl")(double([0.5, 0.5])).tolist() == [0, 0]
    # reinforce leaves a reward as it is, and rloo takes the mean of the others away
    for how in LOOPS:
        assert graded("reinforce", how)(double([0.25, 0.75])).tolist() == [0.25, 0.75]
        torch.testing.assert_close(graded("rloo", how)(double([0.1, 0.4, 0.9])), double([-0.55, -0.1, 0.65]))


@settings(max_examples=40)
@given(text=st.sampled_from(TABLES), rewards=st.lists(st.sampled_from([0, 1]), min_size=2, max_size=9))
@pytest.mark.parametrize("how", sorted(LOOPS))
def test_right_or_wrong_rewards_are_looked_up_in_the_table(how, text, rewards):
    expected = estimators.resolve(text)(double(rewards))
    torch.testing.assert_close(graded(text, how)(double(rewards)), expected, rtol=1e-12, atol=1e-14)


# Means, by enumeration


LOGITS = double([0.2, -0.4, 0.5, -0.1])
REWARDS = double([0.0, 0.3, 0.3, 0.9])


def mean_gradient(estimator, rollouts):
    """The exact mean of the gradient estimate on a softmax policy over four rollouts, over all groups."""
    policy = LOGITS.softmax(0)
    scores = torch.eye(4, dtype=torch.float64) - policy
    drawn = torch.tensor(list(itertools.product(range(4), repeat=rollouts)))
    chance = policy[drawn].prod(1)
    advantages = estimator(REWARDS[drawn])
    return torch.einsum("g,gn,gnd->d", chance, advantages, scores[drawn]) / rollouts


def gradient(value):
    """The gradient of value(probabilities) with respect to the logits."""
    logits = LOGITS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(logits.softmax(0)), logits)
    return slope


def tail(pi, threshold):
    return (pi * (threshold <= REWARDS)).sum()


def integrated(objective):
    """The integral over t of J(P(r >= t)): r >= t holds for all t up to 0.3, and so on; never right beyond 0.9."""
    return lambda pi: 0.3 * objective.value(tail(pi, 0.3)) + 0.6 * objective.value(tail(pi, 0.9))


def of_the_mean(objective):
    return lambda pi: objective.value((pi * REWARDS).sum())


NAMED = {
    "plain RL": ("rloo", objectives.ExpectedReward()),
    "TailRL, truncated": ("maxrl_no_baseline", objectives.TruncatedLikelihood(4)),
    "TailRL, Algorithm 1": ("maxrl", objectives.TruncatedLikelihood(3)),
    "max@k": ("pkpo:k=3", objectives.PassAtK(3)),
    "soft MaxRL": ("maxrl_leave_one_out", objectives.TruncatedLikelihood(4)),
}


@pytest.mark.parametrize("case", sorted(NAMED))
def test_a_common_threshold_is_unbiased_for_the_integral_over_thresholds(case):
    text, objective = NAMED[case]
    torch.testing.assert_close(mean_gradient(graded(text), 4), gradient(integrated(objective)), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("case", sorted(NAMED))
def test_independent_thresholds_are_unbiased_for_the_objective_of_the_mean_reward(case):
    text, objective = NAMED[case]
    found = mean_gradient(graded(text, "independent"), 4)
    torch.testing.assert_close(found, gradient(of_the_mean(objective)), rtol=1e-11, atol=1e-13)


def test_max_at_k_is_the_expected_best_of_k_rewards():
    def best_of_three(pi):
        drawn = torch.tensor(list(itertools.product(range(4), repeat=3)))
        return (pi[drawn].prod(1) * REWARDS[drawn].max(1).values).sum()

    found = mean_gradient(graded("pkpo:k=3"), 4)
    torch.testing.assert_close(found, gradient(best_of_three), rtol=1e-11, atol=1e-13)


def test_dividing_graded_rewards_by_their_deviation_is_neither_extension():
    rewards = double([0.0, 0.3, 0.9])
    divided = (rewards - rewards.mean()) / rewards.std(correction=0)
    for how in LOOPS:
        assert float((graded("grpo", how)(rewards) - divided).abs().max()) > 0.05


# Shapes, sizes, types


@pytest.mark.parametrize("how", sorted(LOOPS))
def test_shapes_types_and_masks(how):
    rewards = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0))
    estimator = graded("maxrl", how)
    found = estimator(rewards)
    assert found.shape == rewards.shape
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[1, 2], estimator(rewards[1, 2]))
    assert estimator(torch.tensor([1, 0])).tolist() == [1, -1]
    mask = torch.tensor([True, False, True, True, False])
    expected = torch.zeros(5)
    expected[mask] = estimator(rewards[0, 0][mask])
    torch.testing.assert_close(estimator(rewards[0, 0], mask), expected)
    assert rewards[0, 0].equal(torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0))[0, 0])


@pytest.mark.parametrize("how", sorted(LOOPS))
def test_large_groups(how):
    """A thousand equal rewards of 1/4: the threshold sees all right or all wrong, verdicts follow a binomial law."""
    advantages = graded("rloo", how)(torch.full((1000,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(advantages, torch.zeros(1000).double(), rtol=0, atol=1e-12)
    ranks = torch.arange(1000, dtype=torch.float64) / 1000
    found = graded("rloo", how)(ranks)
    torch.testing.assert_close(found, (ranks - ranks.mean()) * 1000 / 999, rtol=1e-9, atol=1e-12)


def test_equal_rewards_of_a_group_get_equal_advantages():
    found = graded("maxrl_no_baseline")(double([0.4, 0.9, 0.4, 0.4]))
    assert found[0] == found[2] == found[3]
    # 4/10 of the way all four are right, a(4) = 1; the next half only the second, a(1) = 4
    assert found.tolist() == pytest.approx([0.4, 0.4 + 0.5 * 4, 0.4, 0.4])


def test_the_integral_against_exact_fractions():
    rewards = [Fraction(1, 5), Fraction(3, 5), Fraction(1)]
    table = [0, 2, Fraction(1, 2), 0], [-1, -1, -1, 0]
    expected = [float(advantage) for advantage in threshold_in_loops(*table, rewards)]
    torch.testing.assert_close(graded("maxrl_control_variate")(double([0.2, 0.6, 1.0])), double(expected))


# Bad input


def test_what_is_refused(refuses):
    for wrong, shown in ((1.5, "1.5"), (-0.5, "-0.5"), (math.nan, "nan")):
        with refuses(f"rewards must lie in [0, 1], got {shown}"):
            graded("maxrl")(double([0.5, wrong]))
    with refuses("rewards must have shape (..., N) with N >= 1, got (0,)"):
        graded("maxrl")([])
    with pytest.raises(ValueError, match=r"\Arewards must be numbers in \[0, 1\], got list: "):
        graded("maxrl")([0.5, None])
    with refuses("unknown extension to graded rewards 'sum'; choose one of: threshold, independent"):
        graded("maxrl", "sum")
    with refuses("expected an estimator's name or a made estimator, got function"):
        graded(test_by_hand)
    with refuses("rloo needs at least 2 rollouts in a group, got N = 1"):
        graded("rloo")([0.5])
    with refuses("rloo needs at least 2 rollouts in a group, got N = 1 (that is what the mask leaves of group 0)"):
        graded("rloo")(double([0.5, 0.1]), [True, False])
    hint = "; for graded rewards in [0, 1] there is estimators.graded"
    with refuses(f"rewards must be 0 or 1 (right or wrong), got 0.5{hint}"):
        make("maxrl")(double([0.5, 1.0]))


def test_an_extension_is_a_hashable_value_with_a_name():
    assert str(graded("pkpo:k=2")) == "graded(pkpo:k=2, threshold)"
    assert hash(graded("maxrl")) == hash(graded("maxrl"))
    assert graded("maxrl") != graded("maxrl", "independent")
