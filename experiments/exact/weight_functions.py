"""Which weight w(p) does each objective give a task of pass rate p, and which weight do estimators give at finite N?

Fig. 1 of arXiv:2602.02710v1 shows the population weights: expected reward is flat, likelihood and MaxRL favour hard
tasks, GRPO both ends. Practice draws N rollouts; its weight is w_N(p), exactly computable, and can be another curve:
at N = 2 GRPO and Algorithm 1 are plain RL.

    maxrl-lab run weight_functions        (under a second)

Table: `rows` (a row per curve and pass rate).
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from experiments._shared import EVERY_ESTIMATOR, Objectives, check_estimators
from maxrl_lab import exact, objectives
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Counts, Interval, Names, Whole
from maxrl_lab.settings import Settings as Base

POPULATION = (
    "expected_reward",
    "pass_at_k:k=8",
    "grpo_limit",
    "truncated_likelihood:order=4",
    "truncated_likelihood:order=16",
    "truncated_likelihood:order=64",
    "maximum_likelihood",
)
"""The curves of Fig. 1, and pass@k."""


@dataclass(frozen=True)
class Settings(Base):
    """Curves: whose weights are tabulated, and at which pass rates."""

    objectives: Objectives = POPULATION
    """Objectives whose weight is tabulated."""
    estimators: Names = EVERY_ESTIMATOR
    """Estimators whose weight is tabulated at every N; N in an option stands for the number of rollouts."""
    rollouts: Counts = (2, 4, 8, 16, 32, 64, 128, 256)
    """Numbers N of rollouts in a group."""
    lowest: Annotated[float, Interval(1e-12, 0.5, closed_low=True)] = 1e-3
    """Smallest pass rate; the largest is one minus it."""
    points: Annotated[int, Whole(2)] = 201
    """Number of pass rates, evenly spaced in log-odds."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at every N."""
        super().__post_init__()
        check_estimators(self.estimators, self.rollouts)


PRESETS = {
    "smoke": Settings(rollouts=(2, 4), points=21),
    "quick": Settings(),
    "standard": Settings(),
    "full": Settings(rollouts=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), lowest=1e-5, points=1001),
}


def run(settings: Settings, context: Context) -> Tables:  # noqa: ARG001
    """Return one row per curve and pass rate: kind, name, rollouts, pass_rate, weight."""
    edge = torch.logit(torch.tensor(settings.lowest, dtype=torch.float64))
    p = torch.sigmoid(torch.linspace(float(edge), -float(edge), settings.points, dtype=torch.float64))
    rows = []
    for name in settings.objectives:
        rows += _curve("objective", name, None, p, objectives.resolve(name).weight(p))
    for count in settings.rollouts:
        for name in settings.estimators:
            rows += _curve("estimator", name, count, p, exact.weight(name, rollouts=count, pass_rate=p))
    return {"rows": rows}


def _curve(kind: str, name: str, rollouts: int | None, pass_rate: Tensor, weight: Tensor) -> list[Row]:
    return [
        {"kind": kind, "name": name, "rollouts": rollouts, "pass_rate": p, "weight": w}
        for p, w in zip(pass_rate.tolist(), weight.tolist(), strict=True)
    ]
