"""Divide log-probabilities by the answer's length, or by the batch's tokens: which answers does that favour, exactly?

App. F of arXiv:2602.02710v1 averages the loss over all tokens of a batch; Shao et al. 2024 average over each answer.
Summed over the answer, as everywhere else in the lab, the expected gradient is w(p) grad p, whatever the lengths. Here
a policy has three answers, equally likely at first: a short right one, a long right one, and a wrong one. The expected
gradient of each surrogate is exact, over all groups of N, through the trainer's own loss.

    maxrl-lab run length_bias        (a second)

Table: `rows` (a row per estimator, surrogate and length of the long answer).
"""

import itertools
import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from experiments._shared import Readable, check_estimators
from maxrl_lab.rows import Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, Each, Names, Whole
from maxrl_lab.settings import Settings as Base
from maxrl_lab.training import methods, surrogates
from maxrl_lab.training.groups import Group

Surrogates = Annotated[tuple[str, ...], Each(Readable(surrogates.resolve))]
"""Text forms of surrogates."""


@dataclass(frozen=True)
class Settings(Base):
    """Gradients: what is compared, and how long the answers are."""

    estimators: Names = ("rloo", "grpo", "maxrl")
    """Estimators that are compared."""
    surrogates: Surrogates = ("sequence_sum", "token_mean", "rollout_mean")
    """Losses that are made of the advantages, and compared."""
    rollouts: Annotated[int, Whole(2)] = 8
    """Number N of rollouts in a group."""
    short: Count = 10
    """Number of tokens of the short right answer, and of the wrong one."""
    long: Counts = (10, 15, 20, 30, 40, 60, 80, 100)
    """Numbers of tokens of the long right answer."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at N."""
        super().__post_init__()
        check_estimators(self.estimators, (self.rollouts,))


PRESETS = {
    "smoke": Settings(rollouts=3, long=(10, 40)),
    "quick": Settings(),
    "standard": Settings(),
    "full": Settings(rollouts=32, long=tuple(range(10, 201, 10))),
}


def run(settings: Settings, context: Context) -> Tables:
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
                "long": long,
                "drift": (long_step - short_step) / float(gradient.norm()),
                "short_step": short_step,
                "long_step": long_step,
                "wrong_step": wrong_step,
            }
        )
    return {"rows": rows}


def expected_gradient(estimator: str, surrogate: str, rollouts: int, lengths: tuple[int, int, int]) -> Tensor:
    """Return the exact expected ascent direction in the logits (3,) of two right answers and a wrong one, float64."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    log_probs = logits.log_softmax(0)
    answers, chances = every_group(log_probs.detach(), rollouts)
    group = Group(answers != 2, log_probs[answers], torch.tensor(lengths)[answers])
    losses = methods.sampled_loss(group, estimator, surrogate)
    return -torch.autograd.grad(chances @ losses, logits)[0]


def every_group(log_probs: Tensor, rollouts: int) -> tuple[Tensor, Tensor]:
    """Return all groups (C, 1, N) of answers in ascending order, and the probability (C,) of each such multiset."""
    groups = list(itertools.combinations_with_replacement(range(len(log_probs)), rollouts))
    answers = torch.tensor(groups)
    counts = torch.stack([(answers == answer).sum(1) for answer in range(len(log_probs))], 1).double()
    log_ways = math.lgamma(rollouts + 1) - torch.lgamma(counts + 1).sum(1)
    return answers[:, None], (log_ways + counts @ log_probs).exp()
