"""Pytest plugin: the fixture `assert_optimises` checks an advantage function in the test suite of its own project.

    def test_our_advantages(assert_optimises):
        assert_optimises(advantages, "truncated_likelihood:order=N-1", rollouts=8)

Installed with the package; nothing to register.
"""

from collections.abc import Callable
from typing import Literal

import pytest

from maxrl_lab import audit, exact, identify


@pytest.fixture
def assert_optimises() -> Callable[..., audit.Report]:
    """Return `check`: it fails the test unless a function is unbiased for an objective."""
    return check


def check(
    function: exact.AnyEstimator,
    objective: exact.AnyObjective,
    *,
    rollouts: int,
    scale: float | Literal["any"] = "any",
    tolerance: float = identify.TOLERANCE,
    batched: bool | None = None,
) -> audit.Report:
    """Return the audit of `function` at N = `rollouts`, or fail with the curve that was found.

    `objective` as in `objectives.resolve`, `N` standing for `rollouts`. `scale="any"` allows any positive constant
    factor; a number asks for that factor. `tolerance` bounds the relative deviation. `batched` as in `audit.audit`.
    """
    __tracebackhide__ = True
    factor = None if scale == "any" else scale
    report = audit.audit(function, rollouts=rollouts, batched=batched)
    if not report.optimises(objective, factor, tolerance):
        match = report.compared_to(objective, factor)
        pytest.fail(
            f"expected {match.objective}, times {scale if factor is None else factor}, to a relative deviation of "
            f"{tolerance:g}; found {match.residual:.2e} at scale {match.scale:.6g}\n\n{report.text()}",
            pytrace=False,
        )
    return report
