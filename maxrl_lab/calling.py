"""How a foreign advantage function is called: what it may want its rewards in, and what it may answer with."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxrl_lab.errors import InputError

CONTAINERS: dict[str, Callable[[Tensor], Any]] = {
    "float64 tensor": lambda rewards: rewards.clone(),
    "float32 tensor": lambda rewards: rewards.float(),
    "array": lambda rewards: rewards.numpy().copy(),
    "list": lambda rewards: rewards.tolist(),
    "whole-number tensor": lambda rewards: rewards.long(),
    "whole-number array": lambda rewards: rewards.numpy().astype(np.int64),
    "whole-number list": lambda rewards: rewards.long().tolist(),
    "true-or-false tensor": lambda rewards: rewards.bool(),
    "true-or-false array": lambda rewards: rewards.numpy().astype(bool),
}
"""What rewards are handed over in, in the order in which the containers are tried."""

PRECISION = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 1e-5, torch.float64: 1e-9}
"""The relative accuracy that may be expected of advantages of a type."""

_ADVANTAGES = ("advantages", "advantage", "advs", "adv")


def as_tensor(answer: Any) -> Tensor:
    """Return the advantages in what a function has answered, as a tensor of their own type.

    Raises `InputError` for an answer that holds none (see `unwrapped`), or groups of unequal sizes.
    """
    value = unwrapped(answer)
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())  # an array may be read-only
    if isinstance(value, Real):
        return torch.tensor(float(value), dtype=torch.float64)
    return _stacked(value)


def unwrapped(answer: Any) -> Any:
    """Return the advantages in what a function has answered, as they come: a tensor, an array, a list or a number.

    A tuple of other things than numbers stands for its first item, as in (advantages, returns) or (advantages,
    metrics); a dictionary or an object stands for its `advantages`. Raises `InputError` for an answer without any.
    """
    if isinstance(answer, Tensor | Real) or (isinstance(answer, np.ndarray) and answer.dtype != object):
        return answer
    named = (answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None) for name in _ADVANTAGES)
    advantages = next((value for value in named if value is not None), None)
    if advantages is not None:
        return unwrapped(advantages)
    if is_several(answer):
        return unwrapped(answer[0])
    if isinstance(answer, list | tuple | Iterator | np.ndarray):
        return list(answer)
    if hasattr(answer, "__array__"):
        return np.asarray(answer)
    raise InputError(_refusal(answer))


def is_several(answer: Any) -> bool:
    """Return whether an answer is a tuple such as (advantages, metrics), and not a tuple of numbers."""
    return isinstance(answer, tuple) and bool(answer) and not all(map(_is_number, answer))


def precision_of(*advantages: Tensor) -> float:
    """Return the accuracy to expect of float64 advantages: 1e-5 if all of them are float32 numbers, else 1e-9.

    A function may compute in single precision and answer with a list. A short fraction is a float32 number by chance.
    """
    single = all(torch.equal(value.float().double().nan_to_num(), value.nan_to_num()) for value in advantages)
    return PRECISION[torch.float32 if single else torch.float64]


def shaped(advantages: Tensor, rewards: Tensor) -> Tensor:
    """Return advantages in the shape of the rewards, (N,) or (B, N).

    They may also come flat, (B N,), as one row (1, N) or column (N, 1), and with one more axis, of tokens, if all
    tokens of a rollout have the same. Raises `InputError` for any other shape.
    """
    flat = advantages.ndim == 1 or (advantages.ndim == 2 and rewards.ndim == 1 and 1 in advantages.shape)
    if advantages.shape == rewards.shape or (flat and advantages.numel() == rewards.numel()):
        return advantages.reshape(rewards.shape)
    if advantages.ndim == rewards.ndim + 1 and advantages.shape[:-1] == rewards.shape and advantages.numel():
        if torch.equal(advantages, advantages[..., :1].expand_as(advantages)):
            return advantages[..., 0]
        raise InputError(f"expected one advantage for each rollout, got {advantages.shape[-1]} that differ")
    raise InputError(f"expected advantages of shape {tuple(rewards.shape)}, got {tuple(advantages.shape)}")


def _stacked(items: list[Any]) -> Tensor:
    if all(isinstance(item, float | int) for item in items):
        return torch.tensor(items, dtype=torch.float64)
    rows = [as_tensor(item) for item in items]
    if sizes := {tuple(row.shape) for row in rows} - {tuple(rows[0].shape)}:
        raise InputError(f"expected advantages of equal shapes, got {tuple(rows[0].shape)} and {min(sizes)}")
    return torch.stack(rows)


def _is_number(item: Any) -> bool:
    return isinstance(item, Real) or (isinstance(item, Tensor | np.ndarray) and item.ndim == 0)


def _refusal(answer: Any) -> str:
    if isinstance(answer, Mapping):
        return f"expected an entry 'advantages' in the answer, got the entries {', '.join(map(str, answer)) or 'none'}"
    if inspect.iscoroutine(answer):
        answer.close()
        return "expected advantages, got a coroutine: wrap the function, lambda rewards: asyncio.run(f(rewards))"
    kind = "None" if answer is None else type(answer).__name__
    return f"expected a tensor, an array or a list of advantages, got {kind}"
