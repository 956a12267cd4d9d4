"""What an advantage function does wrong, or only at the edges: each trap is one question, answered by calling it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maxrl_lab.audit import identify
from maxrl_lab.calling import precision_of
from maxrl_lab.estimators import Estimator, make
from maxrl_lab.probe import NotEquivariantError, Probe, RaisedError, read_coefficients, short

EXPLOSION = 10.0
"""Advantages beyond this many times N are called an explosion; no estimator of the lab exceeds N."""
SMALLEST_OWN_REWARD_TABLE = 4
"""Below this N a table has too few entries to tell one success-only estimator from another."""
WITHOUT_TABLE = ("random", "order_dependent", "raises")
"""Names of the traps of a function that has no table of coefficients at all."""


@dataclass(frozen=True)
class Trap:
    """Something a user of the function should know."""

    name: str
    invalidates: bool
    """Whether the coefficients alone do not describe the function, so that no objective can be named."""
    message: str


def invalidating(probe: Probe, rollouts: int, batched: bool | None) -> Iterator[Trap]:
    """Yield the traps that make a table of coefficients meaningless."""
    try:
        without_table = list(_without_table(probe, rollouts))
    except RaisedError as error:
        without_table = [Trap("raises", True, str(error))]
    yield from without_table
    if batched is not False and not without_table:
        yield from _pooled(probe, rollouts)


def _without_table(probe: Probe, rollouts: int) -> Iterator[Trap]:
    """Does the function answer differently when it is asked twice, or when rollouts change places?"""
    mixed = _group(max(1, rollouts // 2), rollouts)
    if any(not _same(probe, probe.group(mixed), probe.group(mixed)) for _ in range(3)):
        yield Trap("random", True, f"two calls with rewards {short(mixed)} gave different advantages")
        return
    try:
        read_coefficients(probe, rollouts)
    except NotEquivariantError as error:
        yield Trap("order_dependent", True, str(error))


def _pooled(alone: Probe, rollouts: int) -> Iterator[Trap]:
    """Does a group's result change with the other groups of its batch?"""
    # The batch holds one group of each K, and a second group of successes only. Without the second one the batch would
    # be half right, and so would its group with K = N/2: pooling would leave that group's advantages as they are.
    groups = torch.stack([_group(successes, rollouts) for successes in (*range(1, rollouts + 1), rollouts, 0)])
    try:
        together = replace(alone, batched=True).call(groups)
    except Exception:  # the function takes one group at a time: nothing to pool
        return
    for rewards, advantages in zip(groups, together, strict=True):
        single = alone.group(rewards)
        if not _same(alone, single, advantages):
            yield Trap(
                "pooled_groups",
                True,
                f"rewards {short(rewards)} -> {short(single)} alone, but {short(advantages)} in a batch (B, N) with "
                "other groups: a group's advantages must not depend on other tasks (pooling their successes optimises "
                "log E[p], not E[log p]); if the function is only ever given one group, say batched=False "
                "(--single-group)",
            )
            return


def at_the_edges(probe: Probe, rollouts: int, success: Tensor, failure: Tensor) -> Iterator[Trap]:
    """Yield what happens at K = 0, at K = N, at N = 1, for large advantages and for rewards that are not 0 or 1."""
    largest = float(torch.cat([success, failure]).abs().max())
    undefined = ~(success.isfinite() & failure.isfinite())
    if undefined.any():
        yield Trap("not_finite", True, f"an advantage is not finite at K = {int(undefined.nonzero()[0])}")
    elif largest > EXPLOSION * rollouts:
        yield Trap("explosion", False, f"an advantage reaches {largest:.3g} at N = {rollouts}")
    if failure[0].isfinite() and failure[0] != 0:
        yield Trap("nonzero_at_K=0", False, f"a group without success still moves the policy: b(0) = {failure[0]:.4g}")
    if success[-1].isfinite() and success[-1] != 0:
        yield Trap("nonzero_at_K=N", False, f"a group of only successes still moves it: a(N) = {success[-1]:.4g}")
    yield from _single_rollout(probe)
    yield from _non_binary(probe, rollouts)


def _single_rollout(probe: Probe) -> Iterator[Trap]:
    """What does a group of one teach?"""
    try:
        single = torch.cat([probe.group(torch.tensor([reward], dtype=torch.float64)) for reward in (1.0, 0.0)])
    except Exception as error:  # refusing N = 1 is one of the answers
        yield Trap("refuses_N=1", False, f"raises at N = 1: {_first_line(error.__cause__ or error)}")
        return
    if bool((single == 0).all()):
        message = "learns nothing from a group of one: all advantages are 0 (reinforce and maxrl_leave_one_out learn)"
        yield Trap("nothing_at_N=1", False, message)
    elif not bool(single.isfinite().all()) or float(single.abs().max()) > EXPLOSION:
        yield Trap(
            "explosion_at_N=1",
            False,
            f"at N = 1 a success gets {single[0]:.3g} and a failure {single[1]:.3g} (a denominator of 0 or epsilon?)",
        )


def _non_binary(probe: Probe, rollouts: int) -> Iterator[Trap]:
    """Does the function take a reward that is neither right nor wrong?"""
    try:
        probe.group(_group(1, rollouts) * 0.5)
    except Exception:  # refusing is right
        return
    yield Trap("accepts_non_binary", False, "takes a reward of 0.5 without an error; the theory holds for 0 and 1 only")


def own_reward_baseline(success: Tensor, failure: Tensor, match: identify.Match, rollouts: int) -> Iterator[Trap]:
    """Does a baseline -b(K), which contains the rollout's own reward, change the objective?

    Adding the baseline back leaves a(K) - b(K) on successes and 0 on failures. A success-only unbiased function of K is
    unique (the binomial family is complete), so that table names the objective the function would have without its
    baseline.
    """
    if rollouts < SMALLEST_OWN_REWARD_TABLE:
        return
    without = (success - failure)[1:rollouts]
    matches = (
        identify.compare_values(without, estimator.coefficients(rollouts)[0][1:rollouts], objective)
        for objective, estimator in _success_only(rollouts)
    )
    known = min(matches, key=lambda candidate: candidate.residual)
    if known.residual <= identify.TOLERANCE and known.scale > 0 and known.objective != match.objective:
        yield Trap(
            "own_reward_baseline",
            False,
            f"its baseline depends on the rollout's own reward; without it the objective would be {known.objective}",
        )


def _success_only(rollouts: int) -> Iterator[tuple[str, Estimator]]:
    """Yield each objective of `identify.candidates` that has a success-only estimator, with that estimator."""
    yield "expected_reward", make("reinforce")
    for size in range(2, rollouts + 1):
        yield f"truncated_likelihood:order={size}", make("maxrl_order", order=size)
        yield f"pass_at_k:k={size}", make("pkpo", k=size)


def _group(successes: int, rollouts: int) -> Tensor:
    return (torch.arange(rollouts) < successes).double()


def _same(probe: Probe, one: Tensor, other: Tensor) -> bool:
    precision = max(probe.precision, precision_of(one, other))
    return torch.allclose(one, other, rtol=precision, atol=precision, equal_nan=True)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
