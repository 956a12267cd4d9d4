"""What all estimators of this package share: a table a(K), b(K) for each N, applied to groups of rewards.

A mask says which rollouts of a group are left: lost, truncated or rejected ones count neither in K nor in N. The table
is that of the N that is left.

    >>> import torch
    >>> from maxrl_lab.estimators import make
    >>> make("rloo")(torch.tensor([1, 0, 0, 1]), mask=torch.tensor([True, True, True, False]))
    tensor([ 1.0000, -0.5000, -0.5000,  0.0000])
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.estimators.columns import GroupTooSmallError
from maxrl_lab.estimators.rewards import check_rewards


class CountEstimator(ABC):
    """An estimator whose advantages depend on a rollout's own reward and the counts K and N alone."""

    @property
    @abstractmethod
    def spec(self) -> str:
        """The text form."""

    @abstractmethod
    def coefficients(self, rollouts: int) -> tuple[Tensor, Tensor]:
        """Return (a, b), each of shape (N+1,), float64: the advantage of a success and of a failure for K = 0..N.

        The unreachable a(0) and b(N) are 0. Raises `GroupTooSmallError` if `rollouts` is too small for the estimator.
        """

    def __str__(self) -> str:
        return self.spec

    def __call__(self, rewards: Any, mask: Any = None) -> Tensor:
        """Return advantages (..., N) for rewards (..., N) in {0, 1}: bool, integer or float, on any device.

        `mask` (..., N) is true where a rollout is left; the others get 0 and their rewards may be anything, NaN too.
        The result has the rewards' dtype if that is a float type, else torch's default. (float16 ends at 65504; MaxRL's
        advantages reach N.) Raises `InputError` for any other reward, naming it, for a group too small, and for a mask
        that leaves nobody.
        """
        if mask is None:
            rewards = right_or_wrong(rewards)
            return look_up(*_like(rewards, self.coefficients(rewards.shape[-1])), rewards)
        rewards, kept = left_by(mask, rewards, right_or_wrong)
        return by_size(rewards, kept, self._one_size)

    def _one_size(self, rewards: Tensor, group: int) -> Tensor:
        return look_up(*_like(rewards, self.left_table(rewards.shape[-1], group)), rewards)

    def left_table(self, size: int, group: int) -> tuple[Tensor, Tensor]:
        """Return the table at N = `size`; an error names the group whose mask leaves so few."""
        try:
            return self.coefficients(size)
        except InputError as error:
            if size == 0:
                raise GroupTooSmallError(f"the mask leaves no rollout of group {group}") from None
            raise type(error)(f"{error} (that is what the mask leaves of group {group})") from None


def right_or_wrong(rewards: Any) -> Tensor:
    """Return rewards as `check_rewards` does; where they are refused, the message says what takes such rewards."""
    try:
        return check_rewards(rewards)
    except InputError as error:
        raise InputError(f"{error}{_hint(rewards)}") from None


def _hint(rewards: Any) -> str:
    try:
        values = torch.as_tensor(rewards).double()
    except (TypeError, ValueError, RuntimeError):
        return ""
    if values.isnan().any():
        return "; a mask leaves lost rollouts out"
    is_graded = bool(((values >= 0) & (values <= 1)).all()) and bool((values != values.round()).any())
    return "; for graded rewards in [0, 1] there is estimators.graded" if is_graded else ""


def look_up(success: Tensor, failure: Tensor, rewards: Tensor, counts: Tensor | None = None) -> Tensor:
    """Return advantages (..., N): a(K) (N+1,) where a reward of (..., N) is 1, b(K) (N+1,) where it is 0.

    With counts, each reward stands for so many rollouts, and the advantage is that of each of them.
    """
    right = rewards != 0
    successes = (right if counts is None else right * counts).sum(-1, keepdim=True)
    return torch.where(right, success[successes], failure[successes])


def left_by(mask: Any, rewards: Any, check: Callable[[Any], Tensor]) -> tuple[Tensor, Tensor]:
    """Return (rewards, mask), both (..., N), with 0 for the rewards that the mask leaves out; `check` sees the rest.

    Raises `InputError` for a mask of another shape or with values other than true and false, 1 and 0.
    """
    tensor, kept = numbers("rewards", rewards), numbers("mask", mask)
    if tensor.shape != kept.shape:
        raise InputError(f"mask must have the rewards' shape {tuple(tensor.shape)}, got {tuple(kept.shape)}")
    wrong = (kept != 0) & (kept != 1)
    if wrong.any():
        raise InputError(f"mask must be true where a rollout is left, else false, got {kept[wrong][0].item()}")
    kept = (kept != 0).to(tensor.device)
    return check(torch.where(kept, tensor, torch.zeros_like(tensor))), kept


def numbers(name: str, values: Any) -> Tensor:
    """Return numbers of any kind as a tensor, NaN for None; `InputError` for what has no such form."""
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        pass  # None among numbers, or something worse
    try:
        return torch.from_numpy(np.array(values, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} must be numbers in groups of equal size, got {type(values).__name__}: {error}"
        ) from None


def by_size(rewards: Tensor, kept: Tensor, advantages_of: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Return advantages (..., N), 0 where `kept` is false, computed from all groups of one size at a time.

    `advantages_of` takes rewards (G, n) and the number of the first of these G groups.
    """
    flat, left = rewards.reshape(-1, rewards.shape[-1]), kept.reshape(-1, rewards.shape[-1])
    sizes = left.sum(-1)
    advantages = torch.zeros_like(flat, dtype=_float_type(flat))
    for size in sizes.unique().tolist():
        rows = sizes == size
        members = left & rows[:, None]
        packed = flat[members].reshape(int(rows.sum()), size)
        advantages[members] = advantages_of(packed, int(rows.nonzero()[0])).flatten()
    return advantages.reshape(rewards.shape)


def _like(rewards: Tensor, table: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    success, failure = table
    dtype = _float_type(rewards)
    return success.to(rewards.device, dtype), failure.to(rewards.device, dtype)


def _float_type(rewards: Tensor) -> torch.dtype:
    return rewards.dtype if rewards.is_floating_point() else torch.get_default_dtype()
