"""Gridworld levels as exact tabular tasks: reach the goal within the horizon, stay out of the pits.

What a policy sees is either the whole level (`pictures`) or, cell by cell, its surroundings (`egocentric`).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from envs.gridworld.levels import Level
from envs.gridworld.mazes import MOVES
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.settings import Interval
from maxrl_lab.tabular.tasks import TabularTasks


def tasks(levels: Sequence[Level], *, horizon: int, slip: float = 0.0, radius: int | None = 2) -> TabularTasks:
    """Return the levels, all of one size, as tabular tasks; state row * size + col.

    With probability `slip` the move is one of the four at random. A policy that is not told the level's picture sees
    `radius` cells in each direction and where the goal lies (`egocentric`); None: no observations. Raises `InputError`
    if a level cannot be solved within the horizon.
    """
    Interval(0, 1, closed_low=True).check("slip", slip)
    sizes = {level.size for level in levels}
    if len(sizes) != 1:
        raise InputError(f"expected levels of one size, got sizes {sorted(sizes)}")
    successors = torch.stack([torch.from_numpy(_successors(level.walls)) for level in levels])
    count, states, actions = successors.shape
    probabilities = None
    if slip:
        successors = successors[:, :, None].expand(-1, -1, actions, -1).contiguous()
        chances = slip / actions + (1 - slip) * torch.eye(actions, dtype=torch.float64)
        probabilities = chances.expand(count, states, actions, actions).contiguous()
    start, success = torch.zeros(count, states, dtype=torch.float64), torch.zeros(count, states, dtype=torch.bool)
    for task, level in enumerate(levels):
        start[task, level.start[0] * level.size + level.start[1]] = 1
        success[task, level.goal[0] * level.size + level.goal[1]] = True
    failure = torch.stack([torch.from_numpy((level.pits | level.walls).flatten()) for level in levels])
    observations, features = (None, None) if radius is None else egocentric(levels, radius)
    return TabularTasks(
        successors, start, success, failure, horizon, probabilities, observations=observations, features=features
    )


def _successors(walls: np.ndarray) -> np.ndarray:
    """Next cell (size^2, 4) of every cell and move."""
    size = len(walls)
    row, col = np.divmod(np.arange(size * size), size)
    nexts = []
    for down, right in MOVES:
        to_row, to_col = (row + down).clip(0, size - 1), (col + right).clip(0, size - 1)
        nexts.append(np.where(walls[to_row, to_col], row * size + col, to_row * size + to_col))
    return np.stack(nexts, 1)


def pictures(levels: Sequence[Level]) -> Tensor:
    """Return the levels' walls, pits and goals as planes, (B, 3, size, size) float32."""
    planes = np.zeros((len(levels), 3, levels[0].size, levels[0].size), dtype=np.float32)
    for task, level in enumerate(levels):
        planes[task, 0], planes[task, 1] = level.walls, level.pits
        planes[task, 2][level.goal] = 1
    return torch.from_numpy(planes)


def egocentric(levels: Sequence[Level], radius: int) -> tuple[Tensor, Tensor]:
    """Return for every cell its row, (B, size^2), among the distinct observations (O, F) float32.

    An observation is the window of walls, pits and goal within `radius` cells, outside being wall, and the offset
    (rows, cols) to the goal divided by the size. Cells that nobody acts on have row 0.
    """
    specs.check_count("radius", radius, minimum=0)
    size, width = levels[0].size, 2 * radius + 1
    planes = nn.functional.pad(pictures(levels), (radius,) * 4)
    planes[:, 0] = nn.functional.pad(pictures(levels)[:, 0], (radius,) * 4, value=1.0)
    windows = planes.unfold(2, width, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5).flatten(3)
    cells = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij"), -1)
    goals = torch.tensor([level.goal for level in levels])
    seen = torch.cat([windows, (goals[:, None, None] - cells) / size], -1)
    acting = pictures(levels).sum(1) == 0
    features, acting_rows = seen[acting].unique(dim=0, return_inverse=True)
    rows = torch.zeros(acting.shape, dtype=torch.long)
    rows[acting] = acting_rows
    return rows.flatten(1), features
