"""Tabular tasks as a container: what they refuse, how they are joined, and what the trainer makes of them."""

from collections import deque
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy import stats
from small_worlds import (
    WORLDS,
    corridor,
    enumerated_pass_rate,
    graphs,
    outcomes,
    random_policy,
    slippery,
)

from maxrl_lab import exact, objectives
from maxrl_lab.randomness import generator
from maxrl_lab.tabular.batch import DivergedError, TabularBatch
from maxrl_lab.tabular.concatenation import concatenate
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.training.methods import Exact, Expected, Sampled
from maxrl_lab.training.step import run_losses

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


def altered(values, *changes):
    """A copy of a tensor with (place, value) changes."""
    copy = values.clone()
    for place, value in changes:
        copy[place] = value
    return copy


class TestDerived:
    @pytest.mark.parametrize("tasks", [*WORLDS.values(), graphs(6, (8, 6, 7), 2, seed=3), corridor(9, 9)])
    def test_distance_is_that_of_a_breadth_first_search(self, tasks):
        count, states, actions = tasks.shape
        for task in range(count):
            into = {state: set() for state in range(states)}
            for state in range(states):
                if not (tasks.success[task, state] or tasks.failure[task, state]):
                    for action in range(actions):
                        for _, after in outcomes(tasks, task, state, action):
                            into[after].add(state)
            distance = {state: 0.0 for state in range(states) if tasks.success[task, state]}
            queue = deque(distance)
            while queue:
                state = queue.popleft()
                for before in into[state] - distance.keys():
                    distance[before] = distance[state] + 1
                    queue.append(before)
            wanted = [distance.get(state, float("inf")) for state in range(states)]
            assert tasks.distance[task].tolist() == wanted
            assert tasks.distance.dtype == torch.float64

    def test_distance_takes_a_slip_as_luck_but_not_an_impossible_one(self):
        # One action from 0: to 1 (a pit) or, with the given chance, to 2; from there one certain step to success, 3.
        for chance, wanted in ((1e-6, 2.0), (0.0, float("inf"))):
            tasks = TabularTasks(
                successors=torch.tensor([[[[1, 2]], [[1, 1]], [[3, 0]], [[3, 3]]]]),
                start=torch.tensor([[0.5, 0.0, 0.5, 0.0]]),
                success=torch.tensor([[False, False, False, True]]),
                failure=torch.tensor([[False, True, False, False]]),
                horizon=3,
                probabilities=torch.tensor(
                    [[[[1 - chance, chance]], [[1.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]]]], dtype=torch.float64
                ),
            )
            assert tasks.distance.tolist() == [[wanted, float("inf"), 1.0, 0.0]]

    def test_shape_and_active(self):
        tasks = graphs()
        assert tasks.shape == (3, 5, 3)
        assert slippery().shape == (2, 5, 2)
        # the pit and success are the last two of 3, 5 and 4 states; what follows is padding
        ahead = [[True] + [False] * 4, [True] * 3 + [False] * 2, [True] * 2 + [False] * 3]
        assert tasks.active.tolist() == ahead

    def test_next_states_are_flat_and_stay_on_absorbing_states(self):
        for tasks in WORLDS.values():
            count, states, actions = tasks.shape
            for task in range(count):
                for state in range(states):
                    for action in range(actions):
                        flat = set(tasks.next_states[task, state, action].tolist())
                        if tasks.success[task, state] or tasks.failure[task, state]:
                            assert flat == {task * states + state}
                        else:
                            after = {task * states + s for _, s in outcomes(tasks, task, state, action)}
                            # an impossible move is written as standing still
                            assert after <= flat <= after | {task * states + state}


