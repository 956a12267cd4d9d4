"""The audit: call an advantage function on groups of every kind, and report what it does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from maxrl_lab import estimators, exact, specs
from maxrl_lab.audit import batches, columns, families, identify, masses, repeats, traps
from maxrl_lab.audit.known import known
from maxrl_lab.audit.limit import limit
from maxrl_lab.audit.noise import SHOWN_PASS_RATES, noise
from maxrl_lab.audit.report import Report
from maxrl_lab.audit.signature import describe, probe_call
from maxrl_lab.audit.singleton import singleton
from maxrl_lab.audit.tasks import Listed, Tasks
from maxrl_lab.audit.traps import Trap
from maxrl_lab.errors import InputError
from maxrl_lab.probe import Probe, name_of

MOST_CALLED = 10_000
"""Largest N at which a function is called, several times for each number of successes; a table of the lab is read."""


def audit(
    function: exact.AnyEstimator,
    *,
    rollouts: int,
    batched: bool | None = None,
    pass_rates: Tasks | Sequence[float] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Report:
    """Return what `function`, from rewards (N,) or (B, N) to advantages, does at N = `rollouts`.

    The function may take torch tensors, numpy arrays or lists, whichever it understands, and further arguments that
    are known by their names, such as group ids, a mask, or those of verl and TRL (`roles`); `arguments` gives values to
    others. An estimator's name stands for that estimator. `batched` says that the function is only ever called with
    (B, N) (True) or with one group (N,) (False); by default both are tried. `pass_rates`, a list or a `tasks.Beta`,
    adds what the function does over tasks. Raises `InputError` if the function cannot be called at this N, which is at
    most `MOST_CALLED`.
    """
    specs.check_rollouts(rollouts)
    called = estimators.resolve(function, rollouts)
    if rollouts > MOST_CALLED and not isinstance(called, estimators.CountEstimator):
        raise InputError(f"rollouts must be at most {MOST_CALLED} for a function that is called, got {rollouts}")
    tasks = Listed(tuple(pass_rates)) if isinstance(pass_rates, Sequence) else pass_rates
    probed, table, repeated = repeats.settled(probe_call(called, rollouts, batched, arguments or {}), rollouts)
    report = Report(name_of(called), rollouts, (), (), (), (), None, (), repeated, asked=describe(probed))
    if table is None:
        return report
    success, failure = table
    alone = singleton(probed)
    edges = tuple(traps.at_the_edges(probed, rollouts, success, failure, alone))
    flaws = (*repeated, *(() if batched is False else _in_batches(probed, success, failure)))
    report = replace(
        report,
        success=tuple(success.tolist()),
        failure=tuple(failure.tolist()),
        singleton=alone,
        traps=(*flaws, *edges),
        precision=probed.precision,
    )
    if any(trap.invalidates for trap in edges):
        return report
    report = _measured(report, probed, success, failure, tasks)
    baseline = traps.own_reward_baseline(success, failure, report.nearest, rollouts) if report.nearest else ()
    return replace(report, traps=(*flaws, *baseline, *edges))


def _in_batches(probed: Probe, success: Tensor, failure: Tensor) -> tuple[Trap, ...]:
    pooled = tuple(batches.pooled(probed, success, failure))
    return pooled or tuple(columns.columns(probed, len(success) - 1))


def _measured(report: Report, probed: Probe, success: Tensor, failure: Tensor, tasks: Tasks | None) -> Report:
    """Return the report with what follows from finite coefficients."""
    precision, p = probed.precision, identify.grid(report.rollouts)
    weight = exact.table_weight(success, failure, p)
    report = replace(
        report,
        pass_rate=tuple(p.tolist()),
        weight=tuple(weight.tolist()),
        noise=noise(success, failure),
        masses=tuple(masses.at(success, failure, rate, precision) for rate in SHOWN_PASS_RATES),
        over=masses.over(success, failure, tasks, precision) if tasks else None,
    )
    if not bool(torch.any(weight.abs() > precision)):  # the mean gradient is 0
        return report
    match = identify.nearest(weight, p, report.rollouts, precision)
    named = match.objective if match.residual <= report.tolerance and match.scale > 0 else None
    return replace(
        report,
        nearest=match,
        known=known(success, failure, precision=precision, noise=_size_of_noise(report), objective=named),
        limit=limit(probed, success, failure),
        power=None if named else families.fit_power(weight, p, 1 / report.rollouts),
    )


def _size_of_noise(report: Report) -> float:
    """Return how far coefficients may be from those without the noise that was found, 0 if there is none."""
    noisy = any(trap.name == "noise" for trap in report.traps)
    return report.precision * max(1.0, *map(abs, report.success + report.failure)) if noisy else 0.0
