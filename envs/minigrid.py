"""MiniGrid levels as exact tables: every state of the real environment, reached with its own `step` (Chevalier-Boisvert
et al. 2023). Positions inside are MiniGrid's own (column, row).

Nothing is copied while exploring: a snapshot refers to the objects of the level, of which only doors change by
themselves, and a state is where each object is. Observations are made once per state, by MiniGrid.
"""

import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import InitVar, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.exploring import FAILURE, RUNNING, SUCCESS, Array, Move, Table, explore
from envs.tabular import TabularTasks, concatenate
from maxrl_lab.runs import write_atomically
from maxrl_lab.specs import check_count, lookup

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
_FORMAT = 1
_ARRAYS = ("successors", "outcome", "observations", "features")


def tasks(
    level: str,
    seeds: Sequence[int],
    *,
    horizon: int | None = None,
    view: str = "partial",
    cache: Path | str | None = None,
) -> TabularTasks:
    """Return a level of MiniGrid, one task for each seed of its `reset`, with MiniGrid's seven actions.

    Success is a terminating step with a reward, failure one without: lava, a wrong object or door. horizon: by default
    MiniGrid's own `max_steps`. view: `partial` for what MiniGrid's agent sees, `full` for `FullyObsWrapper`. An
    observation is a row of `features`, (O, F) uint8: the image (width, height, 3) flattened, the direction, and
    `MISSION_LENGTH` character codes of the mission.

    Tables are kept in the folder `cache`, by default $MAXRL_LAB_CACHE, else $XDG_CACHE_HOME/maxrl_lab, else
    ~/.cache/maxrl_lab; they don't depend on the horizon. A damaged or foreign file is replaced, and a folder that can't
    be written to costs a warning. Raises `ValueError` for an unknown level or view, seeds that are no whole numbers
    >= 0, and a seed whose level cannot be solved within the horizon.
    """
    lookup(LEVELS, "level", level)
    lookup(VIEWS, "view", view)
    chosen = [check_count("a seed", seed, 0) for seed in seeds]
    if not chosen:
        raise ValueError("expected at least one seed, got none")
    horizon = check_count("horizon", _make(level).max_steps if horizon is None else horizon)
    folder = _folder() if cache is None else Path(cache)
    return concatenate([_task(level, seed, view, folder, horizon) for seed in chosen])


@dataclass(frozen=True, eq=False)
class Encoder:
    """Network inputs from integer features: one-hot, for every column that varies in the features it was made from.

    Raises `ValueError` unless these are integers, (O, F), of which some column varies.
    """

    features: InitVar[Tensor | None]
    columns: Tensor = field(init=False)
    """(W,) the column that each input looks at."""
    values: Tensor = field(init=False)
    """(W,) the value that turns it on."""
    width: int = field(init=False)
    """F, the number of columns."""

    def __post_init__(self, features: Tensor | None) -> None:
        if features is None or features.ndim != 2 or features.is_floating_point():
            found = "None" if features is None else f"{features.dtype} {tuple(features.shape)}"
            raise ValueError(f"features must be integers of shape (O, F), got {found}")
        distinct = [column.unique() for column in features.long().unbind(1)]
        varying = [(column, values) for column, values in enumerate(distinct) if len(values) > 1]
        if not varying:
            raise ValueError(f"expected features of which a column varies, got {len(features)} equal rows")
        columns = torch.cat([torch.full_like(values, column) for column, values in varying])
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "values", torch.cat([values for _, values in varying]))
        object.__setattr__(self, "width", features.shape[1])

    def __call__(self, features: Tensor) -> Tensor:
        """Return float32 (O, W); a value that was not among those it was made from turns nothing on."""
        if features.ndim != 2 or features.shape[1] != self.width:
            raise ValueError(f"features must have shape (O, {self.width}), got {tuple(features.shape)}")
        return (features.long()[:, self.columns] == self.values).float()


class _Level:
    """One seed of a level: the environment itself, put back into a state by reference and stepped from there."""

    def __init__(self, env: Any, seed: int, view: str) -> None:
        from minigrid.wrappers import FullyObsWrapper

        env.reset(seed=seed)
        self.env, self.actions = env, int(env.action_space.n)
        objects = list({id(each): each for each in env.grid.grid if each is not None}.values())
        self.numbers = {id(each): number for number, each in enumerate([None, *objects])}
        self.doors = [each for each in objects if each.type == "door"]
        self.movable = [each for each in objects if each.can_pickup()]
        self.full_view = FullyObsWrapper(env).observation if view == "full" else None
        self.view = env.gen_obs
        env.gen_obs = lambda: None  # most of the time of a step, and needed once per state only

    def starts(self) -> Iterable[tuple[float, Hashable]]:
        return [(1.0, self.key())]

    def moves(self, snapshot: Any, action: int) -> Iterable[Move]:
        env = self.env
        env.agent_pos, env.agent_dir, env.carrying, grid, doors, places = snapshot
        env.grid.grid = grid.copy()
        for door, (is_open, is_locked) in zip(self.doors, doors, strict=True):
            door.is_open, door.is_locked = is_open, is_locked
        for each, place in zip(self.movable, places, strict=True):
            each.cur_pos = place
        env.step_count = 0  # MiniGrid never runs out of time here, and its rewards of success are > 0 at any step
        _, reward, terminated, _, _ = env.step(action)
        return [Move(1.0, self.key(), float(reward), bool(terminated))]

    def enter(self, _key: Any, /) -> tuple[Any, Array]:
        env = self.env
        doors = [(door.is_open, door.is_locked) for door in self.doors]
        places = [each.cur_pos for each in self.movable]
        # the list itself: `moves` gives the environment another one before it steps
        snapshot = (env.agent_pos, env.agent_dir, env.carrying, env.grid.grid, doors, places)
        return snapshot, self.observe()

    def key(self) -> Hashable:
        """Where agent and objects are, and the state of the doors; knows only objects that were there at first."""
        env, numbers = self.env, self.numbers
        column, row = env.agent_pos
        doors = tuple([(door.is_open, door.is_locked) for door in self.doors])
        cells = tuple([numbers[id(each)] for each in env.grid.grid])
        return int(column), int(row), int(env.agent_dir), numbers[id(env.carrying)], doors, cells

    def observe(self) -> Array:
        """One row of features."""
        env = self.env
        rest = {"direction": env.agent_dir, "mission": env.mission}
        return flatten(self.view() if self.full_view is None else self.full_view(rest))