class TestRefusals:
    def test_shapes_of_the_moves(self, refuses):
        tasks, slips = corridor(), slippery()
        with refuses("successors must be (B, S, A) or (B, S, A, C), got (4, 2)"):
            replace(tasks, successors=tasks.successors[0])
        with refuses("successors must be (B, S, A) or (B, S, A, C), got (1, 4, 0)"):
            replace(tasks, successors=tasks.successors[..., :0])
        together = "successors (B, S, A, C) come with probabilities, successors (B, S, A) without"
        with refuses(together):
            replace(slips, probabilities=None)
        with refuses(together):
            replace(slips, successors=slips.successors[..., 0])
        with refuses("probabilities and successors must have the same shape, got (2, 5, 2, 2) and (2, 5, 2, 3)"):
            replace(slips, probabilities=slips.probabilities[..., :2])

    @pytest.mark.parametrize("name", ["start", "success", "failure"])
    def test_shapes_of_the_states(self, refuses, name):
        tasks = corridor()
        with refuses(f"{name} must have shape (1, 4), got (1, 3)"):
            replace(tasks, **{name: getattr(tasks, name)[:, :3]})
        with refuses(f"{name} must have shape (1, 4), got (4,)"):
            replace(tasks, **{name: getattr(tasks, name)[0]})

    def test_observations(self, refuses):
        rows, features = torch.zeros(1, 4, dtype=torch.long), torch.zeros(2, 3)
        with refuses("observations must have shape (1, 4), got (1, 5)"):
            replace(corridor(), observations=torch.zeros(1, 5, dtype=torch.long), features=features)
        for given in ({"observations": rows}, {"features": features}):
            with refuses("observations and features come together"):
                replace(corridor(), **given)
        for wrong in (2, -1):
            with refuses(f"observations must lie in 0..1, got {wrong}"):
                replace(corridor(), observations=altered(rows, ((0, 2), wrong)), features=features)

    @pytest.mark.parametrize("horizon", [0, -3, 2.0, True, None])
    def test_horizons_that_are_no_number_of_steps(self, refuses, horizon):
        with refuses(f"horizon must be a whole number >= 1, got {horizon!r}"):
            replace(corridor(), horizon=horizon)

    def test_horizons_of_numpy_are_pythons(self):
        tasks = replace(corridor(), horizon=np.int64(5))
        assert type(tasks.horizon) is int
        assert tasks.horizon == 5

    @pytest.mark.parametrize("wrong", [4, -1])
    def test_successors_that_are_no_state(self, refuses, wrong):
        tasks = corridor()
        with refuses(f"successors must lie in 0..3, got {wrong}"):
            replace(tasks, successors=altered(tasks.successors, ((0, 1, 1), wrong)))

    def test_starts_that_are_no_distribution(self, refuses):
        tasks = slippery()
        with refuses("start must be >= 0 and sum to 1, got the sum 1.5 and the smallest 0 at (1,)"):
            replace(tasks, start=altered(tasks.start, ((1, 0), 0.5)))
        with refuses("start must be >= 0 and sum to 1, got the sum 1 and the smallest -0.5 at (1,)"):
            replace(tasks, start=altered(tasks.start, ((1, 0), 0.5), ((1, 2), -0.5)))
        with refuses("start must be >= 0 and sum to 1, got the sum nan and the smallest nan at (0,)"):
            replace(tasks, start=altered(tasks.start, ((0, 0), torch.nan)))

    def test_moves_that_are_no_distribution(self, refuses):
        tasks = slippery()
        with refuses("probabilities must be >= 0 and sum to 1, got the sum 0.9 and the smallest 0 at (1, 2, 1)"):
            replace(tasks, probabilities=altered(tasks.probabilities, ((1, 2, 1, 1), 0.0)))
        with refuses("probabilities must be >= 0 and sum to 1, got the sum 1 and the smallest -0.25 at (0, 1, 0)"):
            changes = ((0, 1, 0, 1), -0.25), ((0, 1, 0, 2), 0.75)
            replace(tasks, probabilities=altered(tasks.probabilities, *changes))

    def test_a_state_that_is_right_and_wrong(self, refuses):
        tasks = graphs()
        with refuses("a state is a success or a failure, got both in task 1, state 4"):
            replace(tasks, failure=altered(tasks.failure, ((1, 4), True)))

    def test_tasks_that_no_policy_can_solve(self, refuses):
        assert corridor(horizon=3).distance[0, 0] == 3
        with refuses("task 0 cannot be solved: it needs 3 steps, the horizon is 2"):
            corridor(horizon=2)
        tasks = graphs()
        with refuses("task 2 cannot be solved: it needs a way that does not exist, the horizon is 4"):
            replace(tasks, success=altered(tasks.success, ((2, 3), False)))
        # the second task's only start is two steps away; the first one's nearest start is success itself
        with refuses("task 1 cannot be solved: it needs 2 steps, the horizon is 1"):
            start = altered(slippery().start, ((1, 1), 0.0), ((1, 0), 1.0))
            probabilities = altered(slippery().probabilities, ((1, 0, 1), torch.tensor([0.5, 0.5, 0.0])))
            replace(slippery(), start=start, probabilities=probabilities, horizon=1)

    @pytest.mark.parametrize(
        "shape", [(1, 3, 2), (1, 4, 3), (2, 4, 2), (2, 1, 4, 2), (6, 1, 4, 2), (3, 2, 1, 4, 2), (1, 1, 1, 1, 4, 2)]
    )
    def test_policies_that_do_not_fit(self, refuses, shape):
        tasks, log_policy = corridor(), torch.zeros(shape)
        message = f"log_policy must have shape ([R,] [T,] 1, 4, 2) with T = 1 or 5, got {shape}"
        for use in (
            tasks.pass_rate,
            lambda policy: tasks.rollout(policy, 2, generator(0)),
            lambda policy: tasks.paths(policy, 2, generator(0)),
        ):
            with refuses(message):
                use(log_policy)
        if len(shape) < 5:
            with refuses(message):
                tasks.moments(log_policy)

    def test_policies_with_nan(self, refuses):
        log_policy = altered(random_policy(corridor()), ((0, 0, 2, 1), torch.nan))
        with refuses("log_policy must hold log-probabilities whose exponentials sum to 1, got nan in state 2"):
            corridor().pass_rate(log_policy)


