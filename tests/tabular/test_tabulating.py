"""A user's own environment as an exact task: a small one worked out by hand, and what is refused."""

import random
import re
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces, wrappers
from gymnasium.envs.registration import EnvSpec
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv

from envs import minigrid
from maxrl_lab.tabular import tabulating
from maxrl_lab.tabular.exploring import explore
from maxrl_lab.tabular.tabulating import tabulate

LEFT, RIGHT, PRESS = range(3)


class Corridor(gymnasium.Env):
    """Cells 0 to 3. Pressing on cell 0 changes the lamp; going right on cell 3 ends well if it is on, else badly.

    The observation is the cell alone. `slip` is the chance that a step to the side goes the other way.
    """

    def __init__(self, lamp=False, slip=0.0):
        self.first_lamp, self.slip = lamp, slip
        self.action_space = spaces.Discrete(3)
        self.observation_space = spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell, self.lamp, self.steps = 1, self.first_lamp, 0
        return self.cell, {}

    def step(self, action):
        self.steps += 1
        if self.slip and action != PRESS and self.np_random.random() < self.slip:
            action = LEFT + RIGHT - action
        if action == PRESS and self.cell == 0:
            self.lamp = not self.lamp
        if action == RIGHT and self.cell == 3:
            return self.cell, float(self.lamp), True, False, {}
        if action != PRESS:
            self.cell = max(0, min(3, self.cell + (1 if action == RIGHT else -1)))
        return self.cell, 0.0, False, self.steps >= 5, {}


class FickleTaxi(TaxiEnv):
    """A passenger who thinks of another destination in `step`; the table `P` knows nothing of it.

    Gymnasium's own `fickle_passenger` came with 1.2.
    """

    def step(self, action):
        row, col, passenger, _ = self.decode(self.s)
        self.s = self.encode(row, col, passenger, int(self.np_random.integers(4)))
        return super().step(action)


class KeyedCorridor(Corridor):
    def state_key(self):
        return self.cell, self.lamp


def key(env):
    return env.cell, env.lamp


def test_tables_and_training_need_no_gymnasium():
    code = "import sys, maxrl_lab.tabular.study; sys.exit('gymnasium' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestTable:
    def test_the_corridor_by_hand(self):
        # 4 cells x lamp off or on, success and failure at the end. From cell 1: left, press, right 3 times, out.
        tasks = tabulate(Corridor(), key=key, horizon=20)
        assert tasks.shape == (1, 10, 3)
        assert tasks.probabilities is None
        assert (tasks.success.sum(), tasks.failure.sum()) == (1, 1)
        assert tasks.distance[tasks.start > 0].tolist() == [6]
        assert tasks.features.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
        assert tasks.features.dtype == torch.float32
        ends = tasks.features[tasks.observations[tasks.success | tasks.failure]]
        assert ends.argmax(-1).tolist() == [3, 3]

    def test_all_sequences_of_7_actions_do_in_the_table_what_they_do_in_the_environment(self):
        tasks, wins = tabulate(Corridor(), key=key, horizon=7), 0
        for actions in np.ndindex(3, 3, 3, 3, 3, 3, 3):
            env, state = Corridor(), int(tasks.start[0].argmax())
            env.reset()
            for action in actions:
                cell, reward, terminated, _, _ = env.step(action)
                state = int(tasks.successors[0, state, action])
                assert int(tasks.features[tasks.observations[0, state]].argmax()) == cell
                assert bool(tasks.success[0, state]) == (terminated and reward > 0)
                assert bool(tasks.failure[0, state]) == (terminated and reward == 0)
                if terminated:
                    wins += reward > 0
                    break
        uniform = torch.full((1, 10, 3), 1 / 3, dtype=torch.float64).log()
        assert tasks.pass_rate(uniform).item() == pytest.approx(wins / 3**7)

    def test_the_only_way_out_in_6_steps_is_1_of_3_to_the_6(self):
        tasks = tabulate(Corridor(), key=key, horizon=6)
        uniform = torch.full((1, 10, 3), 1 / 3, dtype=torch.float64).log()
        assert tasks.pass_rate(uniform).item() == pytest.approx(1 / 3**6)

    def test_the_environments_own_key_is_the_default(self):
        assert torch.equal(
            tabulate(KeyedCorridor(), horizon=20).successors, tabulate(Corridor(), key=key, horizon=20).successors
        )

    def test_the_environment_passed_is_left_as_it_is(self):
        env = Corridor()
        env.reset(seed=5)
        env.step(RIGHT)
        random = env.np_random.bit_generator.state
        tabulate(env, key=key, horizon=20)
        assert (env.cell, env.lamp, env.steps) == (2, False, 1)
        assert env.np_random.bit_generator.state == random

    def test_another_rule_of_success(self):
        tasks = tabulate(Corridor(), key=key, horizon=20, success=lambda reward, terminated: terminated)
        assert not tasks.failure.any()
        assert tasks.distance[tasks.start > 0].tolist() == [3]

    def test_actions_may_start_at_another_number(self):
        env = wrappers.TransformAction(Corridor(), lambda action: action - 5, spaces.Discrete(3, start=5))
        assert torch.equal(
            tabulate(env, key=key, horizon=20).successors, tabulate(Corridor(), key=key, horizon=20).successors
        )

    def test_drawing_random_numbers_that_do_not_matter_is_no_harm(self):
        class Idle(Corridor):
            def step(self, action):
                self.np_random.random()
                return super().step(action)

        assert tabulate(Idle(), key=key, horizon=20).shape == (1, 10, 3)


