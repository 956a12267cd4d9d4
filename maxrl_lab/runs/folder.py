"""A run on disk: one folder with its complete settings, its rows, their provenance, and a checkpoint while it lasts.

    settings.json    {"experiment": ..., "settings": {...}, "device": ...}, written first
    checkpoint/      one file a stage, until the run is complete: tensors and plain values, read with weights_only
    rows.csv         long form, one measurement a row; the same bytes for the same settings on the same CPU
    timings.csv      where the time of training went, for experiments that say so, by number of the row in rows.csv
    provenance.json  "complete", and one entry per session: command, commit, versions, device, threads, wall seconds

Every file is written to a temporary name, flushed to disk and renamed, so a killed run leaves whole files only.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.files import first_difference, read_json, write_atomically, write_json
from maxrl_lab.runs.provenance import describe_session

TIMINGS = ("seconds_sample", "seconds_verify", "seconds_update", "tokens_per_second")
"""Columns of rows that are kept apart, in timings.csv, so that rows.csv is the same for the same settings."""


def execute(
    folder: Path,
    experiment: str,
    settings: Any,
    compute: Callable[[Checkpoint], list[Row]],
    *,
    device: str = "cpu",
    force: bool = False,
) -> pd.DataFrame:
    """Return the rows of a run: those on disk if it is complete, else what `compute` returns, resumed and stored.

    `settings` is a frozen dataclass. A folder with other settings is refused with a `ValueError` that names the first
    difference, unless `force`, which removes the run's files first. Nothing is left on disk if `compute` raises
    `ValueError` before it has saved anything.
    """
    files = _Files(folder)
    if force:
        files.remove()
    described = json.loads(json.dumps({"experiment": experiment, "settings": dataclasses.asdict(settings)}))
    described["device"] = device.partition(":")[0]  # a GPU draws other random numbers
    if files.settings.exists():
        _refuse_other_settings(folder, read_json(files.settings), described)
    elif files.provenance.exists() or files.rows.exists() or files.checkpoint.exists():
        raise InputError(f"{folder} holds a run without its settings.json; start again with --force")
    sessions = _sessions(files.provenance)
    if is_complete(folder):
        return read_rows(folder)
    is_new = not files.settings.exists()
    made = _make_folder(folder)
    write_json(files.settings, described)
    seeds = {name: value for name, value in described["settings"].items() if name in ("seed", "seeds")}
    session = {**describe_session(device), **seeds}
    write_json(files.provenance, {"complete": False, "sessions": [*sessions, session]})
    start = time.perf_counter()
    try:
        rows = pd.DataFrame(compute(Checkpoint(files.checkpoint / "run")))
        if rows.empty:
            raise InputError(f"{experiment} returned no rows")
    except ValueError:
        if is_new and not files.checkpoint.exists():  # refused before it began: as if it had not been asked for
            files.remove()
            with contextlib.suppress(OSError):  # somebody else has put something there
                for empty in made:
                    empty.rmdir()
        raise
    session["wall_seconds"] = round(time.perf_counter() - start, 3)
    rows = _keep_timings(rows, files.timings)
    content = rows.to_csv(index=False, lineterminator="\n").encode()
    write_atomically(files.rows, content)
    digest = hashlib.sha256(content).hexdigest()
    write_json(files.provenance, {"complete": True, "rows_sha256": digest, "sessions": [*sessions, session]})
    shutil.rmtree(files.checkpoint, ignore_errors=True)
    files.remove_temporary()
    return read_rows(folder)


def _keep_timings(rows: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Write the timings beside the rows, by the number of the row; return the rows without them."""
    timings = rows[[name for name in TIMINGS if name in rows]].dropna(how="all")
    if timings.empty:
        return rows
    write_atomically(file, timings.round(6).to_csv(index_label="row", lineterminator="\n").encode())
    return rows.drop(columns=timings.columns)


def _make_folder(folder: Path) -> list[Path]:
    """Make the folder and return what had to be made, innermost first."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def is_complete(folder: Path) -> bool:
    """Return whether the folder holds a finished run."""
    files = _Files(folder)
    return (
        files.rows.exists()
        and files.provenance.exists()
        and read_json(files.provenance, "complete")["complete"] is True
    )


def read_rows(folder: Path) -> pd.DataFrame:
    """Return a finished run's rows; `ValueError` if the folder holds none."""
    if not is_complete(folder):
        raise InputError(f"no finished run in {folder}; run its experiment first")
    files = _Files(folder)
    content = files.rows.read_bytes()
    if hashlib.sha256(content).hexdigest() != read_json(files.provenance, "rows_sha256")["rows_sha256"]:
        raise InputError(f"{files.rows} is not what its run wrote (damaged or edited); start again with --force")
    # the python engine reads every float exactly, with any pandas; only an empty cell is a missing value
    return pd.read_csv(io.BytesIO(content), engine="python", keep_default_na=False, na_values=[""])


def wall_seconds(folder: Path) -> float:
    """Return the seconds a finished run took, over all sessions that ended by themselves."""
    return float(sum(session["wall_seconds"] or 0.0 for session in _sessions(_Files(folder).provenance)))


class _Files:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = folder / "settings.json"
        self.rows = folder / "rows.csv"
        self.timings = folder / "timings.csv"
        self.provenance = folder / "provenance.json"
        self.checkpoint = folder / "checkpoint"

    def remove(self) -> None:
        """Remove the run; the settings last, so that nothing is ever left without the settings it belongs to."""
        self.provenance.unlink(missing_ok=True)
        self.rows.unlink(missing_ok=True)
        self.timings.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        self.settings.unlink(missing_ok=True)
        self.remove_temporary()

    def remove_temporary(self) -> None:
        """Remove what a killed session was writing."""
        for written in (self.settings, self.rows, self.timings, self.provenance):
            for file in self.folder.glob(f"{written.name}.*.tmp"):
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
