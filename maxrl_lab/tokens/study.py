"""A study: policies for one task, the problems they learn from and are measured on, and how they are measured."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.randomness import generator
from maxrl_lab.runs.context import Context
from maxrl_lab.tokens.batch import TokenBatch
from maxrl_lab.tokens.evaluation import Evaluation
from maxrl_lab.tokens.settings import TokenSettings
from maxrl_lab.tokens.tasks import Problems, TokenTask
from maxrl_lab.tokens.writing import Prompts, Writing, write

FRESH = 10**6
"""A step of the stream of training problems that no training reaches."""


@dataclass(frozen=True)
class Study:
    """One task, the settings, and where policies for it are trained.

    Of an experiment's settings a study keeps only those of `TokenSettings`: what it does not hold cannot change a
    policy, so that experiments which differ in nothing else share their policies.
    """

    task: TokenTask
    settings: TokenSettings
    context: Context
    training_set: int | None = None
    """Number of problems of a fixed training set; None for fresh problems in every update."""

    def __post_init__(self) -> None:
        """Forget the settings that are not those of `TokenSettings`."""
        kept = {field.name: getattr(self.settings, field.name) for field in fields(TokenSettings)}
        object.__setattr__(self, "settings", TokenSettings(**kept))

    def writing(self, temperature: float = 1.0, top_p: float = 1.0) -> Writing:
        """Return how answers are sampled."""
        return self.settings.writing(self.task.answer_length, temperature, top_p)

    def held_out(self) -> Problems:
        """Return the held-out problems, the same for all policies and seeds."""
        return self.task.problems(self.settings.held_out, split="test", distinct=True)

    def pretraining(self, seed: int, step: int, count: int) -> Problems:
        """Return the problems of one update of a seed's pretraining, which samples from the whole training split."""
        return self.task.problems(count, seed=2 * seed, step=step)

    def problems(self, seed: int, step: int) -> Problems:
        """Return the problems of one update: equal for equal seeds, whatever the method."""
        count = self.settings.prompts
        if self.training_set is None:
            return self.task.problems(count, seed=2 * seed + 1, step=step)
        epoch, update = divmod(step, self.training_set // count)
        order = torch.randperm(self.training_set, generator=generator("epoch", seed, epoch))
        return self._fixed(seed).select(order[update * count : (update + 1) * count])

    def validation(self, seed: int) -> Problems:
        """Return the problems that choose learning rates: of the training split, but not in a fixed training set.

        (Pretraining samples from the whole split, so where there are few problems it has seen them.)
        """
        if self.training_set is None:
            return self.task.problems(self.settings.held_out, seed=2 * seed + 1, step=FRESH)
        return self._fixed(seed).select(np.arange(self.training_set, self.training_set + self.settings.held_out))

    def _fixed(self, seed: int) -> Problems:
        """Return a seed's fixed training set, followed by its validation problems."""
        if seed not in self._kept:
            count = (self.training_set or 0) + self.settings.held_out
            problems = self.task.problems(count, seed=2 * seed + 1, distinct=True)
            order = torch.randperm(count, generator=generator("fixed set", seed))
            self._kept[seed] = problems.select(order)  # of distinct problems the last ones are the rare ones
        return self._kept[seed]

    @cached_property
    def _kept(self) -> dict[int, Problems]:
        """The fixed training sets that were asked for, by seed."""
        return {}

    def prompts(self, problems: Problems) -> Prompts:
        """Return the prompts of some problems, on the policy's device."""
        device = self.context.device
        return Prompts(problems.prompts.to(device), problems.lengths.to(device))

    def batch(self, policy: Transformer, problems: Problems, seed: int, step: int) -> TokenBatch:
        """Return the trainer's view of some problems."""

        def verify(written: Tensor, lengths: Tensor) -> Tensor:
            return self.task.verify(problems.content, written, lengths)

        return TokenBatch(policy, self.prompts(problems), verify, self.writing(), seed, step)

    def evaluate(
        self, policy: Transformer, problems: Problems, samples: int, writing: Writing, *key: str | int
    ) -> Evaluation:
        """Sample answers to every problem, from the random numbers of the key, and verify them."""
        stream = generator("evaluation", *key, device=self.context.device)
        written = write(policy, self.prompts(problems), samples, writing, stream)
        return Evaluation(problems, written, self.task.verify(problems.content, written.tokens, written.lengths))
