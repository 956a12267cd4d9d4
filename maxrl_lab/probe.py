"""The coefficients of anybody's advantage function, read by calling it on groups, however it wants its rewards."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import calling
from maxrl_lab.errors import InputError
from maxrl_lab.estimators import CountEstimator

EXHAUSTIVE_ROLLOUTS = 6
"""Up to this N every arrangement of a group is tried, beyond it three arrangements for each K."""


class NotEquivariantError(InputError):
    """The function treats two rollouts of a group differently though only their positions differ."""


class RaisedError(InputError):
    """The function raised at some rewards."""


@dataclass(frozen=True)
class Probe:
    """A function with the call that it understands: the rewards' container, and one group (N,) or a batch (B, N)."""

    function: Callable[..., Any]
    container: str
    batched: bool
    precision: float = calling.PRECISION[torch.float64]
    """Relative accuracy that may be expected of its results."""

    def group(self, rewards: Tensor) -> Tensor:
        """Return the advantages (N,) of one group's rewards (N,), float64; zeros for a group that is left out."""
        return self.call(rewards[None])[0] if self.batched else self.call(rewards)

    def leaves_out(self, rewards: Tensor) -> bool:
        """Return whether the function answers the rewards of one group (N,) with nothing at all, None or no item."""
        return _read(self._asked(rewards[None] if self.batched else rewards)) is None

    def call(self, rewards: Tensor) -> Tensor:
        """Return the function's result for `rewards` as given, float64.

        No answer at all, None or no item, is an advantage of 0 for everyone: the rollouts take no part in the update.
        Raises `RaisedError` if the function raises, and `InputError` if the result has another shape than `rewards`.
        """
        advantages = _read(self._asked(rewards))
        if advantages is None:
            return torch.zeros_like(rewards)
        # a copy, because the function may reuse its memory
        return calling.shaped(advantages, rewards).to("cpu", torch.float64, copy=True)

    def answer(self, rewards: Tensor) -> Any:
        """Return the function's result as it comes."""
        return self.function(calling.CONTAINERS[self.container](rewards))

    def _asked(self, rewards: Tensor) -> Any:
        try:
            return self.answer(rewards)
        except (Exception, SystemExit) as error:  # a foreign function may raise anything
            shown = short(rewards.flatten())
            raise RaisedError(f"{name_of(self.function)} raises at rewards {shown}: {error!r}") from error


def probe(function: Callable[..., Any], rollouts: int, batched: bool | None = None) -> Probe:
    """Return the first way to call `function` on a group of N rewards that yields N advantages.

    The containers are tried in the order of `calling.CONTAINERS`, each as one group (N,) and then as a batch (1, N). A
    function that answers a tensor with a list or an array is given lists or arrays, if it takes them. `batched` allows
    only (B, N) (True) or only (N,) (False). Raises `InputError` with the first failure if no way works.
    """
    failure: BaseException | None = None
    for container, form in itertools.product(calling.CONTAINERS, (False, True)):
        if batched is None or form == batched:
            try:
                first, kind = _tried(Probe(function, container, form), rollouts)
            except (Exception, SystemExit) as error:  # a foreign function may raise anything
                failure = failure or error
            else:
                return _asked_in(first, kind, rollouts)
    shape = {True: "(B, N)", False: "(N,)", None: "(N,) or (B, N)"}[batched]
    reason = str(failure) or type(failure).__name__
    raise InputError(
        f"{name_of(function)} does not turn rewards {shape} at N = {rollouts} into as many advantages: {reason}"
    )


def _tried(candidate: Probe, rollouts: int) -> tuple[Probe, str]:
    """Return a probe with the precision of its answer to a group with one success, and the answer's own container."""
    group = torch.zeros(rollouts, dtype=torch.float64)
    group[0] = 1.0
    rewards = group[None] if candidate.batched else group
    answer = candidate.answer(rewards)
    advantages = _read(answer)
    if advantages is None:
        raise InputError(f"no advantages came for the rewards {short(group)}")
    calling.shaped(advantages, rewards)
    _check_first(answer, rewards)
    value = calling.unwrapped(answer)
    kind = "list" if isinstance(value, list) else "array" if isinstance(value, np.ndarray) else candidate.container
    return replace(candidate, precision=calling.PRECISION.get(advantages.dtype, 1e-9)), kind


def _asked_in(first: Probe, kind: str, rollouts: int) -> Probe:
    """Return the probe that gives a function the kind of container that it answers with, or `first` if that fails.

    Such a function may count with a set or a dictionary, in which no two numbers of a tensor are equal.
    """
    if kind == first.container or "tensor" not in first.container:
        return first
    whole = "" if "float" in first.container else "whole-number "
    try:
        return _tried(replace(first, container=whole + kind), rollouts)[0]
    except (Exception, SystemExit):  # a foreign function may raise anything
        return first


