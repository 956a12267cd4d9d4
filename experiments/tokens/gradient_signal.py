"""Which prompts move the policy, and for how many is there a signal at all?

Fig. 6, 7, 12, 13 and 16 of arXiv:2602.02710v1. Per prompt: the size of the gradient against the pass rate, largest near
p = 0 for MaxRL. Mazes: the norm of one group's estimate, noise included, and the pass rate from other samples.
Modular sums, answered directly: |w_N(p) grad p| exactly, through the transformer, by enumerating every answer.
During training (the policies of `maze_scaling`): the share of prompts with a success among their N rollouts, entropy,
answer length and gradient norm.

    maxrl-lab run gradient_signal        (a minute after `maze_scaling`, whose policies it shares)
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from envs.modular_sum import ModularSum
from experiments._shared import check_estimators
from experiments.tokens._shared import PAPER, SMOKE, MazeSettings
from maxrl_lab import exact, specs
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.tokens.gradients import accumulate
from maxrl_lab.tokens.study import FRESH, Workshop
from maxrl_lab.tokens.tasks import Problems
from maxrl_lab.tokens.writing import write


@dataclass(frozen=True)
class Settings(MazeSettings):
    """Which policies and prompts."""

    estimators: tuple[str, ...] = ("rloo", "grpo", "maxrl")
    """Compared."""
    rollouts: int = 16
    """N, of training and of the group whose gradient is measured."""
    examples: int = 120
    """Mazes measured, on the base policy."""
    sum_examples: int = 35
    """Modular sums measured, all different, whatever the order of their digits."""
    rate_samples: int = 256
    """Answers from which a maze's pass rate is estimated."""
    sum_length: int = 2
    """Digits of a modular sum."""
    modulus: int = 10
    """Of the sums."""
    sum_pretrain_steps: int = 900
    """Updates on solutions of sums: so many that pass rates cover the whole range."""

    def __post_init__(self) -> None:
        """Check also counts and that every method exists at N."""
        super().__post_init__()
        for name in ("examples", "sum_examples", "rate_samples", "sum_pretrain_steps"):
            specs.check_count(name, getattr(self, name))
        ModularSum(self.sum_length, self.modulus)
        check_estimators(self.estimators, (self.rollouts, self.sweep_rollouts))


PRESETS = {
    "smoke": Settings(**SMOKE, rollouts=4, examples=5, sum_examples=5, rate_samples=8, sum_pretrain_steps=5),
    "quick": Settings(),
    "full": Settings(**PAPER, rollouts=128, examples=1000, rate_samples=2048),
}


def run(settings: Settings, context: Context) -> list[Row]:
    """Return rows of view maze and sum (a prompt's pass rate and gradient norm per estimator) and dynamics."""
    workshop = settings.workshop(context)
    dynamics = [
        row for row in workshop.reported(settings.estimators, (settings.rollouts,))[1] if row["view"] == "dynamics"
    ]
    problems = workshop.task.problems(settings.examples, seed=0, step=FRESH)
    rows = _sampled(workshop, problems, settings, context)
    direct = replace(settings, pretrain_steps=settings.sum_pretrain_steps)
    sums = Workshop(ModularSum(settings.sum_length, settings.modulus), direct, context)
    return rows + _exact(sums, settings, context) + dynamics


def _sampled(workshop: Workshop, problems: Problems, settings: Settings, context: Context) -> list[Row]:
    """Each maze's pass rate, and the norm of every estimator's gradient on one and the same group of N rollouts."""
    policy = workshop.base()
    rates = (
        workshop.evaluate(policy, problems, settings.rate_samples, workshop.writing(), "rates").right.double().mean(1)
    )
    rows = []
    for place in context.progress("gradient_signal: mazes")(range(len(problems))):
        right, wrong, successes = _score_sums(workshop, policy, problems.select([place]), place, settings.rollouts)
        for name in settings.estimators:
            success, failure = exact.coefficients(name, rollouts=settings.rollouts)
            estimate = (success[successes] * right + failure[successes] * wrong) / settings.rollouts
            rows.append(_row("maze", place, name, settings.rollouts, float(rates[place]), float(estimate.norm())))
    return rows


def _score_sums(
    workshop: Workshop, policy: Transformer, problem: Problems, place: int, rollouts: int
) -> tuple[Tensor, Tensor, int]:
    """Sums of the scores of a group's right and of its wrong rollouts, float64 (d,), and K: all an estimator needs."""
    prompts, writing = workshop.prompts(problem), workshop.writing()
    stream = generator("gradient signal", place, device=workshop.context.device)
    written = write(policy, prompts, rollouts, writing, stream)
    is_right = workshop.task.verify(problem.content, written.tokens, written.lengths)
    parameters = list(policy.parameters())
    sums = []
    for chosen in (is_right, ~is_right):
        slopes = chosen.to(written.log_probs)
        parts = accumulate(policy, parameters, prompts, written, writing, slopes, torch.zeros_like(slopes))
        sums.append(torch.cat([each.flatten() for each in parts]).double().cpu())
    return sums[0], sums[1], int(is_right.sum())


def _exact(workshop: Workshop, settings: Settings, context: Context) -> list[Row]:
    """Each sum's exact pass rate and the exact norm of every estimator's expected gradient."""
    policy = workshop.base().double()
    problems = workshop.task.problems(settings.sum_examples, seed=0, step=FRESH, distinct=True)
    parameters = list(policy.parameters())
    rows = []
    for place in context.progress("gradient_signal: sums")(range(len(problems))):
        batch = workshop.batch(policy, problems.select([place]), 0, 0)
        log_rate = batch.log_pass_rate([0]).sum()
        slope = torch.cat([each.flatten() for each in torch.autograd.grad(log_rate, parameters)]).norm()
        rate = float(log_rate.detach().exp().clamp(max=1.0))
        for name in settings.estimators:
            weight = float(exact.weight(name, rollouts=settings.rollouts, pass_rate=rate))
            rows.append(_row("sum", place, name, settings.rollouts, rate, abs(weight) * rate * float(slope)))
    return rows


def _row(view: str, example: int, name: str, rollouts: int, rate: float, norm: float) -> Row:
    return {
        "view": view,
        "example": example,
        "estimator": name,
        "method": specs.format_at(name, rollouts),
        "rollouts": rollouts,
        "pass_rate": rate,
        "gradient_norm": norm,
    }
