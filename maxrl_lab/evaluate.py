"""Metrics of right-or-wrong answers: pass@k, coverage, scaling efficiency, majority vote.

What is computed from n samples is an unbiased estimate; what is computed from pass rates is exact, and is called so.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import objectives, specs
from maxrl_lab.errors import InputError
from maxrl_lab.estimators import check_rewards

Answer = TypeVar("Answer", bound=Hashable)


def pass_at_k(correct: object, samples: object, k: int) -> Tensor:
    """Return the unbiased estimate of pass@k, 1 - C(n-c,k)/C(n,k), from c correct of n samples per task, float64.

    `correct` and `samples` broadcast against each other. The ratio is a product of k factors, so no size overflows
    (Chen et al. 2021; App. G of arXiv:2602.02710v1). Raises `InputError` unless 0 <= c <= n and 1 <= k <= n.
    """
    k = specs.check_count("k", k)
    c = objectives.as_double(correct)
    c, n = torch.broadcast_tensors(c, objectives.as_double(samples).to(c.device))
    if not bool(((n == n.floor()) & n.isfinite()).all()):
        raise InputError(f"samples must be whole numbers, got {samples}")
    if bool((n < k).any()):
        raise InputError(f"pass@k needs k <= samples, got k = {k} with {int(n.min())} samples")
    wrong = ~((c >= 0) & (c <= n) & (c == c.floor()))
    if bool(wrong.any()):
        raise InputError(f"correct must be a whole number from 0 to samples, got {c[wrong].flatten()[0].item():g}")
    draws = torch.arange(k, dtype=torch.float64, device=c.device)
    factors = torch.log1p((-c[..., None] / (n[..., None] - draws)).clamp(min=-1.0))
    return -torch.expm1(factors.sum(-1))


def exact_pass_at_k(pass_rate: object, k: int) -> Tensor:
    """Return pass@k = 1 - (1-p)^k of known pass rates, exactly; float64, the shape of `pass_rate` (App. D.4)."""
    return objectives.PassAtK(k).value(pass_rate)


def coverage(correct: object, samples: object, ks: Iterable[int]) -> Tensor:
    """Return the mean over tasks (last axis of `correct`) of the unbiased pass@k for each of `ks`, shape (..., k)."""
    return _per_k(ks, lambda k: _mean(pass_at_k(correct, samples, k)))


def exact_coverage(pass_rate: object, ks: Iterable[int]) -> Tensor:
    """Return the mean over tasks (last axis) of the exact pass@k for each of `ks`, shape (..., k)."""
    return _per_k(ks, lambda k: _mean(exact_pass_at_k(pass_rate, k)))


def _mean(per_task: Tensor) -> Tensor:
    if per_task.shape[-1:] == (0,):
        raise InputError("coverage needs at least one task, got none")
    return per_task.mean(-1)


def _per_k(ks: Iterable[int], curve: Callable[[int], Tensor]) -> Tensor:
    values = [curve(k) for k in ks]
    if not values:
        raise InputError("coverage needs at least one k, got none")
    return torch.stack(values, -1)


def scaling_efficiency(coverage: object, baseline: object, ks: Sequence[int]) -> Tensor:
    """Return k'/k for each of `ks`: how many times more samples the baseline needs for the same coverage (Fig. 5).

    k' is the number of samples at which the baseline's curve first reaches `coverage` at k. Between two measured k the
    curve is taken as linear in log k. The value is infinite where the baseline never gets there within the measured
    range; where the baseline starts above, k' is the smallest measured k, so the value is then an upper bound.
    `coverage`, `baseline` and the result have the shape (len(ks),).
    """
    ours, theirs = (torch.as_tensor(curve, dtype=torch.float64) for curve in (coverage, baseline))
    if not len(ks) or list(ks) != sorted(set(ks)) or ks[0] < 1 or not ours.shape == theirs.shape == (len(ks),):
        raise InputError(
            f"expected increasing ks >= 1 and one coverage for each, got ks {list(ks)} "
            f"with shapes {tuple(ours.shape)} and {tuple(theirs.shape)}"
        )
    efficiency = torch.full_like(ours, math.inf).masked_fill(ours.isnan(), math.nan)
    for index, (target, k) in enumerate(zip(ours.tolist(), ks, strict=True)):
        reached = (theirs >= target).nonzero()
        if len(reached):
            efficiency[index] = _samples_needed(theirs.tolist(), ks, target, int(reached[0])) / k
    return efficiency


def _samples_needed(curve: list[float], ks: Sequence[int], target: float, first: int) -> float:
    if first == 0:
        return float(ks[0])
    share = (target - curve[first - 1]) / (curve[first] - curve[first - 1])
    return math.exp((1 - share) * math.log(ks[first - 1]) + share * math.log(ks[first]))


def majority_vote(answers: Iterable[Sequence[Answer | None]]) -> list[Answer | None]:
    """Return each problem's most frequent answer; among equally frequent ones, the one drawn first (App. J.1).

    `answers` holds, per problem, the n decoded answers: anything hashable, or the rows of an integer tensor (B, n).
    None stands for a sample without an answer and is no candidate: a problem without any answer has the vote None.
    """
    voted = []
    for row in _rows(answers):
        if isinstance(row, str):
            raise InputError(f"majority vote needs a list of answers for each problem, got the text {row!r}")
        if len(row) == 0:
            raise InputError("majority vote needs at least one sample per problem, got none")
        candidates = Counter(answer for answer in row if answer is not None)
        voted.append(candidates.most_common(1)[0][0] if candidates else None)
    return voted


def majority_right(answers: Iterable[Sequence[Answer | None]], right: Iterable[Sequence[bool]]) -> list[bool]:
    """Return whether each problem's majority vote is right, as the first sample with the voted answer is.

    `answers` as in `majority_vote`; `right` says of the same n samples of each problem whether they are right. A
    problem without any answer is wrong. Raises `InputError` where the numbers of problems or samples differ.
    """
    given, verdicts = list(_rows(answers)), list(_rows(right))
    sizes, expected = [len(row) for row in verdicts], [len(row) for row in given]
    if sizes != expected:
        raise InputError(f"expected a verdict for each answer, got {sizes} verdicts for {expected} answers")
    votes = majority_vote(given)
    return [
        vote is not None and bool(row[list(answered).index(vote)])
        for vote, answered, row in zip(votes, given, verdicts, strict=True)
    ]


def _rows(table: Iterable[Sequence[Any]]) -> Iterable[Sequence[Any]]:
    return table.tolist() if isinstance(table, Tensor | np.ndarray) else table


def signal_fraction(rewards: Tensor) -> Tensor:
    """Return the share of tasks with at least one success among rewards (..., B, N) of 0 and 1, shape (...) (Fig. 7).

    Raises `InputError` for a reward that is not 0 or 1, and for rewards without an axis of tasks.
    """
    right = check_rewards(rewards) != 0
    if right.ndim < 2:
        raise InputError(f"expected rewards of shape (..., B, N), got {tuple(right.shape)}")
    return right.any(-1).to(torch.float64).mean(-1)
