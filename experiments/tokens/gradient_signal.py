"""Which prompts move the policy, and for how many is there a signal at all?

Fig. 6, 7, 12, 13 and 16 of arXiv:2602.02710v1. Per prompt: the size of the gradient against the pass rate, largest near
p = 0 for MaxRL. Mazes: the norm of one group's estimate, noise included, and the pass rate from other samples.
Modular sums, answered directly: |w_N(p) grad p| exactly, through the transformer, by enumerating every answer.
During training (the policies of `maze_scaling`): the share of prompts with a success among their N rollouts, entropy,
answer length and gradient norm.

    maxrl-lab run gradient_signal        (a minute after `maze_scaling`, whose policies it shares)

Tables: `mazes` and `sums` (a row per seed, prompt and estimator), `sweep`, `dynamics` and `timings` as in
`maze_scaling`.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from envs.modular_sum import ModularSum
from experiments._shared import check_estimators, known_rates
from experiments.tokens._shared import PAPER, QUICK, SMOKE, MazeSettings
from maxrl_lab import exact
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Names, Rate, Whole
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tokens.comparison import compare
from maxrl_lab.tokens.gradients import accumulate
from maxrl_lab.tokens.study import FRESH, Study
from maxrl_lab.tokens.tasks import Problems
from maxrl_lab.tokens.trained import base
from maxrl_lab.tokens.writing import write


@dataclass(frozen=True)
class Methods(Group):
    """Methods: every estimator at one N."""

    estimators: Names = ("rloo", "grpo", "maxrl")
    """Estimators that are compared."""
    rollouts: Count = 16
    """Number N of rollouts, of training and of the group whose gradient is measured."""


@dataclass(frozen=True)
class Prompts(Group):
    """Prompts: mazes, whose gradients are sampled, and modular sums, whose gradients are exact."""

    examples: Count = 100
    """Number of mazes measured on each seed's base policy."""
    rate_samples: Count = 256
    """Number of answers from which a maze's pass rate is estimated."""
    sum_examples: Count = 35
    """Number of modular sums measured, all different, whatever the order of their digits."""
    sum_length: Count = 2
    """Number of digits of a modular sum."""
    modulus: Annotated[int, Whole(2)] = 10
    """Modulus of the sums, whose digits lie below it."""
    sum_pretrain_steps: Count = 128
    """Number of updates on solutions of sums: so many that pass rates are spread, from 0.1 to 0.6 or so."""
    sum_pretrain_rate: Rate = 1e-3
    """Learning rate of these updates."""


@dataclass(frozen=True)
class Settings(MazeSettings, Prompts, Methods):
    """Methods, prompts, mazes, policy, pretraining, training and evaluation."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at N."""
        super().__post_init__()
        check_estimators(self.estimators, (self.rollouts,))

    def sums(self, context: Context) -> Study:
        """Return the policy for modular sums."""
        settings = replace(
            self, pretrain_steps=self.sum_pretrain_steps, pretrain_until=1.0, pretrain_rate=self.sum_pretrain_rate
        )
        return Study(ModularSum(self.sum_length, self.modulus), settings, context)


PRESETS = {
    "smoke": Settings(**SMOKE, rollouts=4, examples=5, sum_examples=5, rate_samples=8, sum_pretrain_steps=5),
    "quick": Settings(**QUICK, fixed_rates=known_rates("maze_scaling")),
    "standard": Settings(),
    "full": Settings(**PAPER, rollouts=128, examples=1000, rate_samples=2048),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return every prompt's pass rate and gradient norms, and the dynamics of training."""
    study = settings.study(context)
    tables = compare(study, settings.estimators, (settings.rollouts,), fixed=settings.fixed).tables
    return {
        "mazes": measure_sampled(study, settings, context),
        "sums": measure_exact(settings.sums(context), settings, context),
        **{name: tables[name] for name in ("sweep", "dynamics", "timings") if name in tables},
    }


def measure_sampled(study: Study, settings: Settings, context: Context) -> list[Row]:
    """Return each prompt's pass rate, and the norm of every estimator's gradient on one group of N rollouts."""
    problems = study.task.problems(settings.examples, seed=0, step=FRESH)
    rows = []
    for seed in context.progress("gradient_signal: mazes")(range(settings.seeds)):
        policy = base(study, seed)
        evaluation = study.evaluate(policy, problems, settings.rate_samples, study.writing(), "rates", seed)
        rates = evaluation.right.double().mean(1).tolist()
        for example in range(len(problems)):
            stream = generator("gradient signal", seed, example, device=study.context.device)
            problem = problems.select([example])
            right, wrong, successes = _score_sums(study, policy, problem, settings.rollouts, stream)
            for name in settings.estimators:
                success, failure = exact.coefficients(name, rollouts=settings.rollouts)
                estimate = (success[successes] * right + failure[successes] * wrong) / settings.rollouts
                rows.append(_row(seed, example, name, rates[example], float(estimate.norm())))
    return rows


def _score_sums(
    study: Study, policy: Transformer, problem: Problems, rollouts: int, stream: torch.Generator
) -> tuple[Tensor, Tensor, int]:
    """Return the sums of the scores of a group's right and of its wrong rollouts, float64 (d,), and K."""
    prompts, writing = study.prompts(problem), study.writing()
    written = write(policy, prompts, rollouts, writing, stream)
    is_right = study.task.verify(problem.content, written.tokens, written.lengths)
    parameters = list(policy.parameters())
    sums = []
    for counted in (is_right, ~is_right):
        slopes = counted.to(written.log_probs)
        gradient = accumulate(policy, parameters, prompts, written, writing, slopes, torch.zeros_like(slopes))
        sums.append(torch.cat([part.flatten() for part in gradient]).double().cpu())
    return sums[0], sums[1], int(is_right.sum())


def measure_exact(study: Study, settings: Settings, context: Context) -> list[Row]:
    """Return each prompt's exact pass rate and the exact norm of every estimator's expected gradient."""
    problems = study.task.problems(settings.sum_examples, seed=0, step=FRESH, distinct=True)
    seed = 0  # nothing is sampled but pretraining: one policy is enough
    policy = base(study, seed).double()
    parameters = list(policy.parameters())
    rows = []
    for example in context.progress("gradient_signal: sums")(range(len(problems))):
        batch = study.batch(policy, problems.select([example]), 0, 0)
        log_rate = batch.log_pass_rate([0]).sum()
        slope = torch.cat([part.flatten() for part in torch.autograd.grad(log_rate, parameters)]).norm()
        rate = float(log_rate.detach().exp().clamp(max=1.0))
        for name in settings.estimators:
            weight = float(exact.weight(name, rollouts=settings.rollouts, pass_rate=rate))
            rows.append(_row(seed, example, name, rate, abs(weight) * rate * float(slope)))
    return rows


def _row(seed: int, example: int, estimator: str, rate: float, norm: float) -> Row:
    return {"seed": seed, "example": example, "estimator": estimator, "pass_rate": rate, "gradient_norm": norm}
