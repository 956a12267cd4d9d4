"""What an audit has found: coefficients, weight, nearest objective, noise and traps, as values and as text."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxrl_lab import exact, objectives
from maxrl_lab.audit import identify, layout
from maxrl_lab.audit.identify import Match
from maxrl_lab.audit.noise import SHOWN_PASS_RATES, Noise
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
        if match is None or not self.valid:
            return None
        return match.objective if match.residual <= self.tolerance and match.scale > 0 else None

    def compared_to(self, objective: exact.AnyObjective, scale: float | None = None) -> Match:
        """Return how far the weight is from an objective's, at the best scale or a given one."""
        target = objectives.resolve(objective, self.rollouts)
        if scale is not None and not 0 < scale < math.inf:
            raise InputError(f"scale must be positive and finite, got {scale}")
        if not self.weight:
            return Match(target.spec, float("nan"), float("inf"))
        p, curve = _double(self.pass_rate), _double(self.weight)
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
        described = {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "nearest": self.nearest._asdict() if self.nearest else None,
            "noise": [noise._asdict() for noise in self.noise],
            "traps": [dataclasses.asdict(trap) for trap in self.traps],
            "objective": self.objective,
            "valid": self.valid,
        }
        plain: dict[str, Any] = _finite(described)
        return plain

    def text(self) -> str:
        """Return the report as a table for people."""
        lines = [f"{self.name} at N = {self.rollouts} rollouts", f"  {self._verdict()}"]
        if self.success:
            lines += ["", *layout.coefficient_lines(self.success, self.failure)]
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
        match = self.nearest
        if match.scale < 0:
            verb = "DESCENDS"
        elif match.residual > self.tolerance:
            verb = "optimises no known objective exactly; nearest:"
        else:
            verb = "optimises"
        return f"{verb} {match.objective}, times {match.scale:.6g} (largest relative deviation {match.residual:.1e})"

    def _curve_lines(self) -> list[str]:
        p = _double(SHOWN_PASS_RATES)
        curve = exact.table_weight(_double(self.success), _double(self.failure), p)
        rows = [["pass rate p", *(f"{value:g}" for value in SHOWN_PASS_RATES)]]
        rows.append(["w_N(p)", *(f"{value:.4g}" for value in curve.tolist())])
        if self.nearest:
            target = self.nearest.scale * objectives.resolve(self.nearest.objective).weight(p)
            rows.append([self.nearest.objective, *(f"{value:.4g}" for value in target.tolist())])
        rows.append(["noise / signal", *(f"{noise.relative:.3g}" for noise in self.noise)])
        return layout.aligned(rows)


def _double(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
