"""On a policy that is learning: which estimator is nearest to the likelihood gradient, on easy and on hard levels?

At checkpoints of MaxRL training runs in mazes, the exact bias and the exact variance of every estimator are computed
through the network, level by level: the moments of the score come from a backward recursion over the table
(`envs.tabular_exact`) with the Gram matrix of the network's Jacobian, the estimator's from `exact.variance`. No
rollouts are drawn. Squared bias (against maximum likelihood), variance and their sum are in units of |grad log p|^2.
Equal rollouts: M/N groups of N are averaged; inverse sampling gets M / (expected cost) draws.

    maxrl-lab run navigation_bias_variance        (half a minute)
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments._shared import EVERY_ESTIMATOR, check_estimators
from experiments.navigation._shared import GridSettings, Tasks
from maxrl_lab import exact, inverse_sampling, specs
from maxrl_lab.errors import InputError
from maxrl_lab.policies.jacobian import score_gram
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import check_lists, check_rates
from maxrl_lab.tabular.batch import TabularBatch
from maxrl_lab.tabular.moments import ScoreMoments
from maxrl_lab.training import fit
from maxrl_lab.training.methods import Sampled


@dataclass(frozen=True)
class Settings(GridSettings):
    """The training run, and what is computed at its checkpoints."""

    levels: int = 4
    """Training levels of each distance."""
    estimators: tuple[str, ...] = EVERY_ESTIMATOR
    """Estimators; N in an option stands for the number of rollouts."""
    rollouts: tuple[int, ...] = (4, 16, 64)
    """N."""
    successes: tuple[int, ...] = (1, 4)
    """m of inverse sampling, capped at the budget."""
    budget: int = 64
    """M, the rollouts per level at which all are compared."""
    trained_by: str = "maxrl"
    """Estimator of the training run."""
    trained_rollouts: int = 16
    """N of the training run."""
    learning_rate: float = 0.003
    """Of Adam."""
    steps: int = 120
    """Updates of the training run."""
    checkpoints: int = 3
    """Measurements after the start."""
    seeds: int = 3
    """Training runs."""

    def __post_init__(self) -> None:
        """Check counts and names, and that M is shared evenly."""
        super().__post_init__()
        check_lists(estimators=self.estimators, rollouts=self.rollouts)
        for name in ("budget", "trained_rollouts", "steps", "checkpoints", "seeds"):
            specs.check_count(name, getattr(self, name))
        if self.successes:
            check_lists(successes=self.successes)
        for count in self.successes:
            if specs.check_count("successes", count) > self.budget:
                raise InputError(f"successes must be at most the budget of {self.budget} rollouts, got {count}")
        for count in self.rollouts:
            if self.budget % count:
                raise InputError(f"budget must be a multiple of every N, got budget {self.budget} with N = {count}")
        check_rates(self.learning_rate)
        check_estimators(self.estimators, self.rollouts)
        check_estimators((self.trained_by,), (self.trained_rollouts,))


PRESETS = {
    "smoke": Settings(
        size=7, distances=(2, 4), levels=1, horizon=8, width=4, rollouts=(4,), budget=8, steps=4, checkpoints=1, seeds=2
    ),
    "quick": Settings(),
    "full": Settings(
        size=13,
        distances=(2, 4, 8, 12, 16, 20),
        levels=16,
        horizon=40,
        rollouts=(4, 16, 64, 256),
        budget=256,
        steps=1000,
        checkpoints=10,
        seeds=5,
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return a row per seed, checkpoint, level and estimator at N: squared_bias, variance, mean_squared_error."""
    world = settings.world().to(context.device)
    tasks, stack = world.train, world.stack(range(settings.seeds))
    method = Sampled(settings.trained_by, settings.trained_rollouts)

    def batch(step: int) -> TabularBatch:
        log_policy = stack.log_policy(tasks.inputs, tasks.rows)
        return TabularBatch(tasks.tables, log_policy, range(settings.seeds), step)

    def measure(step: int) -> Tables:
        rows = [
            {"seed": seed, "step": step, **row}
            for seed, network in enumerate(stack.networks)
            for row in _compare(settings, tasks, network_moments(network, tasks))
        ]
        return {"rows": rows}

    return fit.fit(
        stack,
        [method] * settings.seeds,
        [settings.learning_rate] * settings.seeds,
        fit.Optimisation(
            steps=settings.steps, optimiser="adam", measure_every=max(1, settings.steps // settings.checkpoints)
        ),
        batch=batch,
        measure=measure,
        checkpoint=context.checkpoint.stage("training"),
        progress=context.progress("navigation_bias_variance"),
    )


def network_moments(network: nn.Module, tasks: Tasks) -> ScoreMoments:
    """Return the exact moments of each task's score with respect to all of the network's parameters."""
    network = copy.deepcopy(network).double()
    found = []
    for task in range(tasks.tables.shape[0]):
        one = tasks.only(task)
        with torch.no_grad():
            log_policy = network(one.inputs.double()).log_softmax(-1)[one.rows]
        found.append(one.tables.moments(log_policy, score_gram(network, one.inputs, one.rows)))
    return ScoreMoments(*(torch.cat(values) for values in zip(*found, strict=True)))


def _compare(settings: Settings, tasks: Tasks, moments: ScoreMoments) -> list[Row]:
    """Rows of one network: every level under every estimator."""
    unit = moments.gradient_norm_squared / moments.pass_rate**2
    rows = []
    for count in settings.rollouts:
        for name in settings.estimators:
            bias = exact.bias(name, rollouts=count, objective="maximum_likelihood", pass_rate=moments.pass_rate)
            squared_bias = bias.square() * moments.gradient_norm_squared / unit
            spread = exact.variance(name, rollouts=count, **moments._asdict()) / unit
            rows += _rows(specs.format_at(name, count), count, settings, tasks, moments, squared_bias, spread, count)
    for count in settings.successes:
        cap = settings.budget
        kept = {name: value for name, value in moments._asdict().items() if name != "failure_moment"}
        spread = inverse_sampling.variance(successes=count, cap=cap, **kept) / unit
        squared_bias = (1 - moments.pass_rate) ** (2 * cap)
        cost = inverse_sampling.expected_cost(moments.pass_rate, successes=count, cap=cap)
        name = f"inverse_sampling:successes={count}"
        rows += _rows(name, None, settings, tasks, moments, squared_bias, spread, cost)
    return rows


def _rows(
    name: str,
    rollouts: int | None,
    settings: Settings,
    tasks: Tasks,
    moments: ScoreMoments,
    squared_bias: Tensor,
    spread: Tensor,
    cost: Tensor | int,
) -> list[Row]:
    columns = {
        "pass_rate": moments.pass_rate,
        "squared_bias": squared_bias,
        "variance": spread,
        "mean_squared_error": squared_bias + spread,
        "budget_mean_squared_error": squared_bias + spread * cost / settings.budget,
    }
    values = {column: value.tolist() for column, value in columns.items()}
    return [
        {
            "estimator": name,
            "rollouts": rollouts,
            "level": place,
            "distance": int(distance),
            "budget": settings.budget,
            **{column: value[place] for column, value in values.items()},
        }
        for place, distance in enumerate(tasks.difficulty)
    ]