def _check_first(answer: Any, rewards: Tensor) -> None:
    """Raise `InputError` for (rewards, advantages): the first of several values stands for the advantages."""
    if rewards.numel() == 1 or not calling.is_several(answer):
        return
    first, *others = (_values(item, rewards) for item in answer)
    others = [other for other in others if other is not None and not torch.equal(other, rewards)]
    if others and first is not None and torch.equal(first, rewards):
        raise InputError(
            "it returns several values, and the first, which is taken for the advantages, is the rewards: wrap it to "
            "return the right one, as in lambda rewards: f(rewards)[1]"
        )


def _values(item: Any, rewards: Tensor) -> Tensor | None:
    """Return one of several values as float64 in the rewards' shape, or None if it has no such form."""
    try:
        return calling.shaped(calling.as_tensor(item).detach(), rewards).double()
    except Exception:  # metrics may be of any kind
        return None


def _read(answer: Any) -> Tensor | None:
    """Return the advantages in an answer, or None where there are none."""
    advantages = None if answer is None else calling.as_tensor(answer).detach()
    return None if advantages is None or advantages.numel() == 0 else advantages


def name_of(function: object) -> str:
    """Return the name of a function, or the text form of an object that has no name."""
    return str(getattr(function, "__name__", None) or function)


def read_coefficients(probed: Probe, rollouts: int) -> tuple[Tensor, Tensor]:
    """Return (a, b), each (N+1,), float64, by calling a function on groups with every K; a(0) = b(N) = 0.

    Raises `NotEquivariantError` with two inputs that show it if the advantages depend on the order of the rollouts.
    """
    success, failure = torch.zeros(2, rollouts + 1, dtype=torch.float64)
    for successes in range(rollouts + 1):
        first, *others = _arrangements(successes, rollouts)
        advantages = probed.group(first)
        for arrangement in (first, *others):
            _check_equivariant(probed, first, advantages, arrangement)
        if successes > 0:
            success[successes] = advantages[0]
        if successes < rollouts:
            failure[successes] = advantages[-1]
    return success + 0.0, failure + 0.0  # no negative zeros


def _check_equivariant(probed: Probe, first: Tensor, advantages: Tensor, arrangement: Tensor) -> None:
    """Raise `NotEquivariantError` if the rollouts of `arrangement` do not get the advantages that those of `first` get.

    `first` holds the same rewards, sorted: [1, 1, 0, 0] with `advantages` [a, a, b, b]. So advantages[0] is what every
    success should get, and advantages[-1] what every failure should get: [0, 1, 1, 0] should give [b, a, a, b].
    """
    expected = torch.where(arrangement > 0, advantages[0], advantages[-1])
    got = advantages if arrangement is first else probed.group(arrangement)
    precision = max(probed.precision, calling.precision_of(got, expected))
    allowed = precision * advantages.abs().max().clamp(min=1.0)
    wrong = ((got - expected).abs() > allowed) | (got.isfinite() != expected.isfinite())
    if wrong.any():
        index = int(wrong.nonzero()[0])
        raise NotEquivariantError(
            f"{name_of(probed.function)} depends on the order of rollouts: rewards {short(first)} -> advantages "
            f"{short(advantages)}, but rewards {short(arrangement)} -> {short(got)}"
            f" (rollout {index}: expected {expected[index]:.6g}, got {got[index]:.6g})"
        )


def _arrangements(successes: int, rollouts: int) -> Iterator[Tensor]:
    """Yield the rewards of groups with K successes: sorted, then all other orders, or the reverse and one more."""
    first = torch.zeros(rollouts, dtype=torch.float64)
    first[:successes] = 1.0
    yield first
    if successes in (0, rollouts):
        return
    if rollouts <= EXHAUSTIVE_ROLLOUTS:
        for indices in itertools.combinations(range(rollouts), successes):
            if indices != tuple(range(successes)):
                arrangement = torch.zeros_like(first)
                arrangement[list(indices)] = 1.0
                yield arrangement
    else:
        yield first.flip(0)
        yield first[torch.randperm(rollouts, generator=torch.Generator().manual_seed(successes))]


def short(values: Tensor) -> str:
    """Return up to eight values as text, for messages."""
    shown = ", ".join(f"{value:.4g}" for value in values[:8].tolist())
    return f"[{shown}{', ...' if len(values) > 8 else ''}]"


def coefficients(estimator: "CountEstimator | Callable[..., Any]", rollouts: int) -> tuple[Tensor, Tensor]:
    """Return (a, b) of a made estimator (its table) or of any callable (probed)."""
    if isinstance(estimator, CountEstimator):
        return estimator.coefficients(rollouts)
    return read_coefficients(probe(estimator, rollouts), rollouts)
