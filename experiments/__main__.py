"""The verbs that need the checkout, from `list` to `rates`; `maxrl_lab.command` hands them over.

What takes seconds to import is imported when a verb needs it.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from experiments._engines import add_engine_flags, engine_of
from experiments._runs import (
    PRESETS,
    Made,
    Run,
    add_place_flags,
    add_read_flags,
    add_run_flags,
    aligned,
    read,
    read_all,
    settings_of,
    source,
)
from experiments.catalogue import EXPERIMENTS, Entry
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.runs.command_line import Parser, add_settings, first_name, read_settings
from maxrl_lab.terminal import importing


def list_experiments(arguments: Sequence[str]) -> int:
    """Print every experiment with its question and the figures of the paper that it speaks to."""
    Parser("maxrl-lab list", "the experiments, the figures of the paper they speak to, and their questions").parse_args(
        arguments
    )
    lines = [(name, entry.paper, entry.question()) for name, entry in EXPERIMENTS.items()]
    print(aligned(lines))
    return 0


def run_experiment(arguments: Sequence[str]) -> int:
    """Run one experiment, draw its figure and print its table."""
    with importing():
        from maxrl_lab.runs.live import WRITERS

    entry = _entry("run", arguments)
    defaults = settings_of(entry, _preset(entry, arguments))
    parser = Parser(f"maxrl-lab run {entry.name}", entry.question())
    add_place_flags(parser)
    add_run_flags(parser)
    text = "Package that shows the rows while they are made: tensorboard, trackio or wandb (without a network)."
    parser.add_argument("--log", metavar="PACKAGE", choices=WRITERS, help=text)
    add_engine_flags(parser)
    add_settings(parser, defaults)
    flags = parser.parse_args(list(arguments[1:]))
    run = Run(entry, read_settings(flags, defaults), flags)
    with engine_of([entry], flags):
        tables = run.tables()
    run.show(tables)
    print(f"rows: {run.folder / _files(tables)}\npicture: {run.picture}")
    return 0


def draw_experiment(arguments: Sequence[str]) -> int:
    """Draw one experiment's figure from its tables and print its table."""
    entry = _entry("draw", arguments)
    parser = Parser(f"maxrl-lab draw {entry.name}", f"draw the figure of {entry.name} from its rows")
    add_read_flags(parser)
    run, tables = read(entry, parser.parse_args(list(arguments[1:])))
    run.show(tables)
    print(f"picture: {run.picture}")
    return 0


def reproduce(arguments: Sequence[str]) -> int:
    """Run and draw every experiment that needs no extra; end with a table of what was made, and a report."""
    with importing():
        from experiments import _reproduce

    parser = Parser("maxrl-lab reproduce", "run and draw every experiment that needs no extra, and write a report")
    add_place_flags(parser)
    add_run_flags(parser)
    add_engine_flags(parser)
    flags = parser.parse_args(list(arguments))
    entries = [entry for entry in EXPERIMENTS.values() if entry.extra is None]
    with engine_of(entries, flags):
        _reproduce.reproduce(entries, flags)
    return 0


def judge_claims(arguments: Sequence[str]) -> int:
    """Print every claim that finished runs decide, with its verdict."""
    with importing():
        from experiments import _pages, _verdicts

    parser = Parser("maxrl-lab claims", "every claim that finished runs decide, with its verdict")
    _add_names(parser)
    add_read_flags(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="Print one JSON object.")
    form.add_argument("--markdown", action="store_true", help="Print a Markdown table.")
    text = "Write the claims of the committed rows into the README and the documentation; it goes with --reference."
    form.add_argument("--pages", action="store_true", help=text)
    flags = parser.parse_args(list(arguments))
    if flags.pages and (flags.experiments or not flags.reference):
        raise InputError("--pages writes the claims of all committed rows: give --reference, and no names")
    verdicts = _verdicts.judge(*_made(flags))
    if flags.pages:
        changed = _pages.write(verdicts)
        print("\n".join(f"changed: {page}" for page in changed) or "the pages say what the committed rows say")
        return 0
    write = _verdicts.as_json if flags.json else _verdicts.as_markdown if flags.markdown else _verdicts.as_text
    print(write(verdicts))
    return 0


def report(arguments: Sequence[str]) -> int:
    """Write one HTML file with the claims, pictures, numbers, settings and provenance of finished runs."""
    with importing():
        from experiments import _reproduce, _verdicts

    parser = Parser("maxrl-lab report", "one HTML file with all that finished runs show; it needs no network")
    _add_names(parser)
    add_read_flags(parser)
    text = "File of the report (default: report.html in the folder of the preset)."
    parser.add_argument("--file", type=Path, metavar="FILE", help=text)
    flags = parser.parse_args(list(arguments))
    made, missing = _made(flags)
    print(f"report: {_reproduce.write_report(made, _verdicts.judge(made, missing), flags)}")
    return 0


