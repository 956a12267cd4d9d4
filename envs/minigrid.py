"""MiniGrid levels as exact tables: every state of the real environment, reached with its own `step` (Chevalier-Boisvert
et al. 2023). Positions inside are MiniGrid's own (column, row).

Nothing is copied while exploring: a snapshot refers to the objects of the level, and says where they are and how the
doors stand, which is all that changes. Observations are made once per state, by MiniGrid.
"""

import hashlib
import os
from collections.abc import Hashable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from maxrl_lab.errors import InputError
from maxrl_lab.runs.files import cache_folder
from maxrl_lab.runs.fingerprint import fingerprint
from maxrl_lab.specs import check_count, lookup
from maxrl_lab.tabular import table_cache
from maxrl_lab.tabular.concatenation import concatenate
from maxrl_lab.tabular.exploring import Array, Move, Table, explore
from maxrl_lab.tabular.tasks import TabularTasks

LEVELS = {
    "Empty-5x5": "MiniGrid-Empty-5x5-v0",
    "Empty-6x6": "MiniGrid-Empty-6x6-v0",
    "Empty-8x8": "MiniGrid-Empty-8x8-v0",
    "Empty-16x16": "MiniGrid-Empty-16x16-v0",
    "Empty-Random-5x5": "MiniGrid-Empty-Random-5x5-v0",
    "Empty-Random-6x6": "MiniGrid-Empty-Random-6x6-v0",
    "FourRooms": "MiniGrid-FourRooms-v0",
    "SimpleCrossingS9N1": "MiniGrid-SimpleCrossingS9N1-v0",
    "SimpleCrossingS9N2": "MiniGrid-SimpleCrossingS9N2-v0",
    "SimpleCrossingS9N3": "MiniGrid-SimpleCrossingS9N3-v0",
    "SimpleCrossingS11N5": "MiniGrid-SimpleCrossingS11N5-v0",
    "LavaCrossingS9N1": "MiniGrid-LavaCrossingS9N1-v0",
    "LavaCrossingS9N2": "MiniGrid-LavaCrossingS9N2-v0",
    "LavaCrossingS9N3": "MiniGrid-LavaCrossingS9N3-v0",
    "LavaCrossingS11N5": "MiniGrid-LavaCrossingS11N5-v0",
    "LavaGapS5": "MiniGrid-LavaGapS5-v0",
    "LavaGapS6": "MiniGrid-LavaGapS6-v0",
    "LavaGapS7": "MiniGrid-LavaGapS7-v0",
    "DoorKey-5x5": "MiniGrid-DoorKey-5x5-v0",
    "DoorKey-6x6": "MiniGrid-DoorKey-6x6-v0",
    "DoorKey-8x8": "MiniGrid-DoorKey-8x8-v0",
    "Unlock": "MiniGrid-Unlock-v0",
    "MultiRoom-N2-S4": "MiniGrid-MultiRoom-N2-S4-v0",
    "GoToDoor-5x5": "MiniGrid-GoToDoor-5x5-v0",
    "GoToDoor-6x6": "MiniGrid-GoToDoor-6x6-v0",
    "GoToDoor-8x8": "MiniGrid-GoToDoor-8x8-v0",
    "Fetch-5x5-N2": "MiniGrid-Fetch-5x5-N2-v0",
    "Fetch-6x6-N2": "MiniGrid-Fetch-6x6-N2-v0",
    "Fetch-8x8-N3": "MiniGrid-Fetch-8x8-N3-v0",
}
"""Names (MiniGrid's own, without prefix and version) to Gymnasium ids. All are finite and deterministic; levels with
moving obstacles or boxes are left out."""

VIEWS = {"partial": "the 7x7 cells in front of the agent", "full": "the whole grid, the agent in it"}
MISSION_LENGTH = 64
"""Character codes of the mission in an observation, padded with 0."""
MAX_STATES = 200_000
_KINDS = (11, 6, 4)
"""Numbers of kinds of object, of colours, and of states (of a door, or the agent's direction) in MiniGrid."""


def tasks(
    level: str,
    seeds: Sequence[int] | int,
    *,
    horizon: int | None = None,
    view: str = "partial",
    cache: Path | str | None = None,
) -> TabularTasks:
    """Return a level of MiniGrid, one task for each seed of its `reset`, or for one, with MiniGrid's seven actions.

    Success is a terminating step with a reward, failure one without: lava, a wrong object or door. horizon: by default
    MiniGrid's own `max_steps`. view: `partial` for what MiniGrid's agent sees, `full` for `FullyObsWrapper`. An
    observation is a row of `features`, (O, F) uint8: the image (width, height, 3) flattened, the direction, and
    `MISSION_LENGTH` character codes of the mission.

    Tables are kept in the folder `cache`, by default $MAXRL_LAB_CACHE, else $XDG_CACHE_HOME/maxrl_lab, else
    ~/.cache/maxrl_lab; they don't depend on the horizon. A damaged or foreign file is replaced, and a folder that can't
    be written to costs a warning. Raises `InputError` for an unknown level or view, seeds that are no whole numbers
    >= 0, and a seed whose level cannot be solved within the horizon.
    """
    lookup(LEVELS, "level", level)
    lookup(VIEWS, "view", view)
    seeds = [check_count("a seed", seed, 0) for seed in (seeds if isinstance(seeds, Iterable) else [seeds])]
    if not seeds:
        raise InputError("expected at least one seed, got none")
    horizon = check_count("horizon", _make(level).max_steps if horizon is None else horizon)
    folder = cache_folder() if cache is None else Path(cache)
    return concatenate([_task(level, seed, view, folder, horizon) for seed in seeds])


