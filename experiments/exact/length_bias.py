"""Divide log-probabilities by the answer's length, or by the batch's tokens: which answers does that favour, exactly?

App. F of arXiv:2602.02710v1 averages the loss over all tokens of a batch; Shao et al. 2024 average over each answer.
Summed over the answer, as everywhere else in the lab, the expected gradient is w(p) grad p, whatever the lengths. Here
a policy has three answers, equally likely at first: a short right one, a long right one, and a wrong one. The expected
gradient of each surrogate is exact, over all groups of N, through the trainer's own loss.

    maxrl-lab run length_bias        (a second)
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments._shared import check_estimators
from maxrl_lab import specs
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import check_lists
from maxrl_lab.training import methods, surrogates
from maxrl_lab.training.groups import Group


@dataclass(frozen=True)
class Settings:
    """What is compared, and how long the answers are."""

    estimators: tuple[str, ...] = ("rloo", "grpo", "maxrl")
    """Compared."""
    surrogates: tuple[str, ...] = ("sequence_sum", "token_mean", "rollout_mean")
    """Compared: what is done with the advantages."""
    rollouts: int = 8
    """N."""
    short: int = 10
    """Tokens of the short right answer, and of the wrong one."""
    long: tuple[int, ...] = (10, 15, 20, 30, 40, 60, 80, 100)
    """Tokens of the long right answer."""

    def __post_init__(self) -> None:
        """Check names and counts."""
        check_lists(surrogates=self.surrogates, long=self.long)
        for name in self.surrogates:
            surrogates.resolve(name)
        specs.check_count("rollouts", self.rollouts, minimum=2)
        for length in (self.short, *self.long):
            specs.check_count("short and long", length)
        check_estimators(self.estimators, (self.rollouts,))


PRESETS = {
    "smoke": Settings(rollouts=3, long=(10, 40)),
    "quick": Settings(),
    "full": Settings(rollouts=32, long=tuple(range(10, 201, 10))),
}


def run(settings: Settings, context: Context) -> list[Row]:
    """Return, per estimator, surrogate and length, how the expected step moves the odds of long against short."""
    rows = []
    cases = list(itertools.product(settings.estimators, settings.surrogates, settings.long))
    for estimator, surrogate, long in context.progress("length_bias")(cases):
        gradient = expected_gradient(estimator, surrogate, settings.rollouts, (settings.short, long, settings.short))
        short_step, long_step, wrong_step = gradient.tolist()
        rows.append(
            {
                "estimator": estimator,
                "surrogate": surrogate,
                "rollouts": settings.rollouts,
                "short": settings.short,
                "long": long,
                "drift": (long_step - short_step) / float(gradient.norm()),
                "short_step": short_step,
                "long_step": long_step,
                "wrong_step": wrong_step,
            }
        )
    return rows


def expected_gradient(estimator: str, surrogate: str, rollouts: int, lengths: tuple[int, int, int]) -> Tensor:
    """Return the exact expected ascent direction in the logits (3,) of two right answers and a wrong one, float64."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    log_probs = logits.log_softmax(0)
    drawn, chances = every_group(log_probs.detach(), rollouts)
    group = Group(drawn != 2, log_probs[drawn], torch.tensor(lengths)[drawn])
    losses = methods.sampled_loss(group, estimator, surrogate)
    return -torch.autograd.grad(chances @ losses, logits)[0]


def every_group(log_probs: Tensor, rollouts: int) -> tuple[Tensor, Tensor]:
    """Return all groups (C, 1, N) of answers in ascending order, and the probability (C,) of each such multiset."""
    groups = list(itertools.combinations_with_replacement(range(len(log_probs)), rollouts))
    drawn = torch.tensor(groups)
    counts = torch.stack([(drawn == answer).sum(1) for answer in range(len(log_probs))], 1).double()
    log_ways = math.lgamma(rollouts + 1) - torch.lgamma(counts + 1).sum(1)
    return drawn[:, None], (log_ways + counts @ log_probs).exp()
