"""The verbs that need the checkout: list, run, draw and reproduce; `maxrl_lab.command` hands them over."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.catalogue import EXPERIMENTS
from figures.style import save
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.runs.command_line import Parser, add_settings, read_settings
from maxrl_lab.runs.context import Context, find_device
from maxrl_lab.runs.folder import execute, is_complete, read_settings_of, read_tables, wall_seconds

PRESETS = ("smoke", "quick", "full")


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
    defaults = EXPERIMENTS[name].load().PRESETS[preset]
    add_settings(parser, defaults)
    flags = parser.parse_args(list(arguments[1:]))
    places = _places(flags)
    settings = read_settings(flags, defaults)
    tables = _run(name, settings, places, flags)
    _show(name, tables, settings, places)
    print(f"rows: {_files(places.rows(name), tables)}\npicture: {places.picture(name)}")
    return 0


def draw_experiment(arguments: Sequence[str]) -> int:
    """Draw one experiment's figure from its rows and print its table."""
    name = _experiment_name("draw", arguments)
    parser = _parser(f"draw {name}", f"draw the figure of {name} from its rows")
    _add_place_flags(parser)
    places = _places(parser.parse_args(list(arguments[1:])))
    tables = read_tables(places.rows(name))
    settings = read_settings_of(places.rows(name), EXPERIMENTS[name].load().Settings)
    _show(name, tables, settings, places)
    print(f"picture: {places.picture(name)}")
    return 0


def reproduce(arguments: Sequence[str]) -> int:
    """Run and draw every experiment that needs no extra; end with a table of what was made."""
    parser = _parser("reproduce", "run and draw every experiment that needs no extra")
    _add_run_flags(parser)
    flags = parser.parse_args(list(arguments))
    places = _places(flags)
    made = []
    for name in (each for each, entry in EXPERIMENTS.items() if entry.extra is None):
        start = time.perf_counter()
        settings = EXPERIMENTS[name].load().PRESETS[flags.preset]
        tables = _run(name, settings, places, flags)
        save(_plot(name, tables, settings), places.picture(name))
        now, trained = time.perf_counter() - start, wall_seconds(places.rows(name))
        made.append(
            (name, str(sum(map(len, tables.values()))), f"{trained:.1f}", f"{now:.1f}", str(places.picture(name)))
        )
    head = ("experiment", "rows", "run (s)", "now (s)", "picture")
    widths = [max(len(row[place]) for row in [head, *made]) for place in range(len(head))]
    print()
    for row in (head, *made):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    total = sum(float(row[3]) for row in made)
    print(f"\nrows: {places.out / places.preset}/<experiment>/<table>.csv; total now {total:.0f} s")
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": list_experiments,
    "run": run_experiment,
    "draw": draw_experiment,
    "reproduce": reproduce,
}


def _parser(command: str, description: str) -> Parser:
    return Parser(f"maxrl-lab {command}", description)


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
        raise InputError(f"usage: maxrl-lab {command} NAME [flags]; NAME is one of: {', '.join(EXPERIMENTS)}")
    specs.lookup(EXPERIMENTS, "experiment", arguments[0])
    return arguments[0]


def _preset(arguments: Sequence[str]) -> str:
    """Find --preset before the experiment's own flags, whose defaults depend on it, are known."""
    parser = Parser("maxrl-lab run", "", add_help=False)
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    return str(parser.parse_known_args(list(arguments))[0].preset)


def _question(name: str) -> str:
    return EXPERIMENTS[name].question()


def _run(name: str, settings: Any, places: Places, flags: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Run or continue an experiment; return its tables."""
    device = find_device(flags.device)
    folder = places.rows(name)
    was_complete = not flags.force and is_complete(folder)
    tables = execute(
        folder,
        name,
        settings,
        lambda checkpoint: EXPERIMENTS[name].load().run(settings, Context(device, checkpoint, flags.quiet)),
        device=str(device),
        force=flags.force,
    )
    if was_complete:
        print(f"{name}: complete in {folder}, not run again; --force to replace it", file=sys.stderr)
    return tables


def _show(name: str, tables: dict[str, pd.DataFrame], settings: Any, places: Places) -> None:
    """Save the figure and print the numbers behind it."""
    save(_plot(name, tables, settings), places.picture(name))
    print(_summarise(name, tables, settings).to_string(float_format=lambda value: f"{value:.4g}"), end="\n\n")


def _plot(name: str, tables: dict[str, pd.DataFrame], settings: Any) -> Figure:
    module = EXPERIMENTS[name].figure()
    figure: Figure = module.plot(tables, settings) if hasattr(module, "plot") else module.draw(tables["rows"])
    return figure


def _summarise(name: str, tables: dict[str, pd.DataFrame], settings: Any) -> pd.DataFrame:
    module = EXPERIMENTS[name].figure()
    table: pd.DataFrame = (
        module.summarise(tables, settings) if hasattr(module, "plot") else module.summarise(tables["rows"])
    )
    return table


def _files(folder: Path, tables: Iterable[str]) -> str:
    """Return the files of the tables in one text: `FOLDER/rows.csv` or `FOLDER/{sweep,curves}.csv`."""
    names = list(tables)
    return str(folder / (f"{names[0]}.csv" if len(names) == 1 else f"{{{','.join(names)}}}.csv"))


if __name__ == "__main__":
    from maxrl_lab.command import main

    sys.exit(main())
