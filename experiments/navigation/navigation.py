"""With sparse right-or-wrong rewards and tasks from easy to hopeless: what does each estimator learn, on which tasks?

The navigation twin of Fig. 3, 5, 7 and 17 of arXiv:2602.02710v1: small policies learn to reach goals within a step
limit, in Prim mazes whose untrained pass rates run from 0.9 to 1e-6, and in MiniGrid's own levels. In the paper MaxRL
solves more tasks with fewer rollouts, and keeps pass@k where RLOO and GRPO lose it. Every pass rate here is exact
(dynamic programming over the table of the level), on training and on held-out levels, so curves have no evaluation
noise; intervals are over seeds, which are initial parameters and rollouts (the levels are the same for all).

Learning rates are swept alike for every method and optimiser, on seeds that are not reported, and chosen by mean final
pass@1 on the training levels. Adam divides out an estimator's constant scale, SGD does not, hence both.

    maxrl-lab run navigation        (three to four minutes; `full` wants a GPU)

Tables: `sweep` (the end of every swept run on the training levels), `curves` (a row per reported run, measured step and
split), `coverage` and `difficulty` (pass@k, and the pass rate by difficulty, of the reported runs at the end).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated

import torch
from torch import Tensor

from envs import minigrid
from experiments._shared import Seeds, check_estimators
from experiments.navigation._shared import VIEW_POLICIES, GridSettings, minigrid_world, optimisation
from maxrl_lab import evaluate
from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Choice, Count, Counts, Each, MaybeCounts, MaybeNames, Names, Rates
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tabular.study import World, compare_on
from maxrl_lab.training.methods import Method, Sampled
from maxrl_lab.training.sweep import Run

KS = (1, 8, 64, 512)
"""k of the learning curves of pass@k."""
METHODS = ("reinforce", "rloo", "grpo", "pkpo:k=N/2", "maxrl", "maxrl_leave_one_out", "maxrl_cross_fitted")
"""What is compared: MaxRL as Algorithm 1 (order N-1) and in two forms of exact order N."""
MINIGRID = ("Fetch-5x5-N2", "LavaGapS7", "MultiRoom-N2-S4", "DoorKey-5x5", "SimpleCrossingS9N1", "LavaCrossingS9N1")
"""MiniGrid levels of the default setting."""


@dataclass(frozen=True)
class MiniGrid(Group):
    """MiniGrid: levels that nobody here made, and the network that reads them."""

    minigrid_names: Annotated[tuple[str, ...], Each(Choice(minigrid.LEVELS), may_be_empty=True)] = MINIGRID
    """MiniGrid levels that are learnt beside the gridworld; the flag without values leaves MiniGrid out."""
    minigrid_levels: Count = 3
    """Number of training levels of each name, and as many held-out ones; no two of them are the same."""
    minigrid_horizon: Count = 48
    """Step limit H in MiniGrid."""
    minigrid_policy: Annotated[str, Choice(VIEW_POLICIES)] = "perceptron"
    """Network that acts in MiniGrid: perceptron sees view, direction and mission, convolutional sees the view alone."""
    minigrid_width: Count = 64
    """Number of units in each hidden layer of the perceptron, four times the convolutional network's channels."""


@dataclass(frozen=True)
class Methods(Group):
    """Methods: every estimator at every N, after the same number of updates."""

    estimators: Names = METHODS
    """Estimators that are compared; N in an option stands for the number of rollouts."""
    rollouts: Counts = (4, 16, 128)
    """Numbers N of rollouts of each level in the gridworld, with Adam."""
    sgd_rollouts: MaybeCounts = (16,)
    """Numbers N of rollouts in the gridworld with SGD; the flag without values leaves SGD out."""
    minigrid_rollouts: MaybeCounts = (16,)
    """Numbers N of rollouts in MiniGrid, with Adam."""


