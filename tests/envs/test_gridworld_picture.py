"""Pictures of levels: colours and shapes, every render mode of the environment, and replays of rollouts."""

import builtins

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import DependencyNotInstalled, ResetNeeded

from envs.gridworld.environment import GridWorldEnv
from envs.gridworld.levels import make_levels, parse
from envs.gridworld.picture import MARKS, picture, replay
from envs.gridworld.tables import tasks
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
