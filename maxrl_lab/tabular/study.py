"""Training networks on a world of tabular tasks: one batched program for many runs, and exact pass rates throughout.

A world of one's own is trained on in these lines:

    tasks = tabulate(MyEnvironment(), key=...)
    split = Split.observed(tasks)
    world = World({"train": split}, lambda: mlp([split.inputs.shape[1], 64, tasks.shape[2]]))
    runs = [Run(Sampled(name, 16), 0.003, seed) for name in ("rloo", "maxrl") for seed in range(5)]
    stack, _ = train(runs, world, Optimisation(steps=200, optimiser="adam"), checkpoint=Checkpoint(Path("unfinished")))
    pass_rates(stack, world.train)  # (10, B), exact

`compare_on` is the fair comparison: it sweeps learning rates on some seeds and reports others.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack, seeded
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.tabular.batch import TabularBatch, refuse_diverged
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.training import fit, sweep
from maxrl_lab.training.groups import DivergedError
from maxrl_lab.training.methods import Method
from maxrl_lab.training.sweep import Comparison, Run

Measure = Callable[[Sequence[Run], int, Stack], Tables]
"""Makes tables about some runs after so many updates, from their networks."""


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

    def only(self, task: int) -> "Split":
        """Return one of the tasks, with the inputs that it needs."""
        width = self.rows_per_input
        used, renumbered = (self.rows[task] // width).unique(return_inverse=True)
        rows = (renumbered * width + self.rows[task] % width)[None]
        return Split(self.tables.select([task]), self.inputs[used], rows, (self.difficulty[task],), width)


@dataclass(frozen=True)
class World:
    """The tasks to train on, other tasks that are held out, and a network for them."""

    splits: dict[str, Split]
    """`train`, and others such as `held_out`."""
    network: Callable[[], nn.Module]
    """Makes a network whose output has a logit for each action."""

    @property
    def train(self) -> Split:
        """The tasks to train on."""
        return self.splits["train"]

    def to(self, device: torch.device) -> "World":
        """Return the world on another device."""
        return World({name: split.to(device) for name, split in self.splits.items()}, self.network)

    def pass_rates(self, stack: Stack, step: int = 0) -> dict[str, Tensor]:
        """Return the exact pass rates (R, B) of every network on each split, on the CPU."""
        return {name: pass_rates(stack, split, step).cpu() for name, split in self.splits.items()}

    def stack(self, seeds: Sequence[int]) -> Stack:
        """Return an untrained network for each seed, with parameters sampled by it, on the device of the tasks."""
        return Stack([seeded(self.network, seed) for seed in seeds]).to(self.train.inputs.device)


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

    Raises `InputError`, which names the run, if a policy becomes NaN.
    """
    seeds = [run.seed for run in runs]
    stack, tasks = world.stack(seeds), world.train

    def batch(step: int) -> TabularBatch:
        return TabularBatch(tasks.tables, stack.log_policy(tasks.inputs, tasks.rows), seeds, step)

    with _naming(runs):
        tables = fit.fit(
            stack,
            [run.method for run in runs],
            [run.learning_rate for run in runs],
            optimisation,
            batch=batch,
            measure=(lambda step: measure(runs, step, stack)) if measure else None,
            checkpoint=checkpoint,
            progress=progress,
        )
        with torch.no_grad():
            refuse_diverged(stack.log_policy(tasks.inputs, tasks.rows), optimisation.steps)
    return stack, tables


def final_rows(
    runs: Sequence[Run],
    world: World,
    optimisation: fit.Optimisation,
    score: Callable[[Run, Tensor], Row],
    *,
    name: str,
    at_once: int,
    context: Context,
) -> list[Row]:
    """Train the runs, `at_once` of them together, and return a row of each with the columns that `score` makes.

    `score(run, rates)` makes them of the run's exact pass rates (B,) on the training tasks after the last update.
    """

    def block(number: int, runs: Sequence[Run]) -> Tables:
        checkpoint, progress = context.checkpoint.stage(f"{name}-{number}"), context.progress(f"{name} {number}")
        stack, _ = train(runs, world, optimisation, checkpoint=checkpoint, progress=progress)
        rates = pass_rates(stack, world.train, optimisation.steps).cpu()
        return {
            "final": [{**run.row(optimisation.steps), **score(run, rates[index])} for index, run in enumerate(runs)]
        }

    return sweep.in_blocks(runs, at_once, block)["final"]


def compare_on(
    world: World,
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
) -> Comparison:
    """Compare methods on a world, each at its best learning rate; see `sweep.compare`.

    `final(run, rates)` makes the columns of the sweep, the column `score` among them, as in `final_rows`; `measure`
    makes the tables of the reported runs. `at_once` runs train as one batched program; checkpoints begin with `name`.
    """

    def swept(runs: Sequence[Run]) -> list[Row]:
        return final_rows(runs, world, optimisation, final, name=f"{name}-sweep", at_once=at_once, context=context)

    def reported(runs: Sequence[Run]) -> Tables:
        return sweep.in_blocks(runs, at_once, report_block)

    def report_block(number: int, runs: Sequence[Run]) -> Tables:
        stage = f"{name}-report-{number}"
        checkpoint, progress = context.checkpoint.stage(stage), context.progress(stage)
        return train(runs, world, optimisation, checkpoint=checkpoint, measure=measure, progress=progress)[1]

    return sweep.compare(
        methods, rates, seeds=seeds, sweep_seeds=sweep_seeds, score=score, sweep=swept, report=reported
    )


@contextmanager
def _naming(runs: Sequence[Run]) -> Iterator[None]:
    """Say of a run that has diverged which one it is."""
    try:
        yield
    except DivergedError as error:
        raise InputError(
            f"{runs[error.run].name} has diverged: its policy is NaN after {error.step} updates; leave that rate out "
            "(the last checkpoint is kept)"
        ) from None