class TestHorizon:
    def test_the_least_limit_counts_unless_another_is_asked_for(self):
        env = Corridor()
        env.max_steps = 30
        assert tabulate(env, key=key).horizon == 30
        env.spec = EnvSpec("Corridor-v0", max_episode_steps=17)
        assert tabulate(env, key=key).horizon == 17
        assert tabulate(wrappers.OrderEnforcing(wrappers.TimeLimit(env, 9)), key=key).horizon == 9
        assert tabulate(wrappers.TimeLimit(env, 9), key=key, horizon=8).horizon == 8

    def test_a_limit_that_reset_sets(self):
        class Late(Corridor):
            max_steps = 0

            def reset(self, **options):
                self.max_steps = 12
                return super().reset(**options)

        assert tabulate(Late(), key=key).horizon == 12


class TestWrappers:
    def test_time_limits_are_taken_off_and_observations_stay(self):
        # A limit of 2 steps would leave the exit out of reach.
        limited = wrappers.TimeLimit(wrappers.OrderEnforcing(wrappers.PassiveEnvChecker(Corridor())), 2)
        double = wrappers.TransformObservation(limited, lambda cell: np.array([2.0 * cell]), spaces.Box(0, 6, (1,)))
        tasks = tabulate(double, key=key, horizon=20)
        assert tasks.shape == (1, 10, 3)
        assert sorted(tasks.features.tolist()) == [[0], [2], [4], [6]]
        assert isinstance(double.env, wrappers.TimeLimit)  # of the copy, not of the one passed

    def test_an_observation_of_parts_is_flattened(self):
        space = spaces.Dict({"cell": spaces.Discrete(4), "half": spaces.Box(0, 2, (1, 2))})
        parts = wrappers.TransformObservation(
            Corridor(), lambda cell: {"cell": cell, "half": np.full((1, 2), cell / 2, dtype=np.float32)}, space
        )
        features = tabulate(parts, key=key, horizon=20).features
        assert sorted(features.tolist()) == sorted([*np.eye(4)[cell], cell / 2, cell / 2] for cell in range(4))

    def test_minigrid_by_deep_copies_is_minigrid_by_reference(self, tmp_path):
        # The same level by both ways of exploring; the states are found in the same order.
        from minigrid.wrappers import ImgObsWrapper

        env = ImgObsWrapper(gymnasium.make("MiniGrid-LavaGapS5-v0"))
        copied = tabulate(env, key=lambda env: (*map(int, env.agent_pos), int(env.agent_dir)), seed=3)
        referred = minigrid.tasks("LavaGapS5", [3], cache=tmp_path)
        assert copied.horizon == referred.horizon
        assert torch.equal(copied.successors, referred.successors)
        assert torch.equal(copied.success, referred.success)
        assert torch.equal(
            copied.features[copied.observations], referred.features[referred.observations][..., : 7 * 7 * 3]
        )


