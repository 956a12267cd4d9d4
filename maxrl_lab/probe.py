"""The coefficients of anybody's advantage function, read by calling it on groups, however it wants its rewards."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.estimators import Estimator

EXHAUSTIVE_ROLLOUTS = 6
"""Up to this N every arrangement of a group is tried, beyond it three arrangements for each K."""

_CONTAINERS: dict[str, Callable[[Tensor], Any]] = {
    "float64 tensor": lambda rewards: rewards.clone(),
    "float32 tensor": lambda rewards: rewards.float(),
    "array": lambda rewards: rewards.numpy().copy(),
    "list": lambda rewards: rewards.tolist(),
}


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
    precision: float = 1e-9
    """Relative accuracy that may be expected of its results."""

    def group(self, rewards: Tensor) -> Tensor:
        """Return the advantages (N,) of one group's rewards (N,), float64."""
        return self.call(rewards[None])[0] if self.batched else self.call(rewards)

    def call(self, rewards: Tensor) -> Tensor:
        """Return the function's result for `rewards` as given, float64.

        Raises `RaisedError` if the function raises, and `InputError` if the result has another shape than `rewards`.
        """
        try:
            answer = self.answer(rewards)
        except (Exception, SystemExit) as error:  # a foreign function may raise anything
            shown = short(rewards.flatten())
            raise RaisedError(f"{name_of(self.function)} raises at rewards {shown}: {error!r}") from error
        return _checked(answer, rewards)

    def answer(self, rewards: Tensor) -> Tensor:
        """Return the function's result as it comes, as a tensor of its own type."""
        result = self.function(_CONTAINERS[self.container](rewards))
        typed = isinstance(result, Tensor | np.ndarray)
        return torch.as_tensor(result, dtype=None if typed else torch.float64)


def probe(function: Callable[..., Any], rollouts: int, batched: bool | None = None) -> Probe:
    """Return the first way to call `function` on a group of N rewards that yields N advantages.

    The containers are tried in the order float64 tensor, float32 tensor, numpy array, list, each as one group (N,) and
    then as a batch (1, N). `batched` allows only (B, N) (True) or only (N,) (False). Raises `InputError` with the first
    failure if no way works.
    """
    rewards = torch.zeros(rollouts, dtype=torch.float64)
    rewards[0] = 1.0
    failure: BaseException | None = None
    for container, form in itertools.product(_CONTAINERS, (False, True)):
        if batched is None or form == batched:
            candidate, given = Probe(function, container, form), rewards[None] if form else rewards
            try:
                answer = candidate.answer(given)
                _checked(answer, given)
            except (Exception, SystemExit) as error:  # a foreign function may raise anything
                failure = failure or error
            else:
                return candidate if answer.dtype == torch.float64 else replace(candidate, precision=1e-5)
    shape = {True: "(B, N)", False: "(N,)", None: "(N,) or (B, N)"}[batched]
    reason = str(failure) or type(failure).__name__
    raise InputError(
        f"{name_of(function)} does not turn rewards {shape} at N = {rollouts} into as many advantages: {reason}"
    )


def _checked(answer: Tensor, rewards: Tensor) -> Tensor:
    advantages = answer.detach().to("cpu", torch.float64, copy=True)  # the function may reuse its memory
    if advantages.shape != rewards.shape:
        raise InputError(f"expected advantages of shape {tuple(rewards.shape)}, got {tuple(advantages.shape)}")
    return advantages


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
    allowed = probed.precision * advantages.abs().max().clamp(min=1.0)
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


def coefficients(estimator: "Estimator | Callable[..., Any]", rollouts: int) -> tuple[Tensor, Tensor]:
    """Return (a, b) of a made estimator (its table) or of any callable (probed)."""
    if isinstance(estimator, Estimator):
        return estimator.coefficients(rollouts)
    return read_coefficients(probe(estimator, rollouts), rollouts)
