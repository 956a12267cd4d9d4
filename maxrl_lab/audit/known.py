"""The lab's estimators that have the table of an audited function: GRPO is known by its coefficients, not its weight.

At N = 8 GRPO optimises no objective that has a name, and (r - mean) / (std + 1e-5) is GRPO all the same.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.audit import identify
from maxrl_lab.errors import InputError
from maxrl_lab.estimators import ESTIMATORS, Estimator

EPSILONS = (0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""What shipped code adds to GRPO's standard deviation."""
ALL_SIZES = 64
"""Up to this N the tables of Pass@k Training are compared for every k, beyond it for the powers of two."""
_FLOOR = 1e-3
"""A deviation of a coefficient is divided by it, or by this share of the largest one where it is below that."""


class Known(NamedTuple):
    """The estimators that have the function's table, up to a positive factor."""

    names: tuple[str, ...]
    """Text forms; several where they are the same table at this N."""
    scale: float
    """The function's coefficients over theirs."""
    deviation: float
    """The largest relative deviation of a coefficient."""


def known(
    success: Tensor, failure: Tensor, *, precision: float = 1e-9, noise: float = 0.0, objective: str | None = None
) -> Known | None:
    """Return the estimators whose coefficients are those given, or None if there are none.

    `precision` is the relative accuracy of the coefficients, and `noise` what was added to them. Among estimators that
    differ by less than that, those with the scale 1 are preferred, then those whose text form is short. `objective` is
    the text form of the one that has been identified.
    """
    rollouts = len(success) - 1
    limit = identify.tolerance(rollouts, precision)
    every = _matches(success, failure, objective, noise)
    matches = [match for match in every if match.scale > 0 and match.deviation <= limit]
    if not matches:
        return None
    best = min(match.deviation for match in matches)
    equal = [match for match in matches if match.deviation <= best + precision]
    unscaled = [match for match in equal if abs(match.scale - 1) <= 2 * limit] or equal
    shortest = min(unscaled, key=_options)
    names = [match.names[0] for match in unscaled if _options(match) == _options(shortest)]
    return shortest._replace(names=tuple(dict.fromkeys(names)))


def compare(
    success: Tensor, failure: Tensor, estimator: Estimator, scale: float | None = None, noise: float = 0.0
) -> Known:
    """Return the match of the coefficients with an estimator's at the best scale, or a given one.

    Differences up to `noise` count as 0. Raises `InputError` if the group is too small for the estimator.
    """
    table, target = _reachable(success, failure), _reachable(*estimator.coefficients(len(success) - 1))
    size = float(target.abs().max())
    ratios = (table / target)[target.abs() >= _FLOOR * size]
    factor = scale if scale is not None else float(ratios.max() + ratios.min()) / 2 if size else 0.0
    if factor == 0:
        return Known((estimator.spec,), factor, float("inf"))
    difference = ((table / factor - target).abs() - noise / abs(factor)).clamp(min=0.0)
    deviation = difference / target.abs().clamp(min=_FLOOR * size)
    return Known((estimator.spec,), factor, float(deviation.max()))


def _reachable(success: Tensor, failure: Tensor) -> Tensor:
    """Return the coefficients that a group can reach, in a row: a(1..N) and b(0..N-1)."""
    return torch.cat([success[1:], failure[:-1]])


def _matches(success: Tensor, failure: Tensor, objective: str | None, noise: float) -> Iterator[Known]:
    for estimator in _estimators(len(success) - 1, objective):
        with contextlib.suppress(InputError):  # the group is too small for it
            yield compare(success, failure, estimator, noise=noise)


def _options(match: Known) -> int:
    return match.names[0].count("=")


def _estimators(rollouts: int, objective: str | None) -> Iterator[Estimator]:
    """Yield the estimators to compare with: all without a free number, GRPO's epsilons, orders and k."""
    for name in ESTIMATORS:
        if name not in _WITH_OPTIONS:
            yield Estimator(name)
    for epsilon, ddof in itertools.product(EPSILONS, (0, 1)):
        options: dict[str, int | float] = {"ddof": ddof} if ddof else {}
        yield Estimator("grpo", {**options, "epsilon": epsilon} if epsilon else options)
    for size in _sizes(rollouts):
        yield Estimator("passk_training", {"k": size})
    option, _, number = (objective or "").rpartition(":")[2].partition("=")
    for name in _EXACT.get(option, ()) if number.isdigit() else ():
        yield Estimator(name, {option: int(number)})
    if option == "k" and number.isdigit():
        yield Estimator("passk_training", {"k": int(number), "std": 0})


_EXACT = {"order": ("maxrl_order", "maxrl_centred", "maclaurin"), "k": ("pkpo", "pkpo_centred")}
"""Estimators that optimise the objective of their number exactly, so that the objective tells the number."""
_WITH_OPTIONS = {
    "grpo",
    "constant_baseline",
    "power",
    "tsallis",
    "rs_grpo",
    "passk_training",
    *sum(_EXACT.values(), ()),
}
"""Estimators with a free number; power, tsallis and rs_grpo are known by what they tend to (`limit`)."""


def _sizes(rollouts: int) -> list[int]:
    if rollouts <= ALL_SIZES:
        return list(range(2, rollouts + 1))
    return [2**exponent for exponent in range(1, rollouts.bit_length()) if 2**exponent <= rollouts]