def publish(arguments: Sequence[str]) -> int:
    """Put the rows of finished runs, compressed, and their pictures into the gallery, and their claims into pages."""
    with importing():
        from experiments import _pages, _processors, _publish, _runs, _verdicts

    parser = Parser("maxrl-lab publish", "the rows and pictures of finished runs become those of the repository")
    _add_names(parser)
    add_place_flags(parser)
    parser.add_argument("--stale", action="store_true", help="Publish runs that other code has made, too.")
    text = "Take in only where mazes in tokens ended, as what a processor with this name has found."
    parser.add_argument("--processor", metavar="NAME", help=text)
    flags = parser.parse_args(list(arguments))
    made, missing = _made(flags)
    if flags.processor is not None:
        print("\n".join(_processors.add(made, flags.processor)))
    else:
        sizes = [(run.entry.name, f"{_publish.publish(run, tables) / 1024:.0f} KB") for run, tables in made]
        print(aligned([*sizes, *missing.items()]))
    everything, absent = _runs.read_all(EXPERIMENTS.values(), argparse.Namespace(reference=True, stale=False))
    changed = _pages.write(_verdicts.judge(everything, absent))
    print("\n".join([f"rows: {_runs.REFERENCE}", *(f"changed: {page}" for page in changed)]))
    return 0


def rates(arguments: Sequence[str]) -> int:
    """Write the learning rates that finished runs have chosen to rates.json, for presets that sweep nothing."""
    with importing():
        from experiments import _rates
        from experiments._shared import RATES
        from maxrl_lab.runs.files import read_json, write_json

    parser = Parser("maxrl-lab rates", "the learning rates that finished runs have chosen become those of `quick`")
    _add_names(parser)
    add_place_flags(parser)
    parser.set_defaults(preset="standard", stale=False)
    flags = parser.parse_args(list(arguments))
    made, _ = _made(flags)
    by_experiment = {
        run.entry.name: rates_of_run for run, tables in made if (rates_of_run := _rates.chosen_rates(tables))
    }
    write_json(RATES, {**(read_json(RATES) if RATES.exists() else {}), **by_experiment})
    print(
        aligned(
            [
                (name, method, f"{rate:g}")
                for name, rates_of_run in by_experiment.items()
                for method, rate in rates_of_run.items()
            ]
        )
    )
    print(f"rates: {RATES}")
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": list_experiments,
    "run": run_experiment,
    "draw": draw_experiment,
    "reproduce": reproduce,
    "claims": judge_claims,
    "report": report,
    "publish": publish,
    "rates": rates,
}


def _files(tables: Iterable[str]) -> str:
    """The names of the tables' files in one text: `rows.csv` or `{sweep,curves}.csv`."""
    names = list(tables)
    return f"{names[0]}.csv" if len(names) == 1 else f"{{{','.join(names)}}}.csv"


def _entry(command: str, arguments: Sequence[str]) -> Entry:
    """The experiment that the first argument names, imported with its figure."""
    entry = specs.lookup(EXPERIMENTS, "experiment", first_name(command, EXPERIMENTS, arguments))
    entry.load()
    entry.figure()
    return entry


def _add_names(parser: argparse.ArgumentParser) -> None:
    text = "Experiments that are meant (default: all that have a finished run)."
    parser.add_argument("experiments", nargs="*", metavar="NAME", help=text)


def _made(flags: argparse.Namespace) -> tuple[list[Made], dict[str, str]]:
    """The finished runs that are meant, and why others are not there; an experiment that is named has to be."""
    named = [specs.lookup(EXPERIMENTS, "experiment", name) for name in flags.experiments]
    if named:
        return [read(entry, flags) for entry in named], {}
    made, missing = read_all(EXPERIMENTS.values(), flags)
    if not made:
        way = f"`maxrl-lab reproduce --preset {flags.preset}` makes them"
        raise InputError(f"no finished run in {source(flags)}; {way}")
    return made, missing


def _preset(entry: Entry, arguments: Sequence[str]) -> str:
    """Find --preset before the experiment's own flags, whose defaults depend on it, are known."""
    parser = Parser(f"maxrl-lab run {entry.name}", "", add_help=False)
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    return str(parser.parse_known_args(list(arguments))[0].preset)


if __name__ == "__main__":
    from maxrl_lab.command import main

    sys.exit(main())
