"""What does bias alone do? Training under exact expected gradients, from RL through order T to maximum likelihood.

The gradient of order T is (1-p)^T short of the likelihood gradient, relatively (Eq. 7 of arXiv:2602.02710v1); the first
view measures that through autograd. The second trains a linear softmax policy that shares its parameters among tasks
whose initial pass rates span several orders of magnitude, with every gradient exact: no rollouts, no noise, so curves
differ by their objective only. Learning rates are swept alike for each; the best by final pass rate on the mean over
task sets is drawn, all are in the rows. Seeds are task sets.

    maxrl-lab run likelihood_limit        (half a minute)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maxrl_lab import objectives, specs
from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import check_lists, check_rates
from maxrl_lab.training import fit
from maxrl_lab.training.groups import Group
from maxrl_lab.training.methods import Exact, Expected, Method

RL_TO_ML = (
    "expected_reward",
    *(f"truncated_likelihood:order={order}" for order in (2, 4, 16, 64, 1024)),
    "maximum_likelihood",
)
"""From order T = 1 to infinity."""


@dataclass(frozen=True)
class Settings:
    """Tasks, gradients and optimisation."""

    distance_orders: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    """T of the first view."""
    distance_pass_rates: tuple[float, ...] = (0.5, 0.1, 0.01, 0.001)
    """p of the first view."""
    objectives: tuple[str, ...] = RL_TO_ML
    """Objectives whose exact gradient is followed."""
    estimators: tuple[str, ...] = ("grpo", "maxrl")
    """Estimators whose exact expected gradient is followed."""
    rollouts: int = 16
    """N of these estimators."""
    tasks: int = 64
    """B, in each task set."""
    features: int = 32
    """Dimension of a task's input; fewer than tasks, so that tasks share parameters."""
    answers: int = 64
    """V, of which one is right."""
    hardest: float = 1e-6
    """Smallest initial pass rate aimed at; the easiest task's is 0.5."""
    steps: int = 500
    """Updates; every task is in every batch."""
    learning_rates: tuple[float, ...] = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
    """Swept alike for every gradient; plain gradient descent."""
    seeds: int = 5
    """Task sets."""

    def __post_init__(self) -> None:
        """Check counts and names."""
        check_lists(objectives=self.objectives, learning_rates=self.learning_rates)
        for name in ("rollouts", "tasks", "features", "answers", "steps", "seeds"):
            specs.check_count(name, getattr(self, name))
        if not 0 < self.hardest < 0.5:
            raise InputError(f"hardest must lie between 0 and 0.5, got {self.hardest}")
        check_rates(*self.learning_rates)
        self.methods()

    def methods(self) -> list[Method]:
        """Return every gradient followed."""
        exact_ones = [Exact(name) for name in self.objectives]
        return exact_ones + [Expected(name, self.rollouts) for name in self.estimators]


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
    "full": Settings(tasks=256, features=96, answers=128, hardest=1e-8, steps=5000, seeds=10),
}


class TaskSet:
    """B tasks: inputs (B, d), right answers (B,), and the initial weights (V, d) that make them easy or hard."""

    def __init__(self, settings: Settings, seed: int, device: torch.device) -> None:
        stream = generator("tasks", seed)
        inputs = torch.randn(settings.tasks, settings.features, dtype=torch.float64, generator=stream)
        self.inputs = nn.functional.normalize(inputs, dim=1).to(device)
        weights = torch.randn(settings.answers, settings.features, dtype=torch.float64, generator=stream)
        self.weights = (4.0 * weights).to(device)
        log_probs = (self.inputs @ self.weights.T).log_softmax(1)
        wanted = torch.linspace(
            torch.tensor(0.5).log().item(), torch.tensor(settings.hardest).log().item(), settings.tasks
        )
        self.answers = (log_probs - wanted.to(log_probs)[:, None]).abs().argmin(1)

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
        """Refuse: this experiment samples nothing."""
        raise InputError(f"exact gradients only, asked for {rollouts} rollouts of {len(runs)} runs")

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return (len(runs), B)."""
        return self.log_pass_rates[list(runs)]


def run(settings: Settings, context: Context) -> list[Row]:
    """Return rows of view `distance` (order, pass_rate, distance) and view `training` (a row per measured step)."""
    return _distances(settings) + _training(settings, context)["rows"]


def _distances(settings: Settings) -> list[Row]:
    """Measure |grad J_T - grad log p| / |grad log p| by autograd through a softmax with the given pass rate."""
    rows = []
    for p in settings.distance_pass_rates:
        policy = torch.tensor([p, 0.7 * (1 - p), 0.3 * (1 - p)], dtype=torch.float64).log().requires_grad_()
        (wanted,) = torch.autograd.grad(policy.log_softmax(0)[0], policy)
        for order in settings.distance_orders:
            value = objectives.TruncatedLikelihood(order).value(policy.log_softmax(0)[0].exp())
            (slope,) = torch.autograd.grad(value, policy)
            distance = float((slope - wanted).norm() / wanted.norm())
            rows.append({"view": "distance", "order": order, "pass_rate": p, "distance": distance})
    return rows


def _training(settings: Settings, context: Context) -> Tables:
    cells = [
        (method, rate, seed)
        for seed in range(settings.seeds)
        for method in settings.methods()
        for rate in settings.learning_rates
    ]
    sets = [TaskSet(settings, seed, context.device) for seed in range(settings.seeds)]
    stack = Stack([sets[seed].policy() for _, _, seed in cells])
    inputs = torch.stack([sets[seed].inputs for _, _, seed in cells])
    answers = torch.stack([sets[seed].answers for _, _, seed in cells])

    def log_pass_rates() -> Tensor:
        log_probs: Tensor = stack(inputs).log_softmax(-1)
        return log_probs.gather(-1, answers[..., None]).squeeze(-1)

    def measure(step: int) -> Tables:
        with torch.no_grad():
            logs = log_pass_rates()
        hard = logs[:, settings.tasks // 2 :]
        columns = zip(
            cells, logs.exp().mean(1).tolist(), logs.mean(1).tolist(), hard.exp().mean(1).tolist(), strict=True
        )
        rows = [
            {
                "view": "training",
                "method": method.name,
                "mode": method.kind,
                "rollouts": method.rollouts,
                "learning_rate": rate,
                "seed": seed,
                "step": step,
                "pass_rate": mean,
                "log_pass_rate": log_mean,
                "hard_pass_rate": hard_mean,
            }
            for (method, rate, seed), mean, log_mean, hard_mean in columns
        ]
        return {"rows": rows}

    return fit.fit(
        stack,
        [method for method, _, _ in cells],
        [rate for _, rate, _ in cells],
        fit.Optimisation(steps=settings.steps, measure_every=max(1, settings.steps // 50), checkpoint_every=200),
        batch=lambda step: TaskBatch(log_pass_rates()),  # noqa: ARG005
        measure=measure,
        checkpoint=context.checkpoint.stage("training"),
        progress=context.progress("likelihood_limit"),
    )
