"""Pictures of gridworld levels, in colours and shapes that every eye can tell apart, and replays of rollouts."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from envs.gridworld.levels import Cell, Level
from maxrl_lab import specs
from maxrl_lab.errors import InputError

Picture = NDArray[np.uint8]
"""(height, width, 3) red, green, blue."""
_SIDE = 480
"""Pixels along a picture, about."""
_SUBPIXELS = 4


class Mark(NamedTuple):
    """How a kind of cell is painted: colour and shape, so that neither has to be told apart alone."""

    colour: tuple[int, int, int]
    covers: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]
    """The function that says which points are painted, given their offsets (down, right) from the centre of the cell.

    The cell reaches from -1 to 1 in both directions.
    """


MARKS: dict[str, Mark] = {
    "floor": Mark((247, 247, 247), lambda down, right: np.maximum(abs(down), abs(right)) < 0.96),
    "wall": Mark((64, 64, 64), lambda down, right: np.maximum(abs(down), abs(right)) <= 1),
    "pit": Mark(
        (213, 94, 0), lambda down, right: (abs(abs(down) - abs(right)) < 0.28) & (np.hypot(down, right) < 0.92)
    ),
    "start": Mark((86, 180, 233), lambda down, right: abs(np.maximum(abs(down), abs(right)) - 0.8) < 0.1),
    "goal": Mark((0, 158, 115), lambda down, right: np.maximum(abs(down), abs(right)) < 0.84),
    "rim": Mark((255, 255, 255), lambda down, right: np.hypot(down, right) < 0.76),
    "agent": Mark((0, 114, 178), lambda down, right: np.hypot(down, right) < 0.66),
}
"""Colours of Okabe & Ito (2008), distinct to colour-blind readers; painted in this order."""
_LINE = (214, 214, 214)


def picture(level: Level, agent: Cell | None = None, cell_size: int | None = None) -> Picture:
    """Return the level, and the agent on it, in colours, `cell_size` pixels a cell (None: about 480 in all).

    Walls are dark, pits orange crosses, the start a light blue frame, the goal a green square, the agent a blue disc.
    Raises `InputError` for cells without a pixel.
    """
    pixels = specs.check_count("cell_size", _SIDE // level.size if cell_size is None else cell_size)
    canvas = np.empty((level.size, pixels, level.size, pixels, 3))
    canvas[:] = _LINE
    cells = canvas.swapaxes(1, 2)
    marked: dict[str, Any] = {"floor": ~level.walls, "wall": level.walls, "pit": level.pits}
    marked |= {"start": level.start, "goal": level.goal} | ({} if agent is None else {"rim": agent, "agent": agent})
    for name, mark in MARKS.items():
        if name in marked:
            under = cells[marked[name]]
            cells[marked[name]] = under + _coverage(mark, pixels)[..., None] * (np.array(mark.colour) - under)
    return canvas.reshape(level.size * pixels, level.size * pixels, 3).round().astype(np.uint8)


def _coverage(mark: Mark, pixels: int) -> NDArray[np.float64]:
    """Share of each pixel of a cell that the mark covers, (pixels, pixels)."""
    offsets = (np.arange(pixels * _SUBPIXELS) + 0.5) * (2 / (pixels * _SUBPIXELS)) - 1
    down, right = np.meshgrid(offsets, offsets, indexing="ij")
    covered = mark.covers(down, right).reshape(pixels, _SUBPIXELS, pixels, _SUBPIXELS)
    return np.asarray(covered.mean((1, 3)))


def replay(level: Level, states: Sequence[int] | Tensor, cell_size: int | None = None) -> list[Picture]:
    """Return a picture of every cell that a rollout visits, the first goal or pit being the last.

    For `_, paths = tasks(levels, horizon=H).paths(...)` it is `replay(levels[b], paths.states[b, n])`; states rather
    than actions, since the agent may slip. Raises `InputError` for states that are no free cells of the level.
    """
    cells = np.asarray(states)
    if cells.dtype.kind not in "iu" or cells.ndim != 1:
        raise InputError(f"states must be a list of whole numbers, got {cells.dtype} of shape {cells.shape}")
    frames = []
    for state in cells.tolist():
        row, col = divmod(state, level.size)
        if not 0 <= state < level.size**2 or level.walls[row, col]:
            raise InputError(f"states must be row * {level.size} + col of free cells of the level, got {state}")
        frames.append(picture(level, (row, col), cell_size))
        if (row, col) == level.goal or level.pits[row, col]:
            break
    return frames