@dataclass(frozen=True)
class EqualRollouts(Group):
    """Equal rollouts: the same number of rollouts in all, in small groups often or in large ones seldom."""

    equal_estimators: MaybeNames = ("rloo", "grpo", "maxrl_leave_one_out")
    """Estimators that are compared at equal rollouts; the flag without values leaves this comparison out."""
    equal_rollouts: MaybeCounts = (4, 16, 64)
    """Numbers N of rollouts in that comparison; each N has its own number of updates, schedule and learning rate."""
    equal_total: Count = 1200
    """Number of rollouts of each level in all in that comparison."""


@dataclass(frozen=True)
class Training(Group):
    """Training: a cosine schedule after a tenth of warm-up."""

    steps: Count = 100
    """Number of updates of each run, each on N rollouts of every training level."""
    adam_rates: Rates = (0.01, 0.03, 0.1)
    """Learning rates that are swept in the gridworld with Adam."""
    sgd_rates: Rates = (0.3, 1.0, 3.0, 10.0)
    """Learning rates that are swept in the gridworld with SGD, without momentum."""
    minigrid_rates: Rates = (0.001, 0.003, 0.01)
    """Learning rates that are swept in MiniGrid, with Adam."""
    runs_at_once: Count = 150
    """Most runs trained as one batched program; it bounds memory and changes results by rounding only."""


@dataclass(frozen=True)
class Evaluation(Group):
    """Evaluation: exact pass rates on training and on held-out levels."""

    held_out: Count = 6
    """Number of held-out levels of each distance."""
    measurements: Count = 10
    """Number of evaluations of a reported run after the first."""
    coverage_ks: Counts = (1, 4, 16, 64, 256, 1024, 4096)
    """Values of k in the final coverage curve."""


@dataclass(frozen=True)
class Settings(Evaluation, Training, Seeds, EqualRollouts, Methods, MiniGrid, GridSettings):
    """Worlds, methods, training and evaluation."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at every N, and that equal rollouts are enough for one update."""
        super().__post_init__()
        for count in self.equal_rollouts:
            if count > self.equal_total:
                raise InputError(f"equal_rollouts must be at most equal_total = {self.equal_total}, got {count}")
        for section in self.sections():
            check_estimators(section.estimators, section.rollouts)

    def sections(self) -> list["Section"]:
        """Return the comparisons."""
        steps, names = self.steps, self.estimators
        made = [Section("equal steps", "gridworld", "adam", self.adam_rates, self.rollouts, names, steps)]
        if self.sgd_rollouts:
            made.append(Section("equal steps", "gridworld", "sgd", self.sgd_rates, self.sgd_rollouts, names, steps))
        for count in self.equal_rollouts if self.equal_estimators else ():
            updates = self.equal_total // count
            made.append(
                Section(
                    "equal rollouts", "gridworld", "adam", self.adam_rates, (count,), self.equal_estimators, updates
                )
            )
        if self.minigrid_names and self.minigrid_rollouts:
            made.append(
                Section("equal steps", "minigrid", "adam", self.minigrid_rates, self.minigrid_rollouts, names, steps)
            )
        return made

    def make_world(self, name: str) -> World:
        """Return the tasks and the policy of `gridworld` or `minigrid`."""
        if name == "gridworld":
            return self.world(self.held_out)
        count = self.minigrid_levels
        policy, width = self.minigrid_policy, self.minigrid_width
        return minigrid_world(self.minigrid_names, count, count, self.minigrid_horizon, policy, width)


@dataclass(frozen=True)
class Section:
    """One comparison: every estimator at every N, each at its best learning rate."""

    comparison: str
    """`equal steps` or `equal rollouts`."""
    world: str
    """`gridworld` or `minigrid`."""
    optimiser: str
    rates: tuple[float, ...]
    rollouts: tuple[int, ...]
    estimators: tuple[str, ...]
    steps: int

    @property
    def name(self) -> str:
        """The name of its checkpoints."""
        counts = "-".join(map(str, self.rollouts))
        return f"navigation-{self.comparison.replace(' ', '-')}-{self.world}-{self.optimiser}-N-{counts}"

    @cached_property
    def methods(self) -> dict[Method, str]:
        """Every estimator at every N, with its name as it is in the settings."""
        return {Sampled(name, count): name for name in self.estimators for count in self.rollouts}

    def columns(self, run: Run) -> Row:
        """Return the columns that name the comparison, and the estimator as it is in the settings."""
        names = {"comparison": self.comparison, "world": self.world, "optimiser": self.optimiser}
        return {**names, "estimator": self.methods[run.method]}