class TwoStates(gymnasium.Env):
    """A table: from 0, action 0 stays or moves on in three ways, action 1 ends badly; from 1, both end well."""

    def __init__(self):
        self.P = {
            0: {0: [(0.25, 1, 0, False), (0.5, 0, 0, False), (0.25, 1, 0, False)], 1: [(1.0, 0, 0, True)]},
            1: {0: [(1.0, 1, 1, True)], 1: [(1.0, 1, 1, True)]},
        }
        self.initial_state_distrib = np.array([0.75, 0.25])
        self.observation_space = self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = int(self.np_random.random() < 0.25)
        return self.s, {}

    def step(self, action):
        moves = self.P[self.s][action]
        _, self.s, reward, terminated = moves[self.np_random.choice(len(moves), p=[move[0] for move in moves])]
        return self.s, reward, terminated, False, {}


class LongView(Corridor):
    """The corridor, seen as forty numbers, of which number 37 says whether the walker is on cell 0."""

    def __init__(self, slip=0.0):
        super().__init__(slip=slip)
        self.observation_space = spaces.Box(0, 1, (40,))

    def reset(self, *, seed=None, options=None):
        _, info = super().reset(seed=seed)
        return self.view(), info

    def step(self, action):
        _, *rest = super().step(action)
        return self.view(), *rest

    def view(self):
        view = np.zeros(40, dtype=np.float32)
        view[37] = self.cell == 0
        return view


class TestTransitionTables:
    def test_two_states_by_hand(self):
        # States: 0, 1, failed in 0, succeeded in 1. The two ways from 0 to 1 are one successor with probability 1/2.
        tasks = tabulate(TwoStates(), horizon=3)
        assert tasks.successors.shape == (1, 4, 2, 2)
        assert tasks.start.tolist() == [[0.75, 0.25, 0, 0]]
        found = dict(zip(tasks.successors[0, 0, 0].tolist(), tasks.probabilities[0, 0, 0].tolist(), strict=True))
        assert found == {0: 0.5, 1: 0.5}
        assert tasks.failure.tolist() == [[False, False, True, False]]
        assert tasks.success.tolist() == [[False, False, False, True]]
        # Always action 0, 3 steps: from 1 sure; from 0 it must move on in the first or second step.
        always = torch.tensor([1.0, 0.0]).log().expand(1, 4, 2)
        assert tasks.pass_rate(always).item() == pytest.approx(0.75 * 0.75 + 0.25)

    def test_a_table_without_chances_is_deterministic(self):
        tasks = tabulate(FrozenLakeEnv(is_slippery=False), horizon=20)
        assert tasks.probabilities is None

    def test_time_limits_and_checkers_around_a_table_are_taken_off(self):
        limited = wrappers.TimeLimit(wrappers.OrderEnforcing(wrappers.PassiveEnvChecker(TwoStates())), 3)
        tasks = tabulate(limited)
        assert tasks.horizon == 3
        assert torch.equal(tasks.probabilities, tabulate(TwoStates(), horizon=3).probabilities)

    def test_a_wrapper_around_a_table(self, refuses):
        env = wrappers.TransformReward(TwoStates(), lambda reward: -reward)
        with refuses(
            "a transition table P says nothing of the wrapper TransformReward around it: pass env.unwrapped, or an "
            "environment without P"
        ):
            tabulate(env, horizon=3)

    def test_no_start(self, refuses):
        env = TwoStates()
        env.initial_state_distrib = None
        with refuses("an environment with a transition table P needs initial_state_distrib, got none"):
            tabulate(env, horizon=3)
        env.initial_state_distrib = [1.0]
        with refuses("initial_state_distrib must hold a probability for each state of P, got 1 for 2 states"):
            tabulate(env, horizon=3)
        env.initial_state_distrib = [0.0, 0.0]
        with refuses("expected a start state with a probability > 0, got none"):
            tabulate(env, horizon=3)

    @pytest.mark.parametrize(("chance", "total"), [(0.4, "0.4"), (float("nan"), "0")])
    def test_chances_that_do_not_sum_to_1(self, refuses, chance, total):
        env = TwoStates()
        env.P[0][1] = [(chance, 0, 0, True)]
        with refuses(f"chances must sum to 1, got {total} for state 0, action 1"):
            tabulate(env, horizon=3)

    def test_chances_and_a_start_in_single_precision(self):
        env = TwoStates()
        env.initial_state_distrib = np.array([1 / 3, 2 / 3], dtype=np.float32)
        env.P[0][1] = [(np.float32(chance), 0, 0, True) for chance in (0.1, 0.2, 0.7)]
        tasks = tabulate(env, horizon=3)
        assert tasks.start.sum().item() == pytest.approx(1, abs=1e-15)
        assert tasks.start[0, 0].item() == pytest.approx(1 / 3, abs=1e-7)
        env.initial_state_distrib = np.array([0.33, 0.66])
        with pytest.raises(ValueError, match=r"start must be >= 0 and sum to 1"):
            tabulate(env, horizon=3)

    def test_an_environment_that_does_not_follow_its_table(self):
        with pytest.raises(ValueError, match=r"\Athe table does not follow the environment \(key= or P leaves out"):
            tabulate(FickleTaxi(), horizon=200)


