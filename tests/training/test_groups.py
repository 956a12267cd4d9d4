"""A group holds right-or-wrong rewards and as many log-probabilities; anything else is refused by name."""

import dataclasses

import pytest
import torch

from maxrl_lab.training.groups import DivergedError, Group


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32, torch.float64])
def test_right_or_wrong_rewards_of_any_type_are_accepted(dtype):
    rewards = torch.tensor([[1, 0, 1], [0, 0, 0]]).to(dtype)
    group = Group(rewards, torch.zeros(2, 3), lengths=torch.ones(2, 3))
    assert group.rewards is rewards
    assert group.lengths.shape == (2, 3)


def test_rollouts_is_the_last_axis_whatever_leads():
    # R = 4 runs, B = 2 tasks, N = 3 rollouts.
    assert Group(torch.zeros(4, 2, 3), torch.zeros(4, 2, 3)).rollouts == 3


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan"), float("inf")])
def test_a_reward_that_is_not_right_or_wrong_is_named(value):
    rewards = torch.tensor([[0.0, 1.0], [value, 1.0]])
    with pytest.raises(ValueError, match=rf"must be 0 or 1 .*got {value}"):
        Group(rewards, torch.zeros(2, 2))


@pytest.mark.parametrize("shape", [(), (3,)])
def test_rewards_without_a_task_axis_are_refused(shape):
    with pytest.raises(ValueError, match=r"rewards must have shape \(\.\.\., B, N\), got \(" + str(shape)[1:-1]):
        Group(torch.zeros(shape), torch.zeros(shape))


def test_a_group_without_rollouts_is_refused():
    with pytest.raises(ValueError, match=r"N >= 1, got \(2, 0\)"):
        Group(torch.zeros(2, 0), torch.zeros(2, 0))


@pytest.mark.parametrize("shape", [(3, 2), (2,), (2, 3, 1), (1, 2, 3), (2, 1)])
def test_log_probs_and_lengths_must_have_the_rewards_shape(shape):
    # (1, 2, 3) and (2, 1) would broadcast against (2, 3) without an error of torch's own.
    rewards = torch.zeros(2, 3)
    shapes = rf"the rewards' shape \(2, 3\), got \({str(shape)[1:-1]}\)"
    with pytest.raises(ValueError, match="^log_probs must have " + shapes):
        Group(rewards, torch.zeros(shape))
    with pytest.raises(ValueError, match="^lengths must have " + shapes):
        Group(rewards, torch.zeros(2, 3), lengths=torch.ones(shape))


@pytest.mark.parametrize("shape", [(2, 3), (3,), (1,), ()])
def test_greedy_has_one_entry_a_task(refuses, shape):
    # (1,) and () would broadcast without an error of torch's own
    with refuses(f"greedy must have one entry a task, shape (2,), got {shape}"):
        Group(torch.zeros(2, 3), torch.zeros(2, 3), greedy=torch.zeros(shape, dtype=torch.bool))


def test_entropies_have_the_rewards_shape(refuses):
    with refuses("entropies must have the rewards' shape (2, 3), got (2, 1)"):
        Group(torch.zeros(2, 3), torch.zeros(2, 3), entropies=torch.zeros(2, 1))


def test_select_takes_runs_of_everything_there_is():
    values = torch.arange(24.0).view(4, 2, 3)
    counts = torch.tensor([1, 0, 2]).expand(4, 2, 3)
    group = Group((values % 2).long(), -values, values + 1, values + 2, torch.eye(4, dtype=torch.bool)[:, :2], counts)
    some = group.select(slice(1, 3))
    for field in dataclasses.fields(Group):
        assert torch.equal(getattr(some, field.name), getattr(group, field.name)[1:3]), field.name


def test_select_leaves_what_is_unknown_unknown():
    some = Group(torch.zeros(4, 2, 3), torch.zeros(4, 2, 3)).select(slice(2, 3))
    assert some.rewards.shape == some.log_probs.shape == (1, 2, 3)
    assert (some.lengths, some.entropies, some.greedy, some.counts) == (None, None, None, None)


def test_counts_say_how_many_rollouts_there_are():
    counts = torch.tensor([[5, 0, 2], [1, 1, 5]])
    assert Group(torch.zeros(2, 3), torch.zeros(2, 3), counts=counts).rollouts == 7


def test_groups_of_different_sizes_are_refused(refuses):
    counts = torch.tensor([[5, 0, 2], [1, 1, 1]])
    with refuses("counts must add up to the same number of rollouts in every group, got different sums"):
        Group(torch.zeros(2, 3), torch.zeros(2, 3), counts=counts)
    with refuses("counts must have the rewards' shape (2, 3), got (1, 3)"):
        Group(torch.zeros(2, 3), torch.zeros(2, 3), counts=counts[:1])


def test_a_run_that_has_diverged_is_named_with_its_updates():
    error = DivergedError(3, 12)
    assert (error.run, error.step) == (3, 12)
    assert str(error) == "the policy of run 3 is NaN after 12 updates: it has diverged"


def test_a_group_is_frozen():
    group = Group(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        group.rewards = torch.ones(1, 2)
