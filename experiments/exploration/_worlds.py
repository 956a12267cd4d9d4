"""The worlds of exploration: Prim mazes and Gymnasium's FrozenLake, and what an explorer may know beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from envs.gridworld import levels
from envs.gridworld.mazes import MOVES
from envs.gridworld.tables import tasks
from envs.toy_text import FROZEN_LAKE_HORIZONS, frozen_lake
from maxrl_lab.errors import InputError
from maxrl_lab.exploration.boxes import Box, among
from maxrl_lab.specs import check_count
from maxrl_lab.tabular.tasks import TabularTasks

INTENDED = 0.3
"""What an explorer of FrozenLake knows of the intended move: its chance is at least this (the truth: 1/3)."""
_LAKE_MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))
"""(row, col) steps of FrozenLake's actions: left, down, right, up."""


@dataclass(frozen=True)
class World:
    """One kind of world, a task a seed."""

    name: str
    tasks: TabularTasks
    """The tasks, without states that nothing reaches."""
    mapped: TabularTasks
    """The same tasks with a state for every cell of the map, walls included."""
    neighbours: Box
    """What is known of `mapped` to whoever knows how cells lie: a move leads to a neighbour or stays."""
    slippery: bool

    def select(self, seeds: Sequence[int]) -> "World":
        """Return some of the seeds."""
        rows = list(seeds)
        box = self.neighbours
        part = Box(box.candidates[rows], box.low[rows], box.high[rows])
        return replace(self, tasks=self.tasks.select(rows), mapped=self.mapped.select(rows), neighbours=part)


def read(text: str) -> tuple[str, tuple[int, int, int] | str]:
    """Return the kind of a world and its numbers, from `maze 7:8:16` (size, moves, horizon) or `lake 4x4`.

    Raises `InputError` for any other text.
    """
    kind, _, rest = text.partition(" ")
    if kind == "lake" and rest in FROZEN_LAKE_HORIZONS:
        return kind, rest
    try:
        size, moves, horizon = map(int, rest.split(":"))
    except ValueError:
        size = moves = horizon = 0
    if kind != "maze" or not 5 <= size <= levels.MAX_SIZE or not 1 <= moves <= horizon:
        known = " or ".join(f"'lake {name}'" for name in FROZEN_LAKE_HORIZONS)
        raise InputError(
            f"a world is {known}, or 'maze SIZE:MOVES:HORIZON' with 5 <= SIZE <= {levels.MAX_SIZE} and "
            f"1 <= MOVES <= HORIZON, got {text!r}"
        )
    return kind, (size, moves, horizon)


def make(text: str, seeds: int) -> World:
    """Return a world with a task for each seed: another maze, or the same lake."""
    check_count("seeds", seeds)
    _, what = read(text)
    if isinstance(what, str):
        one = frozen_lake(what)
        return World(text, one, one, lake_neighbours(one), slippery=True).select([0] * seeds)
    size, moves, horizon = what
    made = levels.make_levels("prim", size, count=seeds, distance=moves)
    mapped = tasks(made, horizon=horizon, radius=None)
    return World(text, trimmed(mapped), mapped, maze_neighbours(size, seeds), slippery=False)


def trimmed(full: TabularTasks) -> TabularTasks:
    """Return deterministic tasks without the states that cannot be reached, the start first; no observations."""
    successors, kept = full.successors.tolist(), []
    for task in range(full.shape[0]):
        order = full.start[task].nonzero().flatten().tolist()
        known = set(order)
        for state in order:
            new = [after for after in successors[task][state] if after not in known] if full.active[task, state] else []
            order += dict.fromkeys(new)
            known |= set(new)
        kept.append(order)
    width = max(map(len, kept))
    rows = torch.tensor([order + order[:1] * (width - len(order)) for order in kept])
    real = torch.tensor([[index < len(order) for index in range(width)] for order in kept])
    number = torch.zeros(full.shape[:2], dtype=torch.long).scatter(
        1, rows.flip(1), torch.arange(width).flip(0).expand_as(rows)
    )
    after = full.successors.gather(1, rows[..., None].expand(-1, -1, full.shape[2]))
    nexts = number.gather(1, after.flatten(1)).view(after.shape)
    return TabularTasks(
        nexts,
        start=full.start.gather(1, rows) * real,
        success=full.success.gather(1, rows) & real,
        failure=full.failure.gather(1, rows) & real | ~real,
        horizon=full.horizon,
    )


def maze_neighbours(size: int, seeds: int) -> Box:
    """Return what the geometry says of a maze of unknown walls: each move leads to the next cell or stays."""
    cells = torch.arange(size * size)
    row, col = cells // size, cells % size
    nexts = [(row + down).clamp(0, size - 1) * size + (col + right).clamp(0, size - 1) for down, right in MOVES]
    candidates = torch.stack([torch.stack(nexts, 1), cells[:, None].expand(-1, len(MOVES))], -1)
    return among(candidates.expand(seeds, -1, -1, -1).contiguous())


def lake_neighbours(lake: TabularTasks) -> Box:
    """Return what is known of the ice: a move stays or leads to a neighbour, the intended one with at least 0.3."""
    features, observations = lake.observed()
    cells = features.argmax(1)[observations[0]]
    side = round(len(features[0]) ** 0.5)
    states = torch.arange(lake.shape[1])
    number = torch.zeros(side * side, dtype=torch.long).scatter(0, cells, states)
    row, col = cells // side, cells % side
    around = [
        number[(row + down).clamp(0, side - 1) * side + (col + right).clamp(0, side - 1)] for down, right in _LAKE_MOVES
    ]
    candidates = torch.stack([*around, states], -1)[:, None].expand(-1, len(_LAKE_MOVES), -1)
    low = INTENDED * torch.eye(len(_LAKE_MOVES), len(_LAKE_MOVES) + 1, dtype=torch.float64).expand(len(states), -1, -1)
    return among(candidates[None].contiguous(), low[None].contiguous())


def uniform(tables: TabularTasks) -> Tensor:
    """Return the log-probabilities of the policy that takes every move alike, (B, S, A)."""
    return torch.full(
        tables.shape, -torch.tensor(float(tables.shape[2]), dtype=torch.float64).log().item(), dtype=torch.float64
    )
