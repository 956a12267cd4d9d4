"""What does bias alone do to training, from expected reward through order T to maximum likelihood?

The gradient of order T is (1-p)^T short of the likelihood gradient, relatively (Eq. 7 of arXiv:2602.02710v1), which is
measured through autograd. Beside it a linear softmax policy that shares its parameters among tasks whose initial pass
rates span several orders of magnitude is trained with every gradient exact: no rollouts, no noise, so curves differ by
their objective only. Learning rates are swept alike for every gradient, and the curves are those of the rate with the
best mean pass rate in the end. Seeds are task sets.

    maxrl-lab run likelihood_limit        (half a minute)

Tables: `distance` (a row per order and pass rate), `sweep` (the end of every run), `curves` (a row per measured step of
the runs at the best rate).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from experiments._shared import Objectives, PassRates
from maxrl_lab import objectives
from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, Interval, MaybeNames, Rates, Whole
from maxrl_lab.settings import Settings as Base
from maxrl_lab.training import fit
from maxrl_lab.training.groups import Group
from maxrl_lab.training.methods import Exact, Expected, Method
from maxrl_lab.training.sweep import choose_learning_rates, swept_runs

RL_TO_ML = (
    "expected_reward",
    *(f"truncated_likelihood:order={order}" for order in (2, 4, 16, 64, 1024)),
    "maximum_likelihood",
)
"""From order T = 1 to infinity."""


@dataclass(frozen=True)
class Distances(Base):
    """Distances: how far the gradient of order T is from the likelihood gradient."""

    distance_orders: Counts = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    """Orders T whose distance is measured."""
    distance_pass_rates: PassRates = (0.5, 0.1, 0.01, 0.001)
    """Pass rates p at which the distance is measured."""


@dataclass(frozen=True)
class Gradients(Base):
    """Gradients: what is followed."""

    objectives: Objectives = RL_TO_ML
    """Objectives whose exact gradient is followed."""
    estimators: MaybeNames = ("grpo", "maxrl", "maxrl_centred:order=N/2", "pkpo_centred:k=N/2")
    """Estimators whose exact expected gradient is followed."""
    rollouts: Count = 16
    """Number N of rollouts in a group of these estimators."""


@dataclass(frozen=True)
class Tasks(Base):
    """Tasks: those of a task set share the parameters of one linear policy."""

    tasks: Count = 64
    """Number B of tasks in each task set."""
    features: Count = 32
    """Dimension of a task's input; fewer than tasks, so that tasks share parameters."""
    answers: Annotated[int, Whole(2)] = 64
    """Number V of answers to a task, of which one is right."""
    hardest: Annotated[float, Interval(0, 0.5)] = 1e-6
    """Smallest initial pass rate aimed at; the easiest task's is 0.5."""
    seeds: Count = 5
    """Number of task sets."""


@dataclass(frozen=True)
class Training(Base):
    """Training: plain gradient descent on all tasks."""

    steps: Count = 500
    """Number of updates; every task is in every batch."""
    learning_rates: Rates = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
    """Learning rates that are swept alike for every gradient."""


@dataclass(frozen=True)
class Settings(Training, Tasks, Gradients, Distances):
    """Tasks, gradients and optimisation."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at N."""
        super().__post_init__()
        self.methods()

    def methods(self) -> list[Method]:
        """Return the methods that follow every gradient."""
        expected = [Expected(name, self.rollouts) for name in self.estimators]
        return [*(Exact(name) for name in self.objectives), *expected]


PRESETS = {
    "smoke": Settings(
        distance_orders=(1, 4),
        tasks=8,
        features=6,
        answers=8,
        hardest=1e-3,
        steps=20,
        seeds=2,
        learning_rates=(1.0, 10.0),
    ),
    "quick": Settings(),
    "standard": Settings(seeds=10),
    "full": Settings(tasks=256, features=96, answers=128, hardest=1e-8, steps=5000, seeds=10),
}


