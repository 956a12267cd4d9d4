"""Where do the trained policies go, when they succeed and when they fail?

The gridworld twin of Fig. 10 of arXiv:2602.02710v1. On one training level of each distance: the expected number of
visits to every cell, exact (`TabularTasks.occupancy`), and sampled paths, right and wrong, of a policy per method that
was trained on all levels together. Learning rates are swept alike, on a seed that is not reported.

    maxrl-lab run trajectories        (ten seconds)

Tables: `sweep` (the end of every swept run), `levels` (the levels that are shown, as text), `policies` (the exact pass
rate of each method on each of them), `visits` (a row per method, level and free cell) and `paths` (a row per method,
level, path and time).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.gridworld.levels import Level
from experiments._shared import check_estimators
from experiments.navigation._shared import GridSettings, optimisation
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Names, Rates
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tabular.study import final_rows, pass_rates, train
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.training.methods import Method, Sampled
from maxrl_lab.training.sweep import Run, compare


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

    learning_rates: Rates = (0.003, 0.01, 0.03)
    """Learning rates that are swept alike for every method."""
    steps: Count = 150
    """Number of updates of each run."""


@dataclass(frozen=True)
class Paths(Group):
    """Paths: how many are sampled and how many are kept."""

    sampled: Count = 200
    """Number of paths sampled on each level."""
    kept: Count = 8
    """Most right paths, and most wrong ones, that are kept of them."""


@dataclass(frozen=True)
class Settings(Paths, Training, Methods, GridSettings):
    """Levels, methods, training and paths."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at N."""
        super().__post_init__()
        check_estimators(self.estimators, (self.rollouts,))

    def methods(self) -> list[Method]:
        """Return every estimator at N."""
        return [Sampled(name, self.rollouts) for name in self.estimators]


PRESETS = {
    "smoke": Settings(size=7, distances=(2, 4), levels=1, horizon=8, width=4, rollouts=4, steps=3, sampled=10, kept=2),
    "quick": Settings(),
    "full": Settings(
        size=17, distances=(4, 8, 16, 24, 32, 48), levels=32, horizon=64, width=32, rollouts=128, steps=2000
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the sweep, the levels shown, and what each method's policy does on them."""
    world = settings.world().to(context.device)
    optimised = optimisation("adam", settings.steps, 1)
    made = settings.make_levels("train", settings.levels)
    shown = {index: made[index] for index in range(0, len(made), settings.levels)}

    def sweep(runs: Sequence[Run]) -> list[Row]:
        return final_rows(
            runs,
            world,
            optimised,
            lambda _run, rates: {"pass_at_1": float(rates.mean())},
            name="trajectories-sweep",
            at_once=len(runs),
            context=context,
        )

    def report(runs: Sequence[Run]) -> Tables:
        checkpoint, progress = context.checkpoint.stage("report"), context.progress("trajectories report")
        stack, _ = train(runs, world, optimised, checkpoint=checkpoint, progress=progress)
        rates = pass_rates(stack, world.train, settings.steps).cpu()
        with torch.no_grad():
            policies = stack.log_policy(world.train.inputs, world.train.rows)
        tables: Tables = {}
        for run, policy, run_rates in zip(runs, policies, rates, strict=True):
            table = {
                "policies": [{"level": level, "pass_rate": float(run_rates[level])} for level in shown],
                "visits": _visits(world.train.tables, policy, shown),
                "paths": _paths(world.train.tables, policy, shown, settings),
            }
            names = {"method": run.method.name, "learning_rate": run.learning_rate}
            append(tables, {name: [{**names, **row} for row in rows] for name, rows in table.items()})
        return tables

    compared = compare(
        settings.methods(),
        settings.learning_rates,
        seeds=1,
        sweep_seeds=1,
        score="pass_at_1",
        sweep=sweep,
        report=report,
    )
    levels = [{"level": index, "distance": int(level.distance), "text": level.text()} for index, level in shown.items()]
    return {"sweep": compared.sweep, "levels": levels, **compared.report}


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
