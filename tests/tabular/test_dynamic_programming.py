"""Exact pass rates and occupancies of tabular tasks, against every path and value iteration."""

from itertools import product

import numpy as np
import pytest
import torch
from small_worlds import (
    WORLDS,
    corridor,
    enumerated_pass_rate,
    every_path,
    graphs,
    outcomes,
    random_policy,
    slippery,
)

KINDS = [(name, when) for name in WORLDS for when in ("stationary", "in time")]


def world(name, when, seed=0):
    """(tasks, a random policy for them)"""
    tasks = WORLDS[name]
    return tasks, random_policy(tasks, 1 if when == "stationary" else tasks.horizon, seed=seed)


class TestPassRate:
    def test_a_corridor_by_hand(self):
        # Three steps ahead in five, with probability q each. From 0 a step back stays: the first two moves must not
        # undo too much. Of the 28 paths: ahead three times in a row (q^3); one step back at the start (q^3 (1-q)),
        # two (q^3 (1-q)^2); or ahead, back, then ahead three times (q^4 (1-q)); ahead twice, back, and ahead twice
        # (q^4 (1-q)).
        q = 0.3
        wanted = q**3 * (1 + (1 - q) + (1 - q) ** 2) + 2 * q**4 * (1 - q)
        log_policy = torch.tensor([1 - q, q], dtype=torch.float64).log().expand(1, 4, 2)
        assert float(corridor().pass_rate(log_policy)) == pytest.approx(wanted, rel=1e-12)

    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_is_the_summed_probability_of_all_right_paths(self, name, when):
        for seed in range(5):
            tasks, log_policy = world(name, when, seed)
            rates = tasks.pass_rate(log_policy)
            assert rates.dtype == torch.float64
            assert torch.allclose(rates, enumerated_pass_rate(tasks, log_policy), rtol=0, atol=1e-12)

    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_its_gradient_is_that_of_the_enumeration(self, name, when):
        tasks, log_policy = world(name, when)
        # a weight of its own for each task: the tasks' gradients must not mix
        weights = torch.arange(1.0, tasks.shape[0] + 1, dtype=torch.float64)
        gradients = []
        for rates in (tasks.pass_rate, lambda policy: enumerated_pass_rate(tasks, policy)):
            logits = log_policy.clone().requires_grad_()
            (weights @ rates(logits.log_softmax(-1))).backward()
            gradients.append(logits.grad)
        assert gradients[1].abs().max() > 1e-3
        assert torch.allclose(*gradients, rtol=0, atol=1e-12)

    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_its_gradient_is_that_of_finite_differences(self, name, when):
        tasks, log_policy = world(name, when)
        log_policy.requires_grad_()
        assert torch.autograd.gradcheck(lambda logits: tasks.pass_rate(logits.log_softmax(-1)), log_policy)
        assert torch.autograd.gradcheck(tasks.pass_rate, log_policy)

    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_runs_have_pass_rates_of_their_own(self, name, when):
        tasks = WORLDS[name]
        stack = random_policy(tasks, 1 if when == "stationary" else tasks.horizon, runs=4)
        rates = tasks.pass_rate(stack)
        assert rates.shape == (4, tasks.shape[0])
        for run in range(4):
            assert torch.allclose(rates[run], tasks.pass_rate(stack[run]), rtol=0, atol=1e-15)

    def test_a_stationary_policy_may_be_written_out_in_time(self):
        tasks, log_policy = world("slippery", "stationary")
        assert torch.equal(tasks.pass_rate(log_policy[0]), tasks.pass_rate(log_policy))
        assert torch.equal(tasks.pass_rate(log_policy.expand(tasks.horizon, -1, -1, -1)), tasks.pass_rate(log_policy))

    def test_impossible_actions_have_gradient_0_not_nan(self):
        tasks = corridor()
        log_policy = torch.tensor([[[-torch.inf, 0.0]] * 4], dtype=torch.float64, requires_grad=True)
        rate = tasks.pass_rate(log_policy)
        rate.backward()
        assert rate.item() == 1.0
        # every path goes ahead once from each of three states
        assert log_policy.grad.tolist() == [[[0.0, 1.0]] * 3 + [[0.0, 0.0]]]

    def test_what_the_policy_does_after_the_end_does_not_matter(self):
        tasks, log_policy = world("graphs", "stationary")
        elsewhere = log_policy.masked_fill(~tasks.active[..., None], -torch.inf).requires_grad_()
        rates = tasks.pass_rate(elsewhere)
        rates.sum().backward()
        assert torch.equal(rates, tasks.pass_rate(log_policy))
        assert torch.equal(elsewhere.grad != 0, (elsewhere.grad != 0) & tasks.active[..., None])
        assert elsewhere.grad.isfinite().all()

    def test_float32_policies_lose_nothing_in_the_recursion(self):
        tasks, log_policy = world("slippery", "stationary")
        assert torch.equal(tasks.pass_rate(log_policy.float()), tasks.pass_rate(log_policy.float().double()))

    def test_small_pass_rates_keep_their_digits(self):
        # ahead 12 times with probability 1e-9 each, in exactly 12 steps
        tasks = corridor(horizon=12, length=12)
        log_policy = torch.tensor([1 - 1e-9, 1e-9], dtype=torch.float64).log().expand(1, 13, 2)
        assert float(tasks.pass_rate(log_policy)) == pytest.approx(1e-108, rel=1e-12)


