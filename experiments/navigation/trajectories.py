"""Where do the trained policies go, when they succeed and when they fail?

The gridworld twin of Fig. 10 of arXiv:2602.02710v1, on the mazes of `navigation`. Of every training maze: its exact
pass rate before training and after it, which shows that what is not learnt is pushed down. Of one maze of some
distances, with seed 0: the expected number of visits to every cell, exact (`TabularTasks.occupancy`), and sampled
paths, right and wrong. A seed samples everything: mazes, initial parameters, the mazes of an update, rollouts. Learning
rates are swept alike, on seeds that are not reported.

    maxrl-lab run trajectories        (half a minute; `standard`: fifteen)

Tables: `sweep` (the end of every swept run), `levels` (the levels that are shown, as text), `policies` (a row per
method, seed and training level), `visits` (a row per method, level and free cell) and `paths` (a row per method, level,
path and time).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from envs.gridworld.levels import Level
from experiments._shared import KnownRates, Seeds, check_estimators, known_rates
from experiments.navigation._shared import GridSettings, optimisation
from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, Names, Rates
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tabular.study import World, compare_on, pass_rates
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.training.methods import Method, Sampled
from maxrl_lab.training.sweep import Run


@dataclass(frozen=True)
class Methods(Group):
    """Methods: estimators at one N."""

    estimators: Names = ("rloo", "grpo", "maxrl")
    """Estimators that are compared."""
    rollouts: Count = 64
    """Number N of rollouts of each level in each update."""


@dataclass(frozen=True)
class Training(Group):
    """Training: Adam with a cosine schedule after a tenth of warm-up."""

    learning_rates: Rates = (0.001, 0.003, 0.01, 0.03, 0.1)
    """Learning rates that are swept alike for every method."""
    steps: Count = 300
    """Number of updates of each run."""


@dataclass(frozen=True)
class Paths(Group):
    """Paths: on which levels of seed 0 they are sampled, how many, and how many are kept."""

    shown: Counts = (9, 17)
    """Distances whose first training level is shown."""
    sampled: Count = 200
    """Number of paths sampled on each level."""
    kept: Count = 8
    """Most right paths, and most wrong ones, that are kept of them."""


@dataclass(frozen=True)
class Settings(Paths, Training, KnownRates, Seeds, Methods, GridSettings):
    """Levels, methods, training and paths."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at N, and that there are levels of the distances that are shown."""
        super().__post_init__()
        check_estimators(self.estimators, (self.rollouts,))
        for distance in self.shown:
            if distance not in self.distances:
                raise InputError(f"shown must be among the distances {self.distances}, got {distance}")

    def methods(self) -> list[Method]:
        """Return every estimator at N."""
        return [Sampled(name, self.rollouts) for name in self.estimators]

    def shown_levels(self) -> dict[int, Level]:
        """Return by its index the first level of each distance that is shown, of the training levels of seed 0."""
        made = self.make_levels("train", self.levels)
        return {index: made[index] for index in (self.levels * self.distances.index(shown) for shown in self.shown)}


PRESETS = {
    "smoke": Settings(
        size=7,
        distances=(2, 4),
        levels=1,
        horizon=8,
        width=4,
        rollouts=4,
        learning_rates=(0.003, 0.01),
        steps=3,
        seeds=2,
        sweep_seeds=1,
        shown=(2, 4),
        sampled=10,
        kept=2,
    ),
    "quick": Settings(seeds=3, fixed_rates=known_rates("trajectories")),
    "standard": Settings(seeds=10, sweep_seeds=3),
    "full": Settings(
        size=17,
        distances=(8, 16, 24, 32, 48),
        levels=400,
        levels_per_update=256,
        shown=(16, 48),
        horizon=64,
        width=32,
        rollouts=128,
        steps=2000,
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the sweep, the levels shown, and what each method's policies do."""
    levels = settings.shown_levels()
    compared = compare_on(
        lambda seed: settings.world(seed).to(context.device),
        settings.methods(),
        settings.learning_rates,
        optimisation("adam", settings.steps, 1),
        seeds=settings.seeds,
        sweep_seeds=settings.sweep_seeds,
        score="pass_at_1",
        final=lambda _run, rates: {"pass_at_1": float(rates.mean())},
        measure=partial(_measure, settings, levels),
        name="trajectories",
        at_once=len(settings.estimators) * len(settings.learning_rates),
        context=context,
        fixed=settings.fixed,
    )
    shown = [{"level": index, "distance": int(level.distance), "text": level.text()} for index, level in levels.items()]
    return {**compared.tables, "levels": shown}


def _measure(
    settings: Settings, levels: dict[int, Level], world: World, runs: Sequence[Run], step: int, stack: Stack
) -> Tables:
    """Make what is known of the policies after the last update; before it nothing is measured."""
    if step < settings.steps:
        return {}
    rates = pass_rates(stack, world.train, step).cpu()
    start = pass_rates(world.stack([run.seed for run in runs]), world.train).cpu()
    with torch.no_grad():
        policies = stack.log_policy(world.train.inputs, world.train.rows)
    tables: Tables = {}
    for index, run in enumerate(runs):
        named = {"method": run.method.name, "learning_rate": run.learning_rate}
        of_seed = {"rollouts": run.method.rollouts, "seed": run.seed}
        rows = {"policies": [{**of_seed, **row} for row in _pass_rates(world, start[index], rates[index])]}
        if run.seed == 0:
            rows["visits"] = _visits(world.train.tables, policies[index], levels)
            rows["paths"] = _paths(world.train.tables, policies[index], levels, settings)
        append(tables, {name: [{**named, **row} for row in table] for name, table in rows.items()})
    return tables


def _pass_rates(world: World, start: Tensor, rates: Tensor) -> list[Row]:
    """Return the exact pass rate of every training level before training and after it."""
    columns = zip(world.train.difficulty, start.tolist(), rates.tolist(), strict=True)
    return [
        {"level": level, "distance": int(distance), "untrained": before, "pass_rate": after}
        for level, (distance, before, after) in enumerate(columns)
    ]


def _visits(tasks: TabularTasks, policy: Tensor, shown: dict[int, Level]) -> list[Row]:
    """Return the expected steps spent on each free cell, H at most; the start counts, the end does not."""
    expected = (tasks.occupancy(policy)[:-1].sum(0) * tasks.active).cpu()
    return [
        {"level": index, "row": int(row), "col": int(col), "visits": float(expected[index, row * level.size + col])}
        for index, level in shown.items()
        for row, col in zip(*(~level.walls).nonzero(), strict=True)
    ]


def _paths(tasks: TabularTasks, policy: Tensor, shown: dict[int, Level], settings: Settings) -> list[Row]:
    """Return the first right and the first wrong paths of those sampled."""
    group, paths = tasks.paths(policy, settings.sampled, generator("trajectories", device=policy.device))
    rows = []
    for index, level in shown.items():
        for success in (True, False):
            kept = (group.rewards[index].bool() == success).nonzero().flatten()[: settings.kept].tolist()
            for path in kept:
                cells = [divmod(state, level.size) for state in paths.states[index, path].tolist()]
                rows += [
                    {"level": index, "path": path, "success": success, "time": time, "row": row, "col": col}
                    for time, (row, col) in enumerate(cells)
                ]
    return rows
