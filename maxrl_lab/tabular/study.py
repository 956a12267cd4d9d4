"""Training networks on a world of tabular tasks: one batched program for many runs, and exact pass rates throughout.

A world of one's own is trained on in these lines:

    tasks = tabulate(MyEnvironment(), key=...)
    split = Split.observed(tasks)
    world = World({"train": split}, lambda: mlp([split.inputs.shape[1], 64, tasks.shape[2]]))
    runs = [Run(Sampled(name, 16), 0.003, seed) for name in ("rloo", "maxrl") for seed in range(5)]
    stack, _ = train(runs, world, Optimisation(steps=200, optimiser="adam"), checkpoint=Checkpoint(Path("unfinished")))
    pass_rates(stack, world.train)  # (10, B), exact

`compare_on` is the fair comparison: it sweeps learning rates on some seeds and reports others, and every seed has a
world of its own, so that seeds need share nothing random.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor, nn

from maxrl_lab.policies.stack import Stack, seeded
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.context import Context
from maxrl_lab.tabular.batch import TabularBatch, refuse_diverged
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.training import fit, sweep
from maxrl_lab.training.methods import Method
from maxrl_lab.training.sweep import Comparison, Run, naming_diverged


@dataclass(frozen=True)
class Split:
    """Some tasks: their tables, what a network is fed, and how hard each task is."""

    tables: TabularTasks
    inputs: Tensor
    """(O, ...) what a network is fed, once in each update."""
    rows: Tensor
    """(B, S) the row of the network's output for each state."""
    difficulty: tuple[str, ...]
    """(B,) names of the tasks' difficulties."""
    rows_per_input: int = 1
    """Number of rows that a network puts out for each input; more than 1 if it acts on many states at once."""

    @classmethod
    def observed(
        cls,
        tables: TabularTasks,
        difficulty: Sequence[str] | None = None,
        encode: Callable[[Tensor], Tensor] = Tensor.float,
    ) -> "Split":
        """Return the tasks as their observations show them, each distinct one encoded and fed once.

        difficulty: (B,) names; by default all tasks have the same. Raises `InputError` for tasks without observations.
        """
        features, rows = tables.observed()
        return cls(tables, encode(features), rows, tuple(difficulty or ["all"] * len(rows)))

    def to(self, device: torch.device) -> "Split":
        """Return the split on another device."""
        tables, inputs, rows = self.tables.to(device), self.inputs.to(device), self.rows.to(device)
        return replace(self, tables=tables, inputs=inputs, rows=rows)

    def select(self, tasks: Sequence[int]) -> "Split":
        """Return some of the tasks, in the order given, with the inputs that they need."""
        width, rows = self.rows_per_input, self.rows[list(tasks)]
        used, renumbered = (rows // width).unique(return_inverse=True)
        difficulty = tuple(self.difficulty[task] for task in tasks)
        return Split(self.tables.select(tasks), self.inputs[used], renumbered * width + rows % width, difficulty, width)


@dataclass(frozen=True)
class World:
    """The tasks to train on, other tasks that are held out, and a network for them."""

    splits: dict[str, Split]
    """`train`, and others such as `held_out`."""
    network: Callable[[], nn.Module]
    """Makes a network whose output has a logit for each action."""
    tasks_per_update: int | None = None
    """Number of training tasks in each update, sampled without replacement; None for all of them."""
    seed: int = 0
    """Seed of that sample."""

    @property
    def train(self) -> Split:
        """The tasks to train on."""
        return self.splits["train"]

    def to(self, device: torch.device) -> "World":
        """Return the world on another device."""
        return replace(self, splits={name: split.to(device) for name, split in self.splits.items()})

    def batch(self, step: int) -> Split:
        """Return the training tasks of one update."""
        count = len(self.train.rows)
        if self.tasks_per_update is None or self.tasks_per_update >= count:
            return self.train
        order = torch.randperm(count, generator=generator("tasks", self.seed, step))
        return self.train.select(sorted(order[: self.tasks_per_update].tolist()))

    def pass_rates(self, stack: Stack, step: int = 0) -> dict[str, Tensor]:
        """Return the exact pass rates (R, B) of every network on each split, on the CPU."""
        return {name: pass_rates(stack, split, step).cpu() for name, split in self.splits.items()}

    def stack(self, seeds: Sequence[int]) -> Stack:
        """Return an untrained network for each seed, with parameters sampled by it, on the device of the tasks."""
        return Stack([seeded(self.network, seed) for seed in seeds]).to(self.train.inputs.device)


Measure = Callable[[World, Sequence[Run], int, Stack], Tables]
"""Makes tables about some runs in their world after so many updates, from their networks."""
Train = Callable[[str, World, Sequence[Run]], Tables]
"""Trains some runs in their world under a name, which no other call has, and returns their tables."""


def pass_rates(stack: Stack, split: Split, step: int = 0) -> Tensor:
    """Return the exact pass rates (R, B), float64, of every network; `DivergedError` names `step` if one is NaN."""
    with torch.no_grad():
        log_policy = stack.log_policy(split.inputs, split.rows)
        refuse_diverged(log_policy, step)
        return split.tables.pass_rate(log_policy)


def train(
    runs: Sequence[Run],
    world: World,
    optimisation: fit.Optimisation,
    *,
    checkpoint: fit.Checkpoint,
    measure: Measure | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> tuple[Stack, Tables]:
    """Train all runs together on the world's training tasks; return their networks and the tables that were measured.

    All runs have the same tasks in an update, and runs of one seed the same random numbers. Raises `InputError`, which
    names the run, if a policy becomes NaN.
    """
    seeds = [run.seed for run in runs]
    stack = world.stack(seeds)

    def batch(step: int) -> TabularBatch:
        tasks = world.batch(step)
        return TabularBatch(tasks.tables, stack.log_policy(tasks.inputs, tasks.rows), seeds, step)

    with naming_diverged(runs):
        tables = fit.fit(
            stack,
            [run.method for run in runs],
            [run.learning_rate for run in runs],
            optimisation,
            batch=batch,
            measure=(lambda step: measure(world, runs, step, stack)) if measure else None,
            checkpoint=checkpoint,
            progress=progress,
        )
        with torch.no_grad():
            refuse_diverged(stack.log_policy(world.train.inputs, world.train.rows), optimisation.steps)
    return stack, tables


def final_rows(
    runs: Sequence[Run],
    make_world: Callable[[int], World],
    optimisation: fit.Optimisation,
    score: Callable[[Run, Tensor], Row],
    *,
    name: str,
    at_once: int,
    context: Context,
) -> list[Row]:
    """Train the runs, `at_once` of them together, and return a row of each with the columns that `score` makes.

    `make_world(seed)` makes the world of the runs with that seed; `score(run, rates)` makes the columns of the run's
    exact pass rates (B,) on the training tasks after the last update.
    """

    def block(name: str, world: World, runs: Sequence[Run]) -> Tables:
        checkpoint, progress = context.checkpoint.stage(name), context.progress(name)
        stack, _ = train(runs, world, optimisation, checkpoint=checkpoint, progress=progress)
        rates = pass_rates(stack, world.train, optimisation.steps).cpu()
        return {
            "final": [{**run.row(optimisation.steps), **score(run, rates[index])} for index, run in enumerate(runs)]
        }

    return in_worlds(runs, make_world, at_once, name, block)["final"]


def compare_on(
    make_world: Callable[[int], World],
    methods: Sequence[Method],
    rates: Sequence[float],
    optimisation: fit.Optimisation,
    *,
    seeds: int,
    sweep_seeds: int,
    score: str,
    final: Callable[[Run, Tensor], Row],
    measure: Measure,
    name: str,
    at_once: int,
    context: Context,
    fixed: Mapping[str, float] = MappingProxyType({}),
    section: str = "",
) -> Comparison:
    """Compare methods on a world for each seed, each at its best learning rate; see `sweep.compare` (also for `fixed`).

    `final(run, rates)` makes the columns of the sweep, the column `score` among them, as in `final_rows`; `measure`
    makes the tables of the reported runs. `at_once` runs train as one batched program; checkpoints begin with `name`.
    """

    def swept(runs: Sequence[Run]) -> list[Row]:
        return final_rows(runs, make_world, optimisation, final, name=f"{name}-sweep", at_once=at_once, context=context)

    def reported(runs: Sequence[Run]) -> Tables:
        return in_worlds(runs, make_world, at_once, f"{name}-report", report_block)

    def report_block(name: str, world: World, runs: Sequence[Run]) -> Tables:
        checkpoint, progress = context.checkpoint.stage(name), context.progress(name)
        return train(runs, world, optimisation, checkpoint=checkpoint, measure=measure, progress=progress)[1]

    return sweep.compare(
        methods,
        rates,
        seeds=seeds,
        sweep_seeds=sweep_seeds,
        score=score,
        sweep=swept,
        report=reported,
        fixed=fixed,
        section=section,
    )


def in_worlds(runs: Sequence[Run], make_world: Callable[[int], World], at_once: int, name: str, train: Train) -> Tables:
    """Train the runs of each seed in the world of that seed, at most `at_once` together; return their tables together.

    The name of a block of runs begins with `name`.
    """
    tables: Tables = {}
    for seed in dict.fromkeys(run.seed for run in runs):
        world = make_world(seed)
        of_seed = [run for run in runs if run.seed == seed]
        for number, start in enumerate(range(0, len(of_seed), at_once), 1):
            append(tables, train(f"{name}-seed-{seed}-{number}", world, of_seed[start : start + at_once]))
    return tables
