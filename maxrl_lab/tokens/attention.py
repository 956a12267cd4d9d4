"""Attention as a choice of keys: a prompt's tokens see the prompt, an answer's tokens see the prompt and the answer.

Each class here is an `Attend` of `maxrl_lab.policies.transformer`, and says which tokens see which:

    Causal   the tokens of a prompt see the tokens before them
    Shared   the tokens of whole answers see their prompt, and the tokens before them in their own answer
    Cached   the newest token of each answer sees its prompt, and its answer so far
    Tree     every beginning of an answer sees its prompt, and its own beginnings

N answers of a prompt share one copy of its keys and values, so a prompt costs once what it would cost N times; the
answers' queries are rows of one matrix product against them. Keys and values are kept as (B, K, ..., D).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from maxrl_lab.tokens.merged_attention import Merged, attend_to_both, can_merge


@dataclass(frozen=True)
class Prefix:
    """B prompts as their answers see them."""

    keys: tuple[Tensor, ...]
    """The keys (B, K, P, D) of every layer."""
    values: tuple[Tensor, ...]
    """The values (B, K, P, D) of every layer."""
    lengths: Tensor
    """The number of tokens of each prompt (B,); what lies behind them is padding, which no token sees."""
    logits: Tensor
    """The logits (B, V) of the first token after each prompt."""

    @cached_property
    def padding(self) -> Tensor | None:
        """Where padding is, (B, 1, 1, P); None if there is none."""
        positions = torch.arange(self.keys[0].shape[2], device=self.lengths.device)
        padding = positions >= self.lengths[:, None, None, None]
        return padding if bool(padding.any()) else None

    def select(self, prompts: Tensor) -> "Prefix":
        """Return some of the prompts."""
        keys, values = (tuple(layer[prompts] for layer in layers) for layers in (self.keys, self.values))
        return Prefix(keys, values, self.lengths[prompts], self.logits[prompts])


class Causal:
    """Tokens of prompts (B, P) see themselves and the tokens before them; their keys and values are kept."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # noqa: ARG002
        """See `transformer.Attend`."""
        queries, keys, values = (part.transpose(1, 2).contiguous() for part in (queries, keys, values))
        self.keys.append(keys)
        self.values.append(values)
        mixed: Tensor = scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)
        return mixed.transpose(1, 2).flatten(-2)


class Shared:
    """Tokens of answers see their prompt, and their own answer up to themselves.

    The tokens come packed, (M, ...): only those where `valid` (B, N, T) is true, so that padding is never computed.
    """

    def __init__(self, prefix: Prefix, valid: Tensor) -> None:
        self.prefix, self.valid = prefix, valid
        self.indices = None if bool(valid.all()) else valid.flatten().nonzero().flatten()
        self.later = torch.ones(valid.shape[2:] * 2, dtype=torch.bool, device=valid.device).triu(1)

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `transformer.Attend`."""
        queries, keys, values = (self._unpack(part) for part in (queries, keys, values))
        prefix = self.prefix
        shared = prefix.keys[layer], prefix.values[layer]
        if prefix.padding is None and can_merge(queries):
            mixed: Tensor = Merged.apply(queries, *shared, keys, values)
        else:
            keys, values = (part.permute(0, 3, 1, 2, 4) for part in (keys, values))
            later = self.later.repeat(queries.shape[3] // keys.shape[1], 1)
            mixed = attend_to_both(queries, *shared, keys, values, prefix.padding, later)
        mixed = mixed.flatten(0, 2)
        return mixed if self.indices is None else mixed[self.indices]

    def _unpack(self, packed: Tensor) -> Tensor:
        """Return packed values (M, heads, D) where they belong, (B, N, T, heads, D), and 0 on padding."""
        if self.indices is not None:
            padded = packed.new_zeros(self.valid.numel(), *packed.shape[1:])
            packed = padded.index_copy(0, self.indices, packed)
        unpacked: Tensor = packed.unflatten(0, self.valid.shape)
        return unpacked


class Cached:
    """One new token of each answer (B, N, 1) sees its prompt and its answer so far, which it then joins."""

    def __init__(self, prefix: Prefix, rollouts: int, tokens: int) -> None:
        self.prefix, self.time = prefix, 0
        like = prefix.keys[0]
        size = (len(prefix.keys), *like.shape[:2], rollouts, tokens, like.shape[-1])
        self.keys, self.values = like.new_empty(size), like.new_empty(size)

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `transformer.Attend`."""
        self.keys[layer, :, :, :, self.time] = keys[:, :, 0].transpose(1, 2)
        self.values[layer, :, :, :, self.time] = values[:, :, 0].transpose(1, 2)
        keys, values = (cache[layer, :, :, :, : self.time + 1] for cache in (self.keys, self.values))
        prefix = self.prefix
        return attend_to_both(queries, prefix.keys[layer], prefix.values[layer], keys, values, prefix.padding)

    def keep(self, prompts: Tensor, answers: Tensor) -> None:
        """Forget all but the prompts (b,) and the answers (b, n) of them."""
        if len(prompts) < len(self.prefix.lengths):
            self.prefix = self.prefix.select(prompts)
        now = self.time  # later positions have not been written yet
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_empty((*old.shape[:1], len(prompts), old.shape[2], answers.shape[1], *old.shape[4:]))
            for layer in range(len(old)):
                kept = old[layer, prompts[:, None], :, answers, :now]  # (b, n, K, now, D)
                new[layer, :, :, :, :now] = kept.transpose(1, 2)
            setattr(self, name, new)


class Tree:
    """Every node of a tree of beginnings (B, M, 1) sees its prompt and its ancestors, of which itself is the last.

    ancestors: (M, L) nodes, the first `depths` (M,) of which are a node's ancestors, from the root's child on.
    """

    def __init__(self, prefix: Prefix, ancestors: Tensor, depths: Tensor) -> None:
        self.prefix, self.ancestors = prefix, ancestors
        self.absent = torch.arange(ancestors.shape[1], device=depths.device) >= depths[:, None]

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `transformer.Attend`."""
        absent = self.absent[:, None].expand(-1, queries.shape[3] // keys.shape[3], -1)
        keys, values = (part[:, :, 0].transpose(1, 2)[:, :, self.ancestors] for part in (keys, values))
        prefix = self.prefix
        return attend_to_both(queries, prefix.keys[layer], prefix.values[layer], keys, values, prefix.padding, absent)
