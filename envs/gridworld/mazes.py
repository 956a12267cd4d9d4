"""Perfect mazes by Prim's algorithm, and how many moves every cell is away from a goal: many grids at once.

Cells are (row, col). A perfect maze has its cells on odd rows and columns, walls all around, and exactly one way from
any cell to any other. As in App. L of arXiv:2602.02710v1 it is grown from one cell by opening, again and again, a
random one of the walls between the maze and the cells that are not in it yet.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maxrl_lab.errors import InputError

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""(row, col) steps up, down, left, right."""
_CHUNK = 2048
"""Grids that are worked on at once: what a processor's cache holds."""


def prim_mazes(size: int, count: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Return the walls of `count` random mazes, (count, size, size) bool; `InputError` for an even size."""
    if size % 2 == 0:
        raise InputError(f"a Prim maze needs an odd size, got {size}")
    walls = np.empty((count, size, size), dtype=bool)
    for first in range(0, count, _CHUNK):
        part = walls[first : first + _CHUNK]
        part[:] = _grow(size, len(part), random)
    return walls


def _grow(size: int, count: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Grow all mazes together: each opens a random wall of its frontier, unless the cell behind is in it by now.

    Every wall joins the frontier at most once, when the first of its two cells does. A frontier entry is 4 times the
    flat index of the wall, plus the direction in which the new cell lies.
    """
    width = size + 2  # one ring around the walls counts as a part of the maze, so that nothing grows there
    solid = np.zeros((count, width, width), dtype=bool)
    solid[:, 1:-1, 1:-1] = True
    closed = solid.reshape(-1)
    steps = np.array([down * width + right for down, right in MOVES])
    maze = np.arange(count) * width**2
    cells = size // 2
    walls_between = 2 * cells * (cells - 1)
    frontier = np.zeros(count * (walls_between + 1), dtype=np.int64)
    row = np.arange(count) * (walls_between + 1)
    sizes = np.zeros(count, dtype=np.int64)
    first = 2 + 2 * random.integers(0, cells, (2, count))
    cell, is_new = first[0] * width + first[1], np.ones(count, dtype=bool)
    closed[maze + cell] = False
    for _ in range(walls_between):
        for direction, step in enumerate(steps):
            frontier[row + sizes] = 4 * (cell + step) + direction
            sizes += is_new & closed[maze + cell + 2 * step]
        entry = row + (random.random(count) * sizes).astype(np.int64)
        sizes = np.maximum(sizes - 1, 0)
        opened = frontier[entry]
        frontier[entry] = frontier[row + sizes]
        between = opened >> 2
        cell = between + steps[opened & 3]
        is_new = closed[maze + cell]
        closed[maze + between] &= ~is_new
        closed[maze + cell] = False
    return solid[:, 1:-1, 1:-1]


def distances(free: NDArray[np.bool_], goals: ArrayLike) -> NDArray[np.int16]:
    """Return the number of moves over free cells from every cell to its grid's goal; -1 where there is no way.

    free: (B, rows, cols) bool. goals: (B, 2) cells, or one (2,) for all grids; a goal counts as free. The result has
    the shape of `free`.
    """
    steps = np.empty(free.shape, dtype=np.int16)
    cells = np.broadcast_to(np.asarray(goals), (len(free), 2))
    for first in range(0, len(free), _CHUNK):
        part = slice(first, first + _CHUNK)
        steps[part] = _flood(free[part], cells[part])
    return steps


def _flood(free: NDArray[np.bool_], goals: NDArray[np.int64]) -> NDArray[np.int16]:
    """Flood all grids from their goals, a move at a time."""
    # grids last: a shift by a row or a column then moves whole stretches of memory
    unseen = np.array(np.moveaxis(free, 0, -1), order="C")
    steps = np.full(unseen.shape, -1, dtype=np.int16)
    front = np.zeros_like(unseen)
    front[goals[:, 0], goals[:, 1], np.arange(len(free))] = True
    moves = 0
    while front.any():
        np.copyto(steps, np.int16(moves), where=front)
        unseen &= ~front
        near = np.zeros_like(front)
        near[1:] |= front[:-1]
        near[:-1] |= front[1:]
        near[:, 1:] |= front[:, :-1]
        near[:, :-1] |= front[:, 1:]
        front = near & unseen
        moves += 1
    return np.moveaxis(steps, -1, 0)
