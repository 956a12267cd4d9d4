"""The Gymnasium environments: their conventions, that they are the table step by step, and what they draw."""

import builtins
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import DependencyNotInstalled, ResetNeeded
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from scipy.stats import chisquare

from envs.gridworld.environment import GridWorldEnv
from envs.gridworld.levels import ACTIONS, make_levels, parse
from envs.gridworld.picture import MARKS, picture, replay
from envs.gridworld.tables import tasks
from envs.gridworld.vector import GridWorldVectorEnv
from envs.registration import GRID_WORLD, register
from maxrl_lab.randomness import generator

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


def centre(frame, row, col, size=5):
    """The colour in the middle of a cell."""
    pixels = len(frame) // size
    return tuple(frame[row * pixels + pixels // 2, col * pixels + pixels // 2].tolist())


class TestPictures:
    def test_colours_in_the_middle_of_cells(self):
        frame = picture(parse(TEXT), (2, 2))
        assert frame.shape == (480, 480, 3)
        assert frame.dtype == np.uint8
        cells = {"wall": (0, 4), "floor": (2, 1), "pit": (1, 2), "goal": (1, 3), "agent": (2, 2)}
        assert {name: centre(frame, *cell) for name, cell in cells.items()} == {
            name: MARKS[name].colour for name in cells
        }
        # The start is a frame: its colour is between the middle, which is floor, and the border.
        assert centre(frame, 1, 1) == MARKS["floor"].colour
        assert tuple(frame[96 + 48, 96 + 10].tolist()) == MARKS["start"].colour

    def test_without_an_agent(self):
        frame = picture(parse(TEXT))
        assert not (frame == MARKS["agent"].colour).all(-1).any()

    def test_the_start_shows_around_the_agent_and_the_goal_too(self):
        for cell, name in (((1, 1), "start"), ((1, 3), "goal")):
            frame = picture(parse(TEXT), cell)
            block = frame[96 * cell[0] : 96 * (cell[0] + 1), 96 * cell[1] : 96 * (cell[1] + 1)]
            for shown in (name, "agent"):
                assert (block == MARKS[shown].colour).all(-1).sum() > 500

    @pytest.mark.parametrize("cell_size", [1, 2, 7, 16])
    def test_cell_size(self, cell_size):
        assert picture(parse(TEXT), cell_size=cell_size).shape == (5 * cell_size, 5 * cell_size, 3)

    def test_a_large_level_is_still_legible(self):
        (level,) = make_levels("prim", 33, count=1)
        frame = picture(level, level.goal)
        assert frame.shape == (33 * 14, 33 * 14, 3)
        assert centre(frame, *level.goal, size=33) == MARKS["agent"].colour

    def test_colours_differ_without_red_against_green(self):
        # What is left to most colour-blind eyes: lightness (Rec. 709) and blue against yellow, both within -1..1.
        kinds = ["floor", "wall", "pit", "start", "goal", "agent"]
        colours = np.array([MARKS[kind].colour for kind in kinds]) / 255
        seen = np.stack([colours @ (0.2126, 0.7152, 0.0722), colours @ (-0.5, -0.5, 1)], 1)
        apart = np.linalg.norm(seen[:, None] - seen, axis=-1)[~np.eye(len(kinds), dtype=bool)]
        assert apart.min() > 0.25

    def test_refuses_no_pixels(self, refuses):
        with refuses("cell_size must be a whole number >= 1, got 0"):
            picture(parse(TEXT), cell_size=0)


class TestRender:
    def test_ansi_is_the_levels_text_with_the_agent(self):
        env = gymnasium.make(GRID_WORLD, level_text=TEXT, render_mode="ansi")
        env.reset()
        assert env.render() == "#####\n#AOG#\n#...#\n#..##\n#####"
        env.step(DOWN)
        assert env.render() == "#####\n#SOG#\n#A..#\n#..##\n#####"

    def test_rgb_array_is_the_picture(self):
        env = gymnasium.make(GRID_WORLD, level_text=TEXT, render_mode="rgb_array")
        env.reset()
        env.step(DOWN)
        np.testing.assert_array_equal(env.render(), picture(parse(TEXT), (2, 1)))

    def test_lists_are_collected_by_gymnasium(self):
        env = gymnasium.make(GRID_WORLD, level_text=TEXT, render_mode="rgb_array_list")
        walk(env, TO_GOAL)
        frames = env.render()
        assert len(frames) == 5
        np.testing.assert_array_equal(frames[-1], picture(parse(TEXT), (1, 3)))

    def test_before_the_first_reset(self):
        with pytest.raises(ResetNeeded, match=r"\Ano episode has begun: call reset\(\) first\Z"):
            drawn(render_mode="ansi").render()

    def test_without_a_mode_it_says_so(self):
        env = drawn()
        env.reset()
        with pytest.warns(UserWarning, match="render\\(\\) does nothing: make the environment with render_mode="):
            assert env.render() is None

    def test_a_window_shows_every_step_closes_and_opens_again(self, headless, monkeypatch):
        import pygame

        monkeypatch.setattr("envs.gridworld.environment.FRAMES_PER_SECOND", 1000)
        env = gymnasium.make(GRID_WORLD, level_text=TEXT, render_mode="human")
        for _ in range(2):
            env.reset()
            for cell in ((2, 1), (2, 2)):
                env.step(DOWN if cell == (2, 1) else RIGHT)
                shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
                np.testing.assert_array_equal(shown, picture(parse(TEXT), cell))
            assert env.render() is None
            env.unwrapped.close()
            env.unwrapped.close()
            assert pygame.display.get_surface() is None

    def test_without_pygame_a_window_is_refused_and_the_rest_works(self, monkeypatch):
        importing = builtins.__import__

        def without_pygame(name, *arguments, **options):
            if name == "pygame":
                raise ImportError(name)
            return importing(name, *arguments, **options)

        monkeypatch.setattr(builtins, "__import__", without_pygame)
        message = r"\Arender_mode='human' needs pygame: pip install pygame-ce\Z"
        with pytest.raises(DependencyNotInstalled, match=message):
            drawn(render_mode="human").reset()
        env = drawn(render_mode="rgb_array")
        env.reset()
        assert env.render().shape == (480, 480, 3)


class TestReplay:
    def test_paths_of_the_table(self):
        # A policy that takes the way by hand, in more steps than it needs.
        level = parse(TEXT)
        table = tasks([level], horizon=7)
        policy = torch.full((7, *table.shape), -torch.inf, dtype=torch.float64)
        for step, action in enumerate([*TO_GOAL, UP, UP, UP]):
            policy[step, ..., action] = 0
        _, paths = table.paths(policy, 1, generator("test", 0))
        frames = replay(level, paths.states[0, 0], cell_size=12)
        assert len(frames) == 5
        for frame, cell in zip(frames, [(1, 1), (2, 1), (2, 2), (2, 3), (1, 3)], strict=True):
            np.testing.assert_array_equal(frame, picture(level, cell, 12))

    def test_agrees_with_the_environment_where_nothing_slips(self):
        env = GridWorldEnv(**OBSTACLES, render_mode="rgb_array")
        _, paths = env.tasks.paths(torch.full(env.tasks.shape, 0.25).log(), 3, generator("test", 1))
        for task in range(3):
            env.reset(options={"level": task})
            frames = [env.render()]
            for action in paths.actions[task, 0].tolist():
                if action >= 0:
                    env.step(action)
                    frames.append(env.render())
            np.testing.assert_array_equal(frames, replay(env.levels[task], paths.states[task, 0]))

    def test_a_pit_is_the_last_picture_and_a_truncated_walk_keeps_its_length(self):
        assert len(replay(parse(TEXT), [6, 7, 7, 7], 4)) == 2
        assert len(replay(parse(TEXT), [6, 6, 11, 6], 4)) == 4

    @pytest.mark.parametrize("state", [-1, 25, 0])
    def test_refuses_states_that_are_no_free_cells(self, state, refuses):
        with refuses(f"states must be row * 5 + col of free cells of the level, got {state}"):
            replay(parse(TEXT), [6, state])

    @pytest.mark.parametrize(("states", "got"), [([[6, 7]], "int64 of shape (1, 2)"), ([6.0], "float64 of shape (1,)")])
    def test_refuses_what_is_no_list_of_whole_numbers(self, states, got, refuses):
        with refuses(f"states must be a list of whole numbers, got {got}"):
            replay(parse(TEXT), states)


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
