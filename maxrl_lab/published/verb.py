"""The command `maxrl-lab estimators`: the index of papers as a table of text, Markdown or JSON, or in a page."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.published.facts import PASS_RATES, Facts, facts_of
from maxrl_lab.published.methods import METHODS
from maxrl_lab.runs.command_line import Parser

_BLOCK = re.compile(r"<!-- estimators -->\n.*?<!-- /estimators -->", re.S)
Row = Facts | tuple[str, str, str, str]
"""What is known of a method; its name, source, estimator and the reason if the estimator does not exist at N."""


def main(arguments: Sequence[str]) -> int:
    """Print what every published estimator optimises at N rollouts."""
    parser = Parser("maxrl-lab estimators", "What does every published estimator optimise at N rollouts?")
    parser.add_argument("--rollouts", type=int, default=8, help="Number N of rollouts in a group (default: 8).")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="Print the table as JSON.")
    form.add_argument("--markdown", action="store_true", help="Print the table as Markdown.")
    form.add_argument(
        "--write", type=Path, metavar="FILE", help="Renew the table of a Markdown page, between its two marks."
    )
    flags = parser.parse_args(list(arguments))
    rollouts = specs.check_rollouts(flags.rollouts, "--rollouts")
    rows = [_row(name, rollouts) for name in METHODS]
    if flags.write:
        flags.write.write_text(in_page(flags.write.read_text(encoding="utf-8"), rows, rollouts), encoding="utf-8")
    else:
        print(_json(rows) if flags.json else markdown(rows, rollouts) if flags.markdown else text(rows, rollouts))
    return 0


def in_page(page: str, rows: Sequence[Row], rollouts: int) -> str:
    """Return the page with the table between its marks; raise `InputError` for a page without them."""
    if not _BLOCK.search(page):
        raise InputError("expected a page with the marks <!-- estimators --> and <!-- /estimators -->, got none")
    return _BLOCK.sub(f"<!-- estimators -->\n{markdown(rows, rollouts)}\n<!-- /estimators -->", page)


def _row(name: str, rollouts: int) -> Row:
    method = METHODS[name]
    try:
        return facts_of(method, rollouts)
    except InputError as error:
        return method.name, method.source, method.estimator, str(error)


def text(rows: Sequence[Row], rollouts: int) -> str:
    """Return the table with aligned columns."""
    lines = [_heads(rollouts), *map(_cells, rows)]
    whole = [line for line in lines if len(line) == len(lines[0])]
    widths = [max(len(line[column]) for line in whole) for column in range(len(lines[0]))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def markdown(rows: Sequence[Row], rollouts: int) -> str:
    """Return the table as Markdown."""
    heads = _heads(rollouts)
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        name, source, estimator, *others = _cells(row)
        number = source.partition(",")[0]
        if number[:4].isdigit():
            source = f"[{number}](https://arxiv.org/abs/{number}){source.removeprefix(number)}"
        lines.append([name, source, f"`{estimator}`", *others, *[""] * (len(heads) - 3 - len(others))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _heads(rollouts: int) -> list[str]:
    noise = [f"noise at p = {rate:g}" for rate in PASS_RATES]
    named = ["method", "source", "estimator", f"objective at N = {rollouts}", "limit for large N"]
    return [*named, "sums to 0", "0 at K = 0", "0 at K = N", *noise]


def _cells(row: Row) -> list[str]:
    if not isinstance(row, Facts):
        return list(row)
    return [
        row.method,
        row.source,
        row.estimator,
        _objective(row),
        row.limit or "none known",
        *(_answer(row.sums_to_zero), _answer(row.silent_without_success), _answer(row.silent_without_failure)),
        *(f"{noise:.3g}" for noise in row.noise),
    ]


def _answer(holds: bool) -> str:
    return "yes" if holds else "no"


def _objective(row: Facts) -> str:
    if row.objective is None:
        return f"none ({row.residual:.0%} off {row.nearest})"
    return row.objective if abs(row.scale - 1) < 1e-9 else f"{row.scale:.3g} x {row.objective}"


def _json(rows: Sequence[Row]) -> str:
    keys = ("method", "source", "estimator", "error")
    plain = [row._asdict() if isinstance(row, Facts) else dict(zip(keys, row, strict=True)) for row in rows]
    return json.dumps(plain, indent=2)
