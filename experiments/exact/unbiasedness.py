"""Which objective is each estimator unbiased for at N rollouts: exactly, and through the code that training runs?

Theorem 2 of arXiv:2602.02710v1 says order T = N for the form without baseline. The exact audit names every
estimator's objective. Beside it, the sampling path itself (`ClassificationBatch.rollout`, `run_losses`, autograd) is
averaged over many groups and compared with the exact weight: a z-score per cell, with the rate of false alarms stated.

    maxrl-lab run unbiasedness        (about ten seconds)
"""

from dataclasses import dataclass

import torch
from scipy import special

from experiments._shared import EVERY_ESTIMATOR, check_estimators
from maxrl_lab import audit, exact, specs
from maxrl_lab.classification import ClassificationBatch
from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import check_lists
from maxrl_lab.training.methods import Sampled
from maxrl_lab.training.step import run_losses


@dataclass(frozen=True)
class Settings:
    """Cells of the table and the size of the Monte-Carlo check."""

    estimators: tuple[str, ...] = EVERY_ESTIMATOR
    """Estimators; N in an option stands for the number of rollouts."""
    rollouts: tuple[int, ...] = (2, 4, 8, 16)
    """N; even, for the estimators of order or k = N/2."""
    pass_rate: float = 0.2
    """Of the policy that is sampled."""
    groups: int = 20_000
    """Groups per batch of the Monte-Carlo check."""
    batches: int = 5
    """Batches per cell."""
    false_alarm_rate: float = 0.01
    """Chance that a correct table shows any z-score beyond the threshold (Bonferroni over cells)."""
    seed: int = 0
    """Of the Monte-Carlo check."""

    def __post_init__(self) -> None:
        """Check every name against every N."""
        check_lists(estimators=self.estimators, rollouts=self.rollouts)
        specs.check_count("groups", self.groups, minimum=2)
        specs.check_count("batches", self.batches)
        specs.check_count("seed", self.seed, minimum=0)
        if not (0 < self.pass_rate < 1 and 0 < self.false_alarm_rate < 1):
            got = f"{self.pass_rate} and {self.false_alarm_rate}"
            raise InputError(f"pass_rate and false_alarm_rate must lie between 0 and 1, got {got}")
        check_estimators(self.estimators, self.rollouts)

    @property
    def threshold(self) -> float:
        """|z| beyond which a cell is called biased."""
        cells = len(self.estimators) * len(self.rollouts)
        return float(-special.ndtri(self.false_alarm_rate / 2 / cells))


PRESETS = {
    "smoke": Settings(rollouts=(2, 4), groups=500, batches=1),
    "quick": Settings(),
    "full": Settings(rollouts=(2, 4, 8, 16, 32, 64), groups=50_000, batches=40),
}


def run(settings: Settings, context: Context) -> list[Row]:
    """Return one row per estimator and N: objective, scale, residual; exact and sampled weight, z, threshold."""
    rows = []
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
                    "pass_rate": settings.pass_rate,
                    "exact_weight": weight,
                    "sampled_weight": mean,
                    "standard_error": error,
                    "z": (mean - weight) / error if error else 0.0 if mean == weight else float("nan"),
                    "false_alarm_rate": settings.false_alarm_rate,
                    "threshold": settings.threshold,
                }
            )
    return rows


def _sampled_weights(settings: Settings, rollouts: int, device: torch.device) -> list[tuple[float, float]]:
    """Mean and standard error, per estimator, of g . grad p / |grad p|^2 over groups drawn as in training."""
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
    drawn = torch.cat(weights, dim=1)
    errors = drawn.std(dim=1) / drawn.shape[1] ** 0.5
    return list(zip(drawn.mean(dim=1).tolist(), errors.tolist(), strict=True))
