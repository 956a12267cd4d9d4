"""Who attends to what: a prompt to itself, answers to one shared prompt and to themselves, a new token to the past.

N answers of a prompt share one copy of its keys and values, so a prompt costs once what it would cost N times; the
answers' queries are rows of one matrix product against them. Keys and values are kept as (B, K, ..., D).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class Prefix:
    """B prompts as their answers see them."""

    keys: tuple[Tensor, ...]
    """A layer's (B, K, P, D)."""
    values: tuple[Tensor, ...]
    """A layer's (B, K, P, D)."""
    lengths: Tensor
    """(B,) tokens of each prompt; what lies behind is padding, which nobody attends to."""
    logits: Tensor
    """(B, V) of the first token after each prompt."""

    @cached_property
    def padding(self) -> Tensor | None:
        """(B, 1, 1, P), true on padding; None if there is none."""
        places = torch.arange(self.keys[0].shape[2], device=self.lengths.device)
        padding = places >= self.lengths[:, None, None, None]
        return padding if bool(padding.any()) else None

    def select(self, prompts: Tensor) -> "Prefix":
        """Return some of the prompts."""
        keys, values = (tuple(each[prompts] for each in kept) for kept in (self.keys, self.values))
        return Prefix(keys, values, self.lengths[prompts], self.logits[prompts])


