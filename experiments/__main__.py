"""The verbs that need the checkout: list, run, draw and reproduce; `maxrl_lab.command` hands them over.

What takes seconds to import is imported when a verb needs it.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.catalogue import EXPERIMENTS, Entry
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.runs.command_line import Parser, add_settings, read_settings
from maxrl_lab.runs.fingerprint import fingerprint, name_files

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PRESETS = ("smoke", "quick", "full")


def list_experiments(arguments: Sequence[str]) -> int:
    """Print every experiment with its question and the figures of the paper that it speaks to."""
    Parser("maxrl-lab list", "the experiments, the figures of the paper they speak to, and their questions").parse_args(
        arguments
    )
    lines = [(name, entry.paper, entry.question()) for name, entry in EXPERIMENTS.items()]
    print(_aligned(lines))
    return 0


def run_experiment(arguments: Sequence[str]) -> int:
    """Run one experiment, draw its figure and print its table."""
    entry = _entry("run", arguments)
    defaults = entry.load().PRESETS[_preset(entry, arguments)]
    parser = Parser(f"maxrl-lab run {entry.name}", entry.question())
    _add_place_flags(parser)
    _add_run_flags(parser)
    add_settings(parser, defaults)
    flags = parser.parse_args(list(arguments[1:]))
    run = Run(entry, read_settings(flags, defaults), flags)
    tables = run.tables()
    run.show(tables)
    print(f"rows: {run.folder / _files(tables)}\npicture: {run.picture}")
    return 0


def draw_experiment(arguments: Sequence[str]) -> int:
    """Draw one experiment's figure from its tables and print its table."""
    from maxrl_lab.runs.folder import read_settings_of, read_tables

    entry = _entry("draw", arguments)
    parser = Parser(f"maxrl-lab draw {entry.name}", f"draw the figure of {entry.name} from its rows")
    _add_place_flags(parser)
    parser.add_argument("--stale", action="store_true", help="Show a run that other code has made, and say so.")
    flags = parser.parse_args(list(arguments[1:]))
    folder = _folder(entry, flags)
    tables = read_tables(folder, code=None if flags.stale else fingerprint(entry.module))
    run = Run(entry, read_settings_of(folder, entry.load().Settings), flags)
    run.show(tables)
    print(f"picture: {run.picture}")
    return 0


def reproduce(arguments: Sequence[str]) -> int:
    """Run and draw every experiment that needs no extra; end with a table of what was made."""
    parser = Parser("maxrl-lab reproduce", "run and draw every experiment that needs no extra")
    _add_place_flags(parser)
    _add_run_flags(parser)
    flags = parser.parse_args(list(arguments))
    start = time.perf_counter()
    made = [_reproduce(entry, flags) for entry in EXPERIMENTS.values() if entry.extra is None]
    print(f"\n{_aligned([('experiment', 'rows', 'run (s)', 'now (s)', 'picture'), *made])}")
    print(f"\nrows: {flags.out / flags.preset}/<experiment>/<table>.csv; total now {time.perf_counter() - start:.0f} s")
    return 0


def _reproduce(entry: Entry, flags: argparse.Namespace) -> tuple[str, ...]:
    """One experiment of a preset and its line in the table: rows, the seconds of the run and of this call."""
    from maxrl_lab.runs.folder import wall_seconds

    start = time.perf_counter()
    run = Run(entry, entry.load().PRESETS[flags.preset], flags)
    tables = run.tables()
    run.save(tables)
    rows, now = sum(map(len, tables.values())), time.perf_counter() - start
    return entry.name, str(rows), f"{wall_seconds(run.folder):.1f}", f"{now:.1f}", str(run.picture)


