"""The audit as an assertion in a test suite; needs pytest, which brings the fixture `assert_optimises`."""

from typing import Literal

import pytest

from maxrl_lab import exact
from maxrl_lab.audit.examine import audit
from maxrl_lab.audit.report import Report


def check(
    function: exact.AnyEstimator,
    objective: exact.AnyObjective,
    *,
    rollouts: int,
    scale: float | Literal["any"] = "any",
    tolerance: float | None = None,
    batched: bool | None = None,
) -> Report:
    """Return the audit of `function` at N = `rollouts`, or fail the test with the curve that was found.

    `objective` is as in `objectives.resolve`, `N` standing for `rollouts`. `scale="any"` allows any positive constant
    factor; a number asks for that factor. `tolerance` bounds the relative deviation; by default it is
    `Report.tolerance`, min(1e-4, 0.1/N). `batched` is as in `audit.audit`.
    """
    __tracebackhide__ = True
    factor = None if scale == "any" else scale
    report = audit(function, rollouts=rollouts, batched=batched)
    if not report.optimises(objective, factor, tolerance):
        match = report.compared_to(objective, factor)
        wanted = f"{match.objective}, times {'any' if factor is None else factor}"
        allowed = report.tolerance if tolerance is None else tolerance
        result = f"found {match.residual:.2e} at scale {match.scale:.6g}"
        pytest.fail(
            f"expected {wanted}, to a relative deviation of {allowed:g}; {result}\n\n{report.text()}", pytrace=False
        )
    return report
