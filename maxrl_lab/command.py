"""The command `maxrl-lab`: `audit` works wherever the library is installed; the experiments need the checkout.

Bad input ends in one line on standard error and exit status 2; an expectation that does not hold in status 1; a fault
of the lab in its traceback and status 1.
"""

import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maxrl_lab.audit import Report
    from maxrl_lab.audit.identify import Match

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.runs.command_line import Parser, guarded

USAGE = """usage: maxrl-lab COMMAND ...

  list                      the experiments and their questions
  run NAME [flags]          run an experiment (or continue it), write its rows, draw its figure, print its table
  draw NAME [flags]         draw the figure and print the table again from the rows
  reproduce [flags]         run and draw everything but what needs an extra (llm)
  audit FUNCTION [flags]    which objective does an advantage function optimise?
  recipe NAME [flags]       fine-tune a language model with TRL, or --describe the job, or --dry-run it

`maxrl-lab COMMAND --help` lists the flags; `maxrl-lab run NAME --help` those of an experiment.
"""
CHECKOUT = Path(__file__).parents[1]
"""The checkout that the library was installed from, if it was installed as editable."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guarded(_dispatch, list(sys.argv[1:] if arguments is None else arguments))


def _dispatch(given: Sequence[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if given else 2
    return specs.lookup(COMMANDS, "command", given[0])(given[1:])


def _of_the_checkout(verb: str) -> Callable[[Sequence[str]], int]:
    """Return the command that hands a verb to the experiments of the checkout, wherever it is called."""

    def handed(arguments: Sequence[str]) -> int:
        if not (CHECKOUT / "experiments" / "catalogue.py").exists():
            raise InputError(
                f"`maxrl-lab {verb}` needs the experiments, which an installed wheel does not have: "
                "clone the repository and install it with pip install -e '.[lab]'"
            )
        if str(CHECKOUT) not in sys.path:
            sys.path.insert(0, str(CHECKOUT))  # before the packages of the folder that the command is called in
        verbs = importlib.import_module("experiments.__main__").VERBS
        status: int = verbs[verb](arguments)
        return status

    return handed


def audit_function(arguments: Sequence[str]) -> int:
    """Report what an advantage function optimises; status 1 if `--expect` does not hold."""
    parser = Parser("maxrl-lab audit", "which objective does an advantage function optimise?")
    parser.add_argument("function", help="module:function, or an estimator of the lab such as maxrl or pkpo:k=4")
    parser.add_argument("--rollouts", type=int, default=8, help="N, the size of a group")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--batched", dest="batched", action="store_true", default=None, help="call with (B, N) only")
    form.add_argument("--single-group", dest="batched", action="store_false", help="call with one group (N,) only")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the weight curve as PNG")
    parser.add_argument("--expect", metavar="OBJECTIVE", help="e.g. truncated_likelihood:order=N-1; sets the status")
    parser.add_argument("--scale", type=float, help="with --expect: the factor it must have (default: any positive)")
    from maxrl_lab import audit
    from maxrl_lab.audit import picture

    flags = parser.parse_args(list(arguments))
    if flags.scale is not None and flags.expect is None:
        raise InputError("--scale belongs to --expect")
    specs.check_count("--rollouts", flags.rollouts)
    if flags.plot and flags.plot.suffix != ".png":
        raise InputError(f"--plot writes a PNG file and expects a name that ends in .png, got {str(flags.plot)!r}")
    with contextlib.redirect_stdout(sys.stderr):  # what the function prints is not part of the report
        function = audit.load(flags.function, flags.rollouts)
        report = audit.audit(function, rollouts=flags.rollouts, batched=flags.batched)
    match = None if flags.expect is None else report.compared_to(flags.expect, flags.scale)
    if flags.plot:
        picture.save(report, flags.plot)
    described = report.to_json()
    if match is None:
        print(json.dumps(described, indent=2) if flags.json else report.text())
        return 0
    holds = report.optimises(flags.expect, flags.scale)
    described["expected"] = {**match._asdict(), "residual": min(match.residual, sys.float_info.max), "holds": holds}
    verdict = f"expected {match.objective}: {'holds' if holds else 'DOES NOT HOLD'}{_reason(report, match)}"
    print(json.dumps(described, indent=2) if flags.json else f"{report.text()}\n\n  {verdict}")
    return 0 if holds else 1


def _reason(report: "Report", match: "Match") -> str:
    broken = [trap.name for trap in report.traps if trap.invalidates]
    if broken:
        return f" (the coefficients do not describe the function: {', '.join(broken)})"
    return f" (residual {match.residual:.1e}{', but it descends' if match.scale < 0 else ''})"


def recipe(arguments: Sequence[str]) -> int:
    """Fine-tune a language model by a recipe, or describe or try it."""
    from maxrl_lab.llm.jobs import train

    return train.main(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    **{verb: _of_the_checkout(verb) for verb in ("list", "run", "draw", "reproduce")},
    "audit": audit_function,
    "recipe": recipe,
}


if __name__ == "__main__":
    sys.exit(main())
