"""Gridworld levels made from seeds: open rooms, obstacles, four rooms and mazes, each with a start and a goal.

A level is a square of cells, (row, col), with walls all around. Moves go up, down, left, right; a move into a wall
leaves the agent where it is. The length of the shortest way from start to goal is chosen, and sets the difficulty: an
untrained policy's pass rate falls roughly exponentially with it. Mazes are made with Prim's algorithm, as in App. L of
arXiv:2602.02710v1.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from envs.gridworld.mazes import distances, prim_mazes
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator
from maxrl_lab.sampling import sample_enough
from maxrl_lab.settings import Choice, Whole

Cell = tuple[int, int]
"""The row and the column of a cell."""
ACTIONS = ("up", "down", "left", "right")
"""The names of the moves in `mazes.MOVES`, in the same order."""
MIN_SIZE, MAX_SIZE = 5, 33
SPLITS = ("train", "test")
_TEST_SHARE = 4
"""One level in so many, by a hash of its content, is a held-out level."""
_HOPELESS_AFTER = 2000
"""A request is refused after this many samples in a row without a new level."""
_OBSTACLE_SHARE = 0.25
_MAZES_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Level:
    """One level. Raises `InputError` for a start or goal on a wall or pit, or cells outside."""

    walls: np.ndarray
    """(size, size) bool."""
    pits: np.ndarray
    """(size, size) bool: standing there is a failure."""
    start: Cell
    goal: Cell

    def __post_init__(self) -> None:
        """Check types, shapes and the start and goal cells."""
        if not self.walls.dtype == self.pits.dtype == bool:
            raise InputError(f"walls and pits must be bool, got {self.walls.dtype}, {self.pits.dtype}")
        if self.walls.ndim != 2 or self.walls.shape != self.pits.shape or len(set(self.walls.shape)) > 1:
            raise InputError(f"walls and pits must be squares of one size, got {self.walls.shape}, {self.pits.shape}")
        for name, (row, col) in (("start", self.start), ("goal", self.goal)):
            if not (0 <= row < self.size and 0 <= col < self.size):
                raise InputError(f"{name} must lie in a level of {self.size} x {self.size} cells, got ({row}, {col})")
            for kind, cells in (("wall", self.walls), ("pit", self.pits)):
                if cells[row, col]:
                    raise InputError(f"{name} must be a free cell, got ({row}, {col}), which is a {kind}")
        if self.start == self.goal:
            raise InputError(f"start and goal must differ, got {self.start} for both")

    @property
    def size(self) -> int:
        """Cells along a side."""
        return len(self.walls)

    @cached_property
    def distance(self) -> float:
        """Least number of moves from start to goal that touches no pit; infinite if there is no way."""
        steps = int(distances(~(self.walls | self.pits)[None], self.goal)[0][self.start])
        return float(steps) if steps >= 0 else math.inf

    @cached_property
    def digest(self) -> int:
        """A hash of the content, the same on every machine."""
        return _hash(self.text())

    @cached_property
    def is_held_out(self) -> bool:
        """Whether the level is one of split `test`: by a hash of walls, pits and goal, so no map is in both splits."""
        return _hash(self.text().replace("S", ".")) % _TEST_SHARE == 0

    def text(self, agent: Cell | None = None) -> str:
        """Return the level as lines of `#` wall, `.` free, `O` pit, `S` start, `G` goal, `A` the agent."""
        marks = np.where(self.walls, "#", np.where(self.pits, "O", "."))
        marks[self.start], marks[self.goal] = "S", "G"
        if agent is not None:
            marks[agent] = "A"
        return "\n".join("".join(row) for row in marks)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def parse(text: str) -> Level:
    """Return the level that `Level.text` describes; `InputError` for other characters, no square, or no S or G."""
    lines = [line.strip() for line in text.strip().splitlines()]
    if wrong := set("".join(lines)) - set("#.OSG"):
        raise InputError(f"a level is written with # wall, . floor, O pit, S start, G goal, got {sorted(wrong)}")
    if {len(line) for line in lines} != {len(lines)}:
        raise InputError(f"a level is a square, got {len(lines)} lines of {[len(line) for line in lines]} characters")
    cells = np.array([list(line) for line in lines])
    return Level(cells == "#", cells == "O", _only(cells, "S"), _only(cells, "G"))


def _only(cells: np.ndarray, mark: str) -> Cell:
    """The one cell with this mark."""
    marked = np.argwhere(cells == mark).tolist()
    if len(marked) != 1:
        raise InputError(f"expected one {mark}, got {len(marked)}")
    row, col = marked[0]
    return row, col


def open_room(size: int) -> np.ndarray:
    """Return the walls (size, size) of one empty room."""
    walls = np.ones((size, size), dtype=bool)
    walls[1:-1, 1:-1] = False
    return walls


def open_rooms(size: int, random: np.random.Generator) -> Iterator[np.ndarray]:  # noqa: ARG001
    """Yield the walls of one empty room, again and again."""
    while True:
        yield open_room(size)


def obstacles(size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the walls of rooms in which a quarter of the cells, at random, are walls."""
    while True:
        yield open_room(size) | (random.random((size, size)) < _OBSTACLE_SHARE)


