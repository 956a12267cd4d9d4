"""The lab's estimators that have the table of an audited function: GRPO is known by its coefficients, not its weight.

At N = 8 GRPO optimises no objective that has a name, and (r - mean) / (std + 1e-5) is GRPO all the same.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.audit import identify
from maxrl_lab.errors import InputError
from maxrl_lab.estimators import ESTIMATORS, Estimator

EPSILONS = (0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
"""What shipped code adds to GRPO's standard deviation."""
ALL_SIZES = 64
"""Up to this N every order and k is compared, beyond it those of the objective and the powers of two."""
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


def known(success: Tensor, failure: Tensor, precision: float, objective: str | None) -> Known | None:
    """Return the estimators whose coefficients are those given, or None if there are none.

    `precision` is that of the coefficients. Among estimators that differ by less than that, those with the scale 1 are
    preferred, then those whose text form is short. `objective` is the text form of the one that has been identified.
    """
    rollouts = len(success) - 1
    table = torch.cat([success[1:], failure[:-1]])
    limit = identify.tolerance(rollouts, precision)
    matches = [match for match in _matches(table, rollouts, objective) if match.deviation <= limit]
    if not matches:
        return None
    best = min(match.deviation for match in matches)
    equal = [match for match in matches if match.deviation <= best + precision]
    unscaled = [match for match in equal if abs(match.scale - 1) <= 2 * limit] or equal
    shortest = min(unscaled, key=lambda match: match.names[0].count("="))
    names = [match.names[0] for match in unscaled if _same_options(match, shortest)]
    return shortest._replace(names=tuple(dict.fromkeys(names)))


def _matches(table: Tensor, rollouts: int, objective: str | None) -> Iterator[Known]:
    for estimator in _estimators(rollouts, objective):
        try:
            success, failure = estimator.coefficients(rollouts)
        except InputError:  # the group is too small for it
            continue
        match = compare(table, torch.cat([success[1:], failure[:-1]]), estimator.spec)
        if match:
            yield match


def compare(table: Tensor, target: Tensor, name: str) -> Known | None:
    """Return the match of a table with the target at the best positive scale, or None if there is none."""
    size = float(target.abs().max())
    large = target.abs() >= _FLOOR * size
    if not size or not bool(large.any()):
        return None
    ratios = table[large] / target[large]
    scale = float(ratios.max() + ratios.min()) / 2
    if scale <= 0:
        return None
    deviation = (table / scale - target).abs() / target.abs().clamp(min=_FLOOR * size)
    return Known((name,), scale, float(deviation.max()))


def _estimators(rollouts: int, objective: str | None) -> Iterator[Estimator]:
    """Yield the estimators to compare with: all without a free number, GRPO's epsilons, orders and k."""
    for name in ESTIMATORS:
        if name not in _WITH_OPTIONS:
            yield Estimator(name)
    for epsilon, ddof in itertools.product(EPSILONS, (0, 1)):
        options: dict[str, int | float] = {"ddof": ddof} if ddof else {}
        yield Estimator("grpo", {**options, "epsilon": epsilon} if epsilon else options)
    for size in _sizes(rollouts, objective):
        for name, option in _SIZED:
            yield Estimator(name, {option: size})
        yield Estimator("passk_training", {"k": size, "std": 0})


_SIZED = (
    ("maxrl_order", "order"),
    ("maxrl_centred", "order"),
    ("maclaurin", "order"),
    ("pkpo", "k"),
    ("pkpo_centred", "k"),
    ("passk_training", "k"),
)
_WITH_OPTIONS = {"grpo", "constant_baseline", "power", "tsallis", "rs_grpo", *(name for name, _ in _SIZED)}
"""Estimators with a free number; power, tsallis and rs_grpo are known by what they tend to (`limit`)."""


def _sizes(rollouts: int, objective: str | None) -> list[int]:
    if rollouts <= ALL_SIZES:
        return list(range(2, rollouts + 1))
    powers = [2**exponent for exponent in range(1, rollouts.bit_length()) if 2**exponent <= rollouts]
    named = (objective or "").rpartition("=")[2]
    return sorted({*powers, rollouts - 1, rollouts, *([int(named)] if named.isdigit() else [])})


def _same_options(match: Known, shortest: Known) -> bool:
    return match.names[0].count("=") == shortest.names[0].count("=")
