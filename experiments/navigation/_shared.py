"""The navigation experiments' worlds: gridworld mazes from easy to hopeless, and MiniGrid's own levels."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from envs import minigrid
from envs.gridworld import levels
from envs.gridworld.levels import Level
from envs.gridworld.tables import pictures, tasks
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.policies.convolutional import FullyConvolutional, small_cnn
from maxrl_lab.policies.one_hot import OneHot
from maxrl_lab.policies.stack import mlp
from maxrl_lab.randomness import generator
from maxrl_lab.sampling import sample_enough
from maxrl_lab.settings import Choice, Count, Counts, Settings, Whole
from maxrl_lab.tabular.concatenation import concatenate
from maxrl_lab.tabular.study import Split, World
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.training import fit

_RADIUS = 2
"""Cells that the perceptron sees in each direction."""
_SEEDS_PER_LEVEL = 5
"""Seeds of MiniGrid tried for each level that is asked for."""


View = tuple[Callable[[Sequence[Level]], Split], Callable[[], nn.Module]]
"""How a policy sees levels, and its network."""


def _convolutional(settings: "GridSettings") -> View:
    """The picture of the level: one pass over it gives the logits of all cells."""

    def see(made: Sequence[Level]) -> Split:
        tables = tasks(made, horizon=settings.horizon, radius=None)
        rows = torch.arange(tables.shape[0] * tables.shape[1]).view(tables.shape[:2])
        return Split(tables, pictures(made), rows, _distances(made), rows_per_input=rows.shape[1])

    return see, lambda: FullyConvolutional(3, len(levels.ACTIONS), settings.size, settings.width)


def _perceptron(settings: "GridSettings") -> View:
    """The surroundings of each cell: distinct ones are evaluated once."""

    def see(made: Sequence[Level]) -> Split:
        return Split.observed(tasks(made, horizon=settings.horizon, radius=_RADIUS), _distances(made))

    hidden = 4 * settings.width
    sizes = [3 * (2 * _RADIUS + 1) ** 2 + 2, hidden, hidden, len(levels.ACTIONS)]
    return see, lambda: mlp(sizes)


def _distances(made: Sequence[Level]) -> tuple[str, ...]:
    return tuple(f"{level.distance:.0f}" for level in made)


POLICIES: dict[str, Callable[["GridSettings"], View]] = {"convolutional": _convolutional, "perceptron": _perceptron}
"""Name to the levels as such a policy sees them."""


@dataclass(frozen=True)
class Levels(Settings):
    """Gridworld levels: the distance from start to goal is the difficulty."""

    layout: Annotated[str, Choice(levels.LAYOUTS)] = "prim"
    """Kind of level: an open room, a room with obstacles, a Prim maze, or four rooms."""
    size: Annotated[int, Whole(levels.MIN_SIZE, levels.MAX_SIZE)] = 9
    """Number of cells along a side, the outer walls included."""
    distances: Counts = (5, 9, 13, 17)
    """Numbers of moves from start to goal."""
    levels: Count = 50
    """Number of training levels of each distance; every seed has its own."""
    levels_per_update: Count = 40
    """Number of training levels, sampled among all, in each update; all of them if there are fewer."""
    horizon: Count = 24
    """Step limit H of a rollout."""


@dataclass(frozen=True)
class GridPolicy(Settings):
    """Policy in the gridworld."""

    policy: Annotated[str, Choice(POLICIES)] = "convolutional"
    """Network that acts: convolutional sees the whole level, perceptron its surroundings and the direction to go."""
    width: Count = 16
    """Number of channels of the convolutional network, a quarter of the perceptron's hidden units."""


@dataclass(frozen=True)
class GridSettings(GridPolicy, Levels):
    """Gridworld levels and the network that reads them; the levels themselves are checked when they are made."""

    def __post_init__(self) -> None:
        """Check also that every goal is within the horizon."""
        super().__post_init__()
        for distance in self.distances:
            if distance > self.horizon:
                raise InputError(f"distances must be within the horizon of {self.horizon} steps, got {distance}")

    def make_levels(self, split: str, count: int, seed: int = 0) -> list[Level]:
        """Return `count` levels of each distance, from near to far, sampled by the seed."""
        return [
            level
            for distance in self.distances
            for level in levels.make_levels(
                self.layout, self.size, count=count, distance=distance, split=split, seed=seed
            )
        ]

    def world(self, seed: int = 0, *, levels: int | None = None, held_out: int = 0) -> World:
        """Return a seed's levels as tasks for the policy, with so many held-out levels of each distance.

        levels: number of training levels of each distance; None for that of the settings.
        """
        see, network = POLICIES[self.policy](self)
        splits = {"train": see(self.make_levels("train", levels or self.levels, seed))}
        if held_out:
            splits["held_out"] = see(self.make_levels("test", held_out, seed))
        return World(splits, network, self.levels_per_update, seed)


