"""Pretraining: a policy climbs the log-probability of solutions, before it learns from its own answers."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack, seeded
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Tables
from maxrl_lab.tokens.scoring import read, score
from maxrl_lab.tokens.study import Study
from maxrl_lab.training import fit
from maxrl_lab.training.groups import DivergedError, Group
from maxrl_lab.training.methods import Exact

_PROMPTS_SEEN, _SLACK = 100, 8
"""The context of a task without `prompt_length` holds the longest of so many prompts, and so many tokens more."""


def pretrain(study: Study, checkpoint: fit.Checkpoint) -> Transformer:
    """Return a new policy, trained on solutions of fresh problems; `InputError` if it diverges."""
    settings, task = study.settings, study.task
    longest = task.prompt_length or task.problems(_PROMPTS_SEEN).prompts.shape[1] + _SLACK
    shape = settings.shape(len(task.vocabulary), longest + task.answer_length)
    policy = seeded(lambda: Transformer(shape), 0).to(study.context.device)
    optimisation = fit.Optimisation(
        settings.pretrain_steps,
        "adamw",
        schedule="cosine",
        warmup=max(1, settings.pretrain_steps // 10),
        measure_every=settings.pretrain_steps,
    )
    try:
        fit.fit(
            Stack([policy]),
            [Exact("maximum_likelihood")],
            [settings.pretrain_rate],
            optimisation,
            batch=lambda step: Solutions(study, policy, step),
            measure=lambda step: Solutions(study, policy, step).check(),
            checkpoint=checkpoint,
            progress=study.context.progress(f"{task.name}: pretraining"),
        )
    except DivergedError as error:
        raise InputError(
            f"{task.name}: pretraining with lr {settings.pretrain_rate:g} has diverged: its policy is NaN after "
            f"{error.step} updates; lower pretrain_rate"
        ) from None
    return policy


class Solutions:
    """Solutions of fresh problems as a batch: the "pass rate" of a problem is the probability of its solution."""

    def __init__(self, study: Study, policy: Transformer, step: int) -> None:
        self.study, self.policy, self.step = study, policy, step
        self.problems = study.task.problems(study.settings.pretrain_batch, seed=0, step=step)
        random = np.random.default_rng(generator("solutions", step).initial_seed())
        self.solutions = study.task.solutions(self.problems.content, random)

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Refuse, because pretraining has solutions and samples nothing."""
        raise InputError(f"pretraining samples nothing, got a request for {rollouts} rollouts of runs {list(runs)}")

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:  # noqa: ARG002
        """Return the log-probabilities of the solutions (1, B), differentiable."""
        device = self.study.context.device
        with self.study.writing().arithmetic(device):
            prefix = read(self.policy, *self.study.prompts(self.problems))
            written, lengths = (part.to(device)[:, None] for part in self.solutions)
            log_probs = score(self.policy, prefix, written, lengths)[0].T
        if not bool(log_probs.isfinite().all()):
            raise DivergedError(0, self.step)
        return log_probs

    def check(self) -> Tables:
        """Return no table; raise `DivergedError` if the policy is NaN."""
        with torch.no_grad():
            self.log_pass_rate([0])
        return {}
