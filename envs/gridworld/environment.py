"""The gridworld levels as a Gymnasium environment, one episode at a time, with pictures.

The exact pass rate of `env.unwrapped.tasks` is that of the environment: both are the same table.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled, ResetNeeded
from gymnasium.spaces import Discrete, MultiBinary

from envs.gridworld.episodes import Episodes, Planes, check_render_mode, read_settings
from envs.gridworld.levels import ACTIONS
from envs.gridworld.picture import Picture, picture

FRAMES_PER_SECOND = 8


class GridWorldEnv(gymnasium.Env[Planes, np.int64]):
    """One episode at a time: 1.0 for entering the goal, 0.0 else; the options are those of `GridWorldSettings`.

    Observations are `Planes`, actions 0..3 are up, down, left, right. An episode terminates on the goal or a pit, and
    is truncated after `horizon` steps. `info` holds the agent's "position" (row, col), the "level" and "success".
    Render modes: "ansi", the text of `Level.text`; "rgb_array", a `picture`; "human", a window of pygame. Raises
    `InputError` for options that make no levels, and for a horizon in which a level cannot be solved.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 the base class declares it so
        "render_modes": ["ansi", "rgb_array", "human"],
        "render_fps": FRAMES_PER_SECOND,
    }

    def __init__(self, *, render_mode: str | None = None, **settings: Any) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self._episodes = Episodes(read_settings(settings), 1)
        self.levels, self.tasks = self._episodes.levels, self._episodes.tasks
        self.observation_space = MultiBinary([4, self._episodes.size, self._episodes.size])
        self.action_space = Discrete(len(ACTIONS))
        self._window = _Window()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Planes, dict[str, Any]]:
        """Return the first observation and info of an episode.

        The level is `options={"level": i}` or a random one; `InputError` for an index that no level has.
        """
        super().reset(seed=seed)
        levels = self._episodes.checked_levels(options)
        self._episodes.begin(np.ones(1, dtype=bool), self.np_random, levels)
        return self._seen()

    def step(self, action: np.int64 | int) -> tuple[Planes, float, bool, bool, dict[str, Any]]:
        """Return observation, reward, terminated, truncated and info.

        Raises `InputError` for an action outside 0..3, and Gymnasium's `ResetNeeded` outside an episode.
        """
        if self._episodes.ended[0]:
            raise ResetNeeded("no episode is running: call reset() first")
        actions = self._episodes.checked_actions([action])
        rewards, terminated, truncated = self._episodes.move(np.ones(1, dtype=bool), actions, self.np_random)
        observation, info = self._seen()
        return observation, float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> str | Picture | None:
        """Return the text or the picture of now; None in a window, which `reset` and `step` keep up to date."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() does nothing: make the environment with render_mode='ansi' or 'rgb_array'")
        if self.render_mode not in ("ansi", "rgb_array"):
            return None
        ((level, agent),) = self._episodes.positions()
        return level.text(agent) if self.render_mode == "ansi" else picture(level, agent)

    def close(self) -> None:
        """Close the window, if there is one."""
        self._window.close()

    def _seen(self) -> tuple[Planes, dict[str, Any]]:
        if self.render_mode == "human":
            self._window.show(picture(*self._episodes.positions()[0]))
        infos = self._episodes.infos()
        info = {"position": infos["position"][0], "level": int(infos["level"][0]), "success": bool(infos["success"][0])}
        return self._episodes.observations()[0], info


class _Window:
    """A window of pygame, which is imported, and opened, with the first frame."""

    def __init__(self) -> None:
        self._pygame: Any = None
        self._surface: Any = None
        self._clock: Any = None

    def show(self, frame: Picture) -> None:
        """Show a frame and wait until the next is due; `DependencyNotInstalled` without pygame."""
        if self._pygame is None:
            try:
                import pygame
            except ImportError as missing:
                raise DependencyNotInstalled("render_mode='human' needs pygame: pip install pygame-ce") from missing
            self._pygame = pygame
            pygame.display.init()
            pygame.display.set_caption("GridWorld")
            self._surface = pygame.display.set_mode((frame.shape[1], frame.shape[0]))
            self._clock = pygame.time.Clock()
        self._surface.blit(self._pygame.surfarray.make_surface(frame.swapaxes(0, 1)), (0, 0))
        self._pygame.event.pump()
        self._pygame.display.flip()
        self._clock.tick(FRAMES_PER_SECOND)

    def close(self) -> None:
        """Close it; the next frame would open it again."""
        if self._pygame is not None:
            self._pygame.display.quit()
            self._pygame = None
