"""Groups of TRL's rollouts: one reward for each, which of them are left, their advantages, and what is logged of them.

A rollout is left out of its group if it was lost (no reward function has an answer for it) or cut off at the longest
length, where the settings say so. It then counts neither in K nor in N: the table is that of the n rollouts that are
left, and a group's estimate is divided by its own n. TRL's loss divides by N, hence the factor N/n.
"""

import functools
import inspect
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import estimators, exact
from maxrl_lab.errors import InputError
from maxrl_lab.estimators import CountEstimator, GroupTooSmallError, counted

ROUNDING = 1e-6
"""A weighted sum of rewards this near to 0 or 1 is 0 or 1: ten rewards of weight 0.1 sum to a little more than 1."""


class Tables:
    """An estimator's tables and exact weights at the group sizes that were asked for."""

    def __init__(self, estimator: exact.AnyEstimator) -> None:
        self.estimator = estimator
        self._tables: dict[int, tuple[Tensor, Tensor]] = {}

    def at(self, size: int, group: int) -> tuple[Tensor, Tensor]:
        """Return (a, b) at n = `size`, of an estimator's text with `N` for n; `InputError` names the group."""
        if size not in self._tables:
            self._tables[size] = self._table(size, group)
        return self._tables[size]

    def _table(self, size: int, group: int) -> tuple[Tensor, Tensor]:
        if size == 0:
            if isinstance(self.estimator, CountEstimator):
                return self.estimator.left_table(0, group)
            raise GroupTooSmallError(f"no rollout of group {group} is left")
        try:
            return exact.coefficients(self.estimator, rollouts=size)
        except InputError as error:
            raise type(error)(f"{error} (that is what is left of group {group})") from None

    def weight(self, size: int) -> Tensor:
        """Return w_n at the pass rates K/n for K = 0..n."""
        return exact.table_weight(*self._tables[size], torch.arange(size + 1, dtype=torch.float64) / size)


def combine(per_function: Tensor, weights: Tensor, *, may_be_lost: bool = False) -> tuple[Tensor, Tensor]:
    """Return (rewards, left), both (B N,): the weighted sum of every function's reward, and whether there is one.

    `per_function` is (B N, functions); NaN stands for a function that has returned None. Where all have, the rollout is
    lost: it has the reward 0 and is not left. Raises `InputError` unless every other reward is 0 or 1 (up to
    `ROUNDING`), and for a lost rollout unless it `may_be_lost`.
    """
    total = (per_function.cpu().double() * weights.cpu().double()).nansum(1)  # not every device has float64
    rewards = torch.where((total - total.round()).abs() <= ROUNDING, total.round(), total).to(per_function)
    lost = per_function.isnan().all(1)
    if bool(lost.any()) and not may_be_lost:
        index = int(lost.nonzero()[0])
        raise InputError(
            f"every rollout needs a reward of 0 or 1, got None from all reward functions at {index}; "
            "lost='leave_out' takes such rollouts out of their groups"
        )
    try:
        return estimators.check_rewards(rewards), ~lost
    except InputError as error:
        functions = per_function.shape[1]
        if functions == 1:
            raise
        raise InputError(
            f"{error}: it is the sum of {functions} reward functions, times their reward_weights; an estimator takes "
            "one function that says right or wrong, or weights with which the sum does"
        ) from None


def check_answers(function: Any, name: str) -> Any:
    """Return a reward function that raises `InputError`, with its name and the value, for what is no number or None.

    A model, and a function that is awaited, are returned as they are: TRL calls them in ways of its own.
    """
    awaited = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    if awaited or isinstance(function, torch.nn.Module):
        return function

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> list[Any]:
        answers = list(function(*args, **kwargs))
        for index, answer in enumerate(answers):
            if answer is not None and not isinstance(answer, Real | np.bool_ | Tensor):
                raise InputError(f"the reward function {name!r} must return numbers or None, got {answer!r} at {index}")
        return answers

    return checked


def advantages(tables: Tables, rewards: Tensor, left: Tensor) -> Tensor:
    """Return advantages (B, N) of rewards (B, N), N/n times those of the n rollouts that are left of each group.

    Raises `InputError`, naming the group, where n is too small for the estimator or 0
    (`estimators.zero_if_too_small` gives zeros there).
    """
    rollouts = rewards.shape[1]

    def of_one_size(packed: Tensor, group: int) -> Tensor:
        size = packed.shape[1]
        success, failure = (column.to(packed) for column in tables.at(size, group))
        return estimators.look_up(success, failure, packed) * (rollouts / max(size, 1))

    return counted.by_size(rewards, left, of_one_size)


def describe_groups(rewards: Tensor, left: Tensor, weight: Callable[[int], Tensor]) -> dict[str, float]:
    """Return what is logged of groups (B, N): pass rate, groups with K = 0 and K = n, and the estimator's exact weight.

    `weight` gives w_n at the pass rates K/n, so `group/weight` is the mean of w_n at the observed pass rates. Groups of
    which nothing is left count in no mean; `group/left` is the share of rollouts that are left.
    """
    sizes = left.sum(1).cpu()
    successes = ((rewards != 0) & left).sum(1).cpu()
    some = sizes > 0
    sizes, successes = sizes[some], successes[some]
    weights = [float(weight(size)[k]) for size, k in zip(sizes.tolist(), successes.tolist(), strict=True)]
    return {
        "group/pass_rate": float((successes / sizes).double().mean()),
        "group/with_success": float((successes > 0).double().mean()),
        "group/none_right": float((successes == 0).sum()),
        "group/all_right": float((successes == sizes).sum()),
        "group/weight": sum(weights) / max(len(weights), 1),
        "group/left": float(left.double().mean()),
    }
