"""Pytest plugin: the fixture `assert_optimises` checks an advantage function in the test suite of its own project.

    def test_our_advantages(assert_optimises):
        assert_optimises(advantages, "truncated_likelihood:order=N-1", rollouts=8)

Installed with the package; nothing to register.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from maxrl_lab import audit, exact


@pytest.fixture
def assert_optimises() -> "Callable[..., audit.Report]":
    """Return `check`: it fails the test unless a function is unbiased for an objective."""
    return check


def check(
    function: "exact.AnyEstimator",
    objective: "exact.AnyObjective",
    *,
    rollouts: int,
    scale: float | Literal["any"] = "any",
    tolerance: float | None = None,
    batched: bool | None = None,
) -> "audit.Report":
    """Return the audit of `function` at N = `rollouts`, or fail with the curve that was found.

    `objective` as in `objectives.resolve`, `N` standing for `rollouts`. `scale="any"` allows any positive constant
    factor; a number asks for that factor. `tolerance` bounds the relative deviation (default 1e-4).
    `batched` as in `audit.audit`.
    """
    from maxrl_lab import audit  # only now: every pytest run loads this plugin, few use it

    __tracebackhide__ = True
    factor = None if scale == "any" else scale
    report = audit.audit(function, rollouts=rollouts, batched=batched)
    if not report.optimises(objective, factor, tolerance):
        match = report.compared_to(objective, factor)
        wanted = f"{match.objective}, times {'any' if factor is None else factor}"
        allowed = report.tolerance if tolerance is None else tolerance
        found = f"found {match.residual:.2e} at scale {match.scale:.6g}"
        pytest.fail(
            f"expected {wanted}, to a relative deviation of {allowed:g}; {found}\n\n{report.text()}", pytrace=False
        )
    return report
