"""FrozenLake, CliffWalking and Taxi as tables, against loops over Gymnasium's `P`, its `step`, and another package."""

import functools

import numpy as np
import pytest
import torch
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv
from scipy import stats

from envs import toy_text


def is_goal_on_ice(reward, terminated):
    return terminated and reward == 1


def is_end(reward, terminated):
    return terminated


def is_delivery(reward, terminated):
    return terminated and reward == 20


# Name to (the function that makes the tasks, the environment itself, what is a success there).
PLACES = {
    "frozen lake 4x4": (toy_text.frozen_lake, FrozenLakeEnv, is_goal_on_ice),
    "frozen lake 8x8": (
        functools.partial(toy_text.frozen_lake, "8x8"),
        functools.partial(FrozenLakeEnv, map_name="8x8"),
        is_goal_on_ice,
    ),
    "frozen lake without slips": (
        functools.partial(toy_text.frozen_lake, slippery=False),
        functools.partial(FrozenLakeEnv, is_slippery=False),
        is_goal_on_ice,
    ),
    "cliff": (toy_text.cliff_walking, CliffWalkingEnv, is_end),
    "slippery cliff": (
        functools.partial(toy_text.cliff_walking, slippery=True),
        functools.partial(CliffWalkingEnv, is_slippery=True),
        is_end,
    ),
    "taxi": (toy_text.taxi, TaxiEnv, is_delivery),
}


@pytest.fixture(scope="module", params=PLACES)
def place(request):
    make, environment, success = PLACES[request.param]
    return functools.cache(make), environment(), success


def seen_states(tasks):
    """The environment's own number of each state of the table (1, S), read off the one-hot observations."""
    return tasks.features[tasks.observations].argmax(-1)


def loop_values(env, success, horizon, choose):
    """Values by plain loops over `P`: value[s] with h steps to go is `choose(s, [value of each action])`."""
    value = dict.fromkeys(env.P, 0.0)
    for _ in range(horizon):
        value = {
            state: choose(
                state,
                [
                    sum(p * (float(success(r, end)) if end else value[int(after)]) for p, after, r, end in results)
                    for results in moves.values()
                ],
            )
            for state, moves in env.P.items()
        }
    return value


def from_starts(env, value):
    return sum(p * value[state] for state, p in enumerate(env.initial_state_distrib))


def optimal(tasks):
    """The best probability of success within the horizon, by dynamic programming over the tasks' own tables."""
    value = tasks.success[0].double()
    for _ in range(tasks.horizon):
        after = value[tasks.next_states[0]]
        chances = 1.0 if tasks.probabilities is None else tasks.probabilities[0]
        value = torch.where(tasks.active[0], (after * chances).sum(-1).amax(-1), value)
    return float(tasks.start[0] @ value)


def mixed_policy(tasks, share):
    """Probabilities (number of the environment's states, A): nearest way to success with `share`, else any action."""
    nearest = tasks.distance.flatten()[tasks.next_states].amin(-1)[0].argmin(-1)
    policy = np.full((tasks.features.shape[1], tasks.shape[2]), (1 - share) / tasks.shape[2])
    active = tasks.active[0]
    policy[seen_states(tasks)[0][active], nearest[active]] += share
    policy /= policy.sum(1, keepdims=True)
    return policy


def exact_pass_rate(tasks, policy):
    return tasks.pass_rate(torch.from_numpy(policy)[seen_states(tasks)].log()).item()


class TestPassRates:
    @pytest.mark.parametrize("share", [0.0, 0.5])
    def test_loops_over_the_table_of_the_environment_agree(self, place, share):
        make, env, success = place
        tasks = make()
        policy = mixed_policy(tasks, share)
        value = loop_values(env, success, tasks.horizon, lambda state, values: float(policy[state] @ values))
        assert exact_pass_rate(tasks, policy) == pytest.approx(from_starts(env, value), rel=1e-9)

    def test_the_environment_itself_agrees(self, place):
        # 1000 episodes of a half-purposeful policy; exact binomial test, false-alarm rate 1e-4 for each of 6 places.
        # 40 steps, which leave most pass rates well inside (0, 1).
        make, env, success = place
        tasks = make(horizon=40)
        policy = mixed_policy(tasks, 0.5)
        wins = sum(succeeds(env, policy.cumsum(1), success, tasks.horizon, seed) for seed in range(1000))
        assert stats.binomtest(wins, 1000, exact_pass_rate(tasks, policy)).pvalue > 1e-4


