"""Pytest plugin: the fixture `assert_optimises` checks an advantage function in the test suite of its own project.

    def test_our_advantages(assert_optimises):
        assert_optimises(advantages, "truncated_likelihood:order=N-1", rollouts=8)

The plugin is installed with the package: there is nothing to register.
"""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def assert_optimises() -> Callable[..., Any]:
    """Return `maxrl_lab.audit.expectation.check`: it fails the test unless a function is unbiased for an objective."""
    from maxrl_lab.audit.expectation import check  # only now: every pytest run loads this plugin, few use it

    return check