class TestRefusals:
    @pytest.mark.parametrize("slip", [0.5, 0.05])
    def test_a_random_environment(self, slip):
        # 30 copies of a step miss a chance of 5% in 0.95^30 = 21% of the (state, action) pairs that have it; 16 such
        # pairs, fixed seed.
        with pytest.raises(ValueError, match=r"\Anot deterministic: state \(\d, \w+\), action \d led to .* and .*\Z"):
            tabulate(Corridor(slip=slip), key=key, horizon=20)

    def test_an_infinite_environment(self):
        # The step count in the key: there is no end of states.
        with pytest.raises(ValueError, match=r"\Amore than 50 states can be reached \(max_states\), with \d+ still to"):
            tabulate(Corridor(), key=lambda env: (env.cell, env.lamp, env.steps), horizon=20, max_states=50)

    def test_without_a_bound_a_hundred_thousand_states_are_explored(self, monkeypatch):
        bounds = []
        monkeypatch.setattr(tabulating, "explore", lambda *given: (bounds.append(given[-1]), explore(*given))[1])
        tabulate(Corridor(), key=key, horizon=20)
        assert bounds == [100_000]

    def test_of_long_observations_what_differs_is_shown(self, refuses):
        with refuses(
            "key= leaves out something that the observation shows: 0 was seen with [0.0, 0.0, 0.0] (from number 37 of "
            "40) and with [1.0, 0.0, 0.0] (from number 37 of 40)"
        ):
            tabulate(LongView(), key=lambda env: 0, horizon=4)

    def test_of_random_long_observations_each_is_shown_where_they_differ(self):
        seen = r"\({}, False\) \(reward 0, terminated False, observation \[{}, 0.0, 0.0\] \(from number 37 of 40\)\)"
        first, second = seen.format(0, 1.0), seen.format(2, 0.0)
        with pytest.raises(ValueError, match=rf"{first} and {second}|{second} and {first}"):
            tabulate(LongView(slip=0.5), key=key, horizon=4)

    def test_the_number_of_states_allowed_is_exact(self):
        assert tabulate(Corridor(), key=key, horizon=20, max_states=10).shape == (1, 10, 3)
        with pytest.raises(ValueError, match=r"\Amore than 9 states can be reached"):
            tabulate(Corridor(), key=key, horizon=20, max_states=9)

    def test_continuous_actions(self, refuses):
        env = Corridor()
        env.action_space = spaces.Box(-1, 1, (2,))
        with refuses("expected a Discrete action space, got Box(-1.0, 1.0, (2,), float32)"):
            tabulate(env, key=key, horizon=20)

    def test_no_key(self, refuses):
        with refuses(
            "pass key=, a function of the unwrapped environment that returns something hashable which decides its "
            "future (the step count left out); Corridor has no method state_key"
        ):
            tabulate(Corridor(), horizon=20)

    def test_a_key_that_cannot_be_looked_up(self, refuses):
        with refuses("key must return something hashable, got list"):
            tabulate(Corridor(), key=lambda env: [env.cell], horizon=20)

    def test_a_key_that_leaves_something_out(self):
        # The lamp is on at first, so that the table always succeeds; pressing it off and going out does not.
        with pytest.raises(ValueError, match=r"\Athe table does not follow the environment .*reset\(seed=0\) and act"):
            tabulate(Corridor(lamp=True), key=lambda env: env.cell, horizon=50)

    def test_an_observation_that_the_key_leaves_out(self):
        counted = wrappers.TimeAwareObservation(wrappers.TimeLimit(Corridor(), 50), flatten=False)
        with pytest.raises(
            ValueError, match=r"\Akey= leaves out something that the observation shows: \(1, False\) was"
        ):
            tabulate(counted, key=key, horizon=50)

    def test_a_key_that_leaves_out_the_way_to_success_is_to_blame_and_not_the_success(self):
        # Without the lamp in the key no state after a press is explored; the replay sees the success.
        with pytest.raises(ValueError, match=r"\Athe table does not follow the environment \(key= or P leaves out"):
            tabulate(Corridor(), key=lambda env: env.cell, horizon=200)

    def test_a_time_limit_that_is_told_as_terminated(self):
        class Limited(Corridor):
            def step(self, action):
                observation, reward, terminated, _, info = super().step(action)
                return observation, reward, terminated or self.steps >= 30, False, info

        with pytest.raises(ValueError, match=r"such as a time limit that is told as terminated"):
            tabulate(Limited(), key=key, horizon=50)

    @pytest.mark.parametrize("draw", [random.random, np.random.random])
    def test_a_start_that_the_seed_does_not_decide(self, draw):
        class Anywhere(Corridor):
            def reset(self, **options):
                super().reset(**options)
                self.cell = int(4 * draw())
                return self.cell, {}

        with pytest.raises(
            ValueError, match=r"\Areset\(seed=0\) does not start in the same way twice: in state \(\d, Fa"
        ):
            tabulate(Anywhere(), key=key, horizon=20)

    @pytest.mark.parametrize("draw", [random.random, np.random.random])
    def test_steps_that_draw_from_what_a_program_shares(self, draw):
        class Slippery(Corridor):
            def step(self, action):
                return super().step(PRESS if draw() < 0.1 else action)

        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        with pytest.raises(ValueError, match=r"\Anot deterministic: state"):
            tabulate(Slippery(), key=key, horizon=20)

    def test_an_action_that_is_illegal_somewhere(self, refuses):
        class Walled(Corridor):
            def step(self, action):
                if action == LEFT and self.cell == 0:
                    raise KeyError("a wall\nis there")
                return super().step(action)

        with refuses(
            "state (0, False): every action must be possible in every state (an illegal one may change nothing), and "
            "action 0 raised KeyError: 'a wall\\nis there'"
        ):
            tabulate(Walled(), key=key, horizon=20)

    def test_other_numbers_of_values(self, refuses):
        class Old(Corridor):
            def step(self, action):
                observation, reward, terminated, truncated, info = super().step(action)
                return observation, reward, terminated or truncated, info

        class Older(Corridor):
            def reset(self, **options):
                return super().reset(**options)[0]

        message = "step must return observation, reward, terminated, truncated and info, got 4 values"
        with refuses(f"state (1, False): {message}"):
            tabulate(Old(), key=key, horizon=20)
        with refuses("reset must return an observation and info, as Gymnasium has it, got int"):
            tabulate(Older(), key=key, horizon=20)

    def test_rewards_as_arrays(self, refuses):
        class Rewarding(Corridor):
            size = 1

            def step(self, action):
                observation, reward, *rest = super().step(action)
                return observation, np.full(self.size, reward), *rest

        assert tabulate(Rewarding(), key=key, horizon=20).shape == (1, 10, 3)
        env = Rewarding()
        env.size = 2
        with refuses("state (1, False): step must return one reward and one terminated, got array([0., 0.]) and False"):
            tabulate(env, key=key, horizon=20)

    def test_no_success(self, refuses):
        # Without the press the lamp is never on: the goal cannot be reached.
        env = wrappers.TransformAction(Corridor(), lambda action: action, spaces.Discrete(2))
        with refuses(
            "no reachable transition is a success (by default: terminated with a reward > 0); pass success=, a "
            "function of reward and terminated"
        ):
            tabulate(env, key=key, horizon=20)

    def test_no_horizon(self, refuses):
        with refuses("pass horizon=: the environment has neither spec.max_episode_steps nor max_steps"):
            tabulate(Corridor(), key=key)

    def test_a_horizon_too_short(self, refuses):
        with refuses("task 0 cannot be solved: it needs 6 steps, the horizon is 5"):
            tabulate(Corridor(), key=key, horizon=5)

    def test_numbers_that_are_none(self, refuses):
        with refuses("horizon must be a whole number >= 1, got 0"):
            tabulate(Corridor(), key=key, horizon=0)
        with refuses("max_states must be a whole number >= 1, got 0"):
            tabulate(Corridor(), key=key, horizon=20, max_states=0)
        with refuses("seed must be a whole number >= 0, got -1"):
            tabulate(Corridor(), key=key, horizon=20, seed=-1)

    def test_no_environment(self, refuses):
        with refuses("env must be a gymnasium.Env, got 'FrozenLake-v1'"):
            tabulate("FrozenLake-v1")

    def test_an_environment_that_cannot_be_copied(self, refuses):
        env = Corridor()
        env.generator = (each for each in "abc")
        with refuses("env must be one that copy.deepcopy can copy, got TypeError: cannot pickle 'generator' object"):
            tabulate(env, key=key, horizon=20)

    def test_observations_without_a_fixed_length(self, refuses):
        space = spaces.Sequence(spaces.Discrete(4))
        env = wrappers.TransformObservation(Corridor(), lambda cell: (cell,), space)
        with refuses(
            "expected observations that gymnasium.spaces.flatten makes a 1-D array of, got Sequence(Discrete(4), "
            "stack=False); wrap the environment so that they are (MiniGrid: minigrid.wrappers.ImgObsWrapper)"
        ):
            tabulate(env, key=key, horizon=20)

    def test_a_part_of_observations_without_a_fixed_length_is_named(self):
        from minigrid.envs import EmptyEnv

        with pytest.raises(ValueError, match=r"got 'mission': MissionSpace\(.*ImgObsWrapper\)\Z"):
            tabulate(EmptyEnv(size=5), key=key)

    def test_observations_outside_their_space(self, refuses):
        env = wrappers.TransformObservation(Corridor(), lambda cell: cell + 3, spaces.Discrete(4))
        with refuses("expected an observation in Discrete(4), got 4"):
            tabulate(env, key=key, horizon=20)
        parts = spaces.Dict({"cell": spaces.Discrete(4)})
        env = wrappers.TransformObservation(Corridor(), lambda cell: {"half": cell}, parts)
        with refuses("expected an observation in Dict('cell': Discrete(4)), got {'half': 1}: 'cell'"):
            tabulate(env, key=key, horizon=20)
        env = wrappers.TransformObservation(Corridor(), lambda cell: np.zeros(cell), spaces.Box(0, 1, (3,)))
        with pytest.raises(ValueError, match=re.escape("expected an observation of 3 numbers, got (1,) from Box")):
            tabulate(env, key=key, horizon=20)