def four_rooms(size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the walls of four rooms around a cross, a random door in each of its arms (Sutton, Precup & Singh 1999)."""
    while True:
        walls = open_room(size)
        middle = size // 2
        walls[middle, :] = walls[:, middle] = True
        for low, high in ((1, middle), (middle + 1, size - 1)):
            walls[middle, random.integers(low, high)] = False
            walls[random.integers(low, high), middle] = False
        yield walls


def prim(size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the walls of perfect mazes on the odd cells, grown by Prim's algorithm; `size` must be odd."""
    while True:
        yield from prim_mazes(size, _MAZES_AT_ONCE, random)


LAYOUTS: dict[str, Callable[[int, np.random.Generator], Iterator[np.ndarray]]] = {
    "open": open_rooms,
    "obstacles": obstacles,
    "prim": prim,
    "four_rooms": four_rooms,
}
"""Name to an endless stream of walls of a size."""


def make_levels(
    layout: str,
    size: int,
    *,
    count: int,
    distance: int | None = None,
    pits: int = 0,
    split: str = "train",
    seed: int = 0,
) -> list[Level]:
    """Return `count` distinct levels whose start is `distance` moves from the goal (None: any).

    split: train or test; a level belongs to one of them by a hash of its map, so none is in both, whatever the seeds.
    Raises `InputError` that says what was found if so many distinct levels cannot be made.
    """
    Choice(LAYOUTS).check("layout", layout)
    Choice(SPLITS).check("split", split)
    Whole(MIN_SIZE, MAX_SIZE).check("size", size)
    # as ints: the key of the random numbers would take numpy's 9 for another number than 9
    size, count = int(size), specs.check_count("count", count)
    pits, seed = specs.check_count("pits", pits, minimum=0), specs.check_count("seed", seed, minimum=0)
    distance = None if distance is None else specs.check_count("distance", distance)
    random = np.random.default_rng(generator("levels", layout, size, distance or 0, pits, seed).initial_seed())
    stream, farthest = LAYOUTS[layout](size, random), 0

    def sample(_missing: int) -> list[Level | None]:
        nonlocal farthest
        level, longest_way = _place(next(stream), distance, pits, random)
        farthest = max(farthest, longest_way)
        return [level if level is not None and level.is_held_out == (split == "test") else None]

    levels = sample_enough(sample, count, patience=_HOPELESS_AFTER, key=lambda level: level.digest)
    if len(levels) < count:
        wish = "" if distance is None else f" with start and goal {distance} moves apart"
        raise InputError(
            f"found {len(levels)} of {count} distinct {split} levels {layout} {size} x {size}{wish} and {pits} pits; "
            f"the longest way seen is {farthest} moves"
        )
    return levels


def _place(walls: np.ndarray, distance: int | None, pits: int, random: np.random.Generator) -> tuple[Level | None, int]:
    """Place pits, a goal, and a start so far away, if there is one; return also the longest way to the goal."""
    free = np.argwhere(~walls)
    if len(free) < pits + 2:
        return None, 0
    cells = free[random.permutation(len(free))]
    holes = np.zeros_like(walls)
    holes[tuple(cells[:pits].T)] = True
    goal = (int(cells[pits][0]), int(cells[pits][1]))
    steps = distances(~(walls | holes)[None], goal)[0]
    starts = np.argwhere(steps == distance if distance is not None else steps > 0)
    if len(starts) == 0:
        return None, int(steps.max())
    row, col = starts[random.integers(len(starts))]
    return Level(walls, holes, (int(row), int(col)), goal), int(steps.max())
