"""With an exact likelihood in a real environment: how near does MaxRL come, and what does inverse sampling cost?

The navigation twin of Fig. 2 of arXiv:2602.02710v1: in mazes the probability of reaching the goal is computed exactly,
so a policy can be trained on the exact gradient of log p. Beside it MaxRL of exact order N (leave-one-out) on growing
N, and inverse sampling (`maxrl_lab.inverse_sampling`): rollouts are drawn until m have succeeded, at most `cap`, which
is maximum likelihood up to (1-p)^cap, at a random cost that is large exactly where p is small. Each method is shown
against updates and against the rollouts it needed; for inverse sampling that is the exact expectation of its cost.

All start from the same parameters. Learning rates are swept alike, on seeds that are not reported, and chosen by the
mean final log pass rate on the training levels, which all of these methods are after.

    maxrl-lab run navigation_likelihood        (a minute)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from experiments._shared import check_estimators
from experiments.navigation._shared import GridSettings, World, fit_in_blocks, recipe
from maxrl_lab import evaluate, inverse_sampling, specs
from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import check_lists, check_rates
from maxrl_lab.training.methods import Exact, Inverse, Method, Sampled
from maxrl_lab.training.sweep import Run, choose_learning_rates, reported_runs, swept_runs


@dataclass(frozen=True)
class Settings(GridSettings):
    """Levels, methods and optimisation."""

    distances: tuple[int, ...] = (2, 4, 6, 8, 10)
    """Moves from start to goal."""
    held_out: int = 6
    """Held-out levels of each distance."""
    estimator: str = "maxrl_leave_one_out"
    """Sampled at every N."""
    rollouts: tuple[int, ...] = (4, 16, 64, 256)
    """N."""
    successes: tuple[int, ...] = (1, 4)
    """m of inverse sampling."""
    cap: int = 256
    """Most rollouts of a task that inverse sampling draws in one update."""
    learning_rates: tuple[float, ...] = (0.01, 0.03, 0.1)
    """Swept alike for every method, with Adam."""
    seeds: int = 5
    """Reported runs per method."""
    sweep_seeds: int = 2
    """Seeds of the sweep; none of them is reported."""
    steps: int = 150
    """Updates; cosine schedule after a tenth of warm-up."""
    measurements: int = 15
    """Evaluations during training."""
    runs_at_once: int = 60
    """Runs trained as one batched program: bounds memory, changes results by rounding only."""

    def __post_init__(self) -> None:
        """Check counts and names."""
        super().__post_init__()
        check_lists(rollouts=self.rollouts, learning_rates=self.learning_rates)
        for name in ("held_out", "cap", "seeds", "sweep_seeds", "steps", "measurements", "runs_at_once"):
            specs.check_count(name, getattr(self, name))
        check_rates(*self.learning_rates)
        check_estimators((self.estimator,), self.rollouts)
        if self.successes:
            check_lists(successes=self.successes)
        for count in self.successes:
            if count > self.cap:
                raise InputError(f"successes must be at most the cap of {self.cap} rollouts, got {count}")
        self.methods()

    def methods(self) -> list[Method]:
        """Return the exact gradient, the estimator at every N, and inverse sampling at every m."""
        return [
            Exact("maximum_likelihood"),
            *(Sampled(self.estimator, count) for count in self.rollouts),
            *(Inverse(count, self.cap) for count in self.successes),
        ]


PRESETS = {
    "smoke": Settings(
        size=7,
        distances=(2, 4),
        levels=2,
        held_out=2,
        horizon=8,
        width=4,
        rollouts=(4,),
        successes=(1,),
        cap=8,
        learning_rates=(0.003, 0.01),
        sweep_seeds=1,
        seeds=2,
        steps=4,
        measurements=2,
    ),
    "quick": Settings(),
    "full": Settings(
        size=13,
        distances=(2, 4, 8, 12, 16, 20),
        levels=32,
        held_out=32,
        horizon=40,
        width=32,
        rollouts=(4, 16, 64, 256, 1024),
        successes=(1, 2, 4, 8),
        cap=1024,
        learning_rates=(0.0003, 0.001, 0.003, 0.01),
        seeds=10,
        steps=1000,
        measurements=50,
        runs_at_once=10,
    ),
}


def run(settings: Settings, context: Context) -> list[Row]:
    """Return the sweep's final rows and the reported curves: a row per run, measured step and split."""
    world = settings.world(settings.held_out).to(context.device)
    swept = swept_runs(settings.methods(), settings.learning_rates, settings.seeds, settings.sweep_seeds)
    sweep = _train(swept, "sweep", world, settings, context)
    finals = [row for row in sweep if row["step"] == settings.steps and row["split"] == "train"]
    best = choose_learning_rates(finals, "log_pass_rate")
    return finals + _train(reported_runs(settings.methods(), best, settings.seeds), "report", world, settings, context)


def _train(runs: Sequence[Run], stage: str, world: World, settings: Settings, context: Context) -> list[Row]:
    return fit_in_blocks(
        "navigation_likelihood",
        stage,
        runs,
        settings.runs_at_once,
        world,
        recipe("adam", settings.steps, settings.measurements if stage == "report" else 1),
        partial(_measure, stage),
        context,
    )


def _measure(stage: str, runs: Sequence[Run], step: int, rates: dict[str, Tensor]) -> list[Row]:
    """A row per split and run; the cost is that of training."""
    costs = [mean_cost(each.method, own) for each, own in zip(runs, rates["train"], strict=True)]
    return [
        {
            "stage": stage,
            **each.row(step),
            "split": split,
            "cost": cost,
            "pass_at_1": float(own.mean()),
            "pass_at_64": float(evaluate.exact_coverage(own, [64])[0]),
            "log_pass_rate": float(own.log().mean()),
        }
        for split, found in rates.items()
        for each, cost, own in zip(runs, costs, found, strict=True)
    ]


def mean_cost(method: Method, rates: Tensor) -> float | None:
    """Return the exact mean number of rollouts a task and update at these pass rates; None for an exact gradient."""
    if method.rollouts is None:
        return None
    if method.kind != "inverse":
        return float(method.rollouts)
    successes = inverse_sampling.resolve(method.name)
    return float(inverse_sampling.expected_cost(rates, successes=successes, cap=method.rollouts).mean())
