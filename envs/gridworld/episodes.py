"""Episodes in gridworld levels, many side by side, and the settings of the environments that play them.

Every move is a look-up in the table that `envs.gridworld.tables.tasks` makes, so an episode here and a rollout of
`TabularTasks` obey the same dynamics.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import ArrayLike, NDArray

from envs.gridworld.levels import ACTIONS, LAYOUTS, MAX_SIZE, MIN_SIZE, SPLITS, Cell, Level, make_levels, parse
from envs.gridworld.tables import pictures, tasks
from maxrl_lab.errors import InputError
from maxrl_lab.settings import Choice, Count, CountOrZero, Interval, Settings, Whole

Planes = NDArray[np.int8]
"""(4, size, size) of 0 and 1: walls, pits, goal, agent."""


@dataclass(frozen=True)
class GridWorldSettings(Settings):
    """Levels and rules of the gridworld environments; levels that cannot be solved are refused when they are made."""

    layout: Annotated[str, Choice(LAYOUTS)] = "prim"
    """Kind of level: an open room, a room with obstacles, a Prim maze, or four rooms."""
    size: Annotated[int, Whole(MIN_SIZE, MAX_SIZE)] = 9
    """Number of cells along a side, walls included."""
    distance: Count | None = None
    """Least number of moves from start to goal; None for any."""
    pits: CountOrZero = 0
    """Number of cells that end the episode without a reward."""
    slip: Annotated[float, Interval(0, 1, closed_low=True)] = 0.0
    """Probability that a move is one of the four at random."""
    horizon: Count = 64
    """Number of steps after which an episode is truncated."""
    levels: Count = 1
    """Number of distinct levels; every reset takes one of them at random."""
    split: Annotated[str, Choice(SPLITS)] = "train"
    """Which levels are made: train and test share none, whatever the seeds."""
    seed: CountOrZero = 0
    """Seed of the levels; `reset(seed=...)` says which of them are taken, and the slips."""
    level_text: str | None = None
    """The only level, as `levels.parse` reads it; the options that would make one are then not used."""

    def make_levels(self) -> list[Level]:
        """Return the levels to play; `InputError` for options that no levels have."""
        if self.level_text is not None:
            return [parse(self.level_text)]
        return make_levels(
            self.layout,
            self.size,
            count=self.levels,
            distance=self.distance,
            pits=self.pits,
            split=self.split,
            seed=self.seed,
        )


def read_settings(options: dict[str, Any]) -> GridWorldSettings:
    """Return the settings of an environment's keyword arguments; `InputError` for one that does not exist."""
    known = [field.name for field in fields(GridWorldSettings)]
    for name in options:
        if name not in known:
            raise InputError(f"unknown option {name!r}; choose from: {', '.join(known)}")
    return GridWorldSettings(**options)


def check_render_mode(render_mode: str | None, modes: Sequence[str]) -> None:
    """Raise `InputError` unless the mode is None or one of those that the environment has."""
    if render_mode is not None and render_mode not in modes:
        raise InputError(f"render_mode must be None or one of {', '.join(modes)}, got {render_mode!r}")


class Episodes:
    """N episodes side by side. A state is a flat index, level * size^2 + cell."""

    def __init__(self, settings: GridWorldSettings, count: int) -> None:
        self.levels = settings.make_levels()
        self.tasks = tasks(self.levels, horizon=settings.horizon, slip=settings.slip, radius=None)
        self.size = self.levels[0].size
        first = np.arange(len(self.levels)) * self.size**2
        self._starts = first + self.tasks.start.argmax(1).numpy()
        self._successors = self.tasks.next_states.flatten(0, 1).numpy()
        self._success, self._absorbing = (table.flatten().numpy() for table in (self.tasks.success, ~self.tasks.active))
        chances = self.tasks.probabilities
        self._thresholds = None if chances is None else chances.cumsum(-1)[..., :-1].flatten(0, 1).numpy()
        self._planes = pictures(self.levels).numpy().astype(np.int8)
        self.states = np.zeros(count, dtype=np.int64)
        self.steps = np.full(count, -1)
        self.ended = np.ones(count, dtype=bool)

    def begin(self, who: NDArray[np.bool_], random: np.random.Generator, levels: ArrayLike | None = None) -> None:
        """Put `who` (N,) on the start of levels that are given, one or (N,), or random."""
        starting = random.integers(len(self.levels), size=int(who.sum())) if levels is None else levels
        self.states[who] = self._starts[starting]
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

    def positions(self) -> list[tuple[Level, Cell]]:
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
        """Return the levels that options of `reset` ask for, None if they don't; `InputError` for other options."""
        if not options:
            return None
        if set(options) != {"level"}:
            raise InputError(f"reset has the option 'level', got {', '.join(map(repr, options))}")
        levels = np.asarray(options["level"])
        whole = levels.dtype.kind in "iu" and levels.shape in ((), self.states.shape)
        if not whole or levels.min() < 0 or levels.max() >= len(self.levels):
            several = "" if len(self.states) == 1 else f", or one for each of {len(self.states)} episodes"
            raise InputError(
                f"level must be a whole number in 0..{len(self.levels) - 1}{several}, got {options['level']!r}"
            )
        return levels

    def checked_actions(self, actions: Any) -> NDArray[np.int64]:
        """Return the actions as an array; `InputError` unless there is one of 0..3 for every episode."""
        moves = np.asarray(actions)
        if moves.dtype.kind not in "iu" or moves.shape != self.states.shape:
            wanted = f"a whole number for each of {len(self.states)} episodes"
            raise InputError(f"actions must be {wanted}, got {moves.dtype} of shape {moves.shape}")
        wrong = (moves < 0) | (moves >= len(ACTIONS))
        if wrong.any():
            raise InputError(
                f"an action must lie in 0..{len(ACTIONS) - 1} ({', '.join(ACTIONS)}), got {moves[wrong][0]}"
            )
        return moves