def optimisation(optimiser: str, steps: int, measurements: int) -> fit.Optimisation:
    """Return how every run is optimised: cosine after a tenth of warm-up, measured so many times after the start."""
    return fit.Optimisation(
        steps=steps,
        optimiser=optimiser,
        schedule="cosine",
        warmup=max(1, steps // 10),
        measure_every=max(1, steps // measurements),
    )


def minigrid_world(
    names: Sequence[str],
    train_levels: int,
    held_out_levels: int,
    horizon: int,
    policy: str,
    width: int,
    seed: int = 0,
) -> World:
    """Return distinct MiniGrid levels of every name as tasks for a network on MiniGrid's own 7 x 7 view.

    MiniGrid's seeds are tried in an order that `seed` decides; one whose level is there already is passed over. Raises
    `InputError` if a name has fewer levels than asked for.
    """
    make = specs.lookup(VIEW_POLICIES, "policy", policy)
    counts = {"train": train_levels, "held_out": held_out_levels}
    parts: dict[str, list[TabularTasks]] = {split: [] for split in counts}
    for name in names:
        distinct = _distinct_levels(name, train_levels + held_out_levels, horizon, seed)
        parts["train"] += distinct[:train_levels]
        parts["held_out"] += distinct[train_levels:]
    tables = {split: concatenate(made) for split, made in parts.items()}
    encode, network = make(tables["train"], width)
    return World(
        {
            split: Split.observed(table, [name for name in names for _ in range(counts[split])], encode)
            for split, table in tables.items()
        },
        network,
        seed=seed,
    )


def _distinct_levels(name: str, count: int, horizon: int, seed: int) -> list[TabularTasks]:
    seeds = seeds_tried(name, count, seed)
    stream = (minigrid.tasks(name, [number], horizon=horizon) for number in seeds)
    distinct = sample_enough(lambda _missing: stream, count, key=_content)
    if len(distinct) < count:
        got = f"{len(distinct)} in {len(seeds)} seeds"
        raise InputError(f"{name} has too few distinct levels: expected {count}, got {got}")
    return distinct


def seeds_tried(name: str, count: int, seed: int) -> list[int]:
    """Return MiniGrid's seeds in the order in which they are tried for `count` levels: the same ones for every seed."""
    order: list[int] = torch.randperm(
        _SEEDS_PER_LEVEL * count, generator=generator("minigrid levels", name, seed)
    ).tolist()
    return order


def _content(tables: TabularTasks) -> bytes:
    """Return a hash of what happens in a level and of what is seen there."""
    features, rows = tables.observed()
    content = (tables.successors, tables.success, tables.failure, features[rows])
    return hashlib.blake2b(b"".join(value.numpy().tobytes() for value in content)).digest()


Encode = Callable[[Tensor], Tensor]


def _view_perceptron(tables: TabularTasks, width: int) -> tuple[Encode, Callable[[], nn.Module]]:
    """Picture, direction and mission, one-hot; the network knows the values that occur in training."""
    encode = OneHot(tables.observed()[0])
    return encode, lambda: mlp([len(encode.values), width, width, tables.shape[2]])


def _view_convolutional(tables: TabularTasks, width: int) -> tuple[Encode, Callable[[], nn.Module]]:
    """The picture alone, in planes."""
    planes, size = minigrid.images(tables.observed()[0]).shape[1:3]
    return minigrid.images, lambda: small_cnn(planes, size, tables.shape[2], channels=max(1, width // 4))


VIEW_POLICIES = {"perceptron": _view_perceptron, "convolutional": _view_convolutional}
"""Name to the encoding of MiniGrid's observations and the network on them."""


SMALLEST_GRID: dict[str, Any] = {
    "size": 7,
    "distances": (2, 4),
    "levels": 2,
    "levels_per_update": 3,
    "horizon": 8,
    "width": 4,
    "sweep_seeds": 1,
    "seeds": 2,
    "steps": 4,
    "measurements": 2,
}
"""Settings of comparisons on gridworlds that take seconds and learn nothing."""
LARGEST_GRID: dict[str, Any] = {
    "size": 17,
    "distances": (8, 16, 24, 32, 48),
    "levels": 400,
    "levels_per_update": 256,
    "horizon": 64,
    "width": 32,
    "seeds": 10,
    "sweep_seeds": 3,
    "steps": 2000,
    "measurements": 40,
    "runs_at_once": 30,
}
"""Settings of comparisons on gridworlds of the paper's size, for a GPU."""
