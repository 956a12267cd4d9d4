"""The Gymnasium environment: its conventions, that it is the table step by step, and what is refused."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Discrete, MultiBinary
from gymnasium.utils.env_checker import check_env
from scipy.stats import chisquare

from envs.gridworld.environment import GridWorldEnv
from envs.gridworld.levels import ACTIONS, make_levels
from envs.gridworld.tables import tasks
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


@pytest.fixture
def headless(monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def drawn(**options):
    """An environment on the level of TEXT, without wrappers."""
    return GridWorldEnv(level_text=TEXT, **options)


def walk(env, actions, **reset):
    """All steps' results, after a reset."""
    env.reset(**reset)
    return [env.step(action) for action in actions]


class TestConventions:
    @pytest.mark.parametrize("options", [{}, SLIPPERY, {"level_text": TEXT}, {"layout": "open", "levels": 3}])
    def test_gymnasiums_checker_has_nothing_to_say(self, options, headless):
        check_env(gymnasium.make(GRID_WORLD, **options).unwrapped)

    def test_spaces(self):
        env = gymnasium.make(GRID_WORLD, size=7)
        assert env.observation_space == MultiBinary([4, 7, 7])
        assert env.action_space == Discrete(4)
        assert ACTIONS == ("up", "down", "left", "right")

    def test_registering_twice_changes_nothing(self):
        before = gymnasium.spec(GRID_WORLD)
        register()
        assert gymnasium.spec(GRID_WORLD) is before
        assert before.max_episode_steps is None  # the environment truncates by itself

    def test_tasks_in_tokens_need_no_gymnasium(self):
        code = "import sys, envs.maze; sys.exit('gymnasium' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_the_name_with_the_module_works_in_a_fresh_interpreter(self):
        code = f"""
import gymnasium
print(gymnasium.make("envs.registration:{GRID_WORLD}", size=7).unwrapped)"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("<GridWorldEnv<")

    def test_wrappers_of_gymnasium_fit(self):
        env = gymnasium.wrappers.FlattenObservation(gymnasium.make(GRID_WORLD, level_text=TEXT))
        env = gymnasium.wrappers.RecordEpisodeStatistics(env)
        *_, (observation, _, terminated, _, info) = walk(env, TO_GOAL)
        assert observation.shape == (100,)
        assert terminated
        assert (info["episode"]["r"], info["episode"]["l"]) == (1.0, 4)


class TestEpisodes:
    def test_observation_by_hand(self):
        env = drawn()
        observation, info = env.reset()
        walls, pits, goal, agent = observation.tolist()
        assert walls == [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 0, 0, 1, 1], [1, 1, 1, 1, 1]]
        assert np.argwhere(pits).tolist() == [[1, 2]]
        assert np.argwhere(goal).tolist() == [[1, 3]]
        assert np.argwhere(agent).tolist() == [[1, 1]]
        assert info["position"].tolist() == [1, 1]
        assert (info["level"], info["success"]) == (0, False)

    def test_to_the_goal_by_hand(self):
        steps = walk(drawn(horizon=9), TO_GOAL)
        assert [step[1:4] for step in steps] == [(0.0, False, False)] * 3 + [(1.0, True, False)]
        assert [step[4]["position"].tolist() for step in steps] == [[2, 1], [2, 2], [2, 3], [1, 3]]
        assert [step[4]["success"] for step in steps] == [False, False, False, True]
        assert [np.argwhere(step[0][3]).tolist() for step in steps] == [[[2, 1]], [[2, 2]], [[2, 3]], [[1, 3]]]

    def test_into_the_pit(self):
        ((_, reward, terminated, truncated, info),) = walk(drawn(), [RIGHT])
        assert (reward, terminated, truncated, info["success"]) == (0.0, True, False, False)

    def test_truncated_at_the_horizon_and_not_before(self):
        steps = walk(drawn(horizon=5), [UP] * 5)
        assert [step[1:4] for step in steps] == [(0.0, False, False)] * 4 + [(0.0, False, True)]

    def test_the_goal_at_the_horizon_counts_and_is_no_truncation(self):
        steps = walk(drawn(horizon=4), TO_GOAL)
        assert steps[-1][1:4] == (1.0, True, False)

    def test_a_new_episode_counts_its_steps_anew(self):
        env = drawn(horizon=4)
        walk(env, [UP] * 3)
        assert [step[3] for step in walk(env, [UP] * 4)] == [False, False, False, True]

    @pytest.mark.parametrize("actions", [[], TO_GOAL, [RIGHT], [UP] * 5])
    def test_a_step_outside_an_episode_needs_a_reset(self, actions):
        env = drawn(horizon=5)
        if actions:
            walk(env, actions)
        with pytest.raises(ResetNeeded, match=r"\Ano episode is running: call reset\(\) first\Z"):
            env.step(UP)

    def test_every_level_is_drawn_and_the_seed_says_which(self):
        env = GridWorldEnv(**OBSTACLES)
        levels = [env.reset(seed=5)[1]["level"], *(env.reset()[1]["level"] for _ in range(59))]
        # 6 levels, 60 draws: one is missing with probability below 1e-4, and the seed is fixed.
        assert set(levels) == set(range(6))
        assert [env.reset(seed=5)[1]["level"], *(env.reset()[1]["level"] for _ in range(59))] == levels

    def test_a_chosen_level(self):
        env = GridWorldEnv(**OBSTACLES)
        for place, level in enumerate(make_levels("obstacles", 9, distance=2, pits=3, count=6)):
            observation, info = env.reset(options={"level": place})
            assert info["level"] == place
            assert info["position"].tolist() == list(level.start)
            np.testing.assert_array_equal(observation[0], level.walls)
            np.testing.assert_array_equal(observation[1], level.pits)
            assert tuple(np.argwhere(observation[2])[0]) == level.goal

    def test_split_and_seed_choose_the_levels(self):
        texts = [
            GridWorldEnv(split=split, seed=seed).levels[0].text() for split in ("train", "test") for seed in (0, 1)
        ]
        assert len(set(texts)) == 4
        assert texts[3] == make_levels("prim", 9, count=1, split="test", seed=1)[0].text()


class TestAgainstTheTable:
    def test_step_by_step(self):
        env = GridWorldEnv(**OBSTACLES)
        table = tasks(env.levels, horizon=12, radius=None)
        random = np.random.default_rng(0)
        ends = set()
        for episode in range(60):
            info = env.reset(options={"level": episode % 6})[1]
            level, state = info["level"], int(table.start[episode % 6].argmax())
            for step in range(12):
                action = int(random.integers(4))
                state = int(table.successors[level, state, action])
                _, reward, terminated, truncated, info = env.step(action)
                assert info["position"].tolist() == [state // 9, state % 9]
                assert reward == float(table.success[level, state])
                assert terminated == bool(table.success[level, state] or table.failure[level, state])
                assert truncated == (step == 11 and not terminated)
                if terminated or truncated:
                    ends.add((reward, terminated))
                    break
        assert ends == {(1.0, True), (0.0, True), (0.0, False)}

    def test_slips_are_drawn_with_the_tables_chances(self):
        # 20,000 moves, meant to go left: a chi-square test, at a false-alarm rate of 1e-6 and with a fixed seed.
        env = GridWorldVectorEnv(20_000, level_text="#####\n#...#\n#.S.#\n#G..#\n#####", slip=0.4)
        env.reset(seed=0)
        positions = env.step(np.full(20_000, LEFT))[4]["position"]
        counts = [(positions == cell).all(1).sum() for cell in ((2, 1), (1, 2), (3, 2), (2, 3))]
        assert sum(counts) == 20_000
        assert chisquare(counts, [14_000, 2000, 2000, 2000]).pvalue > 1e-6

    def test_the_share_of_successes_is_the_exact_pass_rate(self):
        # 4000 episodes on 6 levels: five standard errors, false alarm below 1e-6, seed fixed.
        env = GridWorldVectorEnv(4000, **SLIPPERY)
        rates = env.tasks.pass_rate(torch.full(env.tasks.shape, 0.25, dtype=torch.float64).log())
        levels = np.arange(4000) % 6
        env.reset(seed=0, options={"level": levels})
        random = np.random.default_rng(0)
        over, success = np.zeros(4000, dtype=bool), np.zeros(4000, dtype=bool)
        for _ in range(12):
            _, rewards, terminated, truncated, _ = env.step(random.integers(4, size=4000))
            success |= ~over & (rewards == 1)
            over |= terminated | truncated
        assert over.all()
        expected = rates.numpy()[levels]
        error = np.sqrt((expected * (1 - expected)).sum()) / 4000
        assert success.mean() == pytest.approx(expected.mean(), abs=5 * error)


class TestRefuses:
    @pytest.mark.parametrize("make", [GridWorldEnv, lambda **options: GridWorldVectorEnv(2, **options)])
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"layout": "maze"}, "unknown layout 'maze'; choose one of: open, obstacles, prim, four_rooms"),
            ({"size": 40}, "size must be at most 33, got 40"),
            ({"size": 8}, "a Prim maze needs an odd size, got 8"),
            ({"levels": 0}, "levels must be a whole number >= 1, got 0"),
            ({"split": "valid"}, "unknown split 'valid'; choose one of: train, test"),
            ({"slip": 1.0}, "slip must lie in [0, 1), got 1.0"),
            ({"horizon": 0}, "horizon must be a whole number >= 1, got 0"),
            (
                {"layout": "open", "size": 5, "distance": 9},
                "found 0 of 1 distinct train levels open 5 x 5 with start and goal 9 moves apart and 0 pits; "
                "the longest way seen is 4 moves",
            ),
            ({"distance": 12, "horizon": 11}, "task 0 cannot be solved: it needs 12 steps, the horizon is 11"),
            ({"level_text": "SG\nX."}, "a level is written with # wall, . floor, O pit, S start, G goal, got ['X']"),
            ({"level_text": "##\n#G"}, "expected one S, got 0"),
            (
                {"level_text": "S#.\n##.\n..G"},
                "task 0 cannot be solved: it needs a way that does not exist, the horizon is 64",
            ),
        ],
    )
    def test_options(self, make, options, message, refuses):
        with refuses(message):
            make(**options)

    def test_render_modes(self, refuses):
        message = "render_mode must be None or one of ansi, rgb_array, human, got 'sound'"
        with pytest.warns(UserWarning, match="render_mode='sound'"), refuses(message):
            gymnasium.make(GRID_WORLD, render_mode="sound")
        with refuses("render_mode must be None or one of ansi, rgb_array, got 'human'"):
            GridWorldVectorEnv(2, render_mode="human")

    def test_no_environments(self, refuses):
        with refuses("num_envs must be a whole number >= 1, got 0"):
            GridWorldVectorEnv(0)

    def test_an_option_that_does_not_exist(self, refuses):
        known = "layout, size, distance, pits, slip, horizon, levels, split, seed, level_text"
        with refuses(f"unknown option 'sise'; choose from: {known}"):
            gymnasium.make(GRID_WORLD, sise=9)
        with refuses(f"unknown option 'sizes'; choose from: {known}"):
            GridWorldVectorEnv(2, sizes=9)

    @pytest.mark.parametrize("level", [6, -1, 1.0, "0", True, [0, 1]])
    def test_levels(self, level, refuses):
        with refuses(f"level must be a whole number in 0..5, got {level!r}"):
            GridWorldEnv(**OBSTACLES).reset(options={"level": level})

    def test_levels_of_many(self, refuses):
        with refuses("level must be a whole number in 0..5, or one for each of 3 episodes, got [0, 6, 1]"):
            GridWorldVectorEnv(3, **OBSTACLES).reset(options={"level": [0, 6, 1]})

    def test_reset_options(self, refuses):
        with refuses("reset has the option 'level', got 'levle'"):
            GridWorldEnv(**OBSTACLES).reset(options={"levle": 0})

    def test_actions(self, refuses):
        env = drawn()
        env.reset()
        for action in (4, -1):
            with refuses(f"an action must lie in 0..3 (up, down, left, right), got {action}"):
                env.step(action)
        with refuses("actions must be a whole number for each of 1 episodes, got float64 of shape (1,)"):
            env.step(0.0)

    def test_actions_of_many(self, refuses):
        env = GridWorldVectorEnv(3, level_text=TEXT)
        env.reset()
        with refuses("an action must lie in 0..3 (up, down, left, right), got 7"):
            env.step(np.array([0, 7, 9]))
        with refuses("actions must be a whole number for each of 3 episodes, got int64 of shape (2,)"):
            env.step(np.array([0, 1]))
