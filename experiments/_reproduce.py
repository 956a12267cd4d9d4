"""Every experiment of a preset, one after the other, with the time that is left, and a report at the end."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from experiments import _publish, _report, _runs, _times, _verdicts
from experiments._runs import Made, Run, aligned, folder_of, settings_of, source
from experiments.catalogue import Entry
from maxrl_lab.runs.files import write_atomically
from maxrl_lab.runs.folder import is_complete, wall_seconds


def reproduce(entries: Sequence[Entry], flags: argparse.Namespace) -> None:
    """Run and draw the experiments; print a table of what was made, write the report, and say what to look at next."""
    start, made, lines = time.perf_counter(), [], []
    for index, entry in enumerate(entries):
        if not flags.quiet:
            print(f"[{index + 1} of {len(entries)}] {entry.name}: {_left(entries[index:], flags)}", file=sys.stderr)
        began = time.perf_counter()
        run = Run(entry, settings_of(entry, flags.preset), flags)
        tables = run.tables()
        run.save(tables)
        seconds = wall_seconds(run.folder)
        _times.record(_own_times(flags), flags.preset, {entry.name: seconds})
        rows = sum(map(len, tables.values()))
        lines.append((entry.name, str(rows), f"{seconds:.1f}", f"{time.perf_counter() - began:.1f}", str(run.picture)))
        made.append((run, tables))
    print(f"\n{aligned([('experiment', 'rows', 'run (s)', 'now (s)', 'picture'), *lines])}")
    print(f"\nrows: {source(flags)}/<experiment>/<table>.csv; total now {time.perf_counter() - start:.0f} s")
    verdicts = _verdicts.judge(made)
    report = write_report(made, verdicts, flags)
    print(f"\n{_verdicts.summary([item.claim for item in verdicts.judged])}")
    print(
        f"next: open {report} in a browser (verdicts, pictures, numbers, settings); "
        f"`maxrl-lab claims{_place(flags)}` prints the verdicts"
    )


def write_report(made: Sequence[Made], verdicts: _verdicts.Verdicts, flags: argparse.Namespace) -> Path:
    """Write the report of the runs beside them, or to `flags.file`; return its path."""
    file = getattr(flags, "file", None) or Path(flags.out) / flags.preset / "report.html"
    what = "the committed rows" if _runs.is_reference(flags) else f"preset {flags.preset}"
    write_atomically(file, _report.write(made, verdicts, f"maxrl_lab: {what}").encode())
    return Path(file)


def _own_times(flags: argparse.Namespace) -> Path:
    return source(flags) / _publish.TIMES


def _left(entries: Sequence[Entry], flags: argparse.Namespace) -> str:
    """How long the experiments that are not complete will take, as far as that is known."""
    preset = flags.preset
    known = {
        **_times.recorded(_runs.REFERENCE / _publish.TIMES, preset),
        **_times.recorded(_own_times(flags), preset),
    }
    to_run = [entry.name for entry in entries if flags.force or not is_complete(folder_of(entry, flags))]
    return _times.left_text(to_run, known) if to_run else "complete"


def _place(flags: argparse.Namespace) -> str:
    """The flags that lead another verb to the same runs."""
    preset = f" --preset {flags.preset}"
    return preset if flags.out == Path("results") else f"{preset} --out {flags.out}"
