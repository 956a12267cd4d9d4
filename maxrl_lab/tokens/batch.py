"""A transformer's answers as a group: written once, and the gradient recomputed in parts that fit into memory.

Sampling already gives every answer's log-probability, so the policy is not run again until the advantages are known:
`backward` then reads each prompt once more, scores only the answers whose advantage is not 0, a few prompts at a time,
and sums the gradients. Groups without signal (all right, all wrong) cost nothing, and the parts change the result by
rounding only.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maxrl_lab import evaluate, specs
from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Shape, Transformer
from maxrl_lab.randomness import generator
from maxrl_lab.tokens import answers, enumeration
from maxrl_lab.tokens.answers import Answers
from maxrl_lab.training.groups import DivergedError, Group

Verify = Callable[[Tensor, Tensor], Tensor]
"""Answers (B, N, T) and lengths (B, N) to (B, N) bool: which are right."""
_GIB = 2**30


@dataclass(frozen=True)
class Writing:
    """How answers are drawn, and what memory that and their gradient may take."""

    answer_length: int
    """T, most tokens of an answer."""
    end: int = 2
    """The end token."""
    temperature: float = 1.0
    """Of sampling and of scoring alike."""
    top_p: float = 1.0
    """Smallest share of the probability that is sampled from; below 1 answers can be drawn but not learnt from."""
    memory: float = 1.0
    """GiB for activations: what does not fit at once is done in parts."""
    precision: str = "float32"
    """Of the arithmetic: float32, or bfloat16 under autocast (faster, and only nearly on-policy)."""

    def __post_init__(self) -> None:
        """Check ranges."""
        specs.check_count("answer_length", self.answer_length)
        specs.lookup(PRECISIONS, "precision", self.precision)
        for name in ("temperature", "memory"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must lie in (0, 1], got {self.top_p}")

    def arithmetic(self, device: torch.device) -> torch.autocast:
        """Return the context in which the policy is run."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Prompts(NamedTuple):
    """B prompts (B, P), padded on the right, and their lengths (B,)."""

    tokens: Tensor
    lengths: Tensor


def write(
    policy: Transformer, prompts: Prompts, rollouts: int, writing: Writing, stream: torch.Generator | None
) -> Answers:
    """Draw N answers of each of B prompts, as many at a time as fit into memory; greedy ones without a stream."""
    tokens, lengths = prompts
    answers.check_prompts(policy, tokens, lengths, writing.answer_length)
    size = (len(tokens), rollouts, writing.answer_length)
    uniforms = None if stream is None else torch.rand(size, generator=stream, device=tokens.device)
    fit, together = at_once(policy.shape, tokens.shape[1], rollouts, writing)
    parts = []
    for start in range(0, len(tokens), fit):
        rows = slice(start, start + fit)
        with torch.no_grad(), writing.arithmetic(tokens.device):
            prefix = answers.read(policy, tokens[rows, : int(lengths[rows].max())], lengths[rows])
            pieces = [
                answers.sample(
                    policy,
                    prefix,
                    None if uniforms is None else uniforms[rows, first : first + together],
                    end=writing.end,
                    answers=(min(together, rollouts - first), writing.answer_length),
                    temperature=writing.temperature,
                    top_p=writing.top_p,
                )
                for first in range(0, rollouts, together)
            ]
        parts.append(Answers(*(torch.cat(piece, 1) for piece in zip(*pieces, strict=True))))
    return Answers(*(torch.cat(part) for part in zip(*parts, strict=True)))


def at_once(shape: Shape, prompt: int, rollouts: int, writing: Writing) -> tuple[int, int]:
    """Return how many prompts, and how many answers of each, can be written together.

    Raises `ValueError` if one answer does not fit into the memory.
    """
    cache = 2 * shape.layers * shape.kv_heads * shape.head
    hidden = 4 * (shape.width + shape.mlp)
    per_prompt, per_answer = 4 * prompt * (cache + hidden), 4 * (2 * cache * writing.answer_length + 2 * hidden)
    room = writing.memory * _GIB
    together = min(rollouts, int((room - per_prompt) / per_answer))
    if together < 1:
        raise InputError(
            f"an answer of {writing.answer_length} tokens to a prompt of {prompt} needs "
            f"{(per_prompt + per_answer) / _GIB:.2g} GiB, memory is {writing.memory:g} GiB"
        )
    return max(1, int(room / (per_prompt + together * per_answer))), together


