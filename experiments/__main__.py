"""The verbs that need the checkout: list, run, draw, reproduce, claims; `maxrl_lab.command` hands them over.

What takes seconds to import is imported when a verb needs it.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from experiments._runs import (
    PRESETS,
    Run,
    add_place_flags,
    add_read_flags,
    add_run_flags,
    aligned,
    is_reference,
    read,
    settings_of,
    source,
)
from experiments.catalogue import EXPERIMENTS, Entry
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.runs.command_line import Parser, add_settings, read_settings


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
    entry = _entry("run", arguments)
    defaults = settings_of(entry, _preset(entry, arguments))
    parser = Parser(f"maxrl-lab run {entry.name}", entry.question())
    add_place_flags(parser)
    add_run_flags(parser)
    add_settings(parser, defaults)
    flags = parser.parse_args(list(arguments[1:]))
    run = Run(entry, read_settings(flags, defaults), flags)
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


def judge_claims(arguments: Sequence[str]) -> int:
    """Print every claim that finished runs decide, with its verdict."""
    from experiments import _verdicts

    parser = Parser("maxrl-lab claims", "every claim that finished runs decide, with its verdict")
    names = "Experiments whose claims are judged (default: all)."
    parser.add_argument("experiments", nargs="*", metavar="NAME", help=names)
    add_read_flags(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="Print one JSON object.")
    form.add_argument("--markdown", action="store_true", help="Print a Markdown table.")
    flags = parser.parse_args(list(arguments))
    entries = _entries(flags.experiments)
    verdicts = _verdicts.judge(entries, flags)
    if len(verdicts.missing) == len(entries):
        way = (
            "the repository holds no reference rows of it"
            if is_reference(flags)
            else (f"`maxrl-lab reproduce --preset {flags.preset}` makes them")
        )
        raise InputError(
            f"no finished run in {source(flags)}; {way}" if len(entries) > 1 else next(iter(verdicts.missing.values()))
        )
    write = _verdicts.as_json if flags.json else _verdicts.as_markdown if flags.markdown else _verdicts.as_text
    print(write(verdicts))
    return 0


def reproduce(arguments: Sequence[str]) -> int:
    """Run and draw every experiment that needs no extra; end with a table of what was made."""
    parser = Parser("maxrl-lab reproduce", "run and draw every experiment that needs no extra")
    add_place_flags(parser)
    add_run_flags(parser)
    flags = parser.parse_args(list(arguments))
    start = time.perf_counter()
    made = [_reproduce(entry, flags) for entry in EXPERIMENTS.values() if entry.extra is None]
    print(f"\n{aligned([('experiment', 'rows', 'run (s)', 'now (s)', 'picture'), *made])}")
    print(f"\nrows: {flags.out / flags.preset}/<experiment>/<table>.csv; total now {time.perf_counter() - start:.0f} s")
    return 0


def _reproduce(entry: Entry, flags: argparse.Namespace) -> tuple[str, ...]:
    """One experiment of a preset and its line in the table: rows, the seconds of the run and of this call."""
    from maxrl_lab.runs.folder import wall_seconds

    start = time.perf_counter()
    run = Run(entry, settings_of(entry, flags.preset), flags)
    tables = run.tables()
    run.save(tables)
    rows, now = sum(map(len, tables.values())), time.perf_counter() - start
    return entry.name, str(rows), f"{wall_seconds(run.folder):.1f}", f"{now:.1f}", str(run.picture)


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": list_experiments,
    "run": run_experiment,
    "draw": draw_experiment,
    "reproduce": reproduce,
    "claims": judge_claims,
}


def _files(tables: Iterable[str]) -> str:
    """The names of the tables' files in one text: `rows.csv` or `{sweep,curves}.csv`."""
    names = list(tables)
    return f"{names[0]}.csv" if len(names) == 1 else f"{{{','.join(names)}}}.csv"


def _entry(command: str, arguments: Sequence[str]) -> Entry:
    """The experiment that the first argument names."""
    if not arguments or arguments[0].startswith("-"):
        raise InputError(f"usage: maxrl-lab {command} NAME [flags]; NAME is one of: {', '.join(EXPERIMENTS)}")
    return specs.lookup(EXPERIMENTS, "experiment", arguments[0])


def _entries(names: Sequence[str]) -> list[Entry]:
    """The experiments of these names, all of them for no names."""
    return [specs.lookup(EXPERIMENTS, "experiment", name) for name in names] or list(EXPERIMENTS.values())


def _preset(entry: Entry, arguments: Sequence[str]) -> str:
    """Find --preset before the experiment's own flags, whose defaults depend on it, are known."""
    parser = Parser(f"maxrl-lab run {entry.name}", "", add_help=False)
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    return str(parser.parse_known_args(list(arguments))[0].preset)


if __name__ == "__main__":
    from maxrl_lab.command import main

    sys.exit(main())
