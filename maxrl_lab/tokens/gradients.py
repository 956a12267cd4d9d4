"""The gradient of answers that were sampled without one, recomputed in parts that fit into memory.

Sampling already gives every answer's log-probability, so the policy is not run again until the advantages are known:
`backward` then reads each prompt once more, scores only the answers whose advantage is not 0, equal ones once, a few
prompts at a time, and sums the gradients. Groups without signal (all right, all wrong) cost nothing; the parts and the
merged answers change the result by rounding only.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Shape, Transformer
from maxrl_lab.tokens.sampling import Answers
from maxrl_lab.tokens.scoring import read, score
from maxrl_lab.tokens.writing import GIB, Prompts, Writing

_MULTIPLIER = 6364136223846793005
"""Of a digest of tokens, which wraps around; answers of one digest are compared in full before they are merged."""


def differentiable(policy: Transformer, prompts: Prompts, written: Answers, writing: Writing) -> tuple[Tensor, Tensor]:
    """Return the answers' log-probabilities and entropies (B, N) with a gradient that is computed when asked for.

    It is the gradient at the parameters that the answers were sampled with: `backward` raises `InputError` if the
    parameters have changed in the meantime.
    """
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    versions = _versions(policy)

    def gradients(by_log_prob: Tensor, by_entropy: Tensor) -> list[Tensor]:
        if _versions(policy) != versions:
            raise InputError(
                "the policy's parameters have changed since its answers were sampled: call backward before the next "
                "update, or sample again"
            )
        return accumulate(policy, parameters, prompts, written, writing, by_log_prob, by_entropy)

    log_probs, entropies = _Recomputed.apply(written.log_probs, written.entropies, gradients, *parameters)
    return log_probs, entropies


def _versions(policy: Transformer) -> list[int]:
    """Return how many times each parameter has been changed in place, as torch's own check counts."""
    return [parameter._version for parameter in policy.parameters()]


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
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    by_log_prob, by_entropy = merge_equal(written, by_log_prob, by_entropy)
    wanted = (by_log_prob != 0) | (by_entropy != 0)
    for rows, indices in parts(policy.shape, prompts.tokens.shape[1], wanted, written.lengths, writing.memory):
        part = rows[:, None], indices
        lengths = torch.where(wanted[part], written.lengths[part], 1)
        longest = int(lengths.max())
        with torch.enable_grad(), writing.arithmetic(prompts.tokens.device):
            prompt_lengths = prompts.lengths[rows]
            prefix = read(policy, prompts.tokens[rows, : int(prompt_lengths.max())], prompt_lengths)
            tokens = written.tokens[part][..., :longest]
            log_probs, entropies = score(policy, prefix, tokens, lengths, writing.temperature)
            surrogate = (by_log_prob[part] * log_probs).sum()
            if bool((by_entropy[part] != 0).any()):
                surrogate = surrogate + (by_entropy[part] * entropies).sum()
        for total, slope in zip(totals, torch.autograd.grad(surrogate, parameters), strict=True):
            total += slope
    return totals


def merge_equal(written: Answers, *slopes: Tensor) -> list[Tensor]:
    """Return slopes (B, N) in which the first of equal answers to a prompt has the sum of them all, the others 0.

    A policy that has learnt much writes the same few answers again and again: each is then scored once.
    """
    longest = torch.arange(written.tokens.shape[2], device=written.tokens.device)
    tokens = torch.where(longest < written.lengths[..., None], written.tokens, -1)
    digest = torch.zeros_like(written.lengths)
    for column in tokens.unbind(2):
        digest = digest * _MULTIPLIER + column
    order = digest.argsort(dim=1, stable=True)
    ordered = tokens.gather(1, order[..., None].expand_as(tokens))
    is_new = torch.ones_like(order, dtype=torch.bool)
    is_new[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).any(2)
    first = torch.where(is_new, torch.arange(order.shape[1], device=order.device), 0).cummax(1).values
    merged = []
    for slope in slopes:
        sums = torch.zeros_like(slope).scatter_add(1, first, slope.gather(1, order))
        merged.append(torch.zeros_like(slope).scatter(1, order, sums))
    return merged


def parts(shape: Shape, prompt: int, wanted: Tensor, lengths: Tensor, memory: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield prompts (b,) and the indices (b, n) of their wanted answers, in parts that fit into `memory` GiB.

    wanted, lengths: (B, N). Prompts with similar numbers of wanted answers come together. Raises `InputError` if the
    activations of one answer do not fit.
    """
    counts = wanted.sum(1)
    order = counts.argsort(descending=True, stable=True)
    order = order[counts[order] > 0]
    indices = (~wanted).int().argsort(dim=1, stable=True)
    longest = torch.where(wanted, lengths, 0).amax(1)
    room = memory * GIB
    start = 0
    while start < len(order):
        most = int(counts[order[start]])
        end = start + 1
        while end < len(order):
            longest_yet = int(longest[order[start : end + 1]].max())
            if _activations(shape, prompt, end + 1 - start, most, longest_yet) > room:
                break
            end += 1
        rows = order[start:end]
        together = _answers_at_once(shape, prompt, len(rows), most, int(longest[rows].max()), memory)
        for first in range(0, most, together):
            yield rows, indices[rows, first : min(first + together, most)]
        start = end


def _answers_at_once(shape: Shape, prompt: int, prompts: int, answers: int, longest: int, memory: float) -> int:
    """Return how many of the answers of each prompt fit into `memory` GiB together, by halving."""
    while _activations(shape, prompt, prompts, answers, longest) > memory * GIB:
        if answers == 1:
            gib = _activations(shape, prompt, 1, 1, longest) / GIB
            raise InputError(
                f"the gradient of one answer of {longest} tokens needs {gib:.2g} GiB, memory is {memory:g} GiB"
            )
        answers = (answers + 1) // 2
    return answers


def _activations(shape: Shape, prompt: int, prompts: int, answers: int, longest: int) -> float:
    """Return the bytes that a gradient keeps of prompts of `prompt` tokens with so many answers of `longest` tokens."""
    per_token = 4 * shape.layers * (10 * shape.width + 5 * shape.mlp)
    per_pair = 4 * shape.layers * shape.heads * 2
    tokens = prompts * (prompt + answers * longest)
    pairs = prompts * (prompt**2 + answers * longest * (prompt + longest))
    return tokens * per_token + pairs * per_pair
