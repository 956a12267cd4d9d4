"""The audit as an assertion in a test suite; needs pytest, which brings the fixture `assert_optimises`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from torch import Tensor

from maxrl_lab import exact, objectives
from maxrl_lab.audit import identify
from maxrl_lab.audit.examine import audit
from maxrl_lab.audit.identify import Match
from maxrl_lab.audit.report import Report
from maxrl_lab.estimators import CountEstimator
from maxrl_lab.objectives import Objective

RAGGED = ("ids_ignored", "sparse_ids", "unequal_groups", "masked_rows_count", "empty_mask", "pooled_groups")
"""The traps of a function that groups of unequal size, shuffled or sparse ids, or masked rollouts lead astray."""


def check(
    function: exact.AnyEstimator,
    objective: exact.AnyObjective,
    *,
    rollouts: exact.AnyRollouts,
    scale: float | Literal["any"] = "any",
    tolerance: float | None = None,
    batched: bool | None = None,
    ragged: bool = False,
) -> Report:
    """Return the audit of `function` at N = `rollouts`, or fail the test with the curve that was found.

    `objective` is as in `objectives.resolve`, `N` standing for `rollouts`. `rollouts` may be the share of groups with
    each number n, `{7: 0.25, 8: 0.75}`: the mixture of the weights w_n is then compared with that of the objectives at
    these n, and the report of the largest n is returned. `ragged=True` fails the test as well if groups of unequal
    size, shuffled or sparse ids, or masked rollouts lead the function astray (`RAGGED`). `scale="any"` allows any
    positive constant factor; a number asks for that factor. `tolerance` bounds the relative deviation; by default it is
    `Report.tolerance`, min(1e-4, 0.1/N). `batched` is as in `audit.audit`.
    """
    __tracebackhide__ = True
    shares = dict(rollouts) if isinstance(rollouts, Mapping) else {rollouts: 1.0}
    sizes = sorted(n for n, share in shares.items() if n > 0 and share > 0)
    reports = {n: audit(function, rollouts=n, batched=batched) for n in sizes or [0]}
    report = reports[max(reports)]
    factor = None if scale == "any" else scale
    match = _mixture(reports, shares, objective, factor) if len(reports) > 1 else report.compared_to(objective, factor)
    allowed = report.tolerance if tolerance is None else tolerance
    if not (all(other.valid for other in reports.values()) and match.scale > 0 and match.residual <= allowed):
        wanted = f"{match.objective}, times {'any' if factor is None else factor}"
        result = f"found {match.residual:.2e} at scale {match.scale:.6g}"
        shown = next((other for other in reports.values() if not other.valid), report)
        pytest.fail(
            f"expected {wanted}, to a relative deviation of {allowed:g}; {result}\n\n{shown.text()}", pytrace=False
        )
    astray = [trap for other in reports.values() for trap in other.traps if ragged and trap.name in RAGGED]
    if astray:
        pytest.fail(f"expected ragged groups to be kept apart; {astray[0].name}: {astray[0].message}", pytrace=False)
    return report


@dataclass(frozen=True)
class _Mixed(Objective):
    """The mean of an objective over the sizes of groups, at each of which `N` in its text stands for the size."""

    text: str
    parts: tuple[tuple[float, Objective], ...]

    @property
    def spec(self) -> str:
        """The text form, with `N`."""
        return self.text

    def _value(self, p: Tensor) -> Tensor:
        return torch.stack([share * part.value(p) for share, part in self.parts]).sum(0)

    def _weight(self, p: Tensor) -> Tensor:
        return torch.stack([share * part.weight(p) for share, part in self.parts]).sum(0)


@dataclass(frozen=True)
class _Read(CountEstimator):
    """The tables that the audits of one function have read."""

    reports: Mapping[int, Report]

    @property
    def spec(self) -> str:
        """The name of the function."""
        return next(iter(self.reports.values())).name

    def coefficients(self, rollouts: int) -> tuple[Tensor, Tensor]:
        """Return the table at an audited N."""
        report = self.reports[rollouts]
        return torch.tensor(report.success, dtype=torch.float64), torch.tensor(report.failure, dtype=torch.float64)


def _mixture(
    reports: Mapping[int, Report], shares: Mapping[int, float], objective: exact.AnyObjective, scale: float | None
) -> Match:
    """Return how far the mixture of a function's weights over n is from that of the objectives at these n."""
    parts = tuple((shares[n], objectives.resolve(objective, n)) for n in reports)
    mixed = _Mixed(str(objective), parts)
    if not all(report.weight for report in reports.values()):
        return Match(mixed.spec, float("nan"), float("inf"))
    p = identify.grid(max(reports))
    curve = exact.weight(_Read(reports), rollouts=shares, pass_rate=p)
    match = identify.compare(curve, mixed, p)
    return match if scale is None else identify.rescaled(match, curve, mixed, p, scale)
