"""Every experiment of a preset, over all cores, with the time that is left, and a report at the end."""

import argparse
import copy
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from experiments import _publish, _report, _runs, _times, _verdicts
from experiments._runs import Made, Run, aligned, folder_of, read, settings_of, source
from experiments.catalogue import Entry
from maxrl_lab.runs.context import find_device
from maxrl_lab.runs.files import write_atomically
from maxrl_lab.runs.folder import is_complete, wall_seconds
from maxrl_lab.runs.workers import in_parallel


def reproduce(entries: Sequence[Entry], flags: argparse.Namespace) -> None:
    """Run and draw the experiments; print a table of what was made, write the report, and say what to look at next.

    Experiments that use one core are made side by side, the longest first; then those that spread their training over
    the cores themselves, one after the other. Rows are those of the experiments run alone. A run that may not be shown
    is refused before anything is made.
    """
    start, lines = time.perf_counter(), []
    made: list[Made] = []
    missing = _missing(entries, flags)
    tables_of = {entry.name: _run(entry, flags).tables() for entry in entries if entry not in missing}
    ready = _make_side_by_side(missing, flags)
    for index, entry in enumerate(entries):
        if not flags.quiet:
            left = "made" if entry in ready else _left([item for item in entries[index:] if item not in ready], flags)
            print(f"[{index + 1} of {len(entries)}] {entry.name}: {left}", file=sys.stderr)
        began, run = time.perf_counter(), _run(entry, flags)
        tables = read(entry, flags)[1] if entry in ready else tables_of.get(entry.name) or run.tables()
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


def _make_side_by_side(missing: Sequence[Entry], flags: argparse.Namespace) -> list[Entry]:
    """Make the rows of all those experiments that use one core; return these experiments."""
    known, jobs = _known(flags), [entry for entry in missing if not entry.uses_all_cores]
    if len(jobs) < 2 or (flags.engine == "local" and find_device(flags.device).type == "cuda"):
        return []
    jobs.sort(key=lambda entry: -known.get(entry.name, 0.0))
    quiet = copy.copy(flags)
    quiet.quiet = True
    if not flags.quiet:
        then = f", then {len(missing) - len(jobs)} that use all cores" if len(missing) > len(jobs) else ""
        print(f"{len(jobs)} experiments side by side{then}: {_left(missing, flags)}", file=sys.stderr)

    def progress(items: Iterable[Any]) -> Iterable[Any]:
        bar: Iterable[Any] = tqdm(items, desc="experiments side by side", disable=flags.quiet, dynamic_ncols=True)
        return bar

    return in_parallel(_make, [(entry, quiet) for entry in jobs], progress=progress)


def _make(job: tuple[Entry, argparse.Namespace]) -> Entry:
    _run(*job).tables()
    return job[0]


def _run(entry: Entry, flags: argparse.Namespace) -> Run:
    return Run(entry, settings_of(entry, flags.preset), flags)


def write_report(made: Sequence[Made], verdicts: _verdicts.Verdicts, flags: argparse.Namespace) -> Path:
    """Write the report of the runs beside them, or to `flags.file`; return its path."""
    file = getattr(flags, "file", None) or Path(flags.out) / flags.preset / "report.html"
    what = "the committed rows" if _runs.is_reference(flags) else f"preset {flags.preset}"
    write_atomically(file, _report.write(made, verdicts, f"maxrl_lab: {what}").encode())
    return Path(file)


def _own_times(flags: argparse.Namespace) -> Path:
    return source(flags) / _publish.TIMES


def _known(flags: argparse.Namespace) -> _times.Seconds:
    """Return how long the experiments took last time: here, else where the reference was made."""
    return {
        **_times.recorded(_runs.REFERENCE / _publish.TIMES, flags.preset),
        **_times.recorded(_own_times(flags), flags.preset),
    }


def _missing(entries: Sequence[Entry], flags: argparse.Namespace) -> list[Entry]:
    """Return the experiments that will be run."""
    return [entry for entry in entries if flags.force or not is_complete(folder_of(entry, flags))]


def _left(entries: Sequence[Entry], flags: argparse.Namespace) -> str:
    """How long the experiments that are not complete will take, as far as that is known."""
    missing = _missing(entries, flags)
    if not missing:
        return "complete"
    cores, known = torch.get_num_threads(), _known(flags)
    by_name = {
        entry.name: known[entry.name] / (1 if entry.uses_all_cores else cores)
        for entry in missing
        if entry.name in known
    }
    return _times.left_text([entry.name for entry in missing], by_name)


def _place(flags: argparse.Namespace) -> str:
    """The flags that lead another verb to the same runs."""
    preset = f" --preset {flags.preset}"
    return preset if flags.out == Path("results") else f"{preset} --out {flags.out}"
