"""Which objective is each estimator unbiased for at N rollouts: exactly, and through the code that training runs?

Theorem 2 of arXiv:2602.02710v1 says order T = N for the form without baseline. The exact audit names every
estimator's objective. Beside it, the sampling path itself (`ClassificationBatch.rollout`, `run_losses`, autograd) is
averaged over many groups and compared with the exact weight: a z-score per cell, with the rate of false alarms stated.
Theorem 1, that the scores of right rollouts have the likelihood gradient as their mean, is enumerated.

    maxrl-lab run unbiasedness        (about ten seconds)

Tables: `rows` (a row per estimator and N), `conditional_means` (a row per pass rate).
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from scipy import special

from experiments._shared import EVERY_ESTIMATOR, PassRates, check_estimators
from maxrl_lab import audit, exact
from maxrl_lab.classification import ClassificationBatch
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, CountOrZero, Counts, Names, StrictProbability, Whole
from maxrl_lab.settings import Settings as Base
from maxrl_lab.training.methods import Sampled
from maxrl_lab.training.step import run_losses


@dataclass(frozen=True)
class Cells(Base):
    """Cells: one for each estimator and number of rollouts."""

    estimators: Names = EVERY_ESTIMATOR
    """Estimators that are audited; N in an option stands for the number of rollouts."""
    rollouts: Counts = (2, 4, 8, 16)
    """Numbers N of rollouts in a group; even, for the estimators of order or k = N/2."""


@dataclass(frozen=True)
class Sampling(Base):
    """Sampling: the Monte-Carlo check of every cell."""

    pass_rate: StrictProbability = 0.2
    """Pass rate of the policy that is sampled."""
    groups: Annotated[int, Whole(2)] = 20_000
    """Number of groups in each batch."""
    batches: Count = 5
    """Number of batches for each cell."""
    false_alarm_rate: StrictProbability = 0.01
    """Chance that a correct table shows any z-score beyond the threshold (Bonferroni over cells)."""
    seed: CountOrZero = 0
    """Seed of the check's random numbers."""


@dataclass(frozen=True)
class Enumeration(Base):
    """Enumeration: the mean score of right rollouts, and of wrong ones."""

    enumerated_pass_rates: PassRates = (1e-6, 1e-3, 0.1, 0.5, 0.9)
    """Pass rates of the policies whose conditional mean scores are enumerated."""


@dataclass(frozen=True)
class Settings(Enumeration, Sampling, Cells):
    """The table and its check."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at every N."""
        super().__post_init__()
        check_estimators(self.estimators, self.rollouts)

    @property
    def threshold(self) -> float:
        """|z| beyond which a cell is called biased."""
        cells = len(self.estimators) * len(self.rollouts)
        return float(-special.ndtri(self.false_alarm_rate / 2 / cells))


PRESETS = {
    "smoke": Settings(rollouts=(2, 4), groups=500, batches=1),
    "quick": Settings(),
    "standard": Settings(rollouts=(2, 4, 8, 16, 32), batches=20),
    "full": Settings(rollouts=(2, 4, 8, 16, 32, 64), groups=50_000, batches=40),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return per estimator and N objective, scale, residual, weights and z; per pass rate what Theorem 1 leaves."""
    rows: list[Row] = []
    for count in context.progress("unbiasedness")(settings.rollouts):
        sampled = _sampled_weights(settings, count, context.device)
        for name, (mean, error) in zip(settings.estimators, sampled, strict=True):
            report = audit.audit(name, rollouts=count)
            weight = float(exact.weight(name, rollouts=count, pass_rate=settings.pass_rate))
            nearest = report.nearest
            rows.append(
                {
                    "estimator": name,
                    "rollouts": count,
                    "objective": report.objective,
                    "nearest": nearest.objective if nearest else None,
                    "scale": nearest.scale if nearest else 0.0,
                    "residual": nearest.residual if nearest else None,
                    "exact_weight": weight,
                    "sampled_weight": mean,
                    "standard_error": error,
                    "z": (mean - weight) / error if error else 0.0 if mean == weight else float("nan"),
                }
            )
    return {"rows": rows, "conditional_means": [_conditional_means(p) for p in settings.enumerated_pass_rates]}


def _conditional_means(pass_rate: float) -> Row:
    """Compare E[S | right] with grad log p and E[S | wrong] with grad log(1 - p), by autograd over all rollouts."""
    right = pass_rate * torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    wrong = (1 - pass_rate) * torch.tensor([0.7, 0.3], dtype=torch.float64)
    logits = torch.cat([right, wrong]).log().requires_grad_()
    log_probs = logits.log_softmax(0)
    scores = torch.stack([torch.autograd.grad(log_prob, logits, retain_graph=True)[0] for log_prob in log_probs])
    row: Row = {"pass_rate": pass_rate}
    for name, part in (("right", slice(0, 3)), ("wrong", slice(3, 5))):
        mean = log_probs[part].softmax(0).detach() @ scores[part]
        (slope,) = torch.autograd.grad(log_probs[part].logsumexp(0), logits, retain_graph=True)
        row[f"{name}_residual"] = float((mean - slope).norm() / slope.norm())
    return row


def _sampled_weights(settings: Settings, rollouts: int, device: torch.device) -> list[tuple[float, float]]:
    """Return mean and standard error, per estimator, of g . grad p / |grad p|^2 over groups sampled as in training."""
    methods = [Sampled(name, rollouts) for name in settings.estimators]
    runs, groups = len(methods), settings.groups
    failures = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64, device=device) * (1 - settings.pass_rate)
    policy = torch.cat([failures.new_tensor([settings.pass_rate]), failures])
    gradient = settings.pass_rate * (torch.eye(len(policy), dtype=policy.dtype, device=device)[0] - policy)
    labels = torch.zeros(runs, groups, dtype=torch.long, device=device)
    weights = []
    for step in range(settings.batches):
        logits = policy.log().expand(runs, groups, -1).clone().requires_grad_()
        batch = ClassificationBatch(logits.log_softmax(-1), labels, [settings.seed] * runs, step)
        (slope,) = torch.autograd.grad(run_losses(batch, methods).sum(), logits)
        weights.append(-groups * slope @ gradient / gradient.square().sum())
    estimates = torch.cat(weights, dim=1)
    errors = estimates.std(dim=1) / estimates.shape[1] ** 0.5
    return list(zip(estimates.mean(dim=1).tolist(), errors.tolist(), strict=True))
