"""The gridworld levels as Gymnasium environments, one episode at a time or many, with pictures.

Every move is a look-up in the table that `gridworld.tasks` makes, so an episode here and a rollout of `TabularTasks`
obey the same dynamics, and the exact pass rate of `env.unwrapped.tasks` is that of the environment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled, ResetNeeded
from gymnasium.spaces import Discrete, MultiBinary
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from envs import gridworld
from envs.gridworld.levels import ACTIONS, Cell, Level, make_levels, parse
from envs.gridworld.picture import Picture, picture
from maxrl_lab import specs
from maxrl_lab.errors import InputError

Planes = NDArray[np.int8]
"""(4, size, size) of 0 and 1: walls, pits, goal, agent."""

_FRAMES_PER_SECOND = 8


@dataclass(frozen=True)
class GridWorldSettings:
    """The options of both environments. Unsolvable or unknown ones are refused when the levels are made."""

    layout: str = "prim"
    """A key of `levels.LAYOUTS`."""
    size: int = 9
    """Cells along a side, walls included."""
    distance: int | None = None
    """Least number of moves from start to goal; None: any."""
    pits: int = 0
    """Cells that end the episode without a reward."""
    slip: float = 0.0
    """Probability that the move is one of the four at random."""
    horizon: int = 64
    """Steps after which an episode is truncated."""
    levels: int = 1
    """Distinct levels; every reset draws one of them."""
    split: Literal["train", "test"] = "train"
    """Which levels: the two splits share none, whatever the seeds."""
    seed: int = 0
    """Which levels; `reset(seed=...)` says which of them are drawn, and the slips."""
    level_text: str | None = None
    """The only level, as `levels.parse` reads it; the options that would make one are then not used."""

    def make_levels(self) -> list[Level]:
        """Return the levels to play; `ValueError` for options that no levels have."""
        if self.level_text is not None:
            return [parse(self.level_text)]
        return make_levels(
            self.layout,
            self.size,
            count=specs.check_count("levels", self.levels),
            distance=self.distance,
            pits=self.pits,
            split=self.split,
            seed=self.seed,
        )


def _settings(options: dict[str, Any]) -> GridWorldSettings:
    known = [field.name for field in fields(GridWorldSettings)]
    for name in options:
        if name not in known:
            raise InputError(f"unknown option {name!r}; choose from: {', '.join(known)}")
    return GridWorldSettings(**options)


class _Episodes:
    """N episodes side by side. A state is a flat index, level * size^2 + cell."""

    def __init__(self, settings: GridWorldSettings, count: int) -> None:
        self.levels = settings.make_levels()
        self.tasks = gridworld.tasks(self.levels, horizon=settings.horizon, slip=settings.slip, radius=None)
        self.size = self.levels[0].size
        first = np.arange(len(self.levels)) * self.size**2
        self._starts = first + self.tasks.start.argmax(1).numpy()
        self._successors = self.tasks.next_states.flatten(0, 1).numpy()
        self._success, self._absorbing = (table.flatten().numpy() for table in (self.tasks.success, ~self.tasks.active))
        chances = self.tasks.probabilities
        self._thresholds = None if chances is None else chances.cumsum(-1)[..., :-1].flatten(0, 1).numpy()
        self._planes = gridworld.pictures(self.levels).numpy().astype(np.int8)
        self.states = np.zeros(count, dtype=np.int64)
        self.steps = np.full(count, -1)
        self.ended = np.ones(count, dtype=bool)

    def begin(self, who: NDArray[np.bool_], random: np.random.Generator, levels: ArrayLike | None = None) -> None:
        """Put `who` (N,) on the start of levels that are given, one or (N,), or random."""
        drawn = random.integers(len(self.levels), size=int(who.sum())) if levels is None else levels
        self.states[who] = self._starts[drawn]
        self.steps[who], self.ended[who] = 0, False

    def move(
        self, who: NDArray[np.bool_], actions: NDArray[np.int64], random: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Move `who` (N,) by their actions (N,); return rewards, terminations and truncations (N,), none for others."""
        states, taken = self.states[who], actions[who]
        slips = np.zeros(len(states), dtype=np.int64)
        if self._thresholds is not None:
            slips = (random.random(len(states))[:, None] >= self._thresholds[states, taken]).sum(1)
        self.states[who] = self._successors[states, taken, slips]
        self.steps[who] += 1
        terminated = who & self._absorbing[self.states]
        truncated = who & ~terminated & (self.steps >= self.tasks.horizon)
        self.ended = terminated | truncated
        return (terminated & self._success[self.states]).astype(np.float64), terminated, truncated

    def places(self) -> list[tuple[Level, Cell]]:
        """Return each episode's level and where the agent is; `ResetNeeded` before the first `begin`."""
        if (self.steps < 0).any():
            raise ResetNeeded("no episode has begun: call reset() first")
        levels, rows, cols = self._where()
        return [(self.levels[level], (int(row), int(col))) for level, row, col in zip(levels, rows, cols, strict=True)]

    def observations(self) -> Planes:
        """Return (N, 4, size, size)."""
        levels, rows, cols = self._where()
        agent = np.zeros((len(levels), 1, self.size, self.size), dtype=np.int8)
        agent[np.arange(len(levels)), 0, rows, cols] = 1
        return np.concatenate([self._planes[levels], agent], axis=1)

    def infos(self) -> dict[str, NDArray[Any]]:
        """Return the agents' position (N, 2), level (N,) and success (N,)."""
        levels, rows, cols = self._where()
        return {"position": np.stack([rows, cols], 1), "level": levels, "success": self._success[self.states]}

    def _where(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        levels, cells = np.divmod(self.states, self.size**2)
        rows, cols = np.divmod(cells, self.size)
        return levels, rows, cols

    def checked_levels(self, options: dict[str, Any] | None) -> NDArray[np.int64] | None:
        """Return the levels that options of `reset` ask for, None if they don't; `ValueError` for other options."""
        if not options:
            return None
        if set(options) != {"level"}:
            raise InputError(f"reset has the option 'level', got {', '.join(map(repr, options))}")
        chosen = np.asarray(options["level"])
        whole = chosen.dtype.kind in "iu" and chosen.shape in ((), self.states.shape)
        if not whole or chosen.min() < 0 or chosen.max() >= len(self.levels):
            several = "" if len(self.states) == 1 else f", or one for each of {len(self.states)} episodes"
            raise InputError(
                f"level must be a whole number in 0..{len(self.levels) - 1}{several}, got {options['level']!r}"
            )
        return chosen

    def checked_actions(self, actions: Any) -> NDArray[np.int64]:
        """Return the actions as an array; `ValueError` unless there is one of 0..3 for every episode."""
        chosen = np.asarray(actions)
        if chosen.dtype.kind not in "iu" or chosen.shape != self.states.shape:
            wanted = f"a whole number for each of {len(self.states)} episodes"
            raise InputError(f"actions must be {wanted}, got {chosen.dtype} of shape {chosen.shape}")
        wrong = (chosen < 0) | (chosen >= len(ACTIONS))
        if wrong.any():
            raise InputError(
                f"an action must lie in 0..{len(ACTIONS) - 1} ({', '.join(ACTIONS)}), got {chosen[wrong][0]}"
            )
        return chosen


def _check_render_mode(render_mode: str | None, modes: Sequence[str]) -> None:
    if render_mode is not None and render_mode not in modes:
        raise InputError(f"render_mode must be None or one of {', '.join(modes)}, got {render_mode!r}")


class GridWorldEnv(gymnasium.Env[Planes, np.int64]):
    """One episode at a time: 1.0 for entering the goal, 0.0 else; the options are those of `GridWorldSettings`.

    Observations are `Planes`, actions 0..3 are up, down, left, right. An episode terminates on the goal or a pit, and
    is truncated after `horizon` steps. `info` holds the agent's "position" (row, col), the "level" and "success".
    Render modes: "ansi", the text of `Level.text`; "rgb_array", a `picture`; "human", a window of pygame. Raises
    `ValueError` for options that make no levels, and for a horizon in which a level cannot be solved.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 the base class declares it so
        "render_modes": ["ansi", "rgb_array", "human"],
        "render_fps": _FRAMES_PER_SECOND,
    }

    def __init__(self, *, render_mode: str | None = None, **settings: Any) -> None:
        _check_render_mode(render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self._episodes = _Episodes(_settings(settings), 1)
        self.levels, self.tasks = self._episodes.levels, self._episodes.tasks
        self.observation_space = MultiBinary([4, self._episodes.size, self._episodes.size])
        self.action_space = Discrete(len(ACTIONS))
        self._window = _Window()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Planes, dict[str, Any]]:
        """Return the first observation and info of an episode.

        The level is `options={"level": i}` or a random one; `ValueError` for an index that no level has.
        """
        super().reset(seed=seed)
        levels = self._episodes.checked_levels(options)
        self._episodes.begin(np.ones(1, dtype=bool), self.np_random, levels)
        return self._seen()

    def step(self, action: np.int64 | int) -> tuple[Planes, float, bool, bool, dict[str, Any]]:
        """Return observation, reward, terminated, truncated and info.

        Raises `ValueError` for an action outside 0..3, and Gymnasium's `ResetNeeded` outside an episode.
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
        ((level, agent),) = self._episodes.places()
        return level.text(agent) if self.render_mode == "ansi" else picture(level, agent)

    def close(self) -> None:
        """Close the window, if there is one."""
        self._window.close()

    def _seen(self) -> tuple[Planes, dict[str, Any]]:
        if self.render_mode == "human":
            self._window.show(picture(*self._episodes.places()[0]))
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
        self._clock.tick(_FRAMES_PER_SECOND)

    def close(self) -> None:
        """Close it; the next frame would open it again."""
        if self._pygame is not None:
            self._pygame.display.quit()
            self._pygame = None


class GridWorldVectorEnv(VectorEnv[Planes, NDArray[np.int64], NDArray[Any]]):
    """`num_envs` episodes of `GridWorldEnv` side by side, stepped by look-ups; the options are `GridWorldSettings`.

    Observations (num_envs, 4, size, size), actions, rewards (float64), terminations and truncations (num_envs,). Infos
    as in `GridWorldEnv`, with a first axis and Gymnasium's `_key` masks. The step after an episode's end ignores the
    action and begins the next episode, on a random level (autoreset mode `NEXT_STEP`; the others are not offered). All
    episodes share one random stream, so a `SyncVectorEnv` with the same seed draws other levels and slips. Raises
    `ValueError` as `GridWorldEnv`.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 the base class declares it so
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": _FRAMES_PER_SECOND,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None, **settings: Any) -> None:
        _check_render_mode(render_mode, self.metadata["render_modes"])
        self.num_envs, self.render_mode = specs.check_count("num_envs", num_envs), render_mode
        self._episodes = _Episodes(_settings(settings), num_envs)
        self.levels, self.tasks = self._episodes.levels, self._episodes.tasks
        self.single_observation_space = MultiBinary([4, self._episodes.size, self._episodes.size])
        self.single_action_space = Discrete(len(ACTIONS))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Planes, dict[str, Any]]:
        """Return the first observations and infos of new episodes everywhere.

        The levels are `options={"level": i}`, one index or one for each, or random ones.
        """
        super().reset(seed=seed)
        levels = self._episodes.checked_levels(options)
        self._episodes.begin(np.ones(self.num_envs, dtype=bool), self.np_random, levels)
        return self._episodes.observations(), self._infos()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Planes, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Return observations, rewards, terminations, truncations and infos; episodes that had ended begin anew.

        Raises `ValueError` for actions outside 0..3, and Gymnasium's `ResetNeeded` before the first `reset`.
        """
        if (self._episodes.steps < 0).any():
            raise ResetNeeded("no episode has begun: call reset() first")
        chosen, over = self._episodes.checked_actions(actions), self._episodes.ended.copy()
        results = self._episodes.move(~over, chosen, self.np_random)
        self._episodes.begin(over, self.np_random)
        return self._episodes.observations(), *results, self._infos()

    def render(self) -> tuple[str | Picture, ...] | None:
        """Return a text or a picture of each episode; None without a render mode."""
        if self.render_mode is None:
            return None
        drawn = self._episodes.places()
        return tuple(
            level.text(agent) if self.render_mode == "ansi" else picture(level, agent) for level, agent in drawn
        )

    def _infos(self) -> dict[str, Any]:
        infos: dict[str, Any] = self._episodes.infos()
        return infos | {f"_{name}": np.ones(self.num_envs, dtype=bool) for name in infos}
