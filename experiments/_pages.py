"""Sentences about results in the README and the documentation: generated from the reference rows, never typed.

A page says where they go:

    <!-- claims: navigation -->            every claim of an experiment; of several, each below a heading of its own
    <!-- claims: navigation/rloo_at_most_rollouts exact/theorem_2 -->    these claims
    <!-- claims: all -->                   the table of all claims
    <!-- claims: fails -->                 the claims with this verdict: holds, fails or undecided
    (generated)
    <!-- /claims -->

What other processors found stands between `<!-- processors -->` and `<!-- /processors -->` (`experiments._processors`).
"""

import re
import textwrap
from pathlib import Path
from typing import get_args

from experiments import _processors, _verdicts
from experiments._runs import NO_RUN
from experiments._verdicts import Judged, Verdicts
from experiments.catalogue import EXPERIMENTS
from maxrl_lab.claims import Verdict
from maxrl_lab.errors import InputError
from maxrl_lab.extras import CHECKOUT
from maxrl_lab.runs.files import write_atomically

WIDTH = 120
VERDICTS = get_args(Verdict)
_BLOCK = re.compile(r"<!-- claims: (?P<names>[\w/ ]+?) -->\n.*?<!-- /claims -->", re.S)


def pages() -> list[Path]:
    """Return the pages that have claims."""
    listed = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
    return [page for page in listed if _BLOCK.search(page.read_text(encoding="utf-8"))]


def rendered(text: str, verdicts: Verdicts) -> str:
    """Return a page with its claims as the verdicts have them; raise `InputError` for a claim that does not exist."""

    def block(match: re.Match[str]) -> str:
        names = match["names"].split()
        body = _verdicts.as_markdown(verdicts) if names == ["all"] else "\n".join(_bullets(names, verdicts))
        return f"<!-- claims: {match['names']} -->\n{body}\n<!-- /claims -->"

    return _processors.rendered(_BLOCK.sub(block, text))


def write(verdicts: Verdicts) -> list[Path]:
    """Write the claims into all pages; return those that have changed.

    Raises `InputError`, and writes nothing, if committed rows cannot be read: their claims would be lost.
    """
    for name, reason in verdicts.missing.items():
        if reason != NO_RUN:
            raise InputError(f"publish a new run of {name}, whose committed rows cannot be read: {reason}")
    changed = []
    for page in pages():
        before = page.read_text(encoding="utf-8")
        if (after := rendered(before, verdicts)) != before:
            write_atomically(page, after.encode())
            changed.append(page)
    return changed


def _bullets(names: list[str], verdicts: Verdicts) -> list[str]:
    """The claims that are named, one bullet each; a line for an experiment without reference rows.

    Where whole experiments are named, several of them, each has a heading.
    """
    lines: list[str] = []
    headed = len(names) > 1 and set(names) <= set(EXPERIMENTS)
    for name in names:
        experiment = name.partition("/")[0]
        if headed:
            lines += [*([""] if lines else []), f"### `{name}`", ""]
        judged = [item for item in verdicts.judged if name in (item.experiment, item.address, item.claim.verdict)]
        if judged:
            lines += map(_bullet, judged)
        elif name in VERDICTS:
            lines.append("- (none)")
        elif experiment in verdicts.missing:
            lines.append(f"- (no reference rows of `{experiment}` are published yet)")
        else:
            known = [item.address for item in verdicts.judged if item.experiment == experiment]
            choice = ", ".join(known or EXPERIMENTS)
            raise InputError(f"a page names the claim {name!r}, which does not exist; there are: {choice}")
    return lines


def _bullet(item: Judged) -> str:
    paper = f" ({item.claim.paper})" if item.claim.paper else ""
    text = f"- *{item.claim.verdict}*{paper}: {item.claim.sentence}"
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
