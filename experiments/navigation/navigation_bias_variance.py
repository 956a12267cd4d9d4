"""On a policy that is learning: which estimator is nearest to the likelihood gradient, on easy and on hard levels?

At checkpoints of MaxRL training runs in mazes, the exact bias and the exact variance of every estimator are computed
through the network, level by level: the moments of the score come from a backward recursion over the table
(`maxrl_lab.tabular.moments`) with the Gram matrix of the network's Jacobian, the estimator's from `exact.variance`. No
rollouts are sampled to measure. Squared bias (against maximum likelihood), variance and their sum are in units of
|grad log p|^2. Equal rollouts: M/N groups of N are averaged; inverse sampling is repeated M / (expected cost) times.

    maxrl-lab run navigation_bias_variance        (half a minute)

Table: `rows` (a row per seed, checkpoint, level and estimator at N).
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from experiments._shared import EVERY_ESTIMATOR, check_estimators
from experiments.navigation._shared import GridSettings
from maxrl_lab import exact, inverse_sampling, specs
from maxrl_lab.errors import InputError
from maxrl_lab.policies.jacobian import score_gram
from maxrl_lab.policies.stack import Stack
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, MaybeCounts, Names, Rate
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tabular.moments import ScoreMoments
from maxrl_lab.tabular.study import Split, World, in_worlds, train
from maxrl_lab.training import fit
from maxrl_lab.training.methods import Sampled
from maxrl_lab.training.sweep import Run


@dataclass(frozen=True)
class Compared(Group):
    """Compared: estimators and inverse sampling, by their exact bias and variance."""

    estimators: Names = (*EVERY_ESTIMATOR, "maxrl_centred:order=N/4")
    """Estimators that are compared; N in an option stands for the number of rollouts."""
    rollouts: Counts = (4, 16, 64)
    """Numbers N of rollouts in a group."""
    successes: MaybeCounts = (1, 4)
    """Numbers m of successes after which inverse sampling ends, at the latest when the budget is spent."""
    budget: Count = 64
    """Number M of rollouts of each level at which all are compared."""


@dataclass(frozen=True)
class Training(Group):
    """Training: the runs at whose checkpoints everything is computed, with Adam."""

    trained_by: str = "maxrl"
    """Estimator of the training runs."""
    trained_rollouts: Count = 16
    """Number N of rollouts of each level in the training runs."""
    learning_rate: Rate = 0.003
    """Learning rate of the training runs."""
    steps: Count = 120
    """Number of updates of each training run."""
    checkpoints: Count = 3
    """Number of checkpoints after the start."""
    seeds: Count = 3
    """Number of training runs, each on levels of its own."""


@dataclass(frozen=True)
class Settings(Training, Compared, GridSettings):
    """The training runs, and what is computed at their checkpoints."""

    distances: Counts = (2, 4, 8, 12, 16)
    """Numbers of moves from start to goal."""
    levels: Count = 4
    """Number of training levels of each distance."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at every N, and that M is shared evenly."""
        super().__post_init__()
        for count in self.successes:
            if count > self.budget:
                raise InputError(f"successes must be at most the budget of {self.budget} rollouts, got {count}")
        for count in self.rollouts:
            if self.budget % count:
                raise InputError(f"budget must be a multiple of every N, got budget {self.budget} with N = {count}")
        check_estimators(self.estimators, self.rollouts)
        check_estimators((self.trained_by,), (self.trained_rollouts,))

    def optimisation(self) -> fit.Optimisation:
        """Return how every run is optimised, and that it is measured at its checkpoints."""
        measure_every = max(1, self.steps // self.checkpoints)
        return fit.Optimisation(steps=self.steps, optimiser="adam", measure_every=measure_every)


PRESETS = {
    "smoke": Settings(
        size=7, distances=(2, 4), levels=1, horizon=8, width=4, rollouts=(4,), budget=8, steps=4, checkpoints=1, seeds=2
    ),
    "quick": Settings(),
    "standard": Settings(seeds=10),
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
    method = Sampled(settings.trained_by, settings.trained_rollouts)

    def measure(world: World, runs: Sequence[Run], step: int, stack: Stack) -> Tables:
        rows = [
            {"seed": run.seed, "step": step, **row}
            for run, network in zip(runs, stack.networks, strict=True)
            for row in _compare(settings, world.train, network_moments(network, world.train))
        ]
        return {"rows": rows}

    def train_in(name: str, world: World, runs: Sequence[Run]) -> Tables:
        checkpoint, progress = context.checkpoint.stage(name), context.progress(name)
        return train(runs, world, settings.optimisation(), checkpoint=checkpoint, measure=measure, progress=progress)[1]

    return in_worlds(
        [Run(method, settings.learning_rate, seed) for seed in range(settings.seeds)],
        lambda seed: settings.world(seed).to(context.device),
        at_once=1,
        name="navigation_bias_variance",
        train=train_in,
    )


def network_moments(network: nn.Module, tasks: Split) -> ScoreMoments:
    """Return the exact moments of each task's score with respect to all of the network's parameters."""
    network = copy.deepcopy(network).double()
    moments = []
    for task in range(tasks.tables.shape[0]):
        one = tasks.select([task])
        with torch.no_grad():
            log_policy = network(one.inputs.double()).log_softmax(-1)[one.rows]
        moments.append(one.tables.moments(log_policy, score_gram(network, one.inputs, one.rows)))
    return ScoreMoments(*(torch.cat(values) for values in zip(*moments, strict=True)))


class _Estimate(NamedTuple):
    """An estimator on every level, (B,) each, squared bias and variance in units of |grad log p|^2."""

    estimator: str
    rollouts: int | None
    squared_bias: Tensor
    variance: Tensor
    cost: Tensor | int
    """Expected number of rollouts of one estimate."""


def _compare(settings: Settings, tasks: Split, moments: ScoreMoments) -> list[Row]:
    """Return the rows of one network: every level under every estimator."""
    rows = []
    for estimate in _estimates(settings, moments):
        error, spread = estimate.squared_bias, estimate.variance
        columns = {
            "pass_rate": moments.pass_rate,
            "squared_bias": error,
            "variance": spread,
            "mean_squared_error": error + spread,
            "budget_mean_squared_error": error + spread * estimate.cost / settings.budget,
        }
        names = {"estimator": estimate.estimator, "rollouts": estimate.rollouts}
        rows += [
            {
                **names,
                "level": level,
                "distance": int(distance),
                **{name: float(values[level]) for name, values in columns.items()},
            }
            for level, distance in enumerate(tasks.difficulty)
        ]
    return rows


def _estimates(settings: Settings, moments: ScoreMoments) -> Iterator[_Estimate]:
    """Yield every estimator at every N, then inverse sampling at every m, capped at the budget."""
    p, unit = moments.pass_rate, moments.gradient_norm_squared / moments.pass_rate**2
    for count in settings.rollouts:
        for name in settings.estimators:
            bias = exact.bias(name, rollouts=count, objective="maximum_likelihood", pass_rate=p)
            squared_bias = bias.square() * moments.gradient_norm_squared / unit
            variance = exact.variance(name, rollouts=count, **moments._asdict()) / unit
            yield _Estimate(specs.format_at(name, count), count, squared_bias, variance, count)
    cap = settings.budget
    success = {name: value for name, value in moments._asdict().items() if name != "failure_moment"}
    for count in settings.successes:
        variance = inverse_sampling.variance(successes=count, cap=cap, **success) / unit
        cost = inverse_sampling.expected_cost(p, successes=count, cap=cap)
        name = f"inverse_sampling:successes={count}"
        yield _Estimate(name, None, (1 - p) ** (2 * cap), variance, cost)
