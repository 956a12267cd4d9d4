"""With sparse right-or-wrong rewards and tasks from easy to hopeless: what does each estimator learn, on which tasks?

The navigation twin of Fig. 3, 5, 7 and 17 of arXiv:2602.02710v1: small policies learn to reach goals within a step
limit, in Prim mazes whose untrained pass rates run from 0.9 to 1e-6, and in MiniGrid's own levels. In the paper MaxRL
solves more tasks with fewer rollouts, and keeps pass@k where RLOO and GRPO lose it. Every pass rate here is exact
(dynamic programming over the table of the level), on training and on held-out levels, so curves have no evaluation
noise; intervals are over seeds, which are initial parameters and rollouts (the levels are the same for all).

Learning rates are swept alike for every method and optimiser, on seeds that are not reported, and chosen by mean final
pass@1 on the training levels. Adam divides out an estimator's constant scale, SGD does not, hence both.

    maxrl-lab run navigation        (three to four minutes; `full` wants a GPU)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from envs import minigrid
from experiments._shared import check_estimators
from experiments.navigation._shared import VIEW_POLICIES, GridSettings, World, fit_in_blocks, minigrid_world, recipe
from maxrl_lab import evaluate, specs
from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import check_lists, check_rates
from maxrl_lab.training.methods import Method, Sampled
from maxrl_lab.training.sweep import Run, choose_learning_rates, reported_runs, swept_runs

KS = (1, 8, 64, 512)
"""k of the learning curves of pass@k."""
METHODS = ("reinforce", "rloo", "grpo", "pkpo:k=N/2", "maxrl", "maxrl_leave_one_out", "maxrl_cross_fitted")
"""What is compared: MaxRL as Algorithm 1 (order N-1) and in two forms of exact order N."""
MINIGRID = ("Fetch-5x5-N2", "LavaGapS7", "MultiRoom-N2-S4", "DoorKey-5x5", "SimpleCrossingS9N1", "LavaCrossingS9N1")
"""MiniGrid levels of the default setting."""


@dataclass(frozen=True)
class Settings(GridSettings):
    """Worlds, methods and optimisation."""

    held_out: int = 6
    """Held-out levels of each distance."""
    minigrid_names: tuple[str, ...] = MINIGRID
    """MiniGrid levels (`envs.minigrid.LEVELS`); the flag without values: no MiniGrid."""
    minigrid_levels: int = 3
    """Training levels of each name, and as many held-out ones; no two are the same."""
    minigrid_horizon: int = 48
    """Step limit H in MiniGrid."""
    minigrid_rollouts: tuple[int, ...] = (16,)
    """N in MiniGrid."""
    minigrid_policy: str = "perceptron"
    """perceptron: sees view, direction and mission; convolutional: sees the view."""
    minigrid_width: int = 64
    """Hidden units of each of the perceptron's two layers, four times the channels of the convolutional one."""
    estimators: tuple[str, ...] = METHODS
    """Compared; N in an option stands for the number of rollouts."""
    rollouts: tuple[int, ...] = (4, 16, 128)
    """N in the gridworld, with Adam."""
    sgd_rollouts: tuple[int, ...] = (16,)
    """N in the gridworld, with SGD; the flag without values: no SGD."""
    equal_estimators: tuple[str, ...] = ("rloo", "grpo", "maxrl_leave_one_out")
    """Compared at equal rollouts in all; the flag without values: no such comparison."""
    equal_rollouts: tuple[int, ...] = (4, 16, 64)
    """N of that comparison; each has its own number of updates, schedule and learning rate."""
    equal_total: int = 1200
    """Rollouts of each level in all in that comparison."""
    adam_rates: tuple[float, ...] = (0.01, 0.03, 0.1)
    """Learning rates swept in the gridworld with Adam."""
    minigrid_rates: tuple[float, ...] = (0.001, 0.003, 0.01)
    """Learning rates swept in MiniGrid, with Adam."""
    sgd_rates: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0)
    """Learning rates swept in the gridworld with SGD, without momentum."""
    seeds: int = 5
    """Reported runs per method."""
    sweep_seeds: int = 2
    """Seeds of the sweep; none of them is reported."""
    steps: int = 100
    """Updates, each on N rollouts of every training level; cosine schedule after a tenth of warm-up."""
    measurements: int = 10
    """Evaluations during training."""
    coverage_ks: tuple[int, ...] = (1, 4, 16, 64, 256, 1024, 4096)
    """k of the final coverage curve."""
    runs_at_once: int = 150
    """Runs trained as one batched program: bounds memory, changes results by rounding only."""

    def __post_init__(self) -> None:
        """Check counts and names."""
        super().__post_init__()
        check_lists(estimators=self.estimators, rollouts=self.rollouts, coverage_ks=self.coverage_ks)
        check_lists(adam_rates=self.adam_rates, sgd_rates=self.sgd_rates, minigrid_rates=self.minigrid_rates)
        for name in ("held_out", "minigrid_levels", "minigrid_horizon", "minigrid_width", "equal_total"):
            specs.check_count(name, getattr(self, name))
        for name in ("seeds", "sweep_seeds", "steps", "measurements", "runs_at_once"):
            specs.check_count(name, getattr(self, name))
        for name in ("minigrid_names", "equal_rollouts"):
            if getattr(self, name):
                check_lists(**{name: getattr(self, name)})
        for count in self.equal_rollouts:
            if count > self.equal_total:
                raise InputError(f"equal_rollouts must be at most equal_total = {self.equal_total}, got {count}")
        for level in self.minigrid_names:
            specs.lookup(minigrid.LEVELS, "MiniGrid level", level)
        for count in self.coverage_ks:
            specs.check_count("coverage_ks", count)
        specs.lookup(VIEW_POLICIES, "policy", self.minigrid_policy)
        check_rates(*self.adam_rates, *self.sgd_rates, *self.minigrid_rates)
        for section in self.sections():
            check_lists(rollouts=section.rollouts)
            check_estimators(section.estimators, section.rollouts)

    def sections(self) -> list["Section"]:
        """Return the comparisons."""
        steps, names = self.steps, self.estimators
        made = [Section("equal steps", "gridworld", "adam", self.adam_rates, self.rollouts, names, steps)]
        if self.sgd_rollouts:
            made.append(Section("equal steps", "gridworld", "sgd", self.sgd_rates, self.sgd_rollouts, names, steps))
        for count in self.equal_rollouts if self.equal_estimators else ():
            own = self.equal_total // count
            made.append(
                Section("equal rollouts", "gridworld", "adam", self.adam_rates, (count,), self.equal_estimators, own)
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
    optimiser: str
    rates: tuple[float, ...]
    rollouts: tuple[int, ...]
    estimators: tuple[str, ...]
    steps: int

    @property
    def name(self) -> str:
        """A name for its checkpoints."""
        counts = "-".join(map(str, self.rollouts))
        return f"{self.comparison.replace(' ', '-')}-{self.world}-{self.optimiser}-N-{counts}"

    def methods(self) -> dict[Method, str]:
        """Return every estimator at every N, with its name as it is in the settings."""
        return {Sampled(name, count): name for name in self.estimators for count in self.rollouts}


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


def run(settings: Settings, context: Context) -> list[Row]:
    """Return rows of stage sweep, report (curves), coverage and difficulty, for every section."""
    sections = settings.sections()
    worlds = {each.world: settings.make_world(each.world).to(context.device) for each in sections}
    rows: list[Row] = []
    for section in sections:
        world, methods = worlds[section.world], list(section.methods())
        swept = swept_runs(methods, section.rates, settings.seeds, settings.sweep_seeds)
        sweep = _train(swept, "sweep", section, world, settings, context)
        finals = [row for row in sweep if row["step"] == section.steps and row["split"] == "train"]
        best = choose_learning_rates(finals, "pass_at_1")
        reported = reported_runs(methods, best, settings.seeds)
        rows += finals + _train(reported, "report", section, world, settings, context)
    return rows


def _train(
    runs: Sequence[Run], stage: str, section: Section, world: World, settings: Settings, context: Context
) -> list[Row]:
    return fit_in_blocks(
        "navigation",
        f"{section.name}-{stage}",
        runs,
        settings.runs_at_once,
        world,
        recipe(section.optimiser, section.steps, settings.measurements if stage == "report" else 1),
        partial(_measure, stage, section, world, settings.coverage_ks),
        context,
    )


def _measure(
    stage: str,
    section: Section,
    world: World,
    coverage_ks: Sequence[int],
    runs: Sequence[Run],
    step: int,
    rates: dict[str, Tensor],
) -> list[Row]:
    """A row per split and run, and at the end of a reported run its coverage and its pass rate by difficulty."""
    rows = []
    names = section.methods()
    for split, tasks in world.splits.items():
        for each, own in zip(runs, rates[split], strict=True):
            named = {
                "comparison": section.comparison,
                "world": section.world,
                "optimiser": section.optimiser,
                "split": split,
                "estimator": names[each.method],
                "stage": stage,
                **each.row(step),
                "total_rollouts": step * (each.method.rollouts or 0),
            }
            rows.append({**named, **_curve(own, each), **_NO_DETAIL})
            if step == section.steps and stage == "report":
                detail = _coverage(own, coverage_ks) + _by_difficulty(own, tasks.difficulty)
                rows += [{**named, **_NO_DETAIL, **columns} for columns in detail]
    return rows


_NO_DETAIL: Row = {"k": None, "coverage": None, "difficulty": None, "pass_rate": None}


def _curve(rates: Tensor, run: Run) -> Row:
    """pass@k of the learning curves, and the expected share of tasks with a success among N rollouts."""
    curves = dict(zip(KS, evaluate.exact_coverage(rates, KS).tolist(), strict=True))
    signal = float(evaluate.exact_coverage(rates, [run.method.rollouts or 1])[0])
    return {**{f"pass_at_{k}": curve for k, curve in curves.items()}, "signal": signal}


def _coverage(rates: Tensor, ks: Sequence[int]) -> list[Row]:
    values = evaluate.exact_coverage(rates, ks).tolist()
    return [{"stage": "coverage", "k": k, "coverage": value} for k, value in zip(ks, values, strict=True)]


def _by_difficulty(rates: Tensor, difficulty: Sequence[str]) -> list[Row]:
    return [
        {"stage": "difficulty", "difficulty": name, "pass_rate": float(rates[torch.tensor(places)].mean())}
        for name in dict.fromkeys(difficulty)
        if (places := [place for place, each in enumerate(difficulty) if each == name])
    ]
