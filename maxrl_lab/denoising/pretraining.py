"""Pretraining: a denoiser climbs the ELBO of noisy solutions, before it learns from its own answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from maxrl_lab.denoising.batch import score
from maxrl_lab.denoising.moments import Denoiser
from maxrl_lab.denoising.surrogates import elbo, sample
from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack
from maxrl_lab.randomness import generator
from maxrl_lab.settings import Count, Probability, Rate, Settings
from maxrl_lab.training import fit
from maxrl_lab.training.groups import DivergedError, Group
from maxrl_lab.training.methods import Exact


class Task(Protocol):
    """Problems whose answers fill L places with digits base V, as those of `envs.canvas`."""

    @property
    def length(self) -> int:
        """The number L of places."""
        ...

    @property
    def base(self) -> int:
        """The number V of digits."""
        ...

    def right(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Return which answers (B, ..., L) are right, (B, ...) bool."""
        ...

    def solutions(self, prompts: Tensor, stream: torch.Generator) -> Tensor:
        """Return a right answer (B, L) to each prompt."""
        ...


@dataclass(frozen=True)
class Pretraining(Settings):
    """Pretraining: the ELBO of solutions, some of whose digits are spoilt."""

    pretrain_steps: Count = 250
    """Number of updates of the pretraining."""
    pretrain_solutions: Count = 3
    """Number of solutions of each prompt that the pretraining knows; a prompt's solutions may be alike."""
    pretrain_copies: Count = 4
    """Number of spoilt copies of each solution in each update of the pretraining, each with one mask."""
    pretrain_rate: Rate = 0.01
    """Learning rate of Adam in the pretraining."""
    noise: Probability = 0.3
    """Probability with which a digit of a solution is replaced by a random one."""


def pretrain(
    policy: nn.Module, task: Task, prompts: Tensor, settings: Pretraining, seed: int, checkpoint: fit.Checkpoint
) -> None:
    """Train a policy in place on solutions of prompts (B, P), sampled by the seed; `InputError` if it diverges."""
    optimisation = fit.Optimisation(settings.pretrain_steps, "adam", schedule="cosine")
    try:
        fit.fit(
            Stack([policy]),
            [Exact("maximum_likelihood")],
            [settings.pretrain_rate],
            optimisation,
            batch=lambda step: Solutions(policy, task, prompts, settings, seed, step),
            checkpoint=checkpoint,
        )
    except DivergedError as error:
        raise InputError(
            f"pretraining with lr {settings.pretrain_rate:g} has diverged: its policy is NaN after {error.step} "
            "updates; lower pretrain_rate"
        ) from None


@dataclass
class Solutions:
    """Solutions as a batch: the "log pass rate" of a prompt is an estimate of its solutions' ELBO."""

    policy: nn.Module
    task: Task
    prompts: Tensor
    settings: Pretraining
    seed: int
    step: int

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Refuse, because pretraining has solutions and samples nothing."""
        raise InputError(f"pretraining samples nothing, got a request for {rollouts} rollouts of runs {list(runs)}")

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:  # noqa: ARG002
        """Return the mean over copies of solutions of one term of the ELBO of each, (1, B), differentiable."""
        task, settings = self.task, self.settings
        kept = settings.pretrain_solutions
        known = task.solutions(self.prompts.repeat_interleave(kept, 0), generator("solutions", self.seed))
        answers = known.unflatten(0, (-1, kept)).repeat(1, settings.pretrain_copies, 1)
        stream = generator("copies", self.seed, self.step)
        random = torch.randint(task.base, answers.shape, generator=stream)
        answers = torch.where(torch.rand(answers.shape, generator=stream) < settings.noise, random, answers)
        orders = torch.arange(task.length).expand(answers.shape)
        empty, coefficients = sample(elbo(task.length), orders, 1, stream)
        tokens = score(cast(Denoiser, self.policy), self.prompts, answers, empty, task.base)
        bounds = (tokens * coefficients.to(tokens)).sum((-2, -1)).mean(1)
        if not bool(bounds.isfinite().all()):
            raise DivergedError(0, self.step)
        return bounds[None]