@dataclass
class TokenBatch:
    """The trainer's view of B prompts under one policy; see `Batch` (R is 1).

    `seed` and `step` address the random numbers. Raises `DivergedError`, a `ValueError`, if the policy is NaN.
    """

    policy: Transformer
    prompts: Prompts
    verify: Verify
    writing: Writing
    seed: int
    step: int
    seen: dict[str, float] = field(default_factory=dict)
    """What the last rollout looked like: see `describe`."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Where its time went."""

    def __post_init__(self) -> None:
        """Check that what is drawn can be learnt from."""
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
        sampled = time.perf_counter()
        rewards = self.verify(written.tokens, written.lengths)
        verified = time.perf_counter()
        self.seconds = {"seconds_sample": sampled - start, "seconds_verify": verified - sampled}
        self.seen = describe(written, rewards)
        log_probs, entropies = differentiable(self.policy, self.prompts, written, self.writing)
        return Group(rewards[None], log_probs[None], written.lengths[None], entropies[None])

    def greedy(self, runs: Sequence[int]) -> Tensor:  # noqa: ARG002
        """Return which prompts the greedy answer gets right, (1, B) bool."""
        written = write(self.policy, self.prompts, 1, self.writing, None)
        return self.verify(written.tokens, written.lengths)[:, 0][None]

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return the exact log pass rates (1, B) by enumerating all answers; `ValueError` if there are too many."""
        _check_runs(runs)
        tokens, lengths = self.prompts
        answers.check_prompts(self.policy, tokens, lengths, self.writing.answer_length)
        found = enumeration.enumerate_answers(
            self.policy,
            answers.read(self.policy, tokens, lengths),
            self.writing.answer_length,
            end=self.writing.end,
            temperature=self.writing.temperature,
        )
        every = (len(tokens), *found.tokens.shape)
        right = self.verify(found.tokens.expand(every), found.lengths.expand(every[:2]))
        return found.log_probs.masked_fill(~right, -torch.inf).logsumexp(1)[None]


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


def differentiable(policy: Transformer, prompts: Prompts, written: Answers, writing: Writing) -> tuple[Tensor, Tensor]:
    """Return the answers' log-probabilities and entropies (B, N) with a gradient that is computed when asked for."""
    parameters = [each for each in policy.parameters() if each.requires_grad]

    def gradients(by_log_prob: Tensor, by_entropy: Tensor) -> list[Tensor]:
        return accumulate(policy, parameters, prompts, written, writing, by_log_prob, by_entropy)

    log_probs, entropies = _Recomputed.apply(written.log_probs, written.entropies, gradients, *parameters)
    return log_probs, entropies


class _Recomputed(torch.autograd.Function):
    """Values known from sampling; their gradient with respect to the parameters is computed in `backward`."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, entropies: Tensor, gradients: Any, *parameters: Tensor) -> Any:  # noqa: ARG004
        ctx.gradients = gradients
        return log_probs.clone(), entropies.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        return (None, None, None, *ctx.gradients(*slopes))


def accumulate(
    policy: Transformer,
    parameters: Sequence[Tensor],
    prompts: Prompts,
    written: Answers,
    writing: Writing,
    by_log_prob: Tensor,
    by_entropy: Tensor,
) -> list[Tensor]:
    """Return the gradient of sum(by_log_prob log_probs + by_entropy entropies), slopes (B, N), part by part."""
    totals = [torch.zeros_like(each) for each in parameters]
    wanted = (by_log_prob != 0) | (by_entropy != 0)
    for rows, places in parts(policy.shape, prompts.tokens.shape[1], wanted, written.lengths, writing.memory):
        chosen = rows[:, None], places
        lengths = torch.where(wanted[chosen], written.lengths[chosen], 1)
        longest = int(lengths.max())
        with torch.enable_grad(), writing.arithmetic(prompts.tokens.device):
            own = prompts.lengths[rows]
            prefix = answers.read(policy, prompts.tokens[rows, : int(own.max())], own)
            tokens = written.tokens[chosen][..., :longest]
            log_probs, entropies = answers.score(policy, prefix, tokens, lengths, writing.temperature)
            surrogate = (by_log_prob[chosen] * log_probs).sum()
            if bool((by_entropy[chosen] != 0).any()):
                surrogate = surrogate + (by_entropy[chosen] * entropies).sum()
        for total, each in zip(totals, torch.autograd.grad(surrogate, parameters), strict=True):
            total += each
    return totals


def parts(shape: Shape, prompt: int, wanted: Tensor, lengths: Tensor, memory: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Prompts (b,) and places (b, n) of their wanted answers, in parts whose activations fit into `memory` GiB.

    Raises `ValueError` if one answer does not fit.
    """
    per_token = 4 * shape.layers * (10 * shape.width + 5 * shape.mlp)
    per_pair = 4 * shape.layers * shape.heads * 2
    room = memory * _GIB

    def need(prompts: int, answers: int, longest: int) -> float:
        tokens = prompts * (prompt + answers * longest)
        return tokens * per_token + prompts * (prompt**2 + answers * longest * (prompt + longest)) * per_pair

    counts = wanted.sum(1)
    order = counts.argsort(descending=True, stable=True)
    order = order[counts[order] > 0]
    places = (~wanted).int().argsort(dim=1, stable=True)
    longest = torch.where(wanted, lengths, 0).amax(1)
    start = 0
    while start < len(order):
        most = int(counts[order[start]])
        end = start + 1
        while end < len(order) and need(end + 1 - start, most, int(longest[order[start : end + 1]].max())) <= room:
            end += 1
        rows = order[start:end]
        own = int(longest[rows].max())
        at_once = most
        while need(len(rows), at_once, own) > room:
            if at_once == 1:
                gib = need(1, 1, own) / _GIB
                raise InputError(
                    f"the gradient of one answer of {own} tokens needs {gib:.2g} GiB, memory is {memory:g} GiB"
                )
            at_once = (at_once + 1) // 2
        for first in range(0, most, at_once):
            yield rows, places[rows, first : min(first + at_once, most)]
        start = end
