"""Where do the trained policies go, when they succeed and when they fail?

The gridworld twin of Fig. 10 of arXiv:2602.02710v1. On one training level of each distance: the expected number of
visits to every cell, exact (`TabularTasks.occupancy`), and sampled paths, right and wrong, of a policy per method that
was trained on all levels together. Learning rates are swept alike, on a seed that is not reported.

    maxrl-lab run trajectories        (ten seconds)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.gridworld.levels import Level
from experiments._shared import check_estimators
from experiments.navigation._shared import GridSettings, World, fit_runs, pass_rates, recipe
from maxrl_lab import specs
from maxrl_lab.policies.stack import Stack
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import check_lists, check_rates
from maxrl_lab.training.methods import Method, Sampled
from maxrl_lab.training.sweep import Run, choose_learning_rates, reported_runs, swept_runs


@dataclass(frozen=True)
class Settings(GridSettings):
    """Levels, methods, and how many paths are kept."""

    estimators: tuple[str, ...] = ("rloo", "grpo", "maxrl")
    """Compared."""
    rollouts: int = 64
    """N."""
    learning_rates: tuple[float, ...] = (0.003, 0.01, 0.03)
    """Swept alike for every method, with Adam."""
    steps: int = 150
    """Updates; cosine schedule after a tenth of warm-up."""
    sampled: int = 200
    """Paths drawn per level."""
    kept: int = 8
    """Most right paths, and most wrong ones, kept of them."""

    def __post_init__(self) -> None:
        """Check counts and names."""
        super().__post_init__()
        check_lists(estimators=self.estimators, learning_rates=self.learning_rates)
        for name in ("rollouts", "steps", "sampled", "kept"):
            specs.check_count(name, getattr(self, name))
        check_rates(*self.learning_rates)
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


def run(settings: Settings, context: Context) -> list[Row]:
    """Return rows of view `level` (text), `visits` (per method and cell) and `path` (per method, path and time)."""
    world = settings.world().to(context.device)
    made = settings.make_levels("train", settings.levels)
    swept = swept_runs(settings.methods(), settings.learning_rates, first_seed=1, seeds=1)
    rows = [row for row in _train(swept, world, settings, context)[1] if row["step"] == settings.steps]
    reported = reported_runs(settings.methods(), choose_learning_rates(rows, "pass_at_1"), seeds=1)
    stack, _ = _train(reported, world, settings, context)
    rates = pass_rates(stack, world.train, settings.steps).cpu()
    shown = [place * settings.levels for place in range(len(settings.distances))]
    rows = [_level_row(place, made[place]) for place in shown]
    for number, each in enumerate(reported):
        head = {"method": each.method.name, "rollouts": settings.rollouts, "learning_rate": each.learning_rate}
        found = _visits(stack, number, world, made, shown) + _paths(stack, number, world, made, shown, settings)
        rows += [{**head, "pass_rate": float(rates[number, row["level"]]), **row} for row in found]
    return [{**_COLUMNS, **row} for row in rows]


_COLUMNS: Row = {
    **dict.fromkeys(("view", "level", "distance", "text", "method", "rollouts", "learning_rate", "pass_rate")),
    **dict.fromkeys(("path", "success", "time", "row", "col", "visits")),
}


def _train(runs: Sequence[Run], world: World, settings: Settings, context: Context) -> tuple[Stack, list[Row]]:
    """Train the runs together; return their policies and how they ended on the training levels."""
    stage = f"training-{runs[0].seed}"

    def measure(step: int, rates: dict[str, Tensor]) -> list[Row]:
        found = rates["train"].mean(1).tolist()
        return [{"stage": stage, **each.row(step), "pass_at_1": rate} for each, rate in zip(runs, found, strict=True)]

    checkpoint, progress = context.checkpoint.stage(stage), context.progress(f"trajectories {stage}")
    return fit_runs(runs, world, recipe("adam", settings.steps, 1), measure, checkpoint, progress)


def _level_row(place: int, level: Level) -> Row:
    return {"view": "level", "level": place, "distance": int(level.distance), "text": level.text()}


def _visits(stack: Stack, number: int, world: World, made: Sequence[Level], shown: Sequence[int]) -> list[Row]:
    """Expected steps spent on each free cell, of at most H; the start is where they begin, the end is not counted."""
    tables = world.train.tables
    with torch.no_grad():
        policy = stack.log_policy(world.train.inputs, world.train.rows)[number]
    expected = tables.occupancy(policy)[:-1].sum(0).cpu()
    rows = []
    for place in shown:
        level = made[place]
        visits = expected[place].view(level.size, level.size) * tables.active[place].view(level.size, level.size).cpu()
        for row, col in zip(*(~level.walls).nonzero(), strict=True):
            rows.append(
                {
                    "view": "visits",
                    "level": place,
                    "distance": int(level.distance),
                    "row": int(row),
                    "col": int(col),
                    "visits": float(visits[row, col]),
                }
            )
    return rows


def _paths(
    stack: Stack, number: int, world: World, made: Sequence[Level], shown: Sequence[int], settings: Settings
) -> list[Row]:
    """The first right and the first wrong paths of those sampled."""
    with torch.no_grad():
        policy = stack.log_policy(world.train.inputs, world.train.rows)[number]
        stream = generator("trajectories", device=policy.device)
        group, paths = world.train.tables.paths(policy, settings.sampled, stream)
    rows = []
    for place in shown:
        for success in (True, False):
            chosen = (group.rewards[place].bool() == success).nonzero().flatten()[: settings.kept]
            for path in chosen.tolist():
                rows += _path_rows(made[place], place, path, success, paths.states[place, path])
    return rows


def _path_rows(level: Level, place: int, path: int, success: bool, states: Tensor) -> list[Row]:
    return [
        {
            "view": "path",
            "level": place,
            "distance": int(level.distance),
            "path": path,
            "success": success,
            "time": time,
            "row": state // level.size,
            "col": state % level.size,
        }
        for time, state in enumerate(states.tolist())
    ]