@dataclass(frozen=True)
class Run:
    """One experiment with its settings, and the flags that say where and how it is run."""

    entry: Entry
    settings: Any
    flags: argparse.Namespace

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return _folder(self.entry, self.flags)

    @property
    def picture(self) -> Path:
        """The file of the figure."""
        return Path(self.flags.pictures / self.flags.preset / f"{self.entry.name}.png")

    def tables(self) -> "dict[str, pd.DataFrame]":
        """Run or continue the experiment; return its tables."""
        from maxrl_lab.runs.context import Context, find_device
        from maxrl_lab.runs.folder import execute, is_complete

        flags, device = self.flags, find_device(self.flags.device)
        was_complete = not flags.force and is_complete(self.folder)
        tables = execute(
            self.folder,
            self.entry.name,
            self.settings,
            lambda checkpoint: self.entry.load().run(self.settings, Context(device, checkpoint, flags.quiet)),
            device=str(device),
            code=fingerprint(self.entry.module),
            force=flags.force,
            stale=flags.stale,
        )
        if was_complete:
            print(
                f"{self.entry.name}: complete in {self.folder}, not run again; --force to replace it", file=sys.stderr
            )
        return tables

    def show(self, tables: "Mapping[str, pd.DataFrame]") -> None:
        """Save the figure and print the numbers behind it."""
        self.save(tables)
        table = self.entry.figure().summarise(tables, self.settings)
        print(table.to_string(float_format=lambda value: f"{value:.4g}"), end="\n\n")
        if note := self._note():
            print(f"note: {note}\n")

    def save(self, tables: "Mapping[str, pd.DataFrame]") -> None:
        """Save the figure, marked if other code has made the run."""
        figure = self.entry.figure().plot(tables, self.settings)
        if note := self._note():
            figure.suptitle(f"{note}\n{figure.get_suptitle()}".strip(), color="#B00020")
        save(figure, self.picture)

    def _note(self) -> str:
        """What a reader must know of a run that today's code has not made; empty if it has."""
        from maxrl_lab.runs.folder import changed_code

        files = changed_code(self.folder, fingerprint(self.entry.module)) if self.flags.stale else ()
        return f"made by other code, which differs in {name_files(files)}" if files else ""


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": list_experiments,
    "run": run_experiment,
    "draw": draw_experiment,
    "reproduce": reproduce,
}


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG."""
    from figures import style

    style.save(figure, path)


def _folder(entry: Entry, flags: argparse.Namespace) -> Path:
    return Path(flags.out / flags.preset / entry.name)


def _files(tables: Iterable[str]) -> str:
    """The names of the tables' files in one text: `rows.csv` or `{sweep,curves}.csv`."""
    names = list(tables)
    return f"{names[0]}.csv" if len(names) == 1 else f"{{{','.join(names)}}}.csv"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as text, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _entry(command: str, arguments: Sequence[str]) -> Entry:
    """The experiment that the first argument names."""
    if not arguments or arguments[0].startswith("-"):
        raise InputError(f"usage: maxrl-lab {command} NAME [flags]; NAME is one of: {', '.join(EXPERIMENTS)}")
    return specs.lookup(EXPERIMENTS, "experiment", arguments[0])


def _preset(entry: Entry, arguments: Sequence[str]) -> str:
    """Find --preset before the experiment's own flags, whose defaults depend on it, are known."""
    parser = Parser(f"maxrl-lab run {entry.name}", "", add_help=False)
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    return str(parser.parse_known_args(list(arguments))[0].preset)


def _add_place_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", choices=PRESETS, default="quick", help="Size of the experiment (default: quick).")
    parser.add_argument("--out", type=Path, default=Path("results"), help="Folder for rows (default: results).")
    pictures = Path("figures/out")
    parser.add_argument("--pictures", type=Path, default=pictures, help=f"Folder for pictures (default: {pictures}).")


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="Device: auto, cpu, cuda or cuda:1.")
    parser.add_argument("--quiet", action="store_true", help="Show no progress bars.")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--force", action="store_true", help="Make the run anew, and then replace the one that is there.")
    way.add_argument("--stale", action="store_true", help="Show a run that other code has made, and say so.")


if __name__ == "__main__":
    from maxrl_lab.command import main

    sys.exit(main())
