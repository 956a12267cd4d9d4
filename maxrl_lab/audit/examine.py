"""The audit: call an advantage function on groups of every kind, and report what it does."""

from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab import estimators, exact, specs
from maxrl_lab.audit import identify, traps
from maxrl_lab.audit.identify import Match
from maxrl_lab.audit.noise import noise
from maxrl_lab.audit.report import Report
from maxrl_lab.probe import name_of, probe, read_coefficients


def audit(function: exact.AnyEstimator, *, rollouts: int, batched: bool | None = None) -> Report:
    """Return what `function`, from rewards (N,) or (B, N) to advantages, does at N = `rollouts`.

    The function may take torch tensors, numpy arrays or lists, whichever it understands; an estimator's name stands for
    that estimator. `batched` says that the function is only ever called with (B, N) (True) or with one group (N,)
    (False); by default both are tried. Raises `InputError` if the function cannot be called at this N.
    """
    specs.check_rollouts(rollouts)
    called = estimators.resolve(function, rollouts)
    name, probed = name_of(called), probe(called, rollouts, batched)
    flaws = tuple(traps.invalidating(probed, rollouts, batched))
    if any(trap.name in traps.WITHOUT_TABLE for trap in flaws):
        return Report(name, rollouts, (), (), (), (), None, (), flaws)
    success, failure = read_coefficients(probed, rollouts)
    edges = tuple(traps.at_the_edges(probed, rollouts, success, failure))
    columns = tuple(success.tolist()), tuple(failure.tolist())
    if any(trap.invalidates for trap in edges):
        return Report(name, rollouts, *columns, (), (), None, (), flaws + edges)
    curve = _curve(success, failure, rollouts, probed.precision)
    baseline = traps.own_reward_baseline(success, failure, curve.nearest, rollouts) if curve.nearest else ()
    return Report(
        name,
        rollouts,
        *columns,
        tuple(curve.pass_rate.tolist()),
        tuple(curve.weight.tolist()),
        curve.nearest,
        noise(success, failure),
        (*flaws, *baseline, *edges),
    )


class _Curve(NamedTuple):
    pass_rate: Tensor
    weight: Tensor
    nearest: Match | None


def _curve(success: Tensor, failure: Tensor, rollouts: int, precision: float) -> _Curve:
    p = identify.grid(rollouts)
    weight = exact.table_weight(success, failure, p)
    learns = bool(torch.any(weight.abs() > precision))
    return _Curve(p, weight, identify.nearest(weight, p, rollouts) if learns else None)
