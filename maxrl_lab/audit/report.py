"""What an audit has found: coefficients, weight, nearest objective, noise, masses and traps, as values and as text."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxrl_lab import estimators, exact, objectives, specs
from maxrl_lab.audit import facts, identify, layout
from maxrl_lab.audit.families import PowerFit
from maxrl_lab.audit.identify import Match
from maxrl_lab.audit.known import Known, compare
from maxrl_lab.audit.limit import Limit
from maxrl_lab.audit.masses import Masses, OverTasks
from maxrl_lab.audit.noise import SHOWN_PASS_RATES, Noise
from maxrl_lab.audit.singleton import Singleton
from maxrl_lab.audit.traps import Trap
from maxrl_lab.errors import InputError


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
    traps: tuple[Trap, ...]
    known: Known | None = None
    """The lab's estimators with the same coefficients; None if there are none."""
    limit: Limit | None = None
    """The objective whose weight the function's tends to as N grows; None if that is not known."""
    power: PowerFit | None = None
    """The nearest member of the power family, where the objective is none of the known ones."""
    singleton: Singleton | None = None
    """What the function makes of a group of one."""
    masses: tuple[Masses, ...] = ()
    """Activity, masses and silent groups at each of `noise.SHOWN_PASS_RATES`."""
    over: OverTasks | None = None
    """The same over the tasks whose pass rates were given."""
    asked: str = ""
    """How the function was called."""
    precision: float = 0.0
    """Relative accuracy of the advantages."""

    @property
    def valid(self) -> bool:
        """Whether the table describes the function: the same for every call, order of rollouts and batch."""
        return not any(trap.invalidates for trap in self.traps)

    @property
    def tolerance(self) -> float:
        """A residual up to this counts as equality."""
        return identify.tolerance(self.rollouts, self.precision)

    @property
    def objective(self) -> str | None:
        """The objective the function is unbiased for, up to a positive factor; None if it is none of the known ones."""
        match = self.nearest
        if match is None or not self.valid:
            return None
        return match.objective if match.residual <= self.tolerance and match.scale > 0 else None

    def compared_to(self, objective: exact.AnyObjective, scale: float | None = None) -> Match:
        """Return how far the weight is from an objective's, at the best scale or a given one."""
        target = objectives.resolve(objective, self.rollouts)
        _check_scale(scale)
        if not self.weight:
            return Match(target.spec, float("nan"), float("inf"))
        p, curve = _double(self.pass_rate), _double(self.weight)
        match = identify.compare(curve, target, p)
        return match if scale is None else identify.rescaled(match, curve, target, p, scale)

    def compared_to_estimator(self, estimator: str, scale: float | None = None) -> Known:
        """Return how far the coefficients are from an estimator's, at the best scale or a given one."""
        _check_scale(scale)
        name, options = specs.parse(estimator, self.rollouts)
        made = estimators.make(name, **options)
        if not self.weight:
            return Known((made.spec,), float("nan"), float("inf"))
        return compare(_double(self.success), _double(self.failure), made, scale)

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
        described = {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "traps": [dataclasses.asdict(trap) for trap in self.traps],
            "objective": self.objective,
            "valid": self.valid,
        }
        plain: dict[str, Any] = _plain(described)
        return plain

    def text(self) -> str:
        """Return the report as a table for people."""
        return layout.text(self._parts())

    def markdown(self) -> str:
        """Return the report as Markdown, for a pull request or a workflow's summary."""
        return layout.markdown(self._parts())

    def summary(self) -> str:
        """Return the verdict, what is known beside it, and the names of the traps: a few lines."""
        return layout.summary(self._parts())

    def _parts(self) -> layout.Parts:
        tables = [layout.coefficient_rows(self.success, self.failure)] if self.success else []
        return layout.Parts(
            f"{self.name} at N = {self.rollouts} rollouts",
            self._verdict(),
            list(facts.facts(self.known, self.limit, self.power, self.singleton, self.asked)),
            [*tables, self._curve_rows()] if self.weight else tables,
            [facts.of_tasks(self.over)] if self.over else [],
            [(trap.name, trap.message) for trap in self.traps],
        )

    def _verdict(self) -> str:
        if not self.valid:
            verdict = "optimises no objective that can be named: its coefficients do not describe it (see traps)"
            alone = all(trap.name == "pooled_groups" for trap in self.traps if trap.invalidates)
            return f"{verdict}; one group at a time it {self._found()}" if alone else verdict
        return self._found()

    def _found(self) -> str:
        match = self.nearest
        if match is None:
            return "optimises nothing: its mean gradient is 0 at every pass rate"
        if match.scale < 0:
            verb = "DESCENDS"
        elif match.residual > self.tolerance:
            verb = "optimises no known objective exactly; nearest:"
        else:
            verb = "optimises"
        return f"{verb} {match.objective}, times {match.scale:.6g} (largest relative deviation {match.residual:.1e})"

    def _curve_rows(self) -> layout.Rows:
        p = _double(SHOWN_PASS_RATES)
        curve = exact.table_weight(_double(self.success), _double(self.failure), p)
        rows = [["pass rate p", *(f"{value:g}" for value in SHOWN_PASS_RATES)]]
        rows.append(["w_N(p)", *(f"{value:.4g}" for value in curve.tolist())])
        if self.nearest:
            target = self.nearest.scale * objectives.resolve(self.nearest.objective).weight(p)
            rows.append([self.nearest.objective, *(f"{value:.4g}" for value in target.tolist())])
        rows.append(["noise / signal", *(f"{noise.relative:.3g}" for noise in self.noise)])
        if self.masses:
            rows.append(["activity", *(f"{masses.activity:.3g}" for masses in self.masses)])
            rows.append(["positive mass", *(f"{masses.positive:.3g}" for masses in self.masses)])
            rows.append(["negative mass", *(f"{masses.negative:.3g}" for masses in self.masses)])
            rows.append(["silent groups", *(f"{masses.silent:.3g}" for masses in self.masses)])
        return rows


def _check_scale(scale: float | None) -> None:
    if scale is not None and not 0 < scale < math.inf:
        raise InputError(f"scale must be positive and finite, got {scale}")


def _double(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