def flatten(observation: dict[str, Any]) -> Array:
    """Return the row of features of MiniGrid's observation; `ValueError` if its mission is too long or not ASCII."""
    mission = observation["mission"]
    if len(mission) > MISSION_LENGTH or not mission.isascii():
        raise ValueError(f"the mission must be at most {MISSION_LENGTH} ASCII characters, got {mission!r}")
    codes = list(mission.encode().ljust(MISSION_LENGTH, b"\0"))
    return np.concatenate([observation["image"].ravel(), [observation["direction"]], codes]).astype(np.uint8)


def _make(level: str) -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import minigrid

    if LEVELS[level] not in gymnasium.registry:
        minigrid.register_minigrid_envs()
    return gymnasium.make(LEVELS[level]).unwrapped


def _task(level: str, seed: int, view: str, folder: Path, horizon: int) -> TabularTasks:
    name = f"minigrid{metadata.version('minigrid')}-{level}-seed{seed}-{view}-format{_FORMAT}"
    file = folder / f"{name}.npz"
    table = _read(file)
    if table is None:
        table = _explore(level, seed, view)
        _write(file, table)
    try:
        return table.tasks(horizon)
    except ValueError as error:
        raise ValueError(f"{level} with seed {seed}: {error}") from None


def _explore(level: str, seed: int, view: str) -> Table:
    env = _make(level)
    world = _Level(env, seed, view)
    before = env.np_random.bit_generator.state
    table = explore(world, lambda reward, terminated: terminated and reward > 0, MAX_STATES)
    if env.np_random.bit_generator.state != before:
        raise ValueError(f"{level} draws random numbers when it steps, so that one table does not describe it")
    return table


def _folder() -> Path:
    if own := os.environ.get("MAXRL_LAB_CACHE"):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maxrl_lab"
    except RuntimeError:  # nobody's home
        return Path(tempfile.gettempdir()) / "maxrl_lab"


def _write(file: Path, table: Table) -> None:
    arrays: dict[str, Any] = {
        "successors": table.successors[..., 0].astype(np.int32),
        "outcome": table.outcome,
        "observations": table.observations.astype(np.int32),
        "features": table.features,
    }
    content = io.BytesIO()
    np.savez_compressed(content, checksum=_checksum(file.name, arrays), **arrays)
    try:
        write_atomically(file, content.getvalue())
    except OSError as error:
        warnings.warn(f"the table is not kept for the next time: {error}", RuntimeWarning, stacklevel=4)


def _read(file: Path) -> Table | None:
    """Return the table in a file, None if there is none or it is not what `_write` wrote under that name."""
    try:
        with np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in _ARRAYS}
            trusted = np.array_equal(found["checksum"], _checksum(file.name, arrays))
    except Exception:  # numpy and zipfile raise many kinds for a damaged file; all mean the same here
        return None
    if not trusted or not _makes_sense(**arrays):
        return None
    successors = arrays["successors"].astype(np.int64)[..., None]
    start = np.zeros(len(successors))
    start[0] = 1.0
    observations = arrays["observations"].astype(np.int64)
    return Table(successors, np.ones(successors.shape), start, arrays["outcome"], observations, arrays["features"])


def _checksum(name: str, arrays: dict[str, Array]) -> Array:
    """SHA-256 of the file's name and of each array's name, type, shape and bytes: (32,) uint8."""
    digest = hashlib.sha256(name.encode())
    for each, array in sorted(arrays.items()):
        digest.update(f"{each} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _makes_sense(successors: Array, outcome: Array, observations: Array, features: Array) -> bool:
    shapes = successors.ndim == 2 and features.ndim == 2 and outcome.shape == observations.shape == successors.shape[:1]
    types = [str(each.dtype) for each in (successors, outcome, observations, features)]
    if not shapes or types != ["int32", "int8", "int32", "uint8"] or min(successors.shape) < 1:
        return False
    return bool(
        (successors.min() >= 0 and successors.max() < len(successors))
        and (observations.min() >= 0 and observations.max() < len(features))
        and np.isin(outcome, (RUNNING, SUCCESS, FAILURE)).all()
    )
