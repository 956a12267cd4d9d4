"""What an advantage function does wrong, or only at the edges: each trap is one question, answered by calling it.

`repeats` asks the same question again, `batches` asks about several groups at once; the rest is here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from maxrl_lab.audit import identify
from maxrl_lab.audit.search import best_size
from maxrl_lab.audit.singleton import EXPLOSION, Singleton
from maxrl_lab.calling import PRECISION, precision_of
from maxrl_lab.estimators import Estimator, make
from maxrl_lab.probe import Probe

SMALLEST_OWN_REWARD_TABLE = 4
"""Below this N a table has too few entries to tell one success-only estimator from another."""
SHOWN_COUNTS = 6
"""A message lists up to this many numbers of successes."""


@dataclass(frozen=True)
class Trap:
    """Something a user of the function should know."""

    name: str
    invalidates: bool
    """Whether the coefficients alone do not describe the function, so that no objective can be named."""
    message: str


def at_the_edges(probe: Probe, rollouts: int, success: Tensor, failure: Tensor, alone: Singleton) -> Iterator[Trap]:
    """Yield what happens at K = 0, at K = N, at N = 1, for large advantages and for rewards that are not 0 or 1."""
    largest = float(torch.cat([success, failure]).abs().max())
    undefined = ~(success.isfinite() & failure.isfinite())
    if undefined.any():
        yield Trap("not_finite", True, f"an advantage is not finite at K = {int(undefined.nonzero()[0])}")
    elif largest > EXPLOSION * rollouts:
        yield Trap("explosion", False, f"an advantage reaches {largest:.3g} at N = {rollouts}")
    if failure[0].isfinite() and failure[0].abs() > probe.precision:
        yield Trap("nonzero_at_K=0", False, f"a group without success still moves the policy: b(0) = {failure[0]:.4g}")
    if success[-1].isfinite() and success[-1].abs() > probe.precision:
        yield Trap("nonzero_at_K=N", False, f"a group of only successes still moves it: a(N) = {success[-1]:.4g}")
    yield from _left_out(probe, rollouts)
    yield from _single_rollout(alone)
    yield from _low_precision(probe)
    yield from _non_binary(probe, rollouts)


def _left_out(probe: Probe, rollouts: int) -> Iterator[Trap]:
    """Does the function answer nothing at all for some groups?"""
    counts = [count for count in range(rollouts + 1) if probe.leaves_out(group(count, rollouts))]
    if counts:
        shown = ", ".join(map(str, counts[:SHOWN_COUNTS])) + (", ..." if len(counts) > SHOWN_COUNTS else "")
        yield Trap(
            "leaves_out_groups",
            False,
            f"no advantages come for a group with K = {shown}: they count as 0 here. A mean over the groups that are "
            "left has a larger step where more are left out; a task that is sampled anew until its group is taken has "
            "another objective, with w(p) divided by the chance that a group is taken",
        )


def _single_rollout(alone: Singleton) -> Iterator[Trap]:
    """What does a group of one teach?"""
    if alone.convention == "refuses":
        yield Trap("refuses_N=1", False, f"raises at N = 1: {alone.reason}")
    elif alone.convention == "nothing":
        message = "learns nothing from a group of one: all advantages are 0 (reinforce and maxrl_leave_one_out learn)"
        yield Trap("nothing_at_N=1", False, message)
    elif alone.convention == "explodes":
        yield Trap("explosion_at_N=1", False, f"at N = 1 {alone}")


def _low_precision(probe: Probe) -> Iterator[Trap]:
    """Are the advantages numbers of a few bits?"""
    if probe.precision > PRECISION[torch.float32]:
        yield Trap(
            "low_precision",
            False,
            f"its advantages are numbers of few bits, each right to {probe.precision:.1g} of it: an objective is named "
            "up to that deviation only; divide in float32",
        )


def _non_binary(probe: Probe, rollouts: int) -> Iterator[Trap]:
    """Does the function take a reward that is neither right nor wrong?"""
    if "whole-number" in probe.container or "true-or-false" in probe.container:
        return
    try:
        probe.group(group(1, rollouts) * 0.5)
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
    matches = [
        _against(without, make("reinforce"), "expected_reward"),
        *(_best_of(without, *names, rollouts) for names in _SUCCESS_ONLY),
    ]
    known = min(matches, key=lambda candidate: candidate.residual)
    if known.residual <= identify.TOLERANCE and known.scale > 0 and known.objective != match.objective:
        yield Trap(
            "own_reward_baseline",
            False,
            f"its baseline depends on the rollout's own reward; without it the objective would be {known.objective}",
        )


_SUCCESS_ONLY = (("maxrl_order", "truncated_likelihood", "order"), ("pkpo", "pass_at_k", "k"))
"""Success-only estimators with their objectives and the name of their option."""


def _best_of(without: Tensor, name: str, objective: str, option: str, rollouts: int) -> identify.Match:
    def match(size: int) -> identify.Match:
        return _against(without, make(name, **{option: size}), f"{objective}:{option}={size}")

    size, _ = best_size(lambda size: match(size).residual, 2, rollouts)
    return match(size)


def _against(without: Tensor, estimator: Estimator, objective: str) -> identify.Match:
    rollouts = len(without) + 1
    return identify.compare_values(without, estimator.coefficients(rollouts)[0][1:rollouts], objective)


def group(successes: int, rollouts: int) -> Tensor:
    """Return the rewards (N,) of a group whose K successes come first."""
    return (torch.arange(rollouts) < successes).double()


def same(probe: Probe, one: Tensor, other: Tensor) -> bool:
    """Return whether two answers are equal up to the accuracy that may be expected of them; NaN equals NaN."""
    precision = max(probe.precision, precision_of(one, other))
    return torch.allclose(one, other, rtol=precision, atol=precision, equal_nan=True)
