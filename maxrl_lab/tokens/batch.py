"""A transformer's answers as a group, as the trainer asks for them: B prompts under one policy."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maxrl_lab import evaluate
from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.randomness import generator
from maxrl_lab.tokens.enumeration import enumerate_answers
from maxrl_lab.tokens.gradients import differentiable
from maxrl_lab.tokens.sampling import Answers
from maxrl_lab.tokens.scoring import check_prompts, read
from maxrl_lab.tokens.writing import Prompts, Writing, write
from maxrl_lab.training.groups import DivergedError, Group

Verify = Callable[[Tensor, Tensor], Tensor]
"""Answers (B, N, T) and lengths (B, N) to (B, N) bool: which are right."""


@dataclass
class TokenBatch:
    """The trainer's view of B prompts under one policy, run 0: a `maxrl_lab.training.methods.Batch`.

    `seed` and `step` address the random numbers. Raises `DivergedError`, an `InputError`, if the policy is NaN. The
    gradient is that of the parameters which sampled: if they change before `backward`, that raises `InputError`.
    """

    policy: Transformer
    prompts: Prompts
    verify: Verify
    writing: Writing
    seed: int
    step: int
    seen: dict[str, float] = field(default_factory=dict)
    """What the last rollout looked like, as `describe` returns it."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds that the last rollout took, for sampling and for verifying."""

    def __post_init__(self) -> None:
        """Check that the policy can learn from what is sampled."""
        if self.writing.top_p < 1:
            raise InputError(f"a policy learns from its whole distribution, expected top_p 1, got {self.writing.top_p}")

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return N answers of each prompt, a group (1, B, N) whose log-probabilities can be differentiated."""
        _check_runs(runs)
        start = time.perf_counter()
        stream = generator("answers", self.seed, self.step, rollouts, device=self.prompts.tokens.device)
        written = write(self.policy, self.prompts, rollouts, self.writing, stream)
        if not bool(written.log_probs.isfinite().all()):
            raise DivergedError(0, self.step)
        log_probs, entropies = differentiable(self.policy, self.prompts, written, self.writing)
        sampled = time.perf_counter()
        rewards = self.verify(written.tokens, written.lengths)
        verified = time.perf_counter()
        self.seconds = {"seconds_sample": sampled - start, "seconds_verify": verified - sampled}
        self.seen = describe(written, rewards)
        return Group(rewards[None], log_probs[None], written.lengths[None], entropies[None])

    def greedy(self, runs: Sequence[int]) -> Tensor:
        """Return which prompts the greedy answer gets right, (1, B) bool."""
        _check_runs(runs)
        written = write(self.policy, self.prompts, 1, self.writing, None)
        return self.verify(written.tokens, written.lengths)[:, 0][None]

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return the exact log pass rates (1, B) by enumerating all answers; `InputError` if there are too many."""
        _check_runs(runs)
        tokens, lengths = self.prompts
        check_prompts(self.policy, tokens, lengths, self.writing.answer_length)
        every = enumerate_answers(
            self.policy,
            read(self.policy, tokens, lengths),
            self.writing.answer_length,
            end=self.writing.end,
            temperature=self.writing.temperature,
        )
        size = (len(tokens), *every.tokens.shape)
        right = self.verify(every.tokens.expand(size), every.lengths.expand(size[:2]))
        return every.log_probs.masked_fill(~right, -torch.inf).logsumexp(1)[None]


def _check_runs(runs: Sequence[int]) -> None:
    if list(runs) != [0]:
        raise InputError(f"a token batch holds one policy, run 0; got runs {list(runs)}")


def describe(written: Answers, rewards: Tensor) -> dict[str, float]:
    """Return pass rate, share of prompts with a success, mean length, share cut off, entropy in nats per token."""
    tokens = written.lengths.sum()
    return {
        "pass_rate": float(rewards.double().mean()),
        "signal": float(evaluate.signal_fraction(rewards)),
        "length": float(written.lengths.double().mean()),
        "cut_off": float((~written.ended).double().mean()),
        "entropy": float(written.entropies.double().sum() / tokens),
        "tokens": float(tokens),
    }