class TestOccupancy:
    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_is_the_probability_of_all_paths_through_a_state(self, name, when):
        tasks, log_policy = world(name, when)
        found = tasks.occupancy(log_policy)
        assert found.shape == (tasks.horizon + 1, *tasks.shape[:2])
        for task in range(tasks.shape[0]):
            paths = every_path(tasks, task, len(log_policy))
            visited = torch.tensor([states for states, _ in paths.keys])
            probabilities = paths.probabilities(log_policy[:, task])
            for step in range(tasks.horizon + 1):
                wanted = probabilities.new_zeros(tasks.shape[1]).index_add(0, visited[:, step], probabilities)
                assert torch.allclose(found[step, task], wanted, rtol=0, atol=1e-12)

    def test_runs_have_one_of_their_own(self):
        tasks = WORLDS["slippery"]
        stack = random_policy(tasks, runs=3)
        found = tasks.occupancy(stack)
        assert found.shape == (tasks.horizon + 1, 3, *tasks.shape[:2])
        for run in range(3):
            assert torch.allclose(found[:, run], tasks.occupancy(stack[run]), rtol=0, atol=1e-15)
        on_success = (found[-1] * tasks.success).sum(-1)
        assert torch.allclose(on_success, tasks.pass_rate(stack), rtol=1e-12)


def best_in_time(tasks, task):
    """(largest pass rate, a greedy policy (H, S, A) of probabilities 0 and 1), by plain backward recursion."""
    _, states, actions = tasks.shape
    value = [float(tasks.success[task, state]) for state in range(states)]
    policy = torch.zeros(tasks.horizon, states, actions, dtype=torch.float64)
    for step in reversed(range(tasks.horizon)):
        after = []
        for state in range(states):
            values = [
                sum(chance * value[s] for chance, s in outcomes(tasks, task, state, action))
                for action in range(actions)
            ]
            best = max(range(actions), key=values.__getitem__)
            policy[step, state, best] = 1.0
            ended = bool(tasks.success[task, state] or tasks.failure[task, state])
            after.append(value[state] if ended else values[best])
        value = after
    return sum(float(chance) * v for chance, v in zip(tasks.start[task], value, strict=True)), policy


class TestBestPolicy:
    @pytest.mark.parametrize("tasks", [*WORLDS.values(), slippery(7), graphs(6, (8, 6, 7), 2, seed=3)])
    def test_the_greedy_policy_of_value_iteration_reaches_its_value(self, tasks):
        best, policies = zip(*(best_in_time(tasks, task) for task in range(tasks.shape[0])), strict=True)
        rates = tasks.pass_rate(torch.stack(policies, 1).log())
        assert rates.tolist() == pytest.approx(best, abs=1e-12)
        for seed in range(20):
            other = random_policy(tasks, tasks.horizon, seed=seed, spread=5.0)
            assert (tasks.pass_rate(other) <= rates + 1e-12).all()

    def test_no_table_of_actions_in_time_does_better(self):
        # Every deterministic policy of the first slippery task with horizon 2: (2^3)^2 of them on its active states.
        tasks = slippery(2).select([0])
        rates = []
        for choices in product(range(2), repeat=6):
            policy = torch.zeros(2, 1, 5, 2, dtype=torch.float64)
            policy[..., 0] = 1.0
            for (step, state), action in zip(product(range(2), range(3)), choices, strict=True):
                policy[step, 0, state] = torch.eye(2)[action]
            rates.append(float(tasks.pass_rate(policy.log())))
        assert max(rates) == pytest.approx(best_in_time(tasks, 0)[0], abs=1e-12)
        assert min(rates) < max(rates) - 0.1

    @pytest.mark.parametrize("name", list(WORLDS))
    def test_an_independent_solver_finds_the_same_value(self, name):
        mdp = pytest.importorskip("mdptoolbox.mdp")
        tasks = WORLDS[name]
        count, states, actions = tasks.shape
        for task in range(count):
            moves = np.zeros((actions, states, states))
            for state, action in product(range(states), range(actions)):
                ended = bool(tasks.success[task, state] or tasks.failure[task, state])
                for chance, after in [(1.0, state)] if ended else outcomes(tasks, task, state, action):
                    moves[action, state, after] += chance
            end = tasks.success[task].double().numpy()
            solver = mdp.FiniteHorizon(moves, np.zeros((states, actions)), 1.0, tasks.horizon, h=end)
            solver.run()
            policy = torch.zeros(tasks.horizon, 1, states, actions, dtype=torch.float64)
            policy.scatter_(-1, torch.as_tensor(solver.policy.T.copy()).long()[:, None, :, None], 1.0)
            wanted = float(tasks.start[task].numpy() @ solver.V[:, 0])
            assert float(tasks.select([task]).pass_rate(policy.log())) == pytest.approx(wanted, abs=1e-12)
            assert best_in_time(tasks, task)[0] == pytest.approx(wanted, abs=1e-12)
