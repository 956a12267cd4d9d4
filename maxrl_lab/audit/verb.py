"""The command `maxrl-lab audit`: a report as text, Markdown or JSON, a picture, and an exit status."""

import argparse
import ast
import contextlib
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maxrl_lab import specs
from maxrl_lab.audit import tasks
from maxrl_lab.audit.examine import audit
from maxrl_lab.audit.report import Report
from maxrl_lab.audit.target import load
from maxrl_lab.audit.verdict import Verdict, against_estimator, against_objective
from maxrl_lab.errors import InputError
from maxrl_lab.runs.command_line import Parser
from maxrl_lab.terminal import importing


def main(arguments: Sequence[str]) -> int:
    """Report what an advantage function optimises; return 1 if an expectation does not hold."""
    flags = _parser().parse_args(list(arguments))
    if flags.scale is not None and flags.expect is None and flags.expect_estimator is None:
        raise InputError("--scale belongs to --expect or --expect-estimator")
    specs.check_rollouts(flags.rollouts, "--rollouts")
    if flags.plot and flags.plot.suffix != ".png":
        raise InputError(f"--plot writes a PNG file and expects a name that ends in .png, got {str(flags.plot)!r}")
    report = _audited(flags)
    verdicts = _verdicts(flags, report)
    if flags.plot:
        with importing():
            from maxrl_lab.audit import picture  # only now: it needs matplotlib, of the extra lab

        picture.save(report, flags.plot)
    print(_shown(flags, report, verdicts))
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def _audited(flags: argparse.Namespace) -> Report:
    over = tasks.read(flags.pass_rates) if flags.pass_rates else tasks.Beta(*flags.beta) if flags.beta else None
    given = dict(map(_assignment, flags.set))
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the function prints, and warns of, is not part of the report
        function = load(flags.function, flags.rollouts)
        return audit(function, rollouts=flags.rollouts, batched=flags.batched, pass_rates=over, arguments=given)


def _verdicts(flags: argparse.Namespace, report: Report) -> list[Verdict]:
    verdicts = []
    if flags.expect is not None:
        verdicts.append(against_objective(report, flags.expect, flags.scale))
    if flags.expect_estimator is not None:
        verdicts.append(against_estimator(report, flags.expect_estimator, flags.scale))
    return verdicts


def _shown(flags: argparse.Namespace, report: Report, verdicts: Sequence[Verdict]) -> str:
    if flags.json:
        expected = {verdict.key: verdict.to_json() for verdict in verdicts}
        return json.dumps({**report.to_json(), **expected}, indent=2)
    if flags.markdown:
        return "\n\n".join([*(verdict.markdown() for verdict in verdicts), report.markdown()])
    return "\n\n".join([report.text(), *(f"  {verdict}" for verdict in verdicts)])


def _parser() -> Parser:
    parser = Parser("maxrl-lab audit", "Which objective does an advantage function optimise?")
    parser.add_argument("function", help="A module:function, or an estimator of the lab such as maxrl or pkpo:k=4.")
    parser.add_argument("--rollouts", type=int, default=8, help="Number N of rollouts in a group (default: 8).")
    _add_calls(parser)
    rates = parser.add_mutually_exclusive_group()
    rates.add_argument(
        "--pass-rates",
        type=Path,
        metavar="FILE",
        help="Report activity, masses and silent groups over tasks, too: the file holds a pass rate on each line, "
        "a JSON list, or a csv table with the column pass_rate.",
    )
    rates.add_argument(
        "--beta",
        type=float,
        nargs=2,
        metavar=("ALPHA", "BETA"),
        help="The same for tasks whose pass rates follow this Beta distribution.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="Print the report as JSON.")
    form.add_argument("--markdown", action="store_true", help="Print the report as Markdown, for a pull request.")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="Write the weight curve as a PNG file.")
    _add_expectations(parser)
    return parser


def _add_calls(parser: Parser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--batched",
        dest="batched",
        action="store_true",
        default=None,
        help="The function is only ever called with rewards (B, N).",
    )
    form.add_argument(
        "--single-group",
        dest="batched",
        action="store_false",
        help="The function is only ever called with the rewards (N,) of one group.",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="Give an argument of the function a value, for example normalize=False; the flag may be repeated.",
    )


def _add_expectations(parser: Parser) -> None:
    parser.add_argument(
        "--expect",
        metavar="OBJECTIVE",
        help="Exit with status 1 unless the function is unbiased for this objective, "
        "for example truncated_likelihood:order=N-1.",
    )
    parser.add_argument(
        "--expect-estimator",
        metavar="ESTIMATOR",
        help="Exit with status 1 unless the function has the coefficients of this estimator of the lab, "
        "for example grpo:ddof=1,epsilon=1e-4.",
    )
    parser.add_argument("--scale", type=float, help="Factor that is expected, too (default: any positive one).")


def _assignment(text: str) -> tuple[str, Any]:
    """Return name and value of `NAME=VALUE`; a value is a Python literal, true, false or none, or else a text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise InputError(f"--set expects NAME=VALUE, got {text!r}")
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return name, words[value.lower()]
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return name, value