class TestSelect:
    def test_takes_tasks_in_the_order_given(self):
        tasks = observed(graphs(), torch.eye(4))
        _ = tasks.distance, tasks.active, tasks.next_states  # must not come along
        chosen = tasks.select([2, 0, 2])
        for name, value in tables(tasks).items():
            wanted = value if name == "features" else value[[2, 0, 2]]
            assert torch.equal(getattr(chosen, name), wanted)
        assert chosen.horizon == tasks.horizon
        assert torch.equal(chosen.distance, tasks.distance[[2, 0, 2]])
        log_policy = random_policy(tasks)
        assert torch.equal(chosen.pass_rate(log_policy[:, [2, 0, 2]]), tasks.pass_rate(log_policy)[[2, 0, 2]])

    def test_slips_come_along(self):
        tasks = slippery()
        log_policy = random_policy(tasks)
        assert torch.equal(tasks.select([1]).pass_rate(log_policy[:, [1]]), tasks.pass_rate(log_policy)[[1]])


class TestTo:
    def test_every_table_moves(self):
        tasks = observed(slippery(), torch.eye(4))
        _ = tasks.distance, tasks.active, tasks.next_states
        moved = tasks.to("meta")
        assert tables(moved).keys() == tables(tasks).keys() == set(TENSORS)
        assert all(value.is_meta for value in tables(moved).values())
        assert moved.active.is_meta
        assert (moved.device.type, moved.horizon, moved.shape) == ("meta", tasks.horizon, tasks.shape)

    def test_where_it_is_already(self):
        tasks = slippery()
        assert same(tasks.to("cpu"), tasks)
        assert same(tasks.to(torch.device("cpu")), tasks)


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


