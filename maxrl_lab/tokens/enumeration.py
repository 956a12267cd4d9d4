"""Every answer of up to L tokens and its exact probability: each distinct beginning is computed once, on a tree.

The nodes are the beginnings that can go on, W^t of t tokens; a node's distribution gives all its children, so the
last token is never run through the network. This is meant for small vocabularies and short answers.

A answers in all, L most tokens of an answer, V words of the vocabulary, W = V - 1 words that do not end an answer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.tokens.attention import Prefix, Tree
from maxrl_lab.tokens.distributions import distribution

MAX_ANSWERS = 10**6
"""Most answers that are enumerated."""


class Enumeration(NamedTuple):
    """All A answers: those that end within L tokens, and the L-token beginnings of those that do not."""

    tokens: Tensor
    """(A, L) ids, 0 behind the end."""
    lengths: Tensor
    """(A,) tokens, the end token included."""
    ended: Tensor
    """(A,) bool; false for a beginning."""
    log_probs: Tensor
    """(B, A) for each prompt, in nats, differentiable."""


def count(vocabulary: int, length: int) -> int:
    """Return A, the number of answers of up to `length` tokens."""
    return sum((vocabulary - 1) ** depth for depth in range(length + 1))


def enumerate_answers(
    policy: Transformer, prefix: Prefix, length: int, *, end: int, temperature: float = 1.0
) -> Enumeration:
    """Return all answers of up to `length` tokens after each of B prompts.

    Raises `InputError` if there are more than `MAX_ANSWERS`.
    """
    words = policy.shape.vocabulary
    if count(words, length) > MAX_ANSWERS:
        raise InputError(
            f"{words} words and {length} tokens make {count(words, length)} answers, "
            f"at most {MAX_ANSWERS} are enumerated"
        )
    going_on = torch.tensor([word for word in range(words) if word != end], device=prefix.logits.device)
    levels = _levels(going_on, length)
    nodes = _distributions(policy, prefix, levels[1:length], temperature)
    reached = prefix.logits.new_zeros(len(prefix.logits), 1, dtype=nodes[0].dtype)
    tokens, lengths, log_probs = [], [], []
    for depth, (level, node) in enumerate(zip(levels, nodes, strict=False)):
        ends = torch.cat([level, level.new_full((len(level), 1), end)], 1)
        tokens.append(torch.nn.functional.pad(ends, (0, length - depth - 1)))
        lengths += [depth + 1] * len(ends)
        log_probs.append(reached + node[..., end])
        reached = (reached[..., None] + node[..., going_on]).flatten(1)
    cut_off = len(levels[length])
    ended = torch.arange(len(lengths) + cut_off, device=reached.device) < len(lengths)
    return Enumeration(
        torch.cat([*tokens, levels[length]]),
        torch.tensor(lengths + [length] * cut_off, device=reached.device),
        ended,
        torch.cat([*log_probs, reached], 1),
    )


def _levels(going_on: Tensor, length: int) -> list[Tensor]:
    """Return the beginnings of 0, 1, ..., `length` tokens that have not ended, (W^t, t), siblings side by side."""
    levels = [going_on.new_empty(1, 0)]
    for _ in range(length):
        parents = levels[-1].repeat_interleave(len(going_on), 0)
        levels.append(torch.cat([parents, going_on.repeat(len(levels[-1]))[:, None]], 1))
    return levels


def _distributions(policy: Transformer, prefix: Prefix, levels: list[Tensor], temperature: float) -> list[Tensor]:
    """Return log-probabilities of the token after each beginning, (B, W^t, V) for level t; level 0 is the prompt."""
    root = distribution(prefix.logits, temperature)[:, None]
    if not levels:
        return [root]
    sizes = [len(level) for level in levels]
    device = prefix.logits.device
    depths = torch.cat([torch.full((size,), depth, device=device) for depth, size in enumerate(sizes, 1)])
    starts = torch.tensor([0, *sizes[:-1]], device=device).cumsum(0)
    ancestors = torch.zeros(len(depths), len(levels), dtype=torch.long, device=device)
    for depth, size in enumerate(sizes, 1):
        nodes = starts[depth - 1] + torch.arange(size, device=device)
        for above in range(1, depth + 1):
            step = size // sizes[above - 1]
            ancestors[nodes, above - 1] = starts[above - 1] + torch.arange(size, device=device) // step
    words = torch.cat([level[:, -1] for level in levels])
    positions = (prefix.lengths[:, None] + depths - 1)[..., None]
    tree = Tree(prefix, ancestors, depths)
    hidden = policy.hidden(words.expand(len(prefix.lengths), -1)[..., None], positions, tree)
    later = distribution(policy.logits(hidden[:, :, 0]), temperature)
    return [root, *later.split(sizes, 1)]
