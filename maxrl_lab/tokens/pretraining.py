"""Pretraining: a policy climbs the log-probability of solutions, before it learns from its own answers.

It ends at a pass rate, not at a step count: bases of different seeds and processors are then alike.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack, seeded
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row, Tables
from maxrl_lab.tokens.scoring import read, score
from maxrl_lab.tokens.study import FRESH, Study
from maxrl_lab.training import fit
from maxrl_lab.training.groups import DivergedError, Group
from maxrl_lab.training.methods import Exact

_PROMPTS_SEEN, _SLACK = 100, 8
"""Without a `prompt_length`, so many prompts are sampled, and the context holds the longest and `_SLACK` tokens."""
_CHECK_EVERY, _CHECK_PROBLEMS, _CHECK_ANSWERS = 10, 128, 16
"""Pass@1 is estimated once in so many updates, from so many answers to each of so many validation problems."""
_WARMUP = 20


def pretrain(study: Study, seed: int, checkpoint: fit.Checkpoint) -> tuple[Transformer, Tables]:
    """Return a new policy, trained on solutions of fresh problems, and the table `bases`: where it ended.

    The parameters, the problems and their solutions are the seed's. Raises `InputError` if the policy diverges.
    """
    settings, task = study.settings, study.task
    longest = task.prompt_length or task.problems(_PROMPTS_SEEN).prompts.shape[1] + _SLACK
    shape = settings.shape(len(task.vocabulary), longest + task.answer_length)
    policy = seeded(lambda: Transformer(shape), seed).to(study.context.device)
    optimisation = fit.Optimisation(
        settings.pretrain_steps,
        "adamw",
        warmup=min(_WARMUP, settings.pretrain_steps),
        clip=settings.clip,
        measure_every=settings.pretrain_steps if settings.pretrain_until == 1 else _CHECK_EVERY,
    )
    try:
        tables = fit.fit(
            Stack([policy]),
            [Exact("maximum_likelihood")],
            [settings.pretrain_rate],
            optimisation,
            batch=lambda step: Solutions(study, policy, seed, step),
            measure=lambda step: {"bases": [_check(study, policy, seed, step)]},
            stop=lambda tables: tables["bases"][-1]["pass_rate"] >= settings.pretrain_until,
            checkpoint=checkpoint,
            progress=study.context.progress(f"{task.name}: pretraining"),
        )
    except DivergedError as error:
        raise InputError(
            f"{task.name}: pretraining with lr {settings.pretrain_rate:g} has diverged: its policy is NaN after "
            f"{error.step} updates; lower pretrain_rate"
        ) from None
    return policy, {"bases": tables["bases"][-1:]}


def _check(study: Study, policy: Transformer, seed: int, step: int) -> Row:
    """Return the policy's estimated pass@1 on validation problems; raise `DivergedError` if it is NaN."""
    problems = study.pretraining(seed, FRESH, _CHECK_PROBLEMS)
    evaluation = study.evaluate(policy, problems, _CHECK_ANSWERS, study.writing(), "pretraining", seed, step)
    if not bool(evaluation.written.log_probs.isfinite().all()):
        raise DivergedError(0, step)
    return {"seed": seed, "updates": step, "pass_rate": float(evaluation.right.double().mean())}


class Solutions:
    """Solutions of fresh problems as a batch: the "pass rate" of a problem is the probability of its solution."""

    def __init__(self, study: Study, policy: Transformer, seed: int, step: int) -> None:
        self.study, self.policy, self.step = study, policy, step
        self.problems = study.pretraining(seed, step, study.settings.pretrain_batch)
        random = np.random.default_rng(generator("solutions", seed, step).initial_seed())
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
