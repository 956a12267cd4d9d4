"""Shared by all tests: hypothesis draws the same examples every time, and messages are compared in full."""

import re

import pytest
from hypothesis import settings

settings.register_profile("same_every_time", derandomize=True, deadline=None, database=None)
settings.load_profile("same_every_time")


@pytest.fixture(scope="session")
def refuses():
    """`with refuses(message):` passes if the block raises a ValueError that says exactly `message`."""
    return lambda message: pytest.raises(ValueError, match=rf"\A{re.escape(message)}\Z")
