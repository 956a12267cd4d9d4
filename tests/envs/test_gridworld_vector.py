"""The vectorised Gymnasium environment: it equals single ones, and keeps Gymnasium's conventions."""

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AutoresetMode

from envs.gridworld.environment import GridWorldEnv
from envs.gridworld.levels import parse
from envs.gridworld.picture import picture
from envs.gridworld.vector import GridWorldVectorEnv
from envs.registration import GRID_WORLD, register

UP, DOWN, LEFT, RIGHT = range(4)


TEXT = """
#####
#SOG#
#...#
#..##
#####
"""


TO_GOAL = [DOWN, RIGHT, RIGHT, UP]


OBSTACLES = {"layout": "obstacles", "size": 9, "distance": 2, "pits": 3, "levels": 6, "horizon": 12}


SLIPPERY = OBSTACLES | {"slip": 0.3}


pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module", autouse=True)
def _registered():
    register()


class TestVector:
    @pytest.mark.parametrize("options", [OBSTACLES, {"size": 7, "levels": 3, "horizon": 20}, {"level_text": TEXT}])
    def test_equals_single_environments_on_the_same_levels(self, options):
        singles = [GridWorldEnv(**options) for _ in range(20)]
        together = GridWorldVectorEnv(20, **options)
        observations, infos = together.reset(seed=1)
        begun = [env.reset(options={"level": level}) for env, level in zip(singles, infos["level"], strict=True)]
        self.compare(observations, infos, begun)
        random, ended, finished, solved = np.random.default_rng(2), np.zeros(20, dtype=bool), 0, 0
        for _ in range(50):
            actions = random.integers(4, size=20)
            observations, rewards, terminated, truncated, infos = together.step(actions)
            expected = [
                (*env.reset(options={"level": level}), 0.0, False, False) if over else self.reordered(env.step(action))
                for env, over, level, action in zip(singles, ended, infos["level"], actions, strict=True)
            ]
            self.compare(observations, infos, [result[:2] for result in expected])
            for place, values in enumerate((rewards, terminated, truncated)):
                assert values.tolist() == [result[2 + place] for result in expected]
            ended = terminated | truncated
            finished, solved = finished + ended.sum(), solved + rewards.sum()
        assert finished > 40
        assert solved > 0

    @staticmethod
    def reordered(result):
        """Observation and info first, as `reset` returns them."""
        return (result[0], result[4], *result[1:4])

    @staticmethod
    def compare(observations, infos, expected):
        np.testing.assert_array_equal(observations, [observation for observation, _ in expected])
        for name in ("position", "level", "success"):
            np.testing.assert_array_equal(infos[name], [info[name] for _, info in expected])

    @pytest.mark.parametrize("options", [OBSTACLES, SLIPPERY])
    def test_one_environment_is_a_stack_of_one_number_by_number(self, options):
        # Both draw from one stream in the same order, so levels and slips are equal too, through many resets.
        stacked = gymnasium.vector.SyncVectorEnv([lambda: GridWorldEnv(**options)])
        together = GridWorldVectorEnv(1, **options)
        self.same(stacked.reset(seed=7), together.reset(seed=7))
        random = np.random.default_rng(3)
        for _ in range(400):
            actions = random.integers(4, size=1)
            self.same(stacked.step(actions), together.step(actions))

    @staticmethod
    def same(one, other):
        assert set(one[-1]) == set(other[-1])
        for name, value in one[-1].items():
            assert value.dtype == other[-1][name].dtype
            np.testing.assert_array_equal(value, other[-1][name])
        for left, right in zip(one[:-1], other[:-1], strict=True):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)

    def test_conventions(self):
        env = gymnasium.make_vec(GRID_WORLD, num_envs=8, vectorization_mode="vector_entry_point", size=7, levels=3)
        assert isinstance(env, GridWorldVectorEnv)
        assert env.num_envs == 8
        assert env.spec.id == GRID_WORLD
        assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        assert env.single_observation_space == MultiBinary([4, 7, 7])
        assert env.observation_space == Box(0, 1, (8, 4, 7, 7), np.int8)
        assert env.single_action_space == Discrete(4)
        assert env.action_space == MultiDiscrete([4] * 8)
        env.action_space.seed(0)
        observations, infos = env.reset(seed=0)
        for _ in range(80):
            assert observations in env.observation_space
            assert infos["position"].shape == (8, 2)
            assert infos["level"].shape == infos["success"].shape == infos["_level"].shape == (8,)
            observations, rewards, terminated, truncated, infos = env.step(env.action_space.sample())
            assert rewards.shape == terminated.shape == truncated.shape == (8,)
            assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float64, np.bool_, np.bool_)
        env.close()

    def test_make_vec_takes_it_by_default(self):
        assert isinstance(gymnasium.make_vec(GRID_WORLD, num_envs=2), GridWorldVectorEnv)

    @pytest.mark.parametrize("mode", ["sync", "async"])
    def test_gymnasiums_own_vectors_take_the_single_one(self, mode):
        env = gymnasium.make_vec(GRID_WORLD, num_envs=2, vectorization_mode=mode, level_text=TEXT)
        env.reset()
        for action in TO_GOAL:
            _, rewards, terminated, _, infos = env.step(np.array([action, UP]))
        assert rewards.tolist() == [1, 0]
        assert terminated.tolist() == [True, False]
        assert infos["position"].tolist() == [[1, 3], [1, 1]]
        env.close()

    def test_wrappers_of_gymnasium_fit(self):
        env = gymnasium.wrappers.vector.RecordEpisodeStatistics(gymnasium.make_vec(GRID_WORLD, 2, level_text=TEXT))
        env.reset()
        for action in TO_GOAL:
            *_, infos = env.step(np.array([action, UP]))
        assert infos["_episode"].tolist() == [True, False]
        assert infos["episode"]["r"].tolist() == [1, 0]
        assert infos["episode"]["l"].tolist() == [4, 0]

    def test_the_step_after_the_end_begins_the_next_episode_whatever_the_action(self):
        env = GridWorldVectorEnv(2, level_text=TEXT, horizon=6)
        env.reset()
        first = [DOWN, RIGHT, RIGHT, UP, RIGHT, DOWN, DOWN]
        steps = [env.step(np.array([action, UP])) for action in first]
        assert [step[1].tolist() for step in steps] == [[0, 0]] * 3 + [[1, 0]] + [[0, 0]] * 3
        assert [step[2].tolist() for step in steps] == [[False, False]] * 3 + [[True, False]] + [[False, False]] * 3
        assert [step[3].tolist() for step in steps] == [[False, False]] * 5 + [[False, True], [False, False]]
        visited = [step[4]["position"][0].tolist() for step in steps]
        assert visited == [[2, 1], [2, 2], [2, 3], [1, 3], [1, 1], [2, 1], [3, 1]]

    def test_reset_ends_what_is_running(self):
        env = GridWorldVectorEnv(2, level_text=TEXT, horizon=4)
        env.reset()
        env.step(np.array([RIGHT, DOWN]))
        assert env.reset()[1]["position"].tolist() == [[1, 1], [1, 1]]
        assert env.step(np.array([DOWN, DOWN]))[4]["position"].tolist() == [[2, 1], [2, 1]]

    def test_results_of_earlier_steps_are_left_alone(self):
        env = GridWorldVectorEnv(3, **OBSTACLES)
        kept = [env.reset(seed=0), *(env.step(np.full(3, action)) for action in (0, 1))]
        copies = [[np.copy(each) for each in result[:-1]] + list(map(np.copy, result[-1].values())) for result in kept]
        for _ in range(20):
            env.step(np.full(3, RIGHT))
        for result, copied in zip(kept, copies, strict=True):
            for value, before in zip([*result[:-1], *result[-1].values()], copied, strict=True):
                np.testing.assert_array_equal(value, before)

    def test_chosen_levels(self):
        env = GridWorldVectorEnv(3, **OBSTACLES)
        assert env.reset(options={"level": 4})[1]["level"].tolist() == [4, 4, 4]
        assert env.reset(options={"level": [2, 0, 5]})[1]["level"].tolist() == [2, 0, 5]

    def test_a_step_before_the_first_reset(self):
        with pytest.raises(ResetNeeded, match=r"\Ano episode has begun: call reset\(\) first\Z"):
            GridWorldVectorEnv(2).step(np.array([0, 0]))

    def test_rendering(self):
        env = GridWorldVectorEnv(2, level_text=TEXT, render_mode="ansi")
        env.reset()
        env.step(np.array([DOWN, UP]))
        assert env.render() == ("#####\n#SOG#\n#A..#\n#..##\n#####", "#####\n#AOG#\n#...#\n#..##\n#####")
        env = GridWorldVectorEnv(2, level_text=TEXT, render_mode="rgb_array")
        env.reset()
        frames = env.render()
        assert len(frames) == 2
        np.testing.assert_array_equal(frames[0], picture(parse(TEXT), (1, 1)))
        assert GridWorldVectorEnv(2, level_text=TEXT).render() is None
