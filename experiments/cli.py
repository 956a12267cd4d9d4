"""The command `maxrl-lab`: run experiments, draw their figures, audit an advantage function.

Bad input ends in one line on standard error and exit status 2; an expectation that does not hold in status 1.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import simple_parsing
import torch

from experiments import EXPERIMENTS, EXTRAS
from experiments.context import Context
from figures import FIGURES
from figures import audit as audit_figure
from figures.style import save
from maxrl_lab import audit, identify, runs, specs

PRESETS = ("smoke", "quick", "full")
USAGE = """usage: maxrl-lab COMMAND ...

  list                      the experiments and their questions
  run NAME [flags]          run an experiment (or continue it), write its rows, draw its figure, print its table
  draw NAME [flags]         draw the figure and print the table again from the rows
  reproduce [flags]         run and draw everything but what needs an extra (llm)
  audit FUNCTION [flags]    which objective does an advantage function optimise?
  recipe NAME [flags]       fine-tune a language model with TRL, or --describe the job, or --dry-run it

`maxrl-lab COMMAND --help` lists the flags; `maxrl-lab run NAME --help` those of an experiment.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return guarded(_dispatch, list(sys.argv[1:] if arguments is None else arguments))


def _dispatch(given: Sequence[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if given else 2
    return specs.lookup(COMMANDS, "command", given[0])(given[1:])


def guarded(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Return the command's exit status; bad input, an interrupt and a reader that has left end in one line or none."""
    try:
        return command(arguments)
    except BrokenPipeError:  # the reader of our output, `head` say, has left
        sys.stdout = None
        return 0
    except (ValueError, OSError) as error:
        print(f"maxrl-lab: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("maxrl-lab: interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return 130


class Parser(simple_parsing.ArgumentParser):
    """Raises a `ValueError` instead of leaving."""

    def error(self, message: str) -> NoReturn:
        """Raise it."""
        raise ValueError(f"{message} (see {self.prog} --help)")


@dataclass(frozen=True)
class Places:
    """Where rows and pictures of one preset live."""

    out: Path
    pictures: Path
    preset: str

    def rows(self, name: str) -> Path:
        """Return the folder of an experiment's run."""
        return self.out / self.preset / name

    def picture(self, name: str) -> Path:
        """Return the file of an experiment's figure."""
        return self.pictures / self.preset / f"{name}.png"


def list_experiments(arguments: Sequence[str]) -> int:
    """Print every experiment with its question."""
    _parser("list", "the experiments and their questions").parse_args(arguments)
    width = max(map(len, EXPERIMENTS))
    for name in EXPERIMENTS:
        print(f"{name.ljust(width)}  {_question(name)}")
    return 0


def run_experiment(arguments: Sequence[str]) -> int:
    """Run one experiment, draw it and print its table."""
    name = _experiment_name("run", arguments)
    preset = _preset(arguments)
    parser = _parser(f"run {name}", _question(name))
    _add_run_flags(parser)
    parser.add_arguments(EXPERIMENTS[name].Settings, dest="settings", default=EXPERIMENTS[name].PRESETS[preset])
    flags = parser.parse_args(list(arguments[1:]))
    places = _places(flags)
    _show(name, _run(name, flags.settings, places, flags), places)
    print(f"rows: {places.rows(name) / 'rows.csv'}\npicture: {places.picture(name)}")
    return 0


def draw_experiment(arguments: Sequence[str]) -> int:
    """Draw one experiment's figure from its rows and print its table."""
    name = _experiment_name("draw", arguments)
    parser = _parser(f"draw {name}", f"draw the figure of {name} from its rows")
    _add_place_flags(parser)
    places = _places(parser.parse_args(list(arguments[1:])))
    _show(name, runs.read_rows(places.rows(name)), places)
    print(f"picture: {places.picture(name)}")
    return 0


def reproduce(arguments: Sequence[str]) -> int:
    """Run and draw every experiment that needs no extra; end with a table of what was made."""
    parser = _parser("reproduce", "run and draw every experiment that needs no extra")
    _add_run_flags(parser)
    flags = parser.parse_args(list(arguments))
    places = _places(flags)
    made = []
    for name in (each for each in EXPERIMENTS if each not in EXTRAS):
        start = time.perf_counter()
        rows = _run(name, EXPERIMENTS[name].PRESETS[flags.preset], places, flags)
        save(FIGURES[name].draw(rows), places.picture(name))
        now, trained = time.perf_counter() - start, runs.wall_seconds(places.rows(name))
        made.append((name, str(len(rows)), f"{trained:.1f}", f"{now:.1f}", str(places.picture(name))))
    head = ("experiment", "rows", "run (s)", "now (s)", "picture")
    widths = [max(len(row[place]) for row in [head, *made]) for place in range(len(head))]
    print()
    for row in (head, *made):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    total = sum(float(row[3]) for row in made)
    print(f"\nrows: {places.out / places.preset}/<experiment>/rows.csv; total now {total:.0f} s")
    return 0


def audit_function(arguments: Sequence[str]) -> int:
    """Report what an advantage function optimises; status 1 if `--expect` does not hold."""
    parser = _parser("audit", "which objective does an advantage function optimise?")
    parser.add_argument("function", help="module:function, or an estimator of the lab such as maxrl or pkpo:k=4")
    parser.add_argument("--rollouts", type=int, default=8, help="N, the size of a group")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--batched", dest="batched", action="store_true", default=None, help="call with (B, N) only")
    form.add_argument("--single-group", dest="batched", action="store_false", help="call with one group (N,) only")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the weight curve as PNG")
    parser.add_argument("--expect", metavar="OBJECTIVE", help="e.g. truncated_likelihood:order=N-1; sets the status")
    parser.add_argument("--scale", type=float, help="with --expect: the factor it must have (default: any positive)")
    flags = parser.parse_args(list(arguments))
    if flags.scale is not None and flags.expect is None:
        raise ValueError("--scale belongs to --expect")
    specs.check_count("--rollouts", flags.rollouts)
    if flags.plot and flags.plot.suffix != ".png":
        raise ValueError(f"--plot writes a PNG file and expects a name that ends in .png, got {str(flags.plot)!r}")
    with contextlib.redirect_stdout(sys.stderr):  # what the function prints is not part of the report
        function = audit.load(flags.function, flags.rollouts)
        report = audit.audit(function, rollouts=flags.rollouts, batched=flags.batched)
    match = None if flags.expect is None else report.compared_to(flags.expect, flags.scale)
    if flags.plot:
        save(audit_figure.draw(report), flags.plot)
    described = report.to_json()
    if match is None:
        print(json.dumps(described, indent=2) if flags.json else report.text())
        return 0
    holds = report.optimises(flags.expect, flags.scale)
    described["expected"] = {**match._asdict(), "residual": min(match.residual, sys.float_info.max), "holds": holds}
    verdict = f"expected {match.objective}: {'holds' if holds else 'DOES NOT HOLD'}{_reason(report, match)}"
    print(json.dumps(described, indent=2) if flags.json else f"{report.text()}\n\n  {verdict}")
    return 0 if holds else 1


def _reason(report: audit.Report, match: identify.Match) -> str:
    broken = [trap.name for trap in report.traps if trap.invalidates]
    if broken:
        return f" (the coefficients do not describe the function: {', '.join(broken)})"
    return f" (residual {match.residual:.1e}{', but it descends' if match.scale < 0 else ''})"


def recipe(arguments: Sequence[str]) -> int:
    """Fine-tune a language model by a recipe, or describe or try it."""
    from experiments.llm import train

    return train.main(arguments)


COMMANDS = {
    "list": list_experiments,
    "run": run_experiment,
    "draw": draw_experiment,
    "reproduce": reproduce,
    "audit": audit_function,
    "recipe": recipe,
}


def _parser(command: str, description: str) -> Parser:
    return Parser(prog=f"maxrl-lab {command}", description=description, allow_abbrev=False)


def _add_place_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", choices=PRESETS, default="quick", help="size of the experiment")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for rows")
    parser.add_argument("--pictures", type=Path, default=Path("figures/out"), help="folder for pictures")


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    _add_place_flags(parser)
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:1")
    parser.add_argument("--force", action="store_true", help="replace a run that is there already")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _places(flags: argparse.Namespace) -> Places:
    return Places(flags.out, flags.pictures, flags.preset)


def _experiment_name(command: str, arguments: Sequence[str]) -> str:
    if not arguments or arguments[0].startswith("-"):
        raise ValueError(f"usage: maxrl-lab {command} NAME [flags]; NAME is one of: {', '.join(EXPERIMENTS)}")
    specs.lookup(EXPERIMENTS, "experiment", arguments[0])
    return arguments[0]


def _preset(arguments: Sequence[str]) -> str:
    """Find --preset before the experiment's own flags, whose defaults depend on it, are known."""
    parser = Parser(prog="maxrl-lab run", add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    return str(parser.parse_known_args(list(arguments))[0].preset)


def _question(name: str) -> str:
    return (EXPERIMENTS[name].__doc__ or "").splitlines()[0]


def find_device(name: str) -> torch.device:
    """Return the device that --device names; `ValueError` if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:INDEX, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:INDEX, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {name}: torch sees {torch.cuda.device_count()} GPUs here; use --device cpu")
    return device


def _run(name: str, settings: Any, places: Places, flags: argparse.Namespace) -> pd.DataFrame:
    """Run or continue an experiment; return its rows."""
    device = find_device(flags.device)
    folder = places.rows(name)
    was_complete = not flags.force and runs.is_complete(folder)
    rows = runs.execute(
        folder,
        name,
        settings,
        lambda checkpoint: EXPERIMENTS[name].run(settings, Context(device, checkpoint, flags.quiet)),
        device=str(device),
        force=flags.force,
    )
    if was_complete:
        print(f"{name}: complete in {folder}, not run again; --force to replace it", file=sys.stderr)
    return rows


def _show(name: str, rows: pd.DataFrame, places: Places) -> None:
    """Draw the figure and print the numbers behind it."""
    save(FIGURES[name].draw(rows), places.picture(name))
    print(FIGURES[name].summarise(rows).to_string(float_format=lambda value: f"{value:.4g}"), end="\n\n")


if __name__ == "__main__":
    sys.exit(main())