_SMALL = Settings(
    size=7,
    distances=(2, 4),
    levels=2,
    held_out=2,
    horizon=8,
    width=4,
    equal_estimators=("maxrl",),
    equal_rollouts=(4, 8),
    equal_total=16,
    minigrid_names=("Fetch-5x5-N2",),
    minigrid_levels=1,
    minigrid_horizon=12,
    minigrid_rollouts=(4,),
    minigrid_width=8,
    rollouts=(4, 8),
    sgd_rollouts=(4,),
    adam_rates=(0.003, 0.01),
    minigrid_rates=(0.003, 0.01),
    sgd_rates=(0.3, 1.0),
    sweep_seeds=1,
    seeds=2,
    steps=4,
    measurements=2,
    coverage_ks=(1, 8),
)

PRESETS = {
    "smoke": _SMALL,
    "quick": Settings(),
    "full": Settings(
        size=17,
        distances=(2, 4, 8, 16, 24, 32, 48),
        levels=64,
        held_out=64,
        horizon=64,
        width=32,
        minigrid_names=(*MINIGRID, "FourRooms", "DoorKey-6x6", "Unlock", "GoToDoor-5x5"),
        minigrid_horizon=128,
        minigrid_levels=6,
        minigrid_rollouts=(4, 16, 64, 128),
        rollouts=(4, 8, 16, 32, 64, 128),
        adam_rates=(0.001, 0.003, 0.01, 0.03, 0.1),
        equal_rollouts=(4, 16, 64, 128),
        equal_total=32_000,
        seeds=10,
        steps=2000,
        measurements=40,
        runs_at_once=30,
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the swept runs' last rows, and the reported runs' curves, final coverage and pass rates by difficulty."""
    sections = settings.sections()
    worlds = {section.world: settings.make_world(section.world).to(context.device) for section in sections}
    tables: Tables = {}
    for section in sections:
        world = worlds[section.world]
        compared = compare_on(
            world,
            list(section.methods),
            section.rates,
            optimisation(section.optimiser, section.steps, settings.measurements),
            seeds=settings.seeds,
            sweep_seeds=settings.sweep_seeds,
            score="pass_at_1",
            final=partial(_final, section),
            measure=partial(_measure, section, world, settings.coverage_ks),
            name=section.name,
            at_once=settings.runs_at_once,
            context=context,
        )
        append(tables, {"sweep": compared.sweep, **compared.report})
    return tables


def _measure(
    section: Section,
    world: World,
    coverage_ks: Sequence[int],
    runs: Sequence[Run],
    step: int,
    stack: Stack,
) -> Tables:
    """Make the curves' rows of every split and run, and at the end its coverage and its pass rate by difficulty."""
    tables: Tables = {}
    for split, rates in world.pass_rates(stack, step).items():
        for run, run_rates in zip(runs, rates, strict=True):
            made = {"curves": [{"total_rollouts": step * (run.method.rollouts or 0), **_curve(run, run_rates)}]}
            if step == section.steps:
                made["coverage"] = _coverage(run_rates, coverage_ks)
                made["difficulty"] = _by_difficulty(run_rates, world.splits[split].difficulty)
            for table, rows in made.items():
                named = {**section.columns(run), "split": split, **run.row(step)}
                append(tables, {table: [{**named, **row} for row in rows]})
    return tables


def _final(section: Section, run: Run, rates: Tensor) -> Row:
    """Return the columns of the sweep."""
    return {**section.columns(run), **_curve(run, rates)}


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
