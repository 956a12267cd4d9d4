"""What the README and the documentation say of results is what the committed rows say."""

import argparse

import documentation
import pytest

from experiments import _pages, _runs, _verdicts
from experiments.catalogue import EXPERIMENTS


@pytest.fixture(scope="module")
def verdicts():
    flags = argparse.Namespace(reference=True, stale=False)
    return _verdicts.judge(*_runs.read_all(EXPERIMENTS.values(), flags))


@pytest.mark.parametrize("page", _pages.pages(), ids=documentation.name)
def test_every_sentence_is_what_the_committed_rows_say(page, verdicts):
    text = page.read_text(encoding="utf-8")
    assert _pages.rendered(text, verdicts) == text, "maxrl-lab claims --reference --pages writes what the rows say"


def test_an_edited_sentence_would_be_noticed(verdicts):
    text = "<!-- claims: all -->\nMaxRL always wins.\n<!-- /claims -->\n"
    assert "MaxRL always wins." not in _pages.rendered(text, verdicts)


def test_a_block_may_ask_for_a_verdict(verdicts):
    """Every claim with it, and a line if there is none."""
    block = "<!-- claims: {} -->\n<!-- /claims -->"
    for verdict in _pages.VERDICTS:
        bullets = _pages.rendered(block.format(verdict), verdicts).count(f"\n- *{verdict}*")
        assert bullets == sum(item.claim.verdict == verdict for item in verdicts.judged)
    nothing = _verdicts.Verdicts([], {}, {})
    assert _pages.rendered(block.format("fails"), nothing) == "<!-- claims: fails -->\n- (none)\n<!-- /claims -->"


def test_committed_rows_fit_todays_code(verdicts):
    """Settings that no longer exist, or damaged rows, would be a reason other than `no finished run`."""
    assert set(verdicts.missing.values()) <= {"no finished run"}


def test_committed_rows_are_small():
    sizes = {path: path.stat().st_size for path in _runs.REFERENCE.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 8e6
    assert all(path.suffix != ".csv" for path in sizes)
