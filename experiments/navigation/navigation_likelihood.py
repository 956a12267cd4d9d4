"""With an exact likelihood in a real environment: how near does MaxRL come, and what does inverse sampling cost?

The navigation twin of Fig. 2 of arXiv:2602.02710v1: in mazes the probability of reaching the goal is computed exactly,
so a policy can be trained on the exact gradient of log p. It is compared with MaxRL of exact order N (leave-one-out) on
growing N, and with inverse sampling (`maxrl_lab.inverse_sampling`): rollouts are sampled until m have succeeded, at
most `cap`, which is maximum likelihood up to (1-p)^cap, at a random cost that is large exactly where p is small. Each
method is shown against updates and against the rollouts it needed; for inverse sampling that is the exact expectation
of its cost.

A seed samples everything: mazes, initial parameters, the mazes of an update, rollouts; its methods share all of that.
Learning rates are swept alike, on seeds that are not reported, and chosen
by the mean final log pass rate on the training levels, which all of these methods are after.

    maxrl-lab run navigation_likelihood        (a minute)

Tables: `sweep` (the end of every swept run on the training levels), `curves` (a row per reported run, measured step and
split).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from experiments._shared import KnownRates, Seeds, check_estimators, known_rates
from experiments.navigation._shared import GridSettings, optimisation
from maxrl_lab import evaluate, inverse_sampling
from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, MaybeCounts, Rates
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tabular.study import World, compare_on
from maxrl_lab.training.methods import Exact, Inverse, Method, Sampled
from maxrl_lab.training.sweep import Run


@dataclass(frozen=True)
class Methods(Group):
    """Methods: the exact gradient, a sampled estimator, and inverse sampling."""

    estimator: str = "maxrl_leave_one_out"
    """Estimator that is sampled at every N."""
    rollouts: Counts = (4, 16, 64, 256)
    """Numbers N of rollouts of each level."""
    successes: MaybeCounts = (1, 4)
    """Numbers m of successes after which inverse sampling ends."""
    cap: Count = 256
    """Most rollouts of a level that inverse sampling takes in one update."""


@dataclass(frozen=True)
class Training(Group):
    """Training: Adam with a cosine schedule after a tenth of warm-up."""

    learning_rates: Rates = (0.003, 0.01, 0.03, 0.1, 0.3)
    """Learning rates that are swept alike for every method."""
    steps: Count = 150
    """Number of updates of each run."""
    runs_at_once: Count = 60
    """Most runs trained as one batched program; it bounds memory and changes results by rounding only."""


@dataclass(frozen=True)
class Evaluation(Group):
    """Evaluation: exact pass rates on training and on held-out levels."""

    held_out: Count = 6
    """Number of held-out levels of each distance."""
    measurements: Count = 15
    """Number of evaluations of a reported run after the first."""


@dataclass(frozen=True)
class Settings(Evaluation, Training, KnownRates, Seeds, Methods, GridSettings):
    """Levels, methods, training and evaluation."""

    distances: Counts = (2, 4, 6, 8, 10)
    """Numbers of moves from start to goal."""

    def __post_init__(self) -> None:
        """Check also that the estimator exists at every N, and that inverse sampling can end before its cap."""
        super().__post_init__()
        check_estimators((self.estimator,), self.rollouts)
        for count in self.successes:
            if count > self.cap:
                raise InputError(f"successes must be at most the cap of {self.cap} rollouts, got {count}")

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
    "quick": Settings(seeds=3, fixed_rates=known_rates("navigation_likelihood")),
    "standard": Settings(seeds=10, sweep_seeds=3),
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


def run(settings: Settings, context: Context) -> Tables:
    """Return the swept runs' last rows, and the reported runs' curves."""
    compared = compare_on(
        lambda seed: settings.world(seed, held_out=settings.held_out).to(context.device),
        settings.methods(),
        settings.learning_rates,
        optimisation("adam", settings.steps, settings.measurements),
        seeds=settings.seeds,
        sweep_seeds=settings.sweep_seeds,
        score="log_pass_rate",
        final=lambda run, rates: {"cost": mean_cost(run.method, rates), **_metrics(rates)},
        measure=_measure,
        name="navigation_likelihood",
        at_once=settings.runs_at_once,
        context=context,
        fixed=settings.fixed,
    )
    return compared.tables


def _measure(world: World, runs: Sequence[Run], step: int, stack: Stack) -> Tables:
    """Make a row per split and run; the cost is that of training."""
    rates = world.pass_rates(stack, step)
    costs = [mean_cost(run.method, run_rates) for run, run_rates in zip(runs, rates["train"], strict=True)]
    curves = [
        {**run.row(step), "split": split, "cost": cost, **_metrics(run_rates)}
        for split, split_rates in rates.items()
        for run, cost, run_rates in zip(runs, costs, split_rates, strict=True)
    ]
    return {"curves": curves}


def _metrics(rates: Tensor) -> Row:
    return {
        "pass_at_1": float(rates.mean()),
        "pass_at_64": float(evaluate.exact_coverage(rates, [64])[0]),
        "log_pass_rate": float(rates.log().mean()),
    }


def mean_cost(method: Method, rates: Tensor) -> float | None:
    """Return the exact mean number of rollouts a task and update at these pass rates; None for an exact gradient."""
    if isinstance(method, Inverse):
        return float(inverse_sampling.expected_cost(rates, successes=method.successes, cap=method.cap).mean())
    return None if method.rollouts is None else float(method.rollouts)
