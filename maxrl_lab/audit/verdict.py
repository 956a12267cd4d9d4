"""Whether a report fulfils what was expected of it: an objective, or an estimator of the lab."""

import sys
from dataclasses import dataclass
from typing import Any

from maxrl_lab import exact
from maxrl_lab.audit import layout
from maxrl_lab.audit.report import Report


@dataclass(frozen=True)
class Verdict:
    """What was expected, whether it holds, and by how much it is missed."""

    key: str
    """`expected` for an objective, `expected_estimator` for an estimator."""
    wanted: str
    """The text form of what was expected."""
    scale: float
    residual: float
    holds: bool
    reason: str
    """A few words on how good the match is, or why there is none."""

    def __str__(self) -> str:
        kind = "" if self.key == "expected" else "the coefficients of "
        return f"expected {kind}{self.wanted}: {'holds' if self.holds else 'DOES NOT HOLD'} ({self.reason})"

    def markdown(self) -> str:
        """Return the sentence with a mark in front, as GitHub shows it."""
        return f"{':white_check_mark:' if self.holds else ':x:'} {layout.escaped(str(self))}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values; an infinite residual is the largest number."""
        name = "objective" if self.key == "expected" else "estimator"
        residual = min(self.residual, sys.float_info.max)
        return {name: self.wanted, "scale": self.scale, "residual": residual, "holds": self.holds}


def against_objective(report: Report, objective: exact.AnyObjective, scale: float | None = None) -> Verdict:
    """Return whether the function is unbiased for an objective, at any positive scale or the given one."""
    match = report.compared_to(objective, scale)
    holds = report.optimises(objective, scale)
    return Verdict("expected", match.objective, match.scale, match.residual, holds, _reason(report, *match[1:]))


def against_estimator(report: Report, estimator: str, scale: float | None = None) -> Verdict:
    """Return whether the function has the coefficients of an estimator, at any positive scale or the given one."""
    match = report.compared_to_estimator(estimator, scale)
    holds = report.valid and match.scale > 0 and match.deviation <= report.tolerance
    reason = _reason(report, match.scale, match.deviation)
    return Verdict("expected_estimator", match.names[0], match.scale, match.deviation, holds, reason)


def _reason(report: Report, scale: float, residual: float) -> str:
    broken = [trap.name for trap in report.traps if trap.invalidates]
    if broken:
        return f"the coefficients do not describe the function: {', '.join(broken)}"
    return f"residual {residual:.1e}{', but it descends' if scale < 0 else ''}"
