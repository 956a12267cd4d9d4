"""Why can training for pass@k lower pass@1?

Two prompts have different right answers, and a policy of two parameters hardly tells the prompts apart: u makes one
prompt's answer likelier as it makes the other's less likely, and v, which moves the rates little, serves both:

    logit p_easy = logit(0.7) + u + e v,      logit p_hard = logit(0.02) - u + e v.

The gradient of pass@k is the mean of w(p) grad p with w(p) = k (1-p)^(k-1), which is nearly 0 at the easy prompt. So
the update follows the hard prompt alone, and where both compete for u the easy prompt pays. Each objective is followed
by its exact gradient, so nothing here is noise. Barakat et al. (arXiv:2602.21189) describe the effect, call it prompt
interference and show it in language models; the example is ours.

    maxrl-lab run pass_at_k_conflict        (a second)

Table: `rows` (a row per objective and update).
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from experiments._shared import Objectives
from maxrl_lab import objectives
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Interval, Positive, StrictProbability, Whole
from maxrl_lab.settings import Settings as Base

FOLLOWED = ("expected_reward", "pass_at_k:k=4", "pass_at_k:k=16", "truncated_likelihood:order=16", "maximum_likelihood")


@dataclass(frozen=True)
class Settings(Base):
    """The two prompts, and what is followed."""

    objectives: Objectives = FOLLOWED
    """Objectives whose exact gradient is followed."""
    k: Annotated[int, Whole(2)] = 16
    """Number k of samples of the pass@k that is reported beside pass@1."""
    easy: StrictProbability = 0.7
    """Initial pass rate of the easy prompt."""
    hard: StrictProbability = 0.02
    """Initial pass rate of the hard prompt."""
    separation: Annotated[float, Interval(0, 1)] = 0.1
    """How well the policy tells the prompts apart: the factor e of the parameter that serves both."""
    step: Positive = 0.05
    """Length of each update; every objective takes steps of the same length."""
    steps: Count = 200
    """Number of updates."""


PRESETS = {
    "smoke": Settings(objectives=("expected_reward", "pass_at_k:k=16"), steps=40),
    "quick": Settings(),
    "standard": Settings(),
    "full": Settings(steps=1000, step=0.01),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return, for every objective and update, both pass rates, pass@1, pass@k and the angle to pass@1's gradient."""
    names = context.progress("pass_at_k_conflict")(settings.objectives)
    return {"rows": [row for name in names for row in _follow(settings, name)]}


def pass_rates(settings: Settings, parameters: Tensor) -> Tensor:
    """Return the pass rates (2,) of the easy and the hard prompt, for the parameters u and v (2,)."""
    start = torch.tensor([settings.easy, settings.hard], dtype=torch.float64).logit()
    return (start + torch.stack([parameters[0], -parameters[0]]) + settings.separation * parameters[1]).sigmoid()


def _follow(settings: Settings, name: str) -> list[Row]:
    objective = objectives.resolve(name)
    parameters = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    rows = []
    for update in range(settings.steps + 1):
        p = pass_rates(settings, parameters)
        (slope,) = torch.autograd.grad(objective.value(p).mean(), parameters, retain_graph=True)
        (plain,) = torch.autograd.grad(p.mean(), parameters)  # of pass@1
        rows.append(
            {
                "objective": name,
                "step": update,
                "easy": p[0].item(),
                "hard": p[1].item(),
                "pass_at_1": p.mean().item(),
                "pass_at_k": objectives.PassAtK(settings.k).value(p.detach()).mean().item(),
                "cosine": float(torch.cosine_similarity(slope, plain, dim=0)),
            }
        )
        with torch.no_grad():
            parameters += settings.step * slope / slope.norm()
    return rows