class TaskSet:
    """B tasks: inputs (B, d), right answers (B,), and the initial weights (V, d) that make the tasks easy or hard."""

    def __init__(self, settings: Settings, seed: int, device: torch.device) -> None:
        stream = generator("tasks", seed)
        inputs = torch.randn(settings.tasks, settings.features, dtype=torch.float64, generator=stream)
        self.inputs = nn.functional.normalize(inputs, dim=1).to(device)
        weights = torch.randn(settings.answers, settings.features, dtype=torch.float64, generator=stream)
        self.weights = (4.0 * weights).to(device)
        log_probs = (self.inputs @ self.weights.T).log_softmax(1)
        log_rates = torch.linspace(
            torch.tensor(0.5).log().item(), torch.tensor(settings.hardest).log().item(), settings.tasks
        )
        self.answers = (log_probs - log_rates.to(log_probs)[:, None]).abs().argmin(1)

    def policy(self) -> nn.Linear:
        """Return a fresh linear policy at the initial weights."""
        linear = nn.Linear(self.weights.shape[1], self.weights.shape[0], bias=False).to(self.weights)
        linear.weight.data.copy_(self.weights)
        return linear


class TaskBatch:
    """All tasks for all runs, with exact log pass rates."""

    def __init__(self, log_pass_rates: Tensor) -> None:
        self.log_pass_rates = log_pass_rates

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Raise `InputError`: this experiment samples nothing."""
        raise InputError(f"exact gradients only, asked for {rollouts} rollouts of {len(runs)} runs")

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return the log pass rates (len(runs), B)."""
        return self.log_pass_rates[list(runs)]


def run(settings: Settings, context: Context) -> Tables:
    """Return the distances, the end of every gradient at every rate, and the training curves at the best rate."""
    rows = _train(settings, context)["curves"]
    sweep = [row for row in rows if row["step"] == settings.steps]
    best = choose_learning_rates(sweep, "pass_rate")
    curves = [row for row in rows if row["learning_rate"] == best[row["method"], row["rollouts"]]]
    return {"distance": _distances(settings), "sweep": sweep, "curves": curves}


def _distances(settings: Settings) -> list[Row]:
    """Measure |grad J_T - grad log p| / |grad log p| by autograd through a softmax with the given pass rate."""
    rows = []
    for p in settings.distance_pass_rates:
        policy = torch.tensor([p, 0.7 * (1 - p), 0.3 * (1 - p)], dtype=torch.float64).log().requires_grad_()
        (likelihood,) = torch.autograd.grad(policy.log_softmax(0)[0], policy)
        for order in settings.distance_orders:
            value = objectives.TruncatedLikelihood(order).value(policy.log_softmax(0)[0].exp())
            (gradient,) = torch.autograd.grad(value, policy)
            distance = float((gradient - likelihood).norm() / likelihood.norm())
            rows.append({"order": order, "pass_rate": p, "distance": distance})
    return rows


def _train(settings: Settings, context: Context) -> Tables:
    runs = swept_runs(settings.methods(), settings.learning_rates, first_seed=0, seeds=settings.seeds)
    sets = [TaskSet(settings, seed, context.device) for seed in range(settings.seeds)]
    stack = Stack([sets[run.seed].policy() for run in runs])
    inputs = torch.stack([sets[run.seed].inputs for run in runs])
    answers = torch.stack([sets[run.seed].answers for run in runs])

    def log_pass_rates() -> Tensor:
        log_probs: Tensor = stack(inputs).log_softmax(-1)
        return log_probs.gather(-1, answers[..., None]).squeeze(-1)

    def measure(step: int) -> Tables:
        with torch.no_grad():
            logs = log_pass_rates()
        columns = {
            "pass_rate": logs.exp().mean(1).tolist(),
            "log_pass_rate": logs.mean(1).tolist(),
            "hard_pass_rate": logs[:, settings.tasks // 2 :].exp().mean(1).tolist(),
        }
        measured = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        heads = [{"kind": run.method.kind, **run.row(step)} for run in runs]
        return {"curves": [{**head, **values} for head, values in zip(heads, measured, strict=True)]}

    return fit.fit(
        stack,
        [run.method for run in runs],
        [run.learning_rate for run in runs],
        fit.Optimisation(steps=settings.steps, measure_every=max(1, settings.steps // 50), checkpoint_every=200),
        batch=lambda step: TaskBatch(log_pass_rates()),  # noqa: ARG005
        measure=measure,
        checkpoint=context.checkpoint.stage("training"),
        progress=context.progress("likelihood_limit"),
    )
