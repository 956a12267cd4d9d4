"""A run on disk: one folder with its complete settings, its rows, their provenance, and a checkpoint while it lasts.

    settings.json    {"experiment": ..., "settings": {...}, "device": ...}, written first
    checkpoint/      one file a stage, until the run is complete: tensors and plain values, read with weights_only
    TABLE.csv        one file a table, one measurement a row; the same bytes for the same settings on the same CPU,
                     except for the table `timings`, which says where the time went
    provenance.json  "complete", the SHA-256 of every table, and one entry per session: command, commit, versions,
                     device, threads, wall seconds

Every file is written to a temporary name, flushed to disk and renamed, so a killed run leaves whole files only.
"""

import contextlib
import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.files import first_difference, read_json, write_json
from maxrl_lab.runs.provenance import describe_session
from maxrl_lab.runs.tables import read_table, table_file, write_tables

Given = TypeVar("Given")


def execute(
    folder: Path,
    experiment: str,
    settings: Any,
    compute: Callable[[Checkpoint], Tables | list[Row]],
    *,
    device: str = "cpu",
    force: bool = False,
) -> dict[str, pd.DataFrame]:
    """Return the tables of a run: those on disk if it is complete, else what `compute` returns, resumed and stored.

    A list of rows that `compute` returns counts as the one table `rows`.

    `settings` is a frozen dataclass. A folder with other settings is refused with a `ValueError` that names the first
    difference, unless `force`, which removes the run's files first. Nothing is left on disk if `compute` raises
    `InputError` before it has saved anything.
    """
    files = _Files(folder)
    if force:
        files.remove()
    described = json.loads(json.dumps({"experiment": experiment, "settings": dataclasses.asdict(settings)}))
    described["device"] = device.partition(":")[0]  # a GPU draws other random numbers
    if files.settings.exists():
        _refuse_other_settings(folder, read_json(files.settings), described)
    elif files.provenance.exists() or files.checkpoint.exists():
        raise InputError(f"{folder} holds a run without its settings.json; start again with --force")
    sessions = _sessions(files.provenance)
    if is_complete(folder):
        return read_tables(folder)
    is_new = not files.settings.exists()
    made = _make_folder(folder)
    write_json(files.settings, described)
    seeds = {name: value for name, value in described["settings"].items() if name in ("seed", "seeds")}
    session = {**describe_session(device), **seeds}
    write_json(files.provenance, {"complete": False, "sessions": [*sessions, session]})
    start = time.perf_counter()
    try:
        tables = compute(Checkpoint(files.checkpoint / "run"))
    except InputError:
        if is_new and not files.checkpoint.exists():  # refused before it began: as if it had not been asked for
            files.remove()
            with contextlib.suppress(OSError):  # somebody else has put something there
                for empty in made:
                    empty.rmdir()
        raise
    session["wall_seconds"] = round(time.perf_counter() - start, 3)
    digests = write_tables(folder, tables)
    write_json(files.provenance, {"complete": True, "tables": digests, "sessions": [*sessions, session]})
    shutil.rmtree(files.checkpoint, ignore_errors=True)
    files.remove_temporary()
    return read_tables(folder)


def _make_folder(folder: Path) -> list[Path]:
    """Make the folder and return what had to be made, innermost first."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def is_complete(folder: Path) -> bool:
    """Return whether the folder holds a finished run, with all its tables."""
    provenance = _Files(folder).provenance
    if not provenance.exists() or read_json(provenance, "complete")["complete"] is not True:
        return False
    return all(table_file(folder, name).exists() for name in _digests(provenance))


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Return a finished run's tables by name; raise `InputError` if there are none or they were changed."""
    if not is_complete(folder):
        raise InputError(f"no finished run in {folder}; run its experiment first")
    digests = _digests(_Files(folder).provenance)
    return {name: read_table(table_file(folder, name), digest) for name, digest in digests.items()}


def _digests(provenance: Path) -> dict[str, str]:
    """Return the SHA-256 of every table of a finished run."""
    digests: dict[str, str] = read_json(provenance, "tables")["tables"]
    if not isinstance(digests, dict) or not digests:
        raise InputError(f"{provenance} is damaged (expected a digest for every table); start again with --force")
    return digests


def read_settings_of(folder: Path, cls: type[Given]) -> Given:
    """Return the settings of the run in a folder as an object of `cls`; raise `InputError` where they do not fit it."""
    file = folder / "settings.json"
    if not file.exists():
        raise InputError(f"no run in {folder}; run its experiment first")
    values = read_json(file, "settings")["settings"]
    expected = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or (other := sorted(expected ^ values.keys())):
        reason = f"other fields: {', '.join(other)}" if isinstance(values, dict) else "expected an object"
        raise InputError(f"{file} holds no settings of today's code ({reason}); start again with --force")
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def wall_seconds(folder: Path) -> float:
    """Return the seconds a finished run took, over all sessions that ended by themselves."""
    return float(sum(session["wall_seconds"] or 0.0 for session in _sessions(_Files(folder).provenance)))


class _Files:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = folder / "settings.json"
        self.provenance = folder / "provenance.json"
        self.checkpoint = folder / "checkpoint"

    def remove(self) -> None:
        """Remove the run; the settings last, so that nothing is ever left without the settings it belongs to."""
        self.provenance.unlink(missing_ok=True)
        for table in self.folder.glob("*.csv"):
            table.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        self.settings.unlink(missing_ok=True)
        self.remove_temporary()

    def remove_temporary(self) -> None:
        """Remove what a killed session was writing."""
        for file in self.folder.glob("*.tmp"):
            file.unlink(missing_ok=True)


def _sessions(provenance: Path) -> list[dict[str, Any]]:
    """Return the sessions a run has had so far."""
    if not provenance.exists():
        return []
    sessions: list[dict[str, Any]] = read_json(provenance, "sessions")["sessions"]
    if not isinstance(sessions, list) or any("wall_seconds" not in session for session in sessions):
        raise InputError(f"{provenance} is damaged (expected a list of sessions); start again with --force")
    return sessions


def _refuse_other_settings(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if found == wanted:
        return
    if not isinstance(found.get("settings"), dict):
        raise InputError(f"{folder / 'settings.json'} is damaged (expected an object); start again with --force")
    old, new = ({**each, **each["settings"], "settings": None} for each in (found, wanted))
    name = first_difference(old, new) or first_difference(new, old) or ""
    there, now = old.get(name, "absent"), new.get(name, "absent")
    raise InputError(
        f"{folder} holds a run with other settings ({name} = {there!r} there, {now!r} now); "
        "choose another --out, or replace it with --force"
    )
