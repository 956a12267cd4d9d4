"""Estimators compared on worlds: sections of one experiment, each with a sweep, and the tables that they fill."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from experiments._shared import KnownRates, Seeds, check_estimators
from experiments.navigation._shared import optimisation
from maxrl_lab import evaluate
from maxrl_lab.policies.stack import Stack
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, Names
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tabular.study import World, compare_on
from maxrl_lab.training.methods import Method, Sampled
from maxrl_lab.training.sweep import Run

KS = (1, 8, 64, 512)
"""k of the learning curves of pass@k."""
METHODS = ("reinforce", "rloo", "grpo", "pkpo:k=N/2", "maxrl", "maxrl_leave_one_out", "maxrl_cross_fitted")
"""What is compared: MaxRL as Algorithm 1 (order N-1) and in two forms of exact order N."""
FEW = ("rloo", "grpo", "pkpo:k=N/2", "maxrl", "maxrl_leave_one_out")
"""Those of them that fit into a few minutes."""
ORDERS_BETWEEN = ("maxrl_centred:order=N/4", "maxrl_centred:order=N/2")
"""Orders between that of RLOO (1) and that of Algorithm 1 (N-1), centred as both are; at N = 4 the first is RLOO."""


@dataclass(frozen=True)
class Methods(Group):
    """Methods: every estimator at every N, after the same number of updates."""

    estimators: Names = METHODS
    """Estimators that are compared; N in an option stands for the number of rollouts."""
    rollouts: Counts = (4, 16, 64)
    """Numbers N of rollouts of each level in an update."""


@dataclass(frozen=True)
class Runs(KnownRates, Seeds):
    """Seeds: every seed has levels, initial parameters, tasks of an update and rollouts of its own."""

    measurements: Count = 15
    """Number of evaluations of a reported run after the first."""
    runs_at_once: Count = 60
    """Most runs of one seed trained as one batched program; it bounds memory and changes results by rounding only."""


@dataclass(frozen=True)
class Section:
    """One comparison: every estimator at every N, each at its best learning rate."""

    experiment: str
    """Name of the experiment."""
    make_world: Callable[[int], World]
    """Makes the levels and the network of a seed."""
    estimators: tuple[str, ...]
    rollouts: tuple[int, ...]
    rates: tuple[float, ...]
    steps: int
    optimiser: str = "adam"
    columns: Mapping[str, str] = field(default_factory=dict)
    """Columns that tell its rows from those of the experiment's other sections; their words name its rates."""
    coverage_ks: tuple[int, ...] = ()
    """k of the final coverage curve; none for no such table."""

    @property
    def words(self) -> str:
        """The section in words, in front of the names of its methods; empty if the experiment has only one."""
        return " ".join(self.columns.values())

    @property
    def name(self) -> str:
        """The name of its checkpoints and progress bars, which has its numbers N where other sections have others."""
        counts = "-".join(map(str, self.rollouts))
        return "-".join([self.experiment, *self.words.split(), "N", counts])

    def check(self) -> None:
        """Raise `InputError` unless every estimator exists at every N."""
        check_estimators(self.estimators, self.rollouts)

    @cached_property
    def methods(self) -> dict[Method, str]:
        """Every estimator at every N, with its name as it is in the settings."""
        return {Sampled(name, count): name for name in self.estimators for count in self.rollouts}

    def named(self, run: Run) -> Row:
        """Return the columns that name the section, and the estimator as it is in the settings."""
        return {**self.columns, "estimator": self.methods[run.method]}


def compare_sections(sections: Sequence[Section], settings: Runs, context: Context) -> Tables:
    """Return the tables `sweep`, `curves`, `difficulty`, and `coverage` if a section asks for it.

    `sweep` has the end of every swept run on the training levels, `curves` a row per reported run, measured step and
    split, `difficulty` the pass rate of the reported runs at the end, by difficulty. Worlds without held-out levels
    make rows without a column `split`.
    """
    tables: Tables = {}
    for section in sections:
        compared = compare_on(
            partial(_on_device, section, context),
            list(section.methods),
            section.rates,
            optimisation(section.optimiser, section.steps, settings.measurements),
            seeds=settings.seeds,
            sweep_seeds=settings.sweep_seeds,
            score="pass_at_1",
            final=partial(_final, section),
            measure=partial(_measure, section),
            name=section.name,
            at_once=settings.runs_at_once,
            context=context,
            fixed=settings.fixed,
            section=section.words,
        )
        append(tables, compared.tables)
    return tables


def _on_device(section: Section, context: Context, seed: int) -> World:
    return section.make_world(seed).to(context.device)


def _measure(section: Section, world: World, runs: Sequence[Run], step: int, stack: Stack) -> Tables:
    """Make the curves' rows of every split and run, and at the end its coverage and its pass rate by difficulty."""
    tables: Tables = {}
    several = len(world.splits) > 1
    for split, rates in world.pass_rates(stack, step).items():
        for run, run_rates in zip(runs, rates, strict=True):
            made = {"curves": [{"total_rollouts": step * (run.method.rollouts or 0), **_curve(run, run_rates)}]}
            if step == section.steps:
                made["difficulty"] = _by_difficulty(run_rates, world.splits[split].difficulty)
                if section.coverage_ks:
                    made["coverage"] = _coverage(run_rates, section.coverage_ks)
            for table, rows in made.items():
                named = {**section.named(run), **({"split": split} if several else {}), **run.row(step)}
                append(tables, {table: [{**named, **row} for row in rows]})
    return tables


def _final(section: Section, run: Run, rates: Tensor) -> Row:
    """Return the columns of the sweep."""
    return {**section.named(run), **_curve(run, rates)}


def _curve(run: Run, rates: Tensor) -> Row:
    """Return pass@k of the learning curves, and the expected share of tasks with a success among N rollouts."""
    curves = dict(zip(KS, evaluate.exact_coverage(rates, KS).tolist(), strict=True))
    signal = float(evaluate.exact_coverage(rates, [run.method.rollouts or 1])[0])
    return {**{f"pass_at_{k}": curve for k, curve in curves.items()}, "signal": signal}


def _coverage(rates: Tensor, ks: Sequence[int]) -> list[Row]:
    values = evaluate.exact_coverage(rates, ks).tolist()
    return [{"k": k, "coverage": value} for k, value in zip(ks, values, strict=True)]


def _by_difficulty(rates: Tensor, difficulty: Sequence[str]) -> list[Row]:
    return [
        {"difficulty": name, "pass_rate": float(rates[torch.tensor([other == name for other in difficulty])].mean())}
        for name in dict.fromkeys(difficulty)
    ]
