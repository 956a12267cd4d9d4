"""Which objective does an advantage function optimise? Asked of the function itself, by calling it.

    >>> print(audit(lambda rewards: rewards - rewards.mean(), rollouts=8, batched=False).text())

Reads the function's coefficients a(K), b(K) off, computes its exact weight w_N(p), names the objective with that
weight (`identify`), and lists what goes wrong at the edges (`traps`). See `exact` for the theory.
"""

import dataclasses
import importlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maxrl_lab import estimators, exact, objectives, specs
from maxrl_lab.audit import identify, traps
from maxrl_lab.audit.identify import Match
from maxrl_lab.errors import InputError
from maxrl_lab.probe import name_of, probe, read_coefficients

SHOWN_PASS_RATES = (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9)
"""Where a report states weight and variance."""
_SHOWN_SUCCESSES = 8


@dataclass(frozen=True)
class Noise:
    """Exact noise of one group's estimate on the one-parameter policy p = sigmoid(logit)."""

    pass_rate: float
    variance: float
    """Variance of the gradient estimate with respect to the logit."""
    relative: float
    """Standard deviation over the size of the mean; infinite where the mean is 0."""


@dataclass(frozen=True)
class Report:
    """What an advantage function does at N rollouts."""

    name: str
    rollouts: int
    success: tuple[float, ...]
    """a(K) for K = 0..N; empty if the function has no such table (then `traps` says why)."""
    failure: tuple[float, ...]
    """b(K) for K = 0..N."""
    pass_rate: tuple[float, ...]
    weight: tuple[float, ...]
    """w_N(p) at each of `pass_rate`."""
    nearest: Match | None
    """The known objective with the nearest weight; None if there is no table or the mean gradient is 0."""
    noise: tuple[Noise, ...]
    traps: tuple[traps.Trap, ...]

    @property
    def valid(self) -> bool:
        """Whether the table describes the function: the same for every call, order of rollouts and batch."""
        return not any(trap.invalidates for trap in self.traps)

    @property
    def tolerance(self) -> float:
        """A residual up to this counts as equality: orders N and N-1 are about 1/(2N) apart."""
        return min(identify.TOLERANCE, 0.1 / self.rollouts)

    @property
    def objective(self) -> str | None:
        """The objective the function is unbiased for, up to a positive factor; None if it is none of the known ones."""
        match = self.nearest
        return (
            match.objective if self.valid and match and match.residual <= self.tolerance and match.scale > 0 else None
        )

    def compared_to(self, objective: exact.AnyObjective, scale: float | None = None) -> Match:
        """Return how far the weight is from an objective's, at the best scale or a given one."""
        target = objectives.resolve(objective, self.rollouts)
        if scale is not None and not 0 < scale < math.inf:
            raise InputError(f"scale must be positive and finite, got {scale}")
        if not self.weight:
            return Match(target.spec, float("nan"), float("inf"))
        p, curve = (torch.tensor(values, dtype=torch.float64) for values in (self.pass_rate, self.weight))
        match = identify.compare(curve, target, p)
        return match if scale is None else identify.rescaled(match, curve, target, p, scale)

    def optimises(
        self, objective: exact.AnyObjective, scale: float | None = None, tolerance: float | None = None
    ) -> bool:
        """Return whether the function is unbiased for the objective, up to a positive factor or `scale` times.

        `tolerance` bounds the relative deviation; by default `self.tolerance`.
        """
        tolerance = self.tolerance if tolerance is None else tolerance
        match = self.compared_to(objective, scale)
        return self.valid and match.scale > 0 and match.residual <= tolerance

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, with None for what is infinite or undefined."""
        nearest = self.nearest._asdict() if self.nearest else None
        described = {**dataclasses.asdict(self), "nearest": nearest, "objective": self.objective, "valid": self.valid}
        plain: dict[str, Any] = _finite(described)
        return plain

    def text(self) -> str:
        """Return the report as a table for people."""
        lines = [f"{self.name} at N = {self.rollouts} rollouts", f"  {self._verdict()}"]
        if self.success:
            lines += ["", *self._coefficient_lines()]
        if self.weight:
            lines += ["", *self._curve_lines()]
        lines += ["", "  traps" + ("" if self.traps else ": none found")]
        lines += [f"  - {trap.name}: {trap.message}" for trap in self.traps]
        return "\n".join(lines)

    def _verdict(self) -> str:
        if not self.valid:
            return "optimises no objective that can be named: its coefficients do not describe it (see traps)"
        if self.nearest is None:
            return "optimises nothing: its mean gradient is 0 at every pass rate"
        match, sign = self.nearest, ""
        if match.scale < 0:
            sign = "DESCENDS "
        elif match.residual > self.tolerance:
            sign = "optimises no known objective exactly; nearest: "
        else:
            sign = "optimises "
        return f"{sign}{match.objective}, times {match.scale:.6g} (largest relative deviation {match.residual:.1e})"

    def _coefficient_lines(self) -> list[str]:
        count = self.rollouts
        shown = [*range(min(_SHOWN_SUCCESSES, count) + 1)]
        shown += [place for place in (count // 4, count // 2, 3 * count // 4, count - 1, count) if place > shown[-1]]
        rows = [
            ["K successes", *map(str, shown)],
            ["a(K) success", *("-" if k == 0 else f"{self.success[k]:.4g}" for k in shown)],
            ["b(K) failure", *("-" if k == count else f"{self.failure[k]:.4g}" for k in shown)],
        ]
        return _aligned(rows)

    def _curve_lines(self) -> list[str]:
        p = torch.tensor(SHOWN_PASS_RATES, dtype=torch.float64)
        curve = self._weight_at(p)
        rows = [["pass rate p", *(f"{value:g}" for value in SHOWN_PASS_RATES)]]
        rows.append(["w_N(p)", *(f"{value:.4g}" for value in curve.tolist())])
        if self.nearest:
            target = self.nearest.scale * objectives.resolve(self.nearest.objective).weight(p)
            rows.append([f"{self.nearest.objective}", *(f"{value:.4g}" for value in target.tolist())])
        rows.append(["noise / signal", *(f"{noise.relative:.3g}" for noise in self.noise)])
        return _aligned(rows)

    def _weight_at(self, pass_rate: Tensor) -> Tensor:
        success, failure = (torch.tensor(column, dtype=torch.float64) for column in (self.success, self.failure))
        return exact.table_weight(success, failure, pass_rate)


def audit(function: exact.AnyEstimator, *, rollouts: int, batched: bool | None = None) -> Report:
    """Return what `function`, from rewards (N,) or (B, N) to advantages, does at N = `rollouts`.

    Takes torch tensors, numpy arrays or lists, whichever the function understands, or an estimator's name. `batched`
    says that it is only ever called with (B, N) (True) or with one group (N,) (False); by default both are tried.
    Raises `ValueError` if the function cannot be called at this N.
    """
    specs.check_count("rollouts", rollouts)
    called = estimators.resolve(function, rollouts)
    found = probe(called, rollouts, batched)
    invalid = tuple(traps.invalidating(found, rollouts, batched))
    if any(trap.name in ("random", "order_dependent", "raises") for trap in invalid):
        return Report(name_of(called), rollouts, (), (), (), (), None, (), invalid)
    success, failure = read_coefficients(found, rollouts)
    edges = tuple(traps.at_the_edges(found, rollouts, success, failure))
    columns = tuple(success.tolist()), tuple(failure.tolist())
    if any(trap.invalidates for trap in edges):
        return Report(name_of(called), rollouts, *columns, (), (), None, (), invalid + edges)
    p = identify.grid(rollouts)
    curve = exact.table_weight(success, failure, p)
    learns = bool(curve.abs().max() > found.precision)
    nearest = identify.nearest(curve, p, rollouts) if learns else None
    own = tuple(traps.own_reward_baseline(success, failure, nearest, rollouts)) if nearest else ()
    return Report(
        name_of(called),
        rollouts,
        *columns,
        tuple(p.tolist()),
        tuple(curve.tolist()),
        nearest,
        _noise(success, failure),
        invalid + own + edges,
    )


def load(target: str, rollouts: int) -> Callable[..., Any]:
    """Return the function a command line names: `module:function`, or an estimator of the lab such as `pkpo:k=4`.

    The current folder is searched for modules. Raises `ValueError` if there is no such module or function.
    """
    module_name, colon, attribute = target.partition(":")
    if module_name in estimators.ESTIMATORS:
        return estimators.resolve(target, rollouts)
    if not colon:
        known = ", ".join(estimators.ESTIMATORS)
        raise InputError(f"unknown estimator {target!r}; choose one of: {known}; or name your own as module:function")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            function = getattr(function, part)
    except (Exception, SystemExit) as error:  # a user's module may do anything when it is imported
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"cannot load {target!r} (expected module:function): {reason}") from None
    if not callable(function):
        raise InputError(f"{target!r} is a {type(function).__name__}, expected a function")
    return function  # type: ignore[no-any-return]


def _noise(success: Tensor, failure: Tensor) -> tuple[Noise, ...]:
    """On p = sigmoid(logit) the score is r - p, so grad p = p(1-p), q1 = p(1-p)^2 and q0 = (1-p)p^2."""
    p = torch.tensor(SHOWN_PASS_RATES, dtype=torch.float64)
    gradient = p * (1 - p)
    variance = exact.table_variance(
        success,
        failure,
        pass_rate=p,
        gradient_norm_squared=gradient**2,
        success_moment=p * (1 - p) ** 2,
        failure_moment=(1 - p) * p**2,
    ).clamp(min=0.0)
    mean = exact.table_weight(success, failure, p) * gradient
    relative = torch.where(mean != 0, variance.sqrt() / mean.abs(), float("inf"))
    return tuple(Noise(*values) for values in zip(SHOWN_PASS_RATES, variance.tolist(), relative.tolist(), strict=True))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _aligned(rows: list[list[str]]) -> list[str]:
    head = max(len(row[0]) for row in rows)
    width = max(len(cell) for row in rows for cell in row[1:]) + 2
    return ["  " + row[0].ljust(head) + "".join(cell.rjust(width) for cell in row[1:]) for row in rows]
