"""One experiment with its settings and its folders, as the verbs run, read and show it."""

import argparse
import contextlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.catalogue import Entry
from maxrl_lab.errors import InputError
from maxrl_lab.extras import CHECKOUT
from maxrl_lab.runs.fingerprint import fingerprint, name_files
from maxrl_lab.terminal import importing, within_memory

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from maxrl_lab.runs.checkpoint import Checkpoint

PRESETS = ("smoke", "quick", "standard", "full")
GALLERY = CHECKOUT / "figures" / "gallery"
"""The committed pictures."""
REFERENCE = GALLERY / "rows"
"""The committed rows, compressed: what the README, the documentation and the gallery show."""
NO_RUN = "no finished run"
"""Why an experiment has no rows, if nobody has made any; any other reason is a fault of rows that are there."""


@dataclass(frozen=True)
class Run:
    """One experiment with its settings, and the flags that say where and how it is run."""

    entry: Entry
    settings: Any
    flags: argparse.Namespace

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return folder_of(self.entry, self.flags)

    @property
    def picture(self) -> Path:
        """The file of the figure."""
        return picture_of(self.entry, self.flags)

    def tables(self) -> "dict[str, pd.DataFrame]":
        """Run or continue the experiment; return its tables."""
        with importing():
            from maxrl_lab.runs import live
            from maxrl_lab.runs.context import Context, find_device
            from maxrl_lab.runs.folder import execute
            from maxrl_lab.threads import one_thread

        flags, device = self.flags, find_device(self.flags.device)
        log, was_run = getattr(flags, "log", None), False
        shown_in = flags.out / "live" / str(log) / flags.preset / self.entry.name
        writer = live.open_writer(log, shown_in, self.entry.name) if log else None

        def compute(checkpoint: "Checkpoint") -> "dict[str, pd.DataFrame]":
            nonlocal was_run
            was_run = True
            experiment = self.entry.load()
            with (
                within_memory(),
                contextlib.nullcontext() if self.entry.uses_all_cores else one_thread(),
                live.followed(checkpoint.path, writer) if writer else contextlib.nullcontext(),
            ):
                made: dict[str, pd.DataFrame] = experiment.run(self.settings, Context(device, checkpoint, flags.quiet))
            return made

        tables = execute(
            self.folder,
            self.entry.name,
            self.settings,
            compute,
            device=str(device),
            code=fingerprint(self.entry.module),
            force=flags.force,
            stale=flags.stale,
        )
        if not was_run:
            print(
                f"{self.entry.name}: complete in {self.folder}, not run again; --force to replace it", file=sys.stderr
            )
        return tables

    def show(self, tables: "Mapping[str, pd.DataFrame]") -> None:
        """Save the figure and print the numbers behind it."""
        self.save(tables)
        table = self.entry.figure().summarise(tables, self.settings)
        print(table.to_string(float_format=lambda value: f"{value:.4g}"), end="\n\n")
        if note := self.note():
            print(f"note: {note}\n")

    def save(self, tables: "Mapping[str, pd.DataFrame]") -> None:
        """Save the figure, marked if other code has made the run."""
        figure = self.entry.figure().plot(tables, self.settings)
        if note := self.note():
            figure.suptitle(f"{note}\n{figure.get_suptitle()}".strip(), color="#B00020")
        save(figure, self.picture)

    def note(self) -> str:
        """Return what a reader must know of a run that today's code has not made; empty if it has."""
        from maxrl_lab.runs.folder import changed_code

        files = changed_code(self.folder, fingerprint(self.entry.module)) if shows_stale(self.flags) else ()
        return f"made by other code, which differs in {name_files(files)}" if files else ""


Made = tuple[Run, "Mapping[str, pd.DataFrame]"]
"""A finished run and its tables."""


def read_all(entries: Iterable[Entry], flags: argparse.Namespace) -> tuple[list[Made], dict[str, str]]:
    """Return the finished runs of these experiments, and for those that have none the reason."""
    with importing():
        from maxrl_lab.runs.folder import is_complete

    made: list[Made] = []
    missing = {}
    for entry in entries:
        if not is_complete(folder_of(entry, flags)):
            missing[entry.name] = NO_RUN
            continue
        try:
            made.append(read(entry, flags))
        except InputError as error:
            missing[entry.name] = str(error)
    return made, missing


def read(entry: Entry, flags: argparse.Namespace) -> "tuple[Run, dict[str, pd.DataFrame]]":
    """Return a finished run and its tables; raise `InputError` if there is none, or one that other code has made."""
    with importing():
        from maxrl_lab.runs.folder import read_settings_of, read_tables

    folder = folder_of(entry, flags)
    tables = read_tables(folder, code=None if shows_stale(flags) else fingerprint(entry.module))
    return Run(entry, read_settings_of(folder, entry.load().Settings), flags), tables


def settings_of(entry: Entry, preset: str) -> Any:
    """Return the settings of a preset; raise `InputError` if the experiment does not have it."""
    presets = entry.load().PRESETS
    if preset not in presets:
        raise InputError(f"{entry.name} has no preset {preset}; it has {', '.join(presets)}")
    return presets[preset]


def shows_stale(flags: argparse.Namespace) -> bool:
    """Return whether a run of other code is shown, with a note, instead of refused; reference rows always are."""
    return bool(flags.stale or is_reference(flags))


def is_reference(flags: argparse.Namespace) -> bool:
    """Return whether the committed rows are meant."""
    return getattr(flags, "reference", False)


def source(flags: argparse.Namespace) -> Path:
    """Return the folder that holds a folder for each run."""
    return REFERENCE if is_reference(flags) else Path(flags.out / flags.preset)


def folder_of(entry: Entry, flags: argparse.Namespace) -> Path:
    """Return the folder of an experiment's run."""
    return source(flags) / entry.name


def picture_of(entry: Entry, flags: argparse.Namespace) -> Path:
    """Return the file of an experiment's picture."""
    return Path(flags.pictures / ("reference" if is_reference(flags) else flags.preset) / f"{entry.name}.png")


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG."""
    from figures import style

    style.save(figure, path)


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where runs and pictures are."""
    parser.add_argument("--preset", choices=PRESETS, default="quick", help="Size of the experiment (default: quick).")
    parser.add_argument("--out", type=Path, default=Path("results"), help="Folder for rows (default: results).")
    pictures = Path("figures/out")
    parser.add_argument("--pictures", type=Path, default=pictures, help=f"Folder for pictures (default: {pictures}).")


def add_read_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a verb that reads finished runs."""
    add_place_flags(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--stale", action="store_true", help="Show a run that other code has made, and say so.")
    text = "Show the committed rows of figures/gallery/rows, without a run of one's own."
    which.add_argument("--reference", action="store_true", help=text)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a verb that runs experiments."""
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="Device: auto, cpu, cuda or cuda:1.")
    parser.add_argument("--quiet", action="store_true", help="Show no progress bars.")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--force", action="store_true", help="Make the run anew, and then replace the one that is there.")
    way.add_argument("--stale", action="store_true", help="Show a run that other code has made, and say so.")


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as text, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
