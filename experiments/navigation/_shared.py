"""The navigation experiments' tasks: gridworld mazes from easy to hopeless, and MiniGrid's own levels."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from envs import gridworld, minigrid
from envs.gridworld import levels
from envs.gridworld.levels import Level
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.policies.convolutional import FullyConvolutional, small_cnn
from maxrl_lab.policies.one_hot import OneHot
from maxrl_lab.policies.stack import Stack, mlp, seeded
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import check_lists
from maxrl_lab.tabular.batch import TabularBatch, refuse_diverged
from maxrl_lab.tabular.concatenation import concatenate
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.training import fit
from maxrl_lab.training.groups import DivergedError
from maxrl_lab.training.sweep import Run, in_blocks


@dataclass(frozen=True)
class Tasks:
    """One split: tables, what a network is fed, and how hard each task is."""

    tables: TabularTasks
    inputs: Tensor
    """(O, ...) evaluated once per update."""
    rows: Tensor
    """(B, S) the network's output for each state."""
    difficulty: tuple[str, ...]
    """(B,) names."""
    rows_per_input: int = 1
    """More than 1 for a network that gives the logits of many states at once."""

    def to(self, device: torch.device) -> "Tasks":
        """Return the split on another device."""
        tables, inputs, rows = self.tables.to(device), self.inputs.to(device), self.rows.to(device)
        return replace(self, tables=tables, inputs=inputs, rows=rows)

    def only(self, task: int) -> "Tasks":
        """Return one of the tasks, with the inputs that it needs."""
        each = self.rows_per_input
        used, place = (self.rows[task] // each).unique(return_inverse=True)
        rows = (place * each + self.rows[task] % each)[None]
        return Tasks(self.tables.select([task]), self.inputs[used], rows, (self.difficulty[task],), each)


@dataclass(frozen=True)
class World:
    """What is trained on, what is held out, and a fresh policy for it."""

    splits: dict[str, Tasks]
    """`train`, and `held_out` if any."""
    network: Callable[[], nn.Module]

    @property
    def train(self) -> Tasks:
        """The tasks to train on."""
        return self.splits["train"]

    def to(self, device: torch.device) -> "World":
        """Return the world on another device."""
        return World({split: tasks.to(device) for split, tasks in self.splits.items()}, self.network)

    def stack(self, seeds: Sequence[int]) -> Stack:
        """Return a fresh policy per run, drawn by its seed, where the tasks are."""
        return Stack([seeded(self.network, seed) for seed in seeds]).to(self.train.inputs.device)


_RADIUS = 2
"""Cells that the perceptron sees in each direction."""
_SEEDS_PER_LEVEL = 5
"""Seeds tried for each level that is asked for."""


def pass_rates(stack: Stack, tasks: Tasks, step: int = 0) -> Tensor:
    """Return every policy's exact pass rates (R, B), float64; `ValueError` naming the step if one has diverged."""
    with torch.no_grad():
        log_policy = stack.log_policy(tasks.inputs, tasks.rows)
        refuse_diverged(log_policy, step)
        return tasks.tables.pass_rate(log_policy)


def fit_runs(
    runs: Sequence[Run],
    world: World,
    recipe: fit.Optimisation,
    measure: Callable[[int, dict[str, Tensor]], list[Row]],
    checkpoint: Checkpoint,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> tuple[Stack, list[Row]]:
    """Train runs on a world's training levels as one batched program; return their policies and the measured rows.

    `measure(step, rates)` makes rows of the exact pass rates (R, B) of each split, on the CPU.
    """
    seeds = [each.seed for each in runs]
    stack = world.stack(seeds)

    def batch(step: int) -> TabularBatch:
        return TabularBatch(world.train.tables, stack.log_policy(world.train.inputs, world.train.rows), seeds, step)

    def measured(step: int) -> Tables:
        rates = {split: pass_rates(stack, tasks, step).cpu() for split, tasks in world.splits.items()}
        return {"rows": measure(step, rates)}

    methods, rates = [each.method for each in runs], [each.learning_rate for each in runs]
    try:
        tables = fit.fit(
            stack,
            methods,
            rates,
            recipe,
            batch=batch,
            measure=measured,
            checkpoint=checkpoint,
            progress=progress,
        )
    except DivergedError as error:
        run = runs[error.run]
        raise InputError(
            f"{run.method.name} with learning rate {run.learning_rate:g} and seed {run.seed} has diverged: its "
            f"policy is NaN after {error.step} updates; leave that rate out (the last checkpoint is kept)"
        ) from None
    return stack, tables["rows"]


def fit_in_blocks(
    experiment: str,
    stage: str,
    runs: Sequence[Run],
    at_once: int,
    world: World,
    recipe: fit.Optimisation,
    measure: Callable[[Sequence[Run], int, dict[str, Tensor]], list[Row]],
    context: Context,
) -> list[Row]:
    """Return the rows of all runs, `at_once` of them trained together; `measure` is also told which."""

    def train(number: int, block: Sequence[Run]) -> Tables:
        name = f"{stage}-{number}"
        checkpoint, progress = context.checkpoint.stage(name), context.progress(f"{experiment} {name}")
        return {"rows": fit_runs(block, world, recipe, partial(measure, block), checkpoint, progress)[1]}

    return in_blocks(runs, at_once, train)["rows"]


def recipe(optimiser: str, steps: int, measurements: int) -> fit.Optimisation:
    """Return how every run is optimised: cosine after a tenth of warm-up, measured so many times after the start."""
    return fit.Optimisation(
        steps=steps,
        optimiser=optimiser,
        schedule="cosine",
        warmup=max(1, steps // 10),
        measure_every=max(1, steps // measurements),
    )


@dataclass(frozen=True)
class GridSettings:
    """Gridworld levels, and the network that reads them."""

    layout: str = "prim"
    """open, obstacles, prim or four_rooms."""
    size: int = 9
    """Cells along a side, the outer walls included."""
    distances: tuple[int, ...] = (2, 4, 8, 12, 16)
    """Moves from start to goal: the difficulty."""
    levels: int = 6
    """Training levels of each distance."""
    horizon: int = 24
    """Step limit H."""
    policy: str = "convolutional"
    """convolutional: sees the whole level; perceptron: sees two cells around it and the direction of the goal."""
    width: int = 16
    """Channels of the convolutional policy, a quarter of the perceptron's hidden units."""

    def __post_init__(self) -> None:
        """Check names and counts; the levels themselves are checked when they are made."""
        specs.lookup(POLICIES, "policy", self.policy)
        specs.lookup(levels.LAYOUTS, "layout", self.layout)
        check_lists(distances=self.distances)
        for name in ("size", "levels", "horizon", "width"):
            specs.check_count(name, getattr(self, name))
        for distance in self.distances:
            specs.check_count("distances", distance)
            if distance > self.horizon:
                raise InputError(f"distances must be within the horizon of {self.horizon} steps, got {distance}")

    def make_levels(self, split: Literal["train", "test"], count: int) -> list[Level]:
        """Return `count` levels of each distance, from near to far."""
        return [
            level
            for distance in self.distances
            for level in levels.make_levels(self.layout, self.size, count=count, distance=distance, split=split)
        ]

    def world(self, held_out: int = 0) -> World:
        """Return the levels as tasks for the chosen policy, with so many held-out levels of each distance."""
        tasks, network = POLICIES[self.policy](self)
        splits = {"train": tasks(self.make_levels("train", self.levels))}
        if held_out:
            splits["held_out"] = tasks(self.make_levels("test", held_out))
        return World(splits, network)


Maker = tuple[Callable[[Sequence[Level]], Tasks], Callable[[], nn.Module]]
"""How a policy sees levels, and the network."""


def _convolutional(settings: GridSettings) -> Maker:
    """One pass over the picture gives the logits of all cells."""

    def tasks(made: Sequence[Level]) -> Tasks:
        tables = gridworld.tasks(made, horizon=settings.horizon, radius=None)
        rows = torch.arange(tables.shape[0] * tables.shape[1]).view(tables.shape[:2])
        return Tasks(tables, gridworld.pictures(made), rows, _distances(made), rows_per_input=rows.shape[1])

    return tasks, lambda: FullyConvolutional(3, len(levels.ACTIONS), settings.size, settings.width)


def _perceptron(settings: GridSettings) -> Maker:
    """Distinct surroundings are evaluated once."""

    def tasks(made: Sequence[Level]) -> Tasks:
        tables = gridworld.tasks(made, horizon=settings.horizon, radius=_RADIUS)
        features, rows = tables.observed()
        return Tasks(tables, features, rows, _distances(made))

    hidden = 4 * settings.width
    sizes = [3 * (2 * _RADIUS + 1) ** 2 + 2, hidden, hidden, len(levels.ACTIONS)]
    return tasks, lambda: mlp(sizes)


def _distances(made: Sequence[Level]) -> tuple[str, ...]:
    return tuple(f"{level.distance:.0f}" for level in made)


POLICIES: dict[str, Callable[[GridSettings], Maker]] = {"convolutional": _convolutional, "perceptron": _perceptron}
"""Name to the world as such a policy sees it."""


def minigrid_world(
    names: Sequence[str], train_levels: int, held_out_levels: int, horizon: int, policy: str, width: int
) -> World:
    """Return distinct MiniGrid levels of every name as tasks for a network on MiniGrid's own 7 x 7 view.

    Seeds are taken in turn; one that makes a level which is there already is passed over. Raises `ValueError` if a name
    has fewer levels than asked for.
    """
    make = specs.lookup(VIEW_POLICIES, "policy", policy)
    counts = {"train": train_levels, "held_out": held_out_levels}
    parts: dict[str, list[TabularTasks]] = {split: [] for split in counts}
    for name in names:
        found = _distinct_levels(name, train_levels + held_out_levels, horizon)
        parts["train"] += found[:train_levels]
        parts["held_out"] += found[train_levels:]
    tables = {split: concatenate(found) for split, found in parts.items()}
    encode, network = make(tables["train"], width)
    splits = {}
    for split, table in tables.items():
        features, rows = table.observed()
        difficulty = tuple(name for name in names for _ in range(counts[split]))
        splits[split] = Tasks(table, encode(features), rows, difficulty)
    return World(splits, network)


def _distinct_levels(name: str, count: int, horizon: int) -> list[TabularTasks]:
    found: dict[bytes, TabularTasks] = {}
    for seed in range(_SEEDS_PER_LEVEL * count):
        tables = minigrid.tasks(name, [seed], horizon=horizon)
        features, rows = tables.observed()
        content = (tables.successors, tables.success, tables.failure, features[rows])
        key = hashlib.blake2b(b"".join(value.numpy().tobytes() for value in content)).digest()
        found.setdefault(key, tables)
        if len(found) == count:
            return list(found.values())
    tried = _SEEDS_PER_LEVEL * count
    raise InputError(f"{name} has too few distinct levels: expected {count}, got {len(found)} in {tried} seeds")


Encode = Callable[[Tensor], Tensor]


def _view_perceptron(tables: TabularTasks, width: int) -> tuple[Encode, Callable[[], nn.Module]]:
    """Picture, direction and mission, one-hot; a network knows the values it saw in training."""
    encode = OneHot(tables.observed()[0])
    return encode, lambda: mlp([len(encode.values), width, width, tables.shape[2]])


def _view_convolutional(tables: TabularTasks, width: int) -> tuple[Encode, Callable[[], nn.Module]]:
    """The picture alone, in planes."""
    planes, size = minigrid.images(tables.observed()[0]).shape[1:3]
    return minigrid.images, lambda: small_cnn(planes, size, tables.shape[2], channels=max(1, width // 4))


VIEW_POLICIES = {"perceptron": _view_perceptron, "convolutional": _view_convolutional}
"""Name to the encoding of MiniGrid's observations and the network on them."""
