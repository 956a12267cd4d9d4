"""At N rollouts, how far is an estimate from the likelihood gradient, and how much of that is bias, how much noise?

Everything is exact (`exact.moments`): categorical policies with eight answers, three of them right with unequal
probabilities, at pass rates from 1e-4 to 0.9. Squared bias (against maximum likelihood), variance and their sum are in
units of |grad log p|^2. The second view fixes the total budget M: M/N groups of N rollouts are averaged, so bias falls
with N while variance only counts M.

    maxrl-lab run bias_variance        (a few seconds)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments._shared import EVERY_ESTIMATOR, check_estimators
from maxrl_lab import exact, objectives, specs
from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import check_lists

RIGHT = (0.6, 0.3, 0.1)
"""How the pass rate is shared among the right answers."""
WRONG = (0.4, 0.3, 0.2, 0.07, 0.03)
"""How the rest is shared among the wrong ones."""


@dataclass(frozen=True)
class Settings:
    """The table's axes."""

    estimators: tuple[str, ...] = EVERY_ESTIMATOR
    """Estimators; N in an option stands for the number of rollouts."""
    rollouts: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128, 256)
    """N."""
    pass_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
    """p of the policies."""
    budget: int = 256
    """M, the total rollouts of the second view."""

    def __post_init__(self) -> None:
        """Check every name against every N, and that M is shared evenly."""
        check_lists(estimators=self.estimators, rollouts=self.rollouts, pass_rates=self.pass_rates)
        specs.check_count("budget", self.budget)
        for p in self.pass_rates:
            if not 0 < p < 1:
                raise InputError(f"pass_rates must lie strictly between 0 and 1, got {p}")
        for count in self.rollouts:
            if self.budget % count:
                raise InputError(f"budget must be a multiple of every N, got budget {self.budget} with N = {count}")
        check_estimators(self.estimators, self.rollouts)


PRESETS = {
    "smoke": Settings(rollouts=(2, 8), pass_rates=(0.01, 0.5)),
    "quick": Settings(),
    "full": Settings(
        rollouts=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
        pass_rates=tuple(round(10 ** (-5 + place / 10), 12) for place in range(50)),
        budget=1024,
    ),
}


def run(settings: Settings, context: Context) -> list[Row]:
    """Return a row per estimator, N and p: squared_bias, variance, mean_squared_error, budget_mean_squared_error."""
    return [
        _row(settings, name, count, p)
        for count in context.progress("bias_variance")(settings.rollouts)
        for name in settings.estimators
        for p in settings.pass_rates
    ]


def policy(pass_rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities (8,), scores (8, 8) of the logits, and rewards (8,) of the categorical policy."""
    right = pass_rate * torch.tensor(RIGHT, dtype=torch.float64)
    wrong = (1 - pass_rate) * torch.tensor(WRONG, dtype=torch.float64)
    probabilities = torch.cat([right, wrong])
    scores = torch.eye(len(probabilities), dtype=torch.float64) - probabilities
    return probabilities, scores, torch.cat([torch.ones_like(right), torch.zeros_like(wrong)])


def _row(settings: Settings, name: str, rollouts: int, pass_rate: float) -> Row:
    probabilities, scores, rewards = policy(pass_rate)
    found = exact.moments(name, rollouts=rollouts, probabilities=probabilities, scores=scores, rewards=rewards)
    likelihood = objectives.MaximumLikelihood().weight(pass_rate) * ((probabilities * rewards) @ scores)
    unit = float(likelihood.square().sum())
    squared_bias = float((found.mean - likelihood).square().sum()) / unit
    variance = float(found.variance) / unit
    return {
        "estimator": name,
        "rollouts": rollouts,
        "pass_rate": pass_rate,
        "squared_bias": squared_bias,
        "variance": variance,
        "mean_squared_error": squared_bias + variance,
        "budget": settings.budget,
        "budget_mean_squared_error": squared_bias + variance * rollouts / settings.budget,
    }
