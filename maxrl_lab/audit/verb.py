"""The command `maxrl-lab audit`: the report on an advantage function as text or JSON, a picture, an exit status."""

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from maxrl_lab import specs
from maxrl_lab.audit.examine import audit
from maxrl_lab.audit.identify import Match
from maxrl_lab.audit.report import Report
from maxrl_lab.audit.target import load
from maxrl_lab.errors import InputError
from maxrl_lab.runs.command_line import Parser


def main(arguments: Sequence[str]) -> int:
    """Report what an advantage function optimises; return 1 if `--expect` does not hold."""
    flags = _parser().parse_args(list(arguments))
    if flags.scale is not None and flags.expect is None:
        raise InputError("--scale belongs to --expect")
    specs.check_rollouts(flags.rollouts, "--rollouts")
    if flags.plot and flags.plot.suffix != ".png":
        raise InputError(f"--plot writes a PNG file and expects a name that ends in .png, got {str(flags.plot)!r}")
    with contextlib.redirect_stdout(sys.stderr):  # what the function prints is not part of the report
        function = load(flags.function, flags.rollouts)
        report = audit(function, rollouts=flags.rollouts, batched=flags.batched)
    match = None if flags.expect is None else report.compared_to(flags.expect, flags.scale)
    if flags.plot:
        from maxrl_lab.audit import picture  # only now: it needs matplotlib, of the extra lab

        picture.save(report, flags.plot)
    holds = match is None or report.optimises(flags.expect, flags.scale)
    print(_json(report, match, holds) if flags.json else _text(report, match, holds))
    return 0 if holds else 1


def _parser() -> Parser:
    parser = Parser("maxrl-lab audit", "Which objective does an advantage function optimise?")
    parser.add_argument("function", help="A module:function, or an estimator of the lab such as maxrl or pkpo:k=4.")
    parser.add_argument("--rollouts", type=int, default=8, help="Number N of rollouts in a group (default: 8).")
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
    parser.add_argument("--json", action="store_true", help="Print the report as JSON.")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="Write the weight curve as a PNG file.")
    parser.add_argument(
        "--expect",
        metavar="OBJECTIVE",
        help="Exit with status 1 unless the function is unbiased for this objective, "
        "for example truncated_likelihood:order=N-1.",
    )
    parser.add_argument("--scale", type=float, help="Factor that --expect asks for (default: any positive one).")
    return parser


def _json(report: Report, match: Match | None, holds: bool) -> str:
    described = report.to_json()
    if match:
        residual = min(match.residual, sys.float_info.max)
        described["expected"] = {**match._asdict(), "residual": residual, "holds": holds}
    return json.dumps(described, indent=2)


def _text(report: Report, match: Match | None, holds: bool) -> str:
    if not match:
        return report.text()
    verdict = "holds" if holds else "DOES NOT HOLD"
    return f"{report.text()}\n\n  expected {match.objective}: {verdict}{_reason(report, match)}"


def _reason(report: Report, match: Match) -> str:
    broken = [trap.name for trap in report.traps if trap.invalidates]
    if broken:
        return f" (the coefficients do not describe the function: {', '.join(broken)})"
    return f" (residual {match.residual:.1e}{', but it descends' if match.scale < 0 else ''})"
