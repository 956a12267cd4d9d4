"""A report's parts as text for people, or as Markdown for a pull request."""

from collections.abc import Sequence
from typing import NamedTuple

SHOWN_SUCCESSES = 8
"""Up to this K every column of the coefficients is shown, beyond it a few."""

Rows = list[list[str]]
"""Rows of cells; the first row is the head, the first column names the rows."""


class Parts(NamedTuple):
    """What a report says, in its order."""

    title: str
    verdict: str
    facts: list[tuple[str, str]]
    tables: list[Rows]
    sentences: list[str]
    traps: list[tuple[str, str]]


def summary(parts: Parts) -> str:
    """Return title, verdict, facts and the names of the traps, without tables."""
    names = ", ".join(name for name, _ in parts.traps) or "none found"
    return "\n".join([parts.title, f"  {parts.verdict}", *_pairs([*parts.facts, ("traps", names)])])


def text(parts: Parts) -> str:
    """Return all parts as indented lines."""
    lines = [parts.title, f"  {parts.verdict}"]
    if parts.facts:
        lines += ["", *_pairs(parts.facts)]
    for table in parts.tables:
        lines += ["", *aligned(table)]
    lines += [line for sentence in parts.sentences for line in ("", f"  {sentence}")]
    lines += ["", "  traps" + ("" if parts.traps else ": none found")]
    return "\n".join([*lines, *(f"  - {name}: {message}" for name, message in parts.traps)])


def markdown(parts: Parts) -> str:
    """Return all parts as GitHub shows them: the verdict first, tables as tables, traps folded."""
    lines = [f"### `{parts.title}`", "", f"**{escaped(parts.verdict)}**", ""]
    lines += [f"- {name}: {escaped(sentence)}" for name, sentence in parts.facts]
    for table in parts.tables:
        head, *rows = [[escaped(cell) for cell in row] for row in table]
        rule = ["---", *["---:"] * (len(head) - 1)]
        lines += ["", *("| " + " | ".join(row) + " |" for row in (head, rule, *rows))]
    lines += [line for sentence in parts.sentences for line in ("", sentence)]
    if not parts.traps:
        return "\n".join([*lines, "", "No traps found."])
    lines += ["", "<details><summary>Traps: " + ", ".join(name for name, _ in parts.traps) + "</summary>", ""]
    return "\n".join([*lines, *(f"- `{name}`: {escaped(message)}" for name, message in parts.traps), "", "</details>"])


def coefficient_rows(success: Sequence[float], failure: Sequence[float]) -> Rows:
    """Return a(K) and b(K) as two rows under K; entries that no group can reach are dashes."""
    rollouts = len(success) - 1
    shown = [*range(min(SHOWN_SUCCESSES, rollouts) + 1)]
    quarters = (rollouts // 4, rollouts // 2, 3 * rollouts // 4, rollouts - 1, rollouts)
    shown += [count for count in quarters if count > shown[-1]]
    return [
        ["K successes", *map(str, shown)],
        ["a(K) success", *("-" if count == 0 else f"{success[count]:.4g}" for count in shown)],
        ["b(K) failure", *("-" if count == rollouts else f"{failure[count]:.4g}" for count in shown)],
    ]


def aligned(rows: Rows) -> list[str]:
    """Return rows of cells as indented lines: the first column on the left, the others on the right."""
    head = max(len(row[0]) for row in rows)
    width = max(len(cell) for row in rows for cell in row[1:]) + 2
    return ["  " + row[0].ljust(head) + "".join(cell.rjust(width) for cell in row[1:]) for row in rows]


def _pairs(pairs: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in pairs) + 2
    return [f"  {name.ljust(width)}{sentence}" for name, sentence in pairs]


def escaped(value: str) -> str:
    """Return a text in which Markdown means nothing."""
    for character in "\\`*_<>|[]":
        value = value.replace(character, f"\\{character}")
    return " ".join(value.split())
