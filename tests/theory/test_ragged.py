"""Masked and ragged groups: the table is that of the N that is left; mixtures of sizes; rows that name their group."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl_lab import estimators, exact
from maxrl_lab.estimators import grouped, make, ragged, zero_if_too_small

GRID = torch.linspace(0, 1, 11, dtype=torch.float64)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


# Masks


def test_a_mask_by_hand():
    """rloo: of 1, 0, 0 the first is 1 above the mean of the two others, and they are 1/2 below that of theirs."""
    rewards = double([[1, 0, 0, 1], [1, 0, 1, 0]])
    mask = torch.tensor([[True, True, True, False], [True, False, True, False]])
    expected = double([[1, -1 / 2, -1 / 2, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(make("rloo")(rewards, mask), expected)
    torch.testing.assert_close(make("rloo")(rewards[0], mask[0]), expected[0])
    torch.testing.assert_close(make("rloo")(rewards[:, None], mask[:, None]), expected[:, None])
    whole = make("maxrl")(rewards, torch.ones_like(mask))
    assert torch.equal(whole, make("maxrl")(rewards))


@settings(max_examples=60)
@given(
    text=st.sampled_from(["maxrl", "grpo", "rloo", "pkpo:k=2", "maxrl_control_variate"]),
    groups=st.lists(st.lists(st.sampled_from([0, 1, None]), min_size=5, max_size=5), min_size=1, max_size=4),
)
def test_masked_rollouts_are_as_if_they_had_never_been(text, groups):
    """None stands for a lost rollout: its reward is NaN, and the others see a group without it."""
    estimator = estimators.resolve(text)
    groups = [group for group in groups if sum(r is not None for r in group) >= 2] or [[1, 0, None, None, None]]
    rewards = double([[math.nan if r is None else r for r in group] for group in groups])
    found = estimator(rewards, ~rewards.isnan())
    for row, group in zip(found.tolist(), groups, strict=True):
        alone = iter(estimator(double([r for r in group if r is not None])).tolist())
        assert row == [0.0 if r is None else next(alone) for r in group]


def test_the_type_of_masked_advantages_is_that_of_the_rewards():
    mask = [True, True, False]
    assert make("rloo")(torch.tensor([1, 0, 1]), mask).dtype == torch.get_default_dtype()
    assert make("rloo")(double([1, 0, 1]), mask).dtype == torch.float64
    assert make("rloo")([1, 0, 1], np.array([1, 1, 0])).tolist() == [1, -1, 0]


def test_none_stands_for_a_lost_reward_in_a_list():
    assert make("rloo")([[1, None, 0], [None, 1, 1]], [[1, 0, 1], [0, 1, 1]]).tolist() == [[1, 0, -1], [0, 0, 0]]
    assert grouped("rloo", [1, None, 0], ["a", "a", "a"], mask=[True, False, True]).tolist() == [1, 0, -1]


def test_masks_that_are_refused(refuses):
    with pytest.raises(ValueError, match=r"\Arewards must be numbers in groups of equal size, got list: "):
        make("rloo")([[1, 0], [1]], [[1, 1], [1, 1]])
    with refuses("rewards must be 0 or 1 (right or wrong), got nan; a mask leaves lost rollouts out"):
        make("rloo")([1, None, 0], [1, 1, 0])
    rloo, rewards = make("rloo"), double([[1, 0, 0], [1, 1, 0]])
    with refuses("mask must have the rewards' shape (2, 3), got (3,)"):
        rloo(rewards, torch.ones(3))
    with refuses("mask must be true where a rollout is left, else false, got 0.5"):
        rloo(rewards, torch.full((2, 3), 0.5))
    with refuses("the mask leaves no rollout of group 1"):
        rloo(rewards, torch.tensor([[1, 1, 1], [0, 0, 0]]))
    with refuses("rloo needs at least 2 rollouts in a group, got N = 1 (that is what the mask leaves of group 1)"):
        rloo(rewards, torch.tensor([[1, 1, 1], [0, 1, 0]]))
    with refuses("rewards must be 0 or 1 (right or wrong), got nan; a mask leaves lost rollouts out"):
        rloo(double([1, math.nan, math.nan]))
    with refuses("rewards must be 0 or 1 (right or wrong), got 2.0"):
        rloo(double([1, 2, math.nan]), double([1, 1, 0]))


def test_groups_that_are_too_small_give_zeros_by_choice(refuses):
    lenient = zero_if_too_small("rloo")
    rewards, mask = double([[1, 0, 0], [1, 1, 0], [1, 1, 1]]), torch.tensor([[1, 1, 1], [0, 0, 0], [0, 1, 0]])
    torch.testing.assert_close(lenient(rewards, mask), double([[1, -0.5, -0.5], [0, 0, 0], [0, 0, 0]]))
    assert str(lenient) == "rloo (0 if too small)"
    assert zero_if_too_small("rloo") == lenient
    assert [column.tolist() for column in lenient.coefficients(1)] == [[0, 0], [0, 0]]
    with refuses("rewards must be 0 or 1 (right or wrong), got 2.0"):
        lenient(double([[1, 2]]), double([[1, 1]]))
    with refuses("expected an estimator's name or a made estimator, got function"):
        zero_if_too_small(test_a_mask_by_hand)


# Lists of groups, and rows that name their group


def test_a_list_of_groups_of_unequal_size():
    found = ragged("maxrl", [[1, 0], torch.tensor([0, 0, 1]), np.array([0.0])])
    assert [group.tolist() for group in found] == [[1, -1], [-1, -1, 2], [0]]
    # N in the text is each group's own: pass@N-1 of two is pass@1
    assert [group.tolist() for group in ragged("pkpo:k=N-1", [[1, 0], [1, 0, 0]])] == [[1, 0], [2, 0, 0]]
    assert ragged(lambda rewards: rewards - 1.0, [[1, 0], [1]])[1].tolist() == [0]


def test_lists_of_groups_that_are_refused(refuses):
    with refuses("expected at least one group of rewards, got none"):
        ragged("maxrl", [])
    with refuses("group 1: rloo needs at least 2 rollouts in a group, got N = 1"):
        ragged("rloo", [[1, 0], [1]])
    with refuses("group 0: rewards must have shape (..., N) with N >= 1, got (0,)"):
        ragged("rloo", [[]])
    with refuses("group 1: expected rewards (N,), got (1, 2)"):
        ragged("rloo", [[1, 0], [[1, 0]]])
    with refuses("group 0: rewards must be 0 or 1 (right or wrong), got None"):
        ragged("rloo", [[1, None]])


@settings(max_examples=40)
@given(data=st.data())
def test_rows_in_any_order_are_the_groups_that_they_name(data):
    """Names may be sparse, negative or text; a permutation of the rows permutes the advantages."""
    names = data.draw(st.lists(st.sampled_from([-7, 10**12, 3]), min_size=2, max_size=12))
    rewards = data.draw(st.lists(st.sampled_from([0, 1]), min_size=len(names), max_size=len(names)))
    found = grouped("maxrl", rewards, names)
    for name in set(names):
        rows = [row for row, other in enumerate(names) if other == name]
        expected = make("maxrl")(torch.tensor([rewards[row] for row in rows]))
        assert torch.equal(found[rows], expected)
    order = data.draw(st.permutations(range(len(names))))
    shuffled = grouped("maxrl", [rewards[i] for i in order], [str(names[i]) for i in order])
    assert torch.equal(shuffled, found[order])


def test_rows_that_are_masked_or_told_apart():
    names, rewards = ["a", "b", "a", "b", "a"], double([1, 1, 0, 0, math.nan])
    found = grouped("rloo", rewards, names, mask=~rewards.isnan())
    assert found.tolist() == [1, 1, -1, -1, 0]
    # a group of which nothing is left takes no part
    assert grouped("rloo", double([1, 0, 1]), [1, 1, 2], mask=[1, 1, 0]).tolist() == [1, -1, 0]
    # the same number in two groups is no copy, and a copy that is masked does not count
    assert grouped("rloo", [1, 0, 1, 0], [0, 0, 1, 1], rollouts=[0, 1, 0, 1]).tolist() == [1, -1, 1, -1]
    assert grouped("rloo", [1, 0, 1], [0, 0, 0], rollouts=[0, 1, 0], mask=[1, 1, 0]).tolist() == [1, -1, 0]


def test_rows_that_are_refused(refuses):
    with refuses("rows 0 and 2 are the same rollout 5 of group 'x': give it once"):
        grouped("rloo", [1, 0, 1], ["x", "x", "x"], rollouts=[5, 6, 5])
    with refuses("every row must name its group, got nan at row 1"):
        grouped("rloo", [1, 0], [1.0, math.nan])
    with refuses("every row must name its group, got None at row 0"):
        grouped("rloo", [1, 0], [None, "a"])
    with refuses("expected a group for each of 2 rows, got 3 and 3 rollouts"):
        grouped("rloo", [1, 0], [1, 1, 1])
    with refuses("expected a group for each of 2 rows, got 2 and 1 rollouts"):
        grouped("rloo", [1, 0], [1, 1], rollouts=[0])
    with refuses("expected rewards (M,), one for each row, got (1, 2)"):
        grouped("rloo", [[1, 0]], [1, 1])
    with refuses("mask must have one true or false for each of 2 rows, got [2, 0]"):
        grouped("rloo", [1, 0], [1, 1], mask=[2, 0])
    with refuses("mask must have one true or false for each of 2 rows, got [1]"):
        grouped("rloo", [1, 0], [1, 1], mask=[1])
    with refuses("group 7: rloo needs at least 2 rollouts in a group, got N = 1"):
        grouped("rloo", [1, 0, 1], [7, 4, 4])
    with refuses("group 4: rewards must be 0 or 1 (right or wrong), got -1"):
        grouped("rloo", [1, -1, 0], [4, 4, 4])


# Mixtures of sizes


def test_the_mean_of_ragged_groups_is_the_mixture_of_their_weights():
    shares = {2: 0.25, 3: 0.75}
    found = exact.weight("maxrl_no_baseline", rollouts=shares, pass_rate=GRID)
    torch.testing.assert_close(found, 0.25 * (2 - GRID) + 0.75 * (1 + (1 - GRID) + (1 - GRID) ** 2))
    # N is each group's own, and a lost group gives nothing
    halved = exact.weight("pkpo:k=N", rollouts={0: 0.5, 2: 0.5}, pass_rate=GRID)
    torch.testing.assert_close(halved, 1 - GRID)
    same = exact.weight("grpo", rollouts={5: 1.0}, pass_rate=GRID)
    assert torch.equal(same, exact.weight("grpo", rollouts=5, pass_rate=GRID))
    bias = exact.bias("maxrl_no_baseline", rollouts=shares, objective="truncated_likelihood:order=2", pass_rate=GRID)
    torch.testing.assert_close(bias, 0.75 * (1 - GRID) ** 2)


@pytest.mark.parametrize("lost", [0.0, 0.2, 1.0])
def test_mean_and_variance_when_each_rollout_may_be_lost(lost):
    """All groups of three with all ways of losing rollouts, one by one, whatever their reward."""
    logits, won = double([0.3, -0.5, 0.1]), double([1, 0, 1])
    policy = logits.softmax(0)
    scores = torch.eye(3, dtype=torch.float64) - policy
    shares = {n: math.comb(3, n) * (1 - lost) ** n * lost ** (3 - n) for n in range(4)}
    estimator = zero_if_too_small("rloo")
    mean, square = torch.zeros(3).double(), 0.0
    for drawn in itertools.product(range(3), repeat=3):
        for kept in itertools.product([True, False], repeat=3):
            n = sum(kept)
            chance = policy[list(drawn)].prod() * (1 - lost) ** n * lost ** (3 - n)
            advantages = estimator(won[list(drawn)], torch.tensor(kept))
            gradient = (advantages[:, None] * scores[list(drawn)]).sum(0) / max(n, 1)
            mean, square = mean + chance * gradient, square + chance * gradient.square().sum()
    found = exact.moments(estimator, rollouts=shares, probabilities=policy, scores=scores, rewards=won)
    torch.testing.assert_close(found.mean, mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found.variance, square - mean.square().sum(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("text", ["rloo", "maxrl", "maxrl_centred:order=1", "maxrl_no_baseline", "reinforce"])
def test_leaving_out_what_was_cut_off(text):
    """Of four outcomes the last is cut off; p' is the chance of a right answer among those that come to an end.

    Zero-sum tables then climb p' itself, as exact mixtures say. Others add m_n times the gradient of the log of the
    chance of coming to an end, with m_n the mean of an advantage.
    """
    logits, won, finished = double([0.3, -0.5, 0.1, 0.4]), double([1, 0, 0, 1]), torch.tensor([True, True, True, False])
    logits.requires_grad_()
    policy = logits.softmax(0)
    ends = policy[finished].sum()
    p = policy[0] / ends
    slope, drift = (torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (p, ends.log()))
    policy, chance = policy.detach(), ends.item()
    scores = torch.eye(4, dtype=torch.float64) - policy
    estimator, mean = zero_if_too_small(text), torch.zeros(4).double()
    for drawn in itertools.product(range(4), repeat=3):
        drawn = list(drawn)
        kept = finished[drawn]
        advantages = estimator(won[drawn], kept)
        gradient = (advantages[:, None] * scores[drawn]).sum(0) / max(int(kept.sum()), 1)
        mean += policy[drawn].prod() * gradient
    shares = {n: math.comb(3, n) * chance**n * (1 - chance) ** (3 - n) for n in range(4)}
    expected = exact.weight(estimator, rollouts=shares, pass_rate=p.detach()) * slope
    for n in range(1, 4):
        success, failure = estimator.coefficients(n)
        law = [math.comb(n, k) * p.item() ** k * (1 - p.item()) ** (n - k) for k in range(n + 1)]
        sums = (k * success[k] + (n - k) * failure[k] for k in range(n + 1))
        expected = expected + shares[n] * float(sum(c * a for c, a in zip(law, sums, strict=True))) / n * drift
    torch.testing.assert_close(mean, expected, rtol=1e-11, atol=1e-13)
    climbs_p = torch.allclose(mean, exact.weight(estimator, rollouts=shares, pass_rate=p.detach()) * slope)
    assert climbs_p == (text not in ("maxrl_no_baseline", "reinforce"))


def test_shares_that_are_refused(refuses):
    for shares in ({3: 0.5, 4: 0.4}, {3: 1.5, 4: -0.5}):
        total = sum(shares.values())
        with refuses(f"shares of the numbers of rollouts must be >= 0 and sum to 1, got {shares} with sum {total:g}"):
            exact.weight("rloo", rollouts=shares, pass_rate=GRID)
    with refuses("a number of rollouts must be a whole number >= 0, got 2.5"):
        exact.weight("rloo", rollouts={2.5: 1.0}, pass_rate=GRID)
    with refuses("rloo needs at least 2 rollouts in a group, got N = 1"):
        exact.weight("rloo", rollouts={1: 0.1, 4: 0.9}, pass_rate=GRID)
    with refuses("shares of the numbers of rollouts must be >= 0 and sum to 1, got {} with sum 0"):
        exact.weight("rloo", rollouts={}, pass_rate=GRID)
