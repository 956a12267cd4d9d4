"""Shared by all tests: hypothesis draws the same examples every time, messages are compared in full, own cache.

One thread, unless OMP_NUM_THREADS says otherwise: tensors here are small, and threads that wait for each other take
half as long again.
"""

import os
import re

import extra_tests
import pytest
import torch
from hypothesis import settings

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of interpreters that tests start

NOT_COLLECTED = extra_tests.left_out()
collect_ignore = [file for files in NOT_COLLECTED.values() for file in files]

settings.register_profile("same_every_time", derandomize=True, deadline=None, database=None)
settings.load_profile("same_every_time")


@pytest.fixture(scope="session")
def refuses():
    """`with refuses(message):` passes if the block raises a ValueError that says exactly `message`."""
    return lambda message: pytest.raises(ValueError, match=rf"\A{re.escape(message)}\Z")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads or writes the user's cache: explored levels and trained policies are kept in a temporary folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXRL_LAB_CACHE", str(tmp_path_factory.mktemp("own_cache")))
        yield


def pytest_terminal_summary(terminalreporter, config):
    """Say in one line which tests need an extra that is not installed."""
    if line := extra_tests.line(NOT_COLLECTED, config.args):
        terminalreporter.write_line(line)
