"""Concatenated tasks: every one is what it was, padding is never reached, equal observations are merged."""

from dataclasses import fields, replace

import pytest
import torch
from scipy import stats
from small_worlds import (
    corridor,
    enumerated_pass_rate,
    graphs,
    outcomes,
    random_policy,
    slippery,
)

from maxrl_lab.randomness import generator
from maxrl_lab.tabular.concatenation import concatenate
from maxrl_lab.tabular.tasks import TabularTasks

TENSORS = [field.name for field in fields(TabularTasks) if field.name != "horizon"]


def tables(tasks):
    return {name: getattr(tasks, name) for name in TENSORS if getattr(tasks, name) is not None}


def same(one, other):
    mine, theirs = tables(one), tables(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def observed(tasks, features, seed=0):
    """The same tasks with the given observations, one of which each state shows at random."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(features), tasks.shape[:2], generator=random)
    return replace(tasks, observations=rows, features=features)


def padded(log_policy, states):
    """A policy (T, B, S, A) for more states; what it does on those does not matter."""
    missing = log_policy.new_full((*log_policy.shape[:2], states - log_policy.shape[2], log_policy.shape[3]), -0.5)
    return torch.cat([log_policy, missing], 2)


class TestConcatenate:
    PARTS = (graphs(4, (3, 5, 4), 2), slippery(), graphs(4, (6,), 2, seed=1), corridor(4, 2))

    def joined(self, parts, times=1):
        """(the batch, its policy, the parts' policies)"""
        tasks = concatenate(parts)
        policies = [random_policy(part, times, seed=place) for place, part in enumerate(parts)]
        return tasks, torch.cat([padded(policy, tasks.shape[1]) for policy in policies], 1), policies

    @pytest.mark.parametrize("parts", [PARTS, PARTS[::-1], PARTS[1:3], (PARTS[0], PARTS[2]), PARTS[:1], PARTS[1:2]])
    @pytest.mark.parametrize("times", [1, 4])
    def test_every_task_is_what_it_was(self, parts, times):
        tasks, log_policy, policies = self.joined(parts, times)
        assert tasks.shape == (sum(part.shape[0] for part in parts), max(part.shape[1] for part in parts), 2)
        pairs = list(zip(parts, policies, strict=True))
        wanted = torch.cat([enumerated_pass_rate(part, policy) for part, policy in pairs])
        assert torch.allclose(tasks.pass_rate(log_policy), wanted, rtol=0, atol=1e-12)
        for found, *each in zip(
            tasks.moments(log_policy), *(part.moments(policy) for part, policy in pairs), strict=True
        ):
            assert torch.allclose(found, torch.cat(each), rtol=1e-12)
        first = 0
        for part in parts:
            mine = slice(first, first + part.shape[0])
            assert torch.equal(tasks.distance[mine, : part.shape[1]], part.distance)
            assert torch.equal(tasks.start[mine, : part.shape[1]], part.start)
            first = mine.stop

    def test_padding_is_failure_that_nothing_reaches(self):
        tasks, log_policy, _ = self.joined(self.PARTS)
        sizes = torch.tensor([5, 5, 5, 5, 5, 6, 3])
        padding = torch.arange(6) >= sizes[:, None]
        assert tasks.failure[padding].all()
        assert not tasks.success[padding].any()
        assert not tasks.start[padding].any()
        group, paths = tasks.paths(log_policy, 200, generator(0))
        assert not padding.gather(1, paths.states.flatten(1)).any()
        assert group.rewards.shape == (7, 200)

    def test_deterministic_tasks_stay_so_beside_stochastic_ones(self):
        # The same number of successors for all, and only one of them possible.
        tasks = concatenate(self.PARTS)
        assert tasks.successors.shape == tasks.probabilities.shape == (7, 6, 2, 3)
        for place, part, task in ((0, 0, 0), (2, 0, 2), (5, 2, 0), (6, 3, 0)):
            for state in range(self.PARTS[part].shape[1]):
                for action in range(2):
                    mine = outcomes(tasks, place, state, action)
                    assert mine == outcomes(self.PARTS[part], task, state, action)

    def test_deterministic_parts_stay_a_table_of_successors(self):
        tasks = concatenate([self.PARTS[0], self.PARTS[2]])
        assert tasks.probabilities is None
        assert tasks.successors.shape == (4, 6, 2)

    def test_rollouts_are_right_as_often_as_the_exact_rates_say(self):
        # Random and fixed starts, slips and none in one batch: 7 exact binomial tests, 1e-4 false alarms together.
        tasks, log_policy, _ = self.joined(self.PARTS)
        successes = tasks.rollout(log_policy, 20_000, generator(1)).rewards.sum(-1)
        for count, rate in zip(successes.tolist(), tasks.pass_rate(log_policy).tolist(), strict=True):
            assert stats.binomtest(count, 20_000, min(1.0, rate)).pvalue > 1e-4 / 7

    def test_equal_observations_are_merged(self):
        # Rows 1 and 2 of the first are rows 0 and 1 of the second; the first holds one of them twice.
        random = torch.Generator().manual_seed(3)
        rows = torch.randn(4, 2, 3, generator=random)
        parts = [
            observed(self.PARTS[0], rows[[0, 1, 2, 1]], seed=1),
            observed(self.PARTS[1], rows[[1, 2, 3]], seed=2),
            observed(self.PARTS[3], rows[[3]], seed=3),
        ]
        tasks = concatenate(parts)
        assert len(tasks.features) == 4
        assert {tuple(row.flatten().tolist()) for row in tasks.features} == {
            tuple(row.flatten().tolist()) for row in rows
        }
        seen, first = tasks.features[tasks.observations], 0
        for part in parts:
            mine = seen[first : first + part.shape[0], : part.shape[1]]
            assert torch.equal(mine, part.features[part.observations])
            first += part.shape[0]
        assert concatenate(self.PARTS).features is None
        assert concatenate(self.PARTS).observations is None

    def test_a_batch_may_be_joined_again_or_taken_apart(self):
        parts = [observed(part, torch.eye(3), seed=place) for place, part in enumerate(self.PARTS)]
        once = concatenate(parts)
        assert same(concatenate([concatenate(parts[:2]), concatenate(parts[2:])]), once)
        assert same(concatenate([once.select([0, 1, 2]), once.select([3, 4, 5, 6])]), once)

    def test_refusals(self, refuses):
        with refuses("expected at least one batch of tasks, got none"):
            concatenate([])
        with refuses("tasks of one batch need the same actions, got 2 and 3"):
            concatenate([corridor(4), graphs(4)])
        with refuses("tasks of one batch need the same horizon, got 5 and 4"):
            concatenate([corridor(5), corridor(4)])
        with refuses("tasks of one batch need the same shape of observations, got (3,) and None"):
            concatenate([observed(corridor(), torch.eye(3)), corridor()])
        with refuses("tasks of one batch need the same shape of observations, got (3,) and (2,)"):
            concatenate([observed(corridor(), torch.eye(3)), observed(corridor(), torch.eye(2))])