class TestBatch:
    def batch(self, seeds=(1, 2, 1), step=0, name="slippery", times=1):
        tasks = WORLDS[name]
        return TabularBatch(tasks, random_policy(tasks, times, runs=len(seeds)), seeds, step)

    def same_policy(self, seeds, step=0):
        """One policy for all runs, so that only the random numbers differ."""
        tasks = WORLDS["slippery"]
        return TabularBatch(tasks, random_policy(tasks).expand(len(seeds), 1, -1, -1, -1), seeds, step)

    def test_a_diverged_run_is_named(self, refuses):
        tasks = corridor()
        log_policy = altered(random_policy(tasks, runs=3), ((1, 0, 0, 2, 1), torch.nan))
        with refuses("the policy of run 1 is NaN after 17 updates: it has diverged"):
            TabularBatch(tasks, log_policy, [7, 8, 9], 17)

    def test_impossible_actions_are_no_divergence(self):
        tasks = corridor()
        log_policy = torch.tensor([-torch.inf, 0.0]).expand(2, 1, 1, 4, 2)
        batch = TabularBatch(tasks, log_policy, [0, 1], 0)
        assert batch.rollout([0, 1], 3).rewards.all()
        assert batch.log_pass_rate([0, 1]).tolist() == [[0.0], [0.0]]

    def test_a_seed_for_every_run(self, refuses):
        with refuses("expected log_policy (R, T, B, S, A) and R seeds, got (3, 1, 1, 4, 2) and 2 seeds"):
            TabularBatch(corridor(), random_policy(corridor(), runs=3), [0, 1], 0)

    def test_runs_with_one_seed_draw_the_same(self):
        rewards = self.same_policy([1, 2, 1]).rollout([0, 1, 2], 64).rewards
        assert torch.equal(rewards[0], rewards[2])
        assert not torch.equal(rewards[0], rewards[1])

    @pytest.mark.parametrize("times", [1, 4])
    def test_runs_may_be_asked_for_in_any_order_and_number(self, times):
        batch = self.batch(times=times)
        everyone = batch.rollout([0, 1, 2], 32)
        for runs in ([2, 0], [1], [2, 1, 0]):
            some = batch.rollout(runs, 32)
            assert torch.equal(some.rewards, everyone.rewards[runs])
            assert torch.equal(some.lengths, everyone.lengths[runs])
            assert torch.allclose(some.log_probs, everyone.log_probs[runs], rtol=1e-14)
            assert torch.equal(batch.log_pass_rate(runs), batch.log_pass_rate([0, 1, 2])[runs])

    def test_a_run_alone_is_the_run_among_others(self):
        tasks, stack = WORLDS["slippery"], random_policy(WORLDS["slippery"], runs=3)
        everyone = TabularBatch(tasks, stack, [4, 5, 6], 3).rollout([0, 1, 2], 32)
        alone = TabularBatch(tasks, stack[[1]], [5], 3).rollout([0], 32)
        assert torch.equal(alone.rewards[0], everyone.rewards[1])
        assert torch.equal(alone.lengths[0], everyone.lengths[1])

    def test_another_step_draws_other_numbers_and_the_same_step_the_same(self):
        rewards = [self.same_policy([1], step).rollout([0], 64).rewards for step in (4, 4, 5)]
        assert torch.equal(rewards[0], rewards[1])
        assert not torch.equal(rewards[0], rewards[2])

    @pytest.mark.parametrize("times", [1, 4])
    def test_log_pass_rates_are_those_of_the_enumeration(self, times):
        batch = self.batch(times=times)
        wanted = torch.stack([enumerated_pass_rate(batch.tables, policy) for policy in batch.log_policy])
        assert torch.allclose(batch.log_pass_rate([0, 1, 2]).exp(), wanted, rtol=1e-12)

    @pytest.mark.parametrize("times", [3, 7])
    def test_a_policy_in_time_needs_a_row_a_step(self, times):
        # Otherwise a rollout reads the rows of the next run, or leaves rows out.
        tasks = corridor()
        with pytest.raises(ValueError, match="log_policy must have shape"):
            TabularBatch(tasks, random_policy(tasks, times, runs=2), [0, 1], 0).rollout([0, 1], 2)


def run_gradients(name, times, methods):
    """(each run's gradient estimate, its logits, the tasks): minus what `losses` leaves on the runs' logits."""
    tasks = WORLDS[name]
    logits = random_policy(tasks, times, runs=len(methods), seed=7).requires_grad_()
    batch = TabularBatch(tasks, logits.log_softmax(-1), range(len(methods)), 0)
    losses = run_losses(batch, methods)
    assert losses.shape == (len(methods),)
    losses.sum().backward()
    return -logits.grad, logits.detach(), tasks


def weighted_gradient(tasks, logits, weight):
    """mean over tasks of w(p) grad p, from the enumeration of all paths."""
    logits = logits.clone().requires_grad_()
    rates = enumerated_pass_rate(tasks, logits.log_softmax(-1))
    (weight(rates.detach()) * rates).mean().backward()
    return logits.grad


