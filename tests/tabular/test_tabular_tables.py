"""Tables: what is derived from them, what is refused, and that parts of them are what they were."""

from collections import deque
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from small_worlds import (
    WORLDS,
    corridor,
    graphs,
    outcomes,
    random_policy,
    slippery,
)

from maxrl_lab.randomness import generator
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

    @pytest.mark.parametrize(
        ("name", "dtype", "wanted"),
        [
            ("successors", torch.int32, "torch.int64"),
            ("observations", torch.int32, "torch.int64"),
            ("success", torch.uint8, "torch.bool"),
            ("failure", torch.int64, "torch.bool"),
            ("start", torch.float16, "torch.float32 or torch.float64"),
            ("probabilities", torch.bfloat16, "torch.float32 or torch.float64"),
        ],
    )
    def test_types(self, refuses, name, dtype, wanted):
        tasks = observed(slippery(), torch.eye(4))
        with refuses(f"{name} must be of type {wanted}, got {dtype}"):
            replace(tasks, **{name: getattr(tasks, name).to(dtype)})

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
    def test_distributions_may_be_off_by_the_rounding_of_their_type(self, dtype, tolerance):
        tasks = corridor()
        for share in (0.8, -0.8):
            start = (tasks.start * (1 + share * tolerance)).to(dtype)
            assert torch.equal(replace(tasks, start=start).start, start)
        for share in (1.2, -1.2):
            with pytest.raises(ValueError, match="start must be >= 0 and sum to 1"):
                replace(tasks, start=(tasks.start * (1 + share * tolerance)).to(dtype))

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
        pair = corridor(horizon=3).select([0, 0])  # the first needs 3 steps exactly
        with refuses("task 1 cannot be solved: it needs a way that does not exist, the horizon is 3"):
            replace(pair, successors=altered(pair.successors, (1, 0)))
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

    def test_policies_may_be_off_by_the_rounding_of_single_precision(self):
        tasks = corridor()  # 2 actions: up to 2e-5
        for share in (1.8e-5, -1.8e-5):
            assert tasks.pass_rate(random_policy(tasks) + share).isfinite()
        for share in (2.2e-5, -2.2e-5):
            with pytest.raises(ValueError, match=r"sum to 1, got (1.00002|0.999978) in state 0\Z"):
                tasks.pass_rate(random_policy(tasks) + share)

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


def test_it_says_how_large_it_is():
    assert repr(corridor()) == "TabularTasks(1 deterministic tasks, 4 states, 2 actions, horizon 5)"
    assert repr(slippery()) == "TabularTasks(2 stochastic tasks, 5 states, 2 actions, horizon 4)"
