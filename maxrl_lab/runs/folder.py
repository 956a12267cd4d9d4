"""A run on disk: one folder with its complete settings, its tables, their provenance, and a checkpoint while it lasts.

    settings.json    {"experiment": ..., "settings": {...}, "device": ...}, written first
    checkpoint/      one file a stage, until the run is complete: tensors and plain values, read with weights_only
    TABLE.csv        one file a table, one measurement a row; the same bytes for the same settings on the same CPU,
                     except for the table `timings`, which says where the time went
    provenance.json  "complete", the SHA-256 of the settings and of every table, the fingerprint of the code, one entry
                     per session (command, commit, versions, device, threads, wall seconds), and the SHA-256 of all that
    replacement/     a whole run of its own that will replace this one, while --force makes it

Every file is written to a temporary name, flushed to disk and renamed, so a killed run leaves whole files only.
"""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from maxrl_lab.errors import InputError
from maxrl_lab.rows import Tables
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.files import read_json, write_json
from maxrl_lab.runs.fingerprint import changed_files
from maxrl_lab.runs.lock import locked
from maxrl_lab.runs.provenance import describe_session
from maxrl_lab.runs.record import Record, Wanted
from maxrl_lab.runs.replacement import finish_replacement, move_up, replacement
from maxrl_lab.runs.tables import read_table, table_file, write_tables

Given = TypeVar("Given")
Compute = Callable[[Checkpoint], Tables]


def execute(
    folder: Path | str,
    experiment: str,
    settings: Any,
    compute: Compute,
    *,
    device: str = "cpu",
    code: Mapping[str, str] | None = None,
    force: bool = False,
    stale: bool = False,
) -> dict[str, pd.DataFrame]:
    """Return the tables of a run: those on disk if it is complete, else what `compute` returns, resumed and stored.

    `settings` is a frozen dataclass and `code` the fingerprint of what computes. A folder whose run is of other
    settings or other code is refused with an `InputError` that names the difference, unless `force`: then a new run is
    made beside the old one and takes its place when it is complete. A forced run that was interrupted continues without
    `force`. With `stale` a complete run is returned whatever code has made it. Nothing is left on disk if `compute`
    raises `InputError` or `OSError` before it has saved anything.
    """
    folder, wanted = Path(folder), Wanted(experiment, settings, device, code or {})
    if stale:
        tables = read_tables(folder)
        wanted.check_settings(Record(folder))
        return tables
    finish_replacement(folder)
    if force or replacement(folder).folder.exists() or not Record(folder).is_complete():
        with _made(folder), locked(folder):
            record = _record_to_work_on(folder, wanted, force)
            if not record.is_complete():
                with _made(record.folder):
                    _make(record, wanted, compute)
            move_up(folder)
    else:
        wanted.check_settings(Record(folder))
        Record(folder).check_code(wanted.code)
    return read_tables(folder)


def _record_to_work_on(folder: Path, wanted: Wanted, force: bool) -> Record:
    """The run to begin or to continue: that of the folder, or one that will replace it."""
    old, new = Record(folder), replacement(folder)
    if new.folder.exists() and (force or not new.settings.exists()):  # without settings a kill has left it
        shutil.rmtree(new.folder, ignore_errors=True)
    if force:
        return new if old.exists() else old
    if new.settings.exists() and wanted.is_of(new):
        return new
    if old.exists():
        wanted.check_settings(old)
        old.check_code(wanted.code)
    return old


def _make(record: Record, wanted: Wanted, compute: Compute) -> None:
    """Compute and store what the run still lacks."""
    is_new, described = not record.settings.exists(), wanted.described()
    write_json(record.settings, described)
    seeds = {name: value for name, value in described["settings"].items() if name in ("seed", "seeds")}
    session: dict[str, Any] = {**describe_session(wanted.device), **seeds}
    sessions = [*record.sessions(), session]
    record.write_provenance(sessions, wanted.code)
    start = time.perf_counter()
    try:
        tables = compute(Checkpoint(record.checkpoint / "run"))
    except (InputError, OSError):
        if is_new and not record.checkpoint.exists():  # refused before it began: as if it had not been asked for
            record.remove()
        raise
    session["wall_seconds"] = round(time.perf_counter() - start, 3)
    digests = write_tables(record.folder, tables)
    record.write_provenance(sessions, wanted.code, digests)
    shutil.rmtree(record.checkpoint, ignore_errors=True)
    record.remove_temporary()


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make the folder; afterwards remove what had to be made and is still empty."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it is not empty
            for path in missing:
                path.rmdir()


def made_in(checkpoint: Checkpoint) -> Path:
    """Return the folder of the run that `compute` is given this checkpoint of: other files of the run belong there."""
    return checkpoint.path.parents[1]


def is_complete(folder: Path | str) -> bool:
    """Return whether the folder holds a finished run, with all its tables."""
    folder = Path(folder)
    finish_replacement(folder)
    return Record(folder).is_complete()


def read_tables(folder: Path | str, code: Mapping[str, str] | None = None) -> dict[str, pd.DataFrame]:
    """Return a finished run's tables by name.

    Raises `InputError` if there are none, if they or the settings were changed, or if they were made by other code than
    `code`, the fingerprint of today's; None is any code.
    """
    folder = Path(folder)
    if not is_complete(folder):
        raise InputError(f"no finished run in {folder}; run its experiment first")
    Record(folder).check_settings_file()
    if code is not None:
        Record(folder).check_code(code)
    return {name: read_table(table_file(folder, name), digest) for name, digest in Record(folder).digests().items()}


def read_settings_of(folder: Path | str, cls: type[Given]) -> Given:
    """Return the settings of the run in a folder as an object of `cls`; raise `InputError` where they do not fit it."""
    file = Record(Path(folder)).settings
    if not file.exists():
        raise InputError(f"no run in {folder}; run its experiment first")
    values = read_json(file, "settings")["settings"]
    expected = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or (other := sorted(expected ^ values.keys())):
        reason = f"other fields: {', '.join(other)}" if isinstance(values, dict) else "expected an object"
        raise InputError(f"{file} holds no settings of today's code ({reason}); start again with --force")
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def changed_code(folder: Path | str, code: Mapping[str, str]) -> Sequence[str]:
    """Return the files of the code that are not what they were when the run in a folder was made."""
    return changed_files(Record(Path(folder)).code(), code)


def wall_seconds(folder: Path | str) -> float:
    """Return the seconds a finished run took, over all sessions that ended by themselves."""
    return float(sum(session.get("wall_seconds") or 0.0 for session in Record(Path(folder)).sessions()))