class TestTraining:
    @pytest.mark.parametrize("name", list(WORLDS))
    @pytest.mark.parametrize("times", ["stationary", "in time"])
    def test_expected_and_objective_are_weights_times_the_gradient_of_the_pass_rate(self, name, times):
        methods = [
            Expected("maxrl", 4),
            Exact("maximum_likelihood"),
            Expected("grpo", 7),
            Exact("truncated_likelihood:order=3"),
            Expected("maxrl", 4),
            Exact("pass_at_k:k=2"),
            Expected("pkpo:k=2", 5),
        ]
        horizon = 1 if times == "stationary" else WORLDS[name].horizon
        gradients, logits, tasks = run_gradients(name, horizon, methods)
        for method, gradient, own in zip(methods, gradients, logits, strict=True):
            if method.kind == "exact":
                weight = objectives.resolve(method.name).weight
            else:

                def weight(rates, method=method):
                    return exact.weight(method.name, rollouts=method.rollouts, pass_rate=rates)

            wanted = weighted_gradient(tasks, own, weight)
            assert wanted.abs().max() > 1e-3
            assert torch.allclose(gradient, wanted, rtol=0, atol=1e-10)

    @pytest.mark.parametrize(("name", "task"), [("graphs", 1), ("slippery", 0)])
    @pytest.mark.parametrize("estimator", ["maxrl", "rloo", "grpo"])
    @pytest.mark.parametrize("times", ["stationary", "in time"])
    def test_sampled_has_the_expected_mean_and_the_exact_variance(self, name, task, estimator, times):
        # 20,000 groups of 4, each a task with logits of its own (all equal), so that the gradient of the loss holds
        # every group's estimate. In each of 12 cases a t-test for each number of the mean and one for the variance,
        # 1e-5 false alarms together (Bonferroni, and the normal limit).
        groups, rollouts = 20_000, 4
        one = WORLDS[name].select([task])
        logits = random_policy(one, 1 if times == "stationary" else one.horizon, seed=3)
        copies = logits[None].repeat(1, 1, groups, 1, 1).requires_grad_()
        batch = TabularBatch(one.select([0] * groups), copies.log_softmax(-1), [11], 0)
        run_losses(batch, [Sampled(estimator, rollouts)]).sum().backward()
        estimates = -copies.grad[0].transpose(0, 1).flatten(1) * groups
        mean = weighted_gradient(
            one, logits, lambda rates: exact.weight(estimator, rollouts=rollouts, pass_rate=rates)
        ).flatten()
        moving = estimates.std(0) > 0
        assert not mean[~moving].any()
        assert stats.ttest_1samp(estimates[:, moving], mean[moving]).pvalue.min() > 1e-5 / (int(moving.sum()) + 1)
        moments = one.moments(logits.log_softmax(-1))
        variance = float(exact.variance(estimator, rollouts=rollouts, **moments._asdict()))
        squares = (estimates - mean).square().sum(1)
        assert stats.ttest_1samp(squares, variance).pvalue > 1e-5 / (int(moving.sum()) + 1)
        assert float(squares.mean()) == pytest.approx(variance, rel=0.1)


def test_it_says_how_large_it_is():
    assert repr(corridor()) == "TabularTasks(1 deterministic tasks, 4 states, 2 actions, horizon 5)"
    assert repr(slippery()) == "TabularTasks(2 stochastic tasks, 5 states, 2 actions, horizon 4)"


class TestSeeds:
    def test_numpy_seeds_give_the_same_rollouts(self):
        tasks = slippery()
        policy = random_policy(tasks, runs=3)
        groups = [
            TabularBatch(tasks, policy, seeds, step).rollout([0, 1, 2], 16)
            for seeds, step in (([3, 8, 3], 2), (np.array([3, 8, 3]), np.int32(2)))
        ]
        assert torch.equal(groups[0].rewards, groups[1].rewards)
        assert torch.equal(groups[0].log_probs, groups[1].log_probs)
        assert not torch.equal(groups[0].log_probs[0], groups[0].log_probs[1])

    def test_a_diverged_policy_is_told_by_run_and_step(self):
        tasks = slippery()
        policy = random_policy(tasks, runs=3)
        policy[1, 0, 1, 2, 0] = torch.nan
        with pytest.raises(DivergedError, match="run 1 is NaN after 7 updates") as e:
            TabularBatch(tasks, policy, [0, 1, 2], 7)
        assert (e.value.run, e.value.step) == (1, 7)