class Causal:
    """Tokens of prompts (B, P) attend to themselves and what came before; keeps keys and values."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # noqa: ARG002
        """See `transformer.Attend`."""
        queries, keys, values = (each.transpose(1, 2).contiguous() for each in (queries, keys, values))
        self.keys.append(keys)
        self.values.append(values)
        mixed: Tensor = scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)
        return mixed.transpose(1, 2).flatten(-2)


class Shared:
    """Tokens of answers attend to their prompt, and to their own answer up to themselves.

    The tokens come packed, (M, ...): the true places of `valid` (B, N, T), so that padding is never computed.
    """

    def __init__(self, prefix: Prefix, valid: Tensor) -> None:
        self.prefix, self.valid = prefix, valid
        self.places = None if bool(valid.all()) else valid.flatten().nonzero().flatten()
        self.later = torch.ones(valid.shape[2:] * 2, dtype=torch.bool, device=valid.device).triu(1)

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `transformer.Attend`."""
        queries, keys, values = (self._unpack(each) for each in (queries, keys, values))
        prefix = self.prefix
        shared = prefix.keys[layer], prefix.values[layer]
        if prefix.padding is None and can_merge(queries):
            mixed: Tensor = Merged.apply(queries, *shared, keys, values)
        else:
            keys, values = (each.permute(0, 3, 1, 2, 4) for each in (keys, values))
            later = self.later.repeat(queries.shape[3] // keys.shape[1], 1)
            mixed = attend_to_both(queries, *shared, keys, values, prefix.padding, later)
        mixed = mixed.flatten(0, 2)
        return mixed if self.places is None else mixed[self.places]

    def _unpack(self, packed: Tensor) -> Tensor:
        """(M, heads, D) to (B, N, T, heads, D), 0 on padding."""
        if self.places is not None:
            padded = packed.new_zeros(self.valid.numel(), *packed.shape[1:])
            packed = padded.index_copy(0, self.places, packed)
        unpacked: Tensor = packed.unflatten(0, self.valid.shape)
        return unpacked


class Cached:
    """One new token of each answer (B, N, 1) attends to its prompt and to its answer's past, which it then joins."""

    def __init__(self, prefix: Prefix, rollouts: int, tokens: int) -> None:
        self.prefix, self.time = prefix, 0
        like = prefix.keys[0]
        size = (len(prefix.keys), *like.shape[:2], rollouts, tokens, like.shape[-1])
        self.keys, self.values = like.new_empty(size), like.new_empty(size)

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `transformer.Attend`."""
        self.keys[layer, :, :, :, self.time] = keys[:, :, 0].transpose(1, 2)
        self.values[layer, :, :, :, self.time] = values[:, :, 0].transpose(1, 2)
        keys, values = (each[layer, :, :, :, : self.time + 1] for each in (self.keys, self.values))
        prefix = self.prefix
        return attend_to_both(queries, prefix.keys[layer], prefix.values[layer], keys, values, prefix.padding)

    def keep(self, prompts: Tensor, answers: Tensor) -> None:
        """Forget all but some prompts (b,) and some answers of each, (b, n)."""
        if len(prompts) < len(self.prefix.lengths):
            self.prefix = self.prefix.select(prompts)
        now = self.time  # what lies behind has not been written yet
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_empty((*old.shape[:1], len(prompts), old.shape[2], answers.shape[1], *old.shape[4:]))
            for layer in range(len(old)):
                kept = old[layer, prompts[:, None], :, answers, :now]  # (b, n, K, now, D)
                new[layer, :, :, :, :now] = kept.transpose(1, 2)
            setattr(self, name, new)


class Tree:
    """Every node of a tree of answers (B, M, 1) attends to its prompt and to its M x L ancestors, itself the last."""

    def __init__(self, prefix: Prefix, ancestors: Tensor, depths: Tensor) -> None:
        self.prefix, self.ancestors = prefix, ancestors
        self.absent = torch.arange(ancestors.shape[1], device=depths.device) >= depths[:, None]

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `transformer.Attend`."""
        absent = self.absent[:, None].expand(-1, queries.shape[3] // keys.shape[3], -1)
        keys, values = (each[:, :, 0].transpose(1, 2)[:, :, self.ancestors] for each in (keys, values))
        prefix = self.prefix
        return attend_to_both(queries, prefix.keys[layer], prefix.values[layer], keys, values, prefix.padding, absent)


def attend_to_both(
    queries: Tensor,
    prefix_keys: Tensor,
    prefix_values: Tensor,
    keys: Tensor,
    values: Tensor,
    padding: Tensor | None = None,
    hidden: Tensor | None = None,
) -> Tensor:
    """Return attention (B, N, T, H D) over the shared prompt and the answers' own tokens, one softmax over both.

    queries: (B, N, T, H, D); prefix_keys, prefix_values: (B, K, P, D); keys, values: (B, K, N, S, D); padding: (B, 1,
    1, P), true where the prompt has ended; hidden: (..., T H / K, S), true where an own token is not to be seen.
    """
    prompts, rollouts, tokens, heads, head = queries.shape
    kv_heads, width = prefix_keys.shape[1:3]
    group = heads // kv_heads
    grouped = (queries * head**-0.5).unflatten(3, (kv_heads, group)).permute(0, 3, 1, 4, 2, 5)  # B K N G T D
    own_rows = grouped.reshape(prompts, kv_heads, rollouts, group * tokens, head)
    rows = own_rows.flatten(2, 3)
    shared = rows @ prefix_keys.mT
    own = own_rows @ keys.mT
    if padding is not None:
        shared = shared.masked_fill(padding, -torch.inf)
    if hidden is not None:
        own = own.masked_fill(hidden, -torch.inf)
    weights = torch.cat([shared, own.flatten(2, 3)], -1).softmax(-1)
    shared, own_weights = weights.split([width, own.shape[-1]], -1)
    mixed: Tensor = (shared @ prefix_values).view(own_rows.shape) + own_weights.view(own.shape) @ values
    mixed = mixed.view(prompts, kv_heads, rollouts, group, tokens, head)
    return mixed.permute(0, 2, 4, 1, 3, 5).reshape(prompts, rollouts, tokens, heads * head)


def can_merge(queries: Tensor) -> bool:
    """Whether torch has the kernels that `Merged` is made of: on the CPU it does."""
    return queries.device.type == "cpu"


class Merged(torch.autograd.Function):
    """`attend_to_both` of whole answers, without ever holding a matrix of weights; prompts without padding.

    Two attentions, to the prompt and to the answer itself, are one through their log-sum-exps: each part's output
    counts by its share of the sum. Backwards, each part gets the merged output and the merged log-sum-exp, with which
    its weights are the merged ones (Dao et al. 2022 derive the backward pass from these two alone).
    """

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, prefix_keys: Tensor, prefix_values: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """queries: (B, N, T, H, D); prefix_keys, prefix_values: (B, K, P, D); keys, values: (B, N, T, K, D)."""
        kv_heads = prefix_keys.shape[1]
        rows = _rows(queries, kv_heads)
        shared, shared_sum = _flash(rows, prefix_keys, prefix_values)
        own_parts = _own(queries, keys, values)
        own, own_sum = _flash(*own_parts, is_causal=True)
        shared_sum = _own_rows(shared_sum[..., None], queries.shape)[..., 0]
        total = torch.logaddexp(shared_sum, own_sum)
        mixed: Tensor = _own_rows(shared, queries.shape) * (shared_sum - total).exp()[..., None].to(own.dtype)
        mixed = mixed + own * (own_sum - total).exp()[..., None].to(own.dtype)
        ctx.save_for_backward(queries, prefix_keys, prefix_values, keys, values, mixed, total)
        return mixed.transpose(1, 2).reshape(*queries.shape[:3], -1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """See `forward`."""
        queries, prefix_keys, prefix_values, keys, values, mixed, total = ctx.saved_tensors
        kv_heads = prefix_keys.shape[1]
        slope = slopes[0].reshape(queries.shape)
        packed = mixed.transpose(1, 2).reshape(queries.shape)
        sums = total.transpose(1, 2).reshape(*queries.shape[:-1], 1)
        by_rows, by_prefix_keys, by_prefix_values = _flash_backward(
            _rows(slope, kv_heads), _rows(queries, kv_heads), prefix_keys, prefix_values,
            _rows(packed, kv_heads), _rows(sums, kv_heads)[..., 0], 0.0, False,
        )  # fmt: skip
        own_slope = slope.flatten(0, 1).transpose(1, 2)
        by_own, by_keys, by_values = _flash_backward(own_slope, *_own(queries, keys, values), mixed, total, 0.0, True)
        by_queries = by_own + _own_rows(by_rows, queries.shape)
        group = queries.shape[3] // kv_heads
        by_keys, by_values = (
            each.unflatten(1, (kv_heads, group)).sum(2).transpose(1, 2).reshape(keys.shape)
            for each in (by_keys, by_values)
        )
        by_queries = by_queries.transpose(1, 2).reshape(queries.shape)
        return by_queries, by_prefix_keys, by_prefix_values, by_keys, by_values


def _rows(queries: Tensor, kv_heads: int) -> Tensor:
    """(B, N, T, H, D) to (B, K, N T G, D): every query of a prompt a row of its group's matrix."""
    grouped: Tensor = queries.unflatten(3, (kv_heads, -1)).permute(0, 3, 1, 2, 4, 5)
    return grouped.reshape(len(queries), kv_heads, -1, queries.shape[-1])


def _own_rows(rows: Tensor, shape: torch.Size) -> Tensor:
    """(B, K, N T G, D) to (B N, H, T, D), for queries of `shape` (B, N, T, H, D)."""
    prompts, rollouts, tokens, heads, _ = shape
    kv_heads = rows.shape[1]
    each = rows.view(prompts, kv_heads, rollouts, tokens, heads // kv_heads, -1).permute(0, 2, 1, 4, 3, 5)
    return each.reshape(prompts * rollouts, heads, tokens, -1)


def _own(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of each answer by itself, (B N, H, T, D)."""
    group = queries.shape[3] // keys.shape[3]
    own = (each.flatten(0, 1).transpose(1, 2) for each in (queries, keys, values))
    queries, keys, values = own
    return queries, keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
