"""A browser for the explorer page, and pages of it that fail their test if they ask for anything or complain."""

import browser
import pytest

from course.explorer import build


@pytest.fixture(scope="session")
def chromium():
    """The system's browser, driven by playwright."""
    api, path = browser.playwright(), browser.executable()
    with api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=[*browser.FLAGS])
        yield opened
        opened.close()


@pytest.fixture
def visit(chromium):
    """`visit("#view=maze", width=390)` opens the explorer without network; any request or complaint fails the test."""
    contexts, watches = [], []

    def open_page(address="", width=1240, **options):
        context = chromium.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        watches.append(browser.Watch(page))
        page.goto(build.PAGE.as_uri() + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [problem for watch in watches for problem in watch.problems] == []