def succeeds(env, cumulative, success, horizon, seed):
    """Whether one episode of Gymnasium's own environment ends in success."""
    state, _ = env.reset(seed=seed)
    for uniform in np.random.default_rng(seed + 10**6).random(horizon):
        action = int((cumulative[state, :-1] <= uniform).sum())
        state, reward, terminated, _, _ = env.step(action)
        if terminated:
            return success(reward, terminated)
    return False


class TestBestPolicies:
    def test_value_iteration_by_loops_agrees(self, place):
        make, env, success = place
        tasks = make()
        value = loop_values(env, success, tasks.horizon, lambda _state, values: max(values))
        assert optimal(tasks) == pytest.approx(from_starts(env, value), rel=1e-9)

    def test_value_iteration_of_another_package_agrees(self, place):
        mdp = pytest.importorskip("mdptoolbox.mdp")
        make, env, success = place
        tasks = make()
        states, actions = len(env.P), len(env.P[0])
        # one more state, where every episode ends; a success pays 1 when it happens
        moves, pay = np.zeros((actions, states + 1, states + 1)), np.zeros((states + 1, actions))
        moves[:, states, states] = 1.0
        for state in range(states):
            for action in range(actions):
                for p, after, reward, end in env.P[state][action]:
                    moves[action, state, states if end else after] += p
                    pay[state, action] += p * success(reward, end)
        solver = mdp.FiniteHorizon(moves, pay, 1.0, tasks.horizon)
        solver.run()
        assert optimal(tasks) == pytest.approx(float(env.initial_state_distrib @ solver.V[:states, 0]), rel=1e-9)

    def test_known_optima(self):
        # Gymnasium's registration quotes 0.74 and 0.91 for 100 and 200 steps; without a limit the small map's is 14/17.
        assert optimal(toy_text.frozen_lake()) == pytest.approx(0.74, abs=0.005)
        assert optimal(toy_text.frozen_lake("8x8")) == pytest.approx(0.91, abs=0.005)
        assert optimal(toy_text.frozen_lake(horizon=5000)) == pytest.approx(14 / 17, abs=1e-9)
        assert optimal(toy_text.taxi()) == pytest.approx(1.0)


class TestTables:
    def test_the_cliff_by_hand(self):
        # 36 cells above the cliff, the start, and the goal as an end; the shortest way: up, 11 to the right, down.
        tasks = toy_text.cliff_walking()
        assert tasks.shape == (1, 38, 4)
        assert tasks.success.sum() == 1
        assert not tasks.failure.any()
        assert tasks.distance[tasks.start > 0].tolist() == [13]
        assert tasks.horizon == 100

    def test_the_lake_by_hand(self):
        # 11 cells to stand on, 4 holes and the goal to end on; slips have three results.
        tasks = toy_text.frozen_lake()
        assert tasks.successors.shape == (1, 16, 4, 3)
        assert (tasks.active.sum(), tasks.failure.sum(), tasks.success.sum()) == (11, 4, 1)
        assert tasks.features.sort(0).values.sum() == 16
        assert tasks.distance[tasks.start > 0].tolist() == [6]

    def test_the_taxi_by_hand(self):
        # 25 cells x 4 waiting places + in the taxi, x 4 destinations, less 25 x 4 with the passenger already there,
        # which happens only where the passenger is set down: those 4 ends are the successes.
        tasks = toy_text.taxi()
        assert tasks.shape == (1, 404, 6)
        assert (tasks.start > 0).sum() == 300
        assert (tasks.success.sum(), tasks.failure.sum()) == (4, 0)
        assert tasks.horizon == 200

    def test_horizons(self):
        assert [toy_text.frozen_lake().horizon, toy_text.frozen_lake("8x8").horizon] == [100, 200]
        assert toy_text.frozen_lake(horizon=12).horizon == 12

    def test_what_is_refused(self, refuses):
        with refuses("unknown map '5x5'; choose one of: 4x4, 8x8"):
            toy_text.frozen_lake("5x5")
        with refuses("task 0 cannot be solved: it needs 13 steps, the horizon is 12"):
            toy_text.cliff_walking(horizon=12)
        with refuses("horizon must be a whole number >= 1, got 0"):
            toy_text.taxi(horizon=0)
