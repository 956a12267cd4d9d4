"""Soft-optimal control: every path summed by hand against the recursion."""

import itertools

import pytest
import torch
from small_worlds import corridor, graphs, slippery

from maxrl_lab.feedback import soft_control
from maxrl_lab.feedback.soft_control import soft_value_iteration
from maxrl_lab.tabular import transitions
from maxrl_lab.tabular.transitions import dense_transitions

WORLDS = {"deterministic": graphs(3), "stochastic": slippery(3), "corridor": corridor(3)}


def some_rewards(tasks, seed=0):
    return torch.randn(tasks.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def solved(tasks, rewards, temperature=0.7):
    return soft_value_iteration(dense_transitions(tasks), rewards, horizon=tasks.horizon, temperature=temperature)


@pytest.mark.parametrize("name", WORLDS)
class TestSoftControl:
    def test_dense_transitions_are_the_tables(self, name):
        tasks = WORLDS[name]
        dense = dense_transitions(tasks)
        for task, state, action in itertools.product(*map(range, tasks.shape)):
            wanted = torch.zeros(tasks.shape[1], dtype=torch.float64)
            if not tasks.active[task, state]:
                wanted[state] = 1
            elif tasks.probabilities is None:
                wanted[tasks.successors[task, state, action]] = 1
            else:
                for after, chance in zip(
                    tasks.successors[task, state, action], tasks.probabilities[task, state, action], strict=True
                ):
                    wanted[after] += chance
            assert torch.equal(dense[task, state, action], wanted)

    def test_values_are_rewards_and_entropy_of_the_policy(self, name):
        # V_0 = E sum_t (r + tau H(pi_t)): from the visits, which know nothing of the values
        tasks, temperature = WORLDS[name], 0.7
        rewards = some_rewards(tasks)
        made = solved(tasks, rewards, temperature)
        at = soft_control.visits(dense_transitions(tasks), tasks.start, made.log_policy)
        worth = (at * (rewards - temperature * made.log_policy)).sum((0, 2, 3))
        assert torch.allclose(worth, (tasks.start * made.values[0]).sum(1), rtol=0, atol=1e-12)

    def test_no_policy_is_worth_more(self, name):
        tasks, temperature = WORLDS[name], 0.7
        rewards, dense = some_rewards(tasks), dense_transitions(tasks)
        best = (tasks.start * solved(tasks, rewards, temperature).values[0]).sum(1)
        for seed in range(20):
            noise = solved(tasks, rewards + 0.3 * some_rewards(tasks, seed + 1), temperature)
            at = soft_control.visits(dense, tasks.start, noise.log_policy)
            assert ((at * (rewards - temperature * noise.log_policy)).sum((0, 2, 3)) < best).all()

    def test_visits_are_the_occupancy_of_the_tables(self, name):
        tasks = WORLDS[name]
        policy = solved(tasks, some_rewards(tasks)).log_policy
        at = soft_control.visits(dense_transitions(tasks), tasks.start, policy)
        assert torch.allclose(at.sum(-1), tasks.occupancy(policy)[:-1], rtol=0, atol=1e-12)
        assert torch.allclose(at.sum((2, 3)), torch.ones(at.shape[:2], dtype=torch.float64), rtol=0, atol=1e-12)

    def test_policies_are_policies_of_the_tables(self, name):
        tasks = WORLDS[name]
        assert tasks.pass_rate(solved(tasks, some_rewards(tasks)).log_policy).shape == tasks.shape[:1]


def test_a_path_is_as_likely_as_its_rewards_where_moves_are_certain():
    # deterministic world: p(path) is proportional to exp(sum of rewards / tau), over all A^H sequences of actions
    tasks, temperature = corridor(3), 0.7
    rewards = some_rewards(tasks)
    policy = solved(tasks, rewards, temperature).log_policy
    dense, logs, sums = dense_transitions(tasks), [], []
    for actions in itertools.product(range(2), repeat=3):
        state, log_prob, total = 0, 0.0, 0.0
        for step, action in enumerate(actions):
            log_prob += float(policy[step, 0, state, action])
            total += float(rewards[0, state, action]) / temperature
            state = int(dense[0, state, action].argmax())
        logs.append(log_prob)
        sums.append(total)
    wanted = torch.tensor(sums, dtype=torch.float64).log_softmax(0)
    assert torch.allclose(torch.tensor(logs, dtype=torch.float64), wanted, rtol=0, atol=1e-12)


class TestBadInput:
    def test_temperature(self, refuses):
        tasks = corridor(3)
        with refuses("temperature must be positive and finite, got 0.0"):
            solved(tasks, some_rewards(tasks), 0.0)

    def test_shapes(self, refuses):
        dense = dense_transitions(corridor(3))
        with refuses("expected rewards (B, S, A) and transitions (B, S, A, S), got (1, 4) and (1, 4, 2, 4)"):
            soft_value_iteration(dense, torch.zeros(1, 4), horizon=3, temperature=1.0)

    def test_a_world_that_is_too_large(self, refuses, monkeypatch):
        monkeypatch.setattr(transitions, "MOST_NUMBERS", 31)
        with refuses(
            "a world for exact soft control may have at most 31 transition probabilities, got 32 "
            "(1 tasks x 4 states x 2 actions x 4 states)"
        ):
            dense_transitions(corridor(3))
