"""One softmax over two sets of keys: those of a prompt that N answers share, and each answer's own.

`attend_to_both` is the definition, in matrices of weights; `Merged` computes the same without ever holding them.

Axes: B prompts, N answers of each, P and T tokens of prompt and answer, S keys of an answer, H query heads, K heads of
keys and values, G = H / K, D numbers a head.
"""

from typing import Any

import torch
from torch import Tensor

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


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
    1, P), true where the prompt has ended; hidden: (..., T G, S), true where a token does not see an own key.
    """
    prompts, rollouts, tokens, heads, head = queries.shape
    kv_heads, width = prefix_keys.shape[1:3]
    group = heads // kv_heads
    grouped = (queries * head**-0.5).unflatten(3, (kv_heads, group)).permute(0, 3, 1, 4, 2, 5)  # B K N G T D
    by_answer = grouped.reshape(prompts, kv_heads, rollouts, group * tokens, head)
    to_prompt = by_answer.flatten(2, 3) @ prefix_keys.mT
    to_answer = by_answer @ keys.mT
    if padding is not None:
        to_prompt = to_prompt.masked_fill(padding, -torch.inf)
    if hidden is not None:
        to_answer = to_answer.masked_fill(hidden, -torch.inf)
    weights = torch.cat([to_prompt, to_answer.flatten(2, 3)], -1).softmax(-1)
    on_prompt, on_answer = weights.split([width, to_answer.shape[-1]], -1)
    mixed: Tensor = (on_prompt @ prefix_values).view(by_answer.shape) + on_answer.view(to_answer.shape) @ values
    mixed = mixed.view(prompts, kv_heads, rollouts, group, tokens, head)
    return mixed.permute(0, 2, 4, 1, 3, 5).reshape(prompts, rollouts, tokens, heads * head)


def can_merge(queries: Tensor) -> bool:
    """Return whether torch has the kernels that `Merged` is made of; it has them on the CPU."""
    return queries.device.type == "cpu"


class Merged(torch.autograd.Function):
    """`attend_to_both` of whole answers to prompts without padding, without ever holding a matrix of weights.

    Two attentions, to the prompt and to the answer itself, are one through their log-sum-exps: each part's output
    counts by its share of the sum. Backwards, each part gets the merged output and the merged log-sum-exp, with which
    its weights are the merged ones (Dao et al. 2022 derive the backward pass from these two alone).
    """

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, prefix_keys: Tensor, prefix_values: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Return attention (B, N, T, H D).

        queries: (B, N, T, H, D); prefix_keys, prefix_values: (B, K, P, D); keys, values: (B, N, T, K, D).
        """
        kv_heads = prefix_keys.shape[1]
        rows = _rows(queries, kv_heads)
        shared, shared_sum = _flash(rows, prefix_keys, prefix_values)
        alone, alone_sum = _flash(*_by_answer(queries, keys, values), is_causal=True)
        shared_sum = _rows_by_answer(shared_sum[..., None], queries.shape)[..., 0]
        total = torch.logaddexp(shared_sum, alone_sum)
        mixed: Tensor = _rows_by_answer(shared, queries.shape) * (shared_sum - total).exp()[..., None].to(alone.dtype)
        mixed = mixed + alone * (alone_sum - total).exp()[..., None].to(alone.dtype)
        ctx.save_for_backward(queries, prefix_keys, prefix_values, keys, values, mixed, total)
        return mixed.transpose(1, 2).reshape(*queries.shape[:3], -1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """Return the slopes by queries, prefix keys, prefix values, keys and values, in their shapes."""
        queries, prefix_keys, prefix_values, keys, values, mixed, total = ctx.saved_tensors
        kv_heads = prefix_keys.shape[1]
        slope = slopes[0].reshape(queries.shape)
        packed = mixed.transpose(1, 2).reshape(queries.shape)
        sums = total.transpose(1, 2).reshape(*queries.shape[:-1], 1)
        by_rows, by_prefix_keys, by_prefix_values = _flash_backward(
            _rows(slope, kv_heads), _rows(queries, kv_heads), prefix_keys, prefix_values,
            _rows(packed, kv_heads), _rows(sums, kv_heads)[..., 0], 0.0, False,
        )  # fmt: skip
        by_alone, by_keys, by_values = _flash_backward(
            slope.flatten(0, 1).transpose(1, 2), *_by_answer(queries, keys, values), mixed, total, 0.0, True
        )
        by_queries = by_alone + _rows_by_answer(by_rows, queries.shape)
        group = queries.shape[3] // kv_heads
        by_keys, by_values = (
            part.unflatten(1, (kv_heads, group)).sum(2).transpose(1, 2).reshape(keys.shape)
            for part in (by_keys, by_values)
        )
        by_queries = by_queries.transpose(1, 2).reshape(queries.shape)
        return by_queries, by_prefix_keys, by_prefix_values, by_keys, by_values


def _rows(queries: Tensor, kv_heads: int) -> Tensor:
    """Return queries (B, N, T, H, D) as rows (B, K, N T G, D) of one matrix for each prompt and head of keys."""
    grouped: Tensor = queries.unflatten(3, (kv_heads, -1)).permute(0, 3, 1, 2, 4, 5)
    return grouped.reshape(len(queries), kv_heads, -1, queries.shape[-1])


def _rows_by_answer(rows: Tensor, shape: torch.Size) -> Tensor:
    """Return rows (B, K, N T G, D) as (B N, H, T, D), for queries of `shape` (B, N, T, H, D)."""
    prompts, rollouts, tokens, heads, _ = shape
    kv_heads = rows.shape[1]
    by_answer = rows.view(prompts, kv_heads, rollouts, tokens, heads // kv_heads, -1).permute(0, 2, 1, 4, 3, 5)
    return by_answer.reshape(prompts * rollouts, heads, tokens, -1)


def _by_answer(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the queries, keys and values of each answer by itself, (B N, H, T, D)."""
    group = queries.shape[3] // keys.shape[3]
    queries, keys, values = (part.flatten(0, 1).transpose(1, 2) for part in (queries, keys, values))
    return queries, keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
