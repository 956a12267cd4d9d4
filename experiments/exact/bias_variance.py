"""At N rollouts, how far is an estimate from the likelihood gradient, and how much of that is bias, how much noise?

Everything is exact (`exact.moments`): categorical policies with eight answers, three of them right with unequal
probabilities, at pass rates from 1e-4 to 0.9. Squared bias (against maximum likelihood), variance and their sum are in
units of |grad log p|^2. At an equal budget of M rollouts, M/N groups of N are averaged, so bias falls with N while
variance only counts M.

The weight of an estimator leaves its baseline free. Beside the named forms there is the one of least variance, whose
baseline is chosen for the pass rate at hand (`estimators.from_objective`): what a baseline could gain at most.

    maxrl-lab run bias_variance        (half a minute)

Tables: `rows` (a row per estimator, N and pass rate), `least` (a row per order, N and pass rate).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments._shared import EVERY_ESTIMATOR, PassRates, check_estimators
from maxrl_lab import estimators, exact, objectives
from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, Names
from maxrl_lab.settings import Settings as Base

RIGHT = (0.6, 0.3, 0.1)
"""How the pass rate is shared among the right answers."""
WRONG = (0.4, 0.3, 0.2, 0.07, 0.03)
"""How the rest is shared among the wrong ones."""


@dataclass(frozen=True)
class Settings(Base):
    """Moments: whose bias and variance are computed, at which N and pass rates."""

    estimators: Names = EVERY_ESTIMATOR
    """Estimators that are compared; N in an option stands for the number of rollouts."""
    rollouts: Counts = (2, 4, 8, 16, 32, 64, 128, 256)
    """Numbers N of rollouts in a group."""
    pass_rates: PassRates = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
    """Pass rates p of the policies."""
    budget: Count = 256
    """Number M of rollouts in all, where estimators are compared at an equal budget."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at every N, and that M is shared evenly."""
        super().__post_init__()
        for count in self.rollouts:
            if self.budget % count:
                raise InputError(f"budget must be a multiple of every N, got budget {self.budget} with N = {count}")
        check_estimators(self.estimators, self.rollouts)


PRESETS = {
    "smoke": Settings(rollouts=(2, 8), pass_rates=(0.01, 0.5)),
    "quick": Settings(),
    "standard": Settings(),
    "full": Settings(
        rollouts=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
        pass_rates=tuple(round(10 ** (-5 + tenths / 10), 12) for tenths in range(50)),
        budget=1024,
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the errors of every estimator at every N and p, and the least variance that an order can have there."""
    rows = [
        _row(settings, name, count, p)
        for count in context.progress("bias_variance")(settings.rollouts)
        for name in settings.estimators
        for p in settings.pass_rates
    ]
    least = [
        _least(order, count, p)
        for count in settings.rollouts
        for order in dict.fromkeys((count, max(1, count - 1)))
        for p in settings.pass_rates
    ]
    return {"rows": rows, "least": least}


def policy(pass_rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities (8,), scores (8, 8) of the logits, and rewards (8,) of the categorical policy."""
    right = pass_rate * torch.tensor(RIGHT, dtype=torch.float64)
    wrong = (1 - pass_rate) * torch.tensor(WRONG, dtype=torch.float64)
    probabilities = torch.cat([right, wrong])
    scores = torch.eye(len(probabilities), dtype=torch.float64) - probabilities
    return probabilities, scores, torch.cat([torch.ones_like(right), torch.zeros_like(wrong)])


def moments_of(pass_rates: Tensor) -> dict[str, Tensor]:
    """Return the policies' |grad p|^2 and the moments of their scores, (P,) each, as `exact.variance` takes them."""
    sizes = []
    for p in pass_rates.tolist():
        probabilities, scores, rewards = policy(p)
        right, squares = probabilities * rewards, scores.square().sum(1)
        sizes.append([((right @ scores) ** 2).sum(), right @ squares, (probabilities - right) @ squares])
    names = ("gradient_norm_squared", "success_moment", "failure_moment")
    return dict(zip(names, torch.tensor(sizes, dtype=torch.float64).T, strict=True))


def _least(order: int, rollouts: int, pass_rate: float) -> Row:
    """Return the variance of the estimator of this order whose baseline is the best one at this pass rate."""
    sizes: dict[str, Any] = moments_of(torch.tensor([pass_rate], dtype=torch.float64))
    target = objectives.TruncatedLikelihood(order)
    best = estimators.from_objective(target, rollouts, "least_variance", pass_rate=[pass_rate], **sizes)
    variance = exact.variance(best, rollouts=rollouts, pass_rate=pass_rate, **sizes)
    unit = float(sizes["gradient_norm_squared"]) / pass_rate**2
    return {"order": order, "rollouts": rollouts, "pass_rate": pass_rate, "variance": float(variance) / unit}


def _row(settings: Settings, name: str, rollouts: int, pass_rate: float) -> Row:
    probabilities, scores, rewards = policy(pass_rate)
    moments = exact.moments(name, rollouts=rollouts, probabilities=probabilities, scores=scores, rewards=rewards)
    likelihood = objectives.MaximumLikelihood().weight(pass_rate) * ((probabilities * rewards) @ scores)
    unit = float(likelihood.square().sum())
    squared_bias = float((moments.mean - likelihood).square().sum()) / unit
    variance = float(moments.variance) / unit
    return {
        "estimator": name,
        "rollouts": rollouts,
        "pass_rate": pass_rate,
        "squared_bias": squared_bias,
        "variance": variance,
        "mean_squared_error": squared_bias + variance,
        "budget_mean_squared_error": squared_bias + variance * rollouts / settings.budget,
    }
