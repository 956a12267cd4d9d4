"""A browser of the system for the tests of pages: without one they are skipped, or fail where it is required."""

import os
import shutil
import time

import pytest

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
REQUIRED = "MAXRL_LAB_BROWSER"
"""Where this variable is `required`, as in `.ci/run`, a missing browser is a failure."""


def executable():
    """Return the browser's path; skip the test, or fail it where a browser is required."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    return path or missing(f"no browser to open the page with: none of {', '.join(BROWSERS)} is installed")


def playwright():
    """Return playwright's sync_api module; skip or fail as above."""
    try:
        from playwright import sync_api
    except ImportError:
        return missing("playwright, which drives the browser, is not installed: pip install -e '.[dev]'")
    return sync_api


def missing(why):
    """Skip the test, or fail it where a browser is required."""
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


class Watch:
    """What a page must not do: requests that leave it, errors and warnings in its console."""

    def __init__(self, page, allowed=("file:", "data:")):
        self.problems = []
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("console", lambda message: self._hear(message))
        page.on("request", lambda request: self._see(request.url, allowed))

    def _hear(self, message):
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")

    def _see(self, url, allowed):
        if not url.startswith(allowed):
            self.problems.append(f"request: {url}")


def until(page, condition, seconds=60):
    """Wait for a condition of the page, a JavaScript expression.

    It is asked through the browser's protocol, since a page may forbid what playwright's own waiting does: to evaluate
    text in the page.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"not within {seconds} seconds: {condition}"
        page.wait_for_timeout(20)
