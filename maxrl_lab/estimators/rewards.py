"""Rewards at the door: right or wrong, 1 or 0, in groups of equal size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxrl_lab.errors import InputError


def check_rewards(rewards: Any) -> Tensor:
    """Return `rewards` as a tensor (..., N), N >= 1, of its own type: bool, integer or float.

    Raises `InputError`, which names the first value that is not 0 or 1, or the sizes of groups that are not equal.
    """
    tensor = _as_tensor(rewards)
    if tensor.ndim == 0 or tensor.shape[-1] == 0:
        raise InputError(f"rewards must have shape (..., N) with N >= 1, got {tuple(tensor.shape)}")
    if tensor.dtype == torch.bool:
        return tensor
    wrong = (tensor != 0) & (tensor != 1)
    if wrong.any():
        signs = bool(((tensor == 1) | (tensor == -1)).all())
        hint = "; where -1 means wrong, give (r + 1) / 2" if signs else ""
        raise InputError(f"rewards must be 0 or 1 (right or wrong), got {tensor[wrong].flatten()[0].item()}{hint}")
    return tensor


def _as_tensor(rewards: Any) -> Tensor:
    if isinstance(rewards, np.ndarray) and rewards.dtype == object:
        rewards = rewards.tolist()
    if sizes := _unequal_sizes(rewards):
        shown = ", ".join(map(str, sizes[:8])) + (", ..." if len(sizes) > 8 else "")
        raise InputError(f"rewards must come in groups of equal size, got groups of {shown} rollouts")
    if _is_uneven(rewards):
        raise InputError("rewards must come in groups of equal size, got a list of both groups and single rewards")
    try:
        return _stacked(rewards)
    except (TypeError, ValueError, RuntimeError) as error:
        if _is_nested(rewards) and any(leaf is None for leaf in _leaves(rewards)):
            raise InputError("rewards must be 0 or 1 (right or wrong), got None") from None
        kind = type(rewards).__name__
        raise InputError(f"rewards must be a tensor or array of 0 and 1, got {kind}: {error}") from None


def _stacked(rewards: Any) -> Tensor:
    if _is_nested(rewards) and any(isinstance(leaf, Tensor | np.ndarray) for leaf in _leaves(rewards)):
        return torch.stack([_stacked(item) for item in rewards])
    return torch.as_tensor(rewards)


def _is_nested(rewards: Any) -> bool:
    return isinstance(rewards, Sequence) and not isinstance(rewards, str)


def _leaves(rewards: Any) -> list[Any]:
    return [leaf for item in rewards for leaf in (_leaves(item) if _is_nested(item) else [item])]


def _is_uneven(rewards: Any) -> bool:
    """Return whether some entries of a list are groups, of one depth or another, and others are not."""
    if not _is_nested(rewards):
        return False
    return len({_depth(item) for item in rewards}) > 1 or any(map(_is_uneven, rewards))


def _depth(rewards: Any) -> int:
    if _is_nested(rewards):
        return 1 + max(map(_depth, rewards), default=0)
    return int(getattr(rewards, "ndim", 0))


def _unequal_sizes(rewards: Any) -> list[int]:
    """Return the sizes of the innermost groups of nested lists if they differ, else nothing."""
    groups = (
        [item for item in rewards if _is_nested(item) or getattr(item, "ndim", 0) > 0] if _is_nested(rewards) else []
    )
    inner = [size for group in groups for size in _unequal_sizes(group)]
    sizes = [len(group) for group in groups]
    return inner or (sizes if len(set(sizes)) > 1 else [])