class _Level:
    """One seed of a level: the environment itself, put back into a state by reference and stepped from there."""

    def __init__(self, env: Any, seed: int, view: str) -> None:
        from minigrid.wrappers import FullyObsWrapper

        env.reset(seed=seed)
        self.env, self.actions = env, int(env.action_space.n)
        objects = list({id(item): item for item in env.grid.grid if item is not None}.values())
        self.numbers = {id(item): number for number, item in enumerate([None, *objects])}
        self.doors = [item for item in objects if item.type == "door"]
        self.movable = [item for item in objects if item.can_pickup()]
        self.full_view = FullyObsWrapper(env).observation if view == "full" else None
        self.view = env.gen_obs
        env.gen_obs = lambda: None  # most of the time of a step, and needed once per state only

    def starts(self) -> Iterable[tuple[float, Hashable]]:
        return [(1.0, self.key())]

    def moves(self, snapshot: Any, action: int) -> Iterable[Move]:
        env = self.env
        env.agent_pos, env.agent_dir, env.carrying, grid, doors, positions = snapshot
        env.grid.grid = grid.copy()
        for door, (is_open, is_locked) in zip(self.doors, doors, strict=True):
            door.is_open, door.is_locked = is_open, is_locked
        for item, position in zip(self.movable, positions, strict=True):
            item.cur_pos = position
        env.step_count = 0  # MiniGrid never runs out of time here, and its rewards of success are > 0 at any step
        _, reward, terminated, _, _ = env.step(action)
        return [Move(1.0, self.key(), float(reward), bool(terminated))]

    def enter(self, _key: Any, /) -> tuple[Any, Array]:
        env = self.env
        doors = [(door.is_open, door.is_locked) for door in self.doors]
        positions = [item.cur_pos for item in self.movable]
        # the list itself: `moves` gives the environment another one before it steps
        snapshot = (env.agent_pos, env.agent_dir, env.carrying, env.grid.grid, doors, positions)
        return snapshot, self.observe()

    def key(self) -> Hashable:
        """Return where agent and objects are, and how the doors stand; all objects must have been there at reset."""
        env, numbers = self.env, self.numbers
        column, row = env.agent_pos
        doors = tuple([(door.is_open, door.is_locked) for door in self.doors])
        cells = tuple([numbers[id(item)] for item in env.grid.grid])
        return int(column), int(row), int(env.agent_dir), numbers[id(env.carrying)], doors, cells

    def observe(self) -> Array:
        """Return the observation as a row of features."""
        env = self.env
        rest = {"direction": env.agent_dir, "mission": env.mission}
        return flatten(self.view() if self.full_view is None else self.full_view(rest))


def flatten(observation: dict[str, Any]) -> Array:
    """Return the row of features of MiniGrid's observation; `InputError` if its mission is too long or not ASCII."""
    mission = observation["mission"]
    if len(mission) > MISSION_LENGTH or not mission.isascii():
        raise InputError(f"the mission must be at most {MISSION_LENGTH} ASCII characters, got {mission!r}")
    codes = list(mission.encode().ljust(MISSION_LENGTH, b"\0"))
    return np.concatenate([observation["image"].ravel(), [observation["direction"]], codes]).astype(np.uint8)


def images(features: Tensor) -> Tensor:
    """Return the pictures in rows of features (O, F), for a convolutional network: (O, 21, size, size) float32.

    One plane per kind of object (11), colour (6) and state (4). Direction and mission are left out; so pictures are all
    that such a network sees. Raises `InputError` for rows that are no square picture.
    """
    cells = features.shape[-1] - 1 - MISSION_LENGTH
    size = round((cells / 3) ** 0.5) if cells > 0 else 0
    if features.ndim != 2 or cells != 3 * size * size or cells <= 0:
        raise InputError(f"expected rows of 3 size^2 + {1 + MISSION_LENGTH} numbers, got {tuple(features.shape)}")
    grids = features[:, :cells].long().view(-1, size, size, 3)
    planes = [one_hot(grids[..., channel], count) for channel, count in enumerate(_KINDS)]
    return torch.cat(planes, -1).movedim(-1, 1).float()


def _make(level: str) -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import minigrid

    if LEVELS[level] not in gymnasium.registry:
        minigrid.register_minigrid_envs()
    return gymnasium.make(LEVELS[level]).unwrapped


def _task(level: str, seed: int, view: str, folder: Path, horizon: int) -> TabularTasks:
    name = f"minigrid{metadata.version('minigrid')}-{level}-seed{seed}-{view}-code{_code()}"
    file = folder / f"{name}.npz"
    table = table_cache.read(file)
    if table is None:
        table = _explore(level, seed, view)
        table_cache.write(file, table)
    try:
        return table.tasks(horizon)
    except InputError as error:
        raise InputError(f"{level} with seed {seed}: {error}") from None


def _code() -> str:
    """The hash of the code that makes the tables: other code does not read them."""
    return hashlib.sha256(repr(fingerprint("envs.minigrid")).encode()).hexdigest()[:12]


def _explore(level: str, seed: int, view: str) -> Table:
    env = _make(level)
    world = _Level(env, seed, view)
    before = env.np_random.bit_generator.state
    table = explore(world, lambda reward, terminated: terminated and reward > 0, MAX_STATES)
    if env.np_random.bit_generator.state != before:
        raise InputError(f"{level} samples random numbers when it steps, so that one table does not describe it")
    return table
