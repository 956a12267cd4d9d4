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
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch

Row = dict[str, Any]
_PACKAGES = (
    *("maxrl-lab", "torch", "numpy", "scipy", "scikit-learn", "pandas", "gymnasium", "minigrid", "safetensors"),
    *("transformers", "trl", "accelerate", "peft", "datasets", "reasoning-gym", "math-verify", "vllm", "verl"),
)
"""Whose versions are recorded, where they are installed."""
TIMINGS = ("seconds_sample", "seconds_verify", "seconds_update", "tokens_per_second")
"""Columns of rows that are kept apart, in timings.csv, so that rows.csv is the same for the same settings."""


class Checkpoint:
    """Where one stage of a computation keeps its state between sessions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(self, name: str) -> "Checkpoint":
        """Return the checkpoint of a named stage below this one."""
        return Checkpoint(self.path / name)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state by `state`: nested dicts and lists of tensors and plain values."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        buffer.seek(0)
        try:
            torch.load(buffer, map_location="cpu", weights_only=True)
        except Exception as error:  # found now, not after the kill that needs it
            raise ValueError(f"a state of tensors and plain values was expected, got another value: {error}") from None
        write_atomically(self._file, buffer.getvalue())

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, None if there is none; `ValueError` if the file is damaged."""
        if not self._file.exists():
            return None
        try:
            with zipfile.ZipFile(self._file) as archive:
                if archive.testzip() is not None:
                    raise ValueError("checksum")
            state: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file; all mean the same here
            raise ValueError(f"the checkpoint {self._file} is damaged; start again with --force") from error
        return state

    @property
    def _file(self) -> Path:
        return self.path.with_name(self.path.name + ".pt")


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
        _refuse_other_settings(folder, _read_json(files.settings), described)
    elif files.provenance.exists() or files.rows.exists() or files.checkpoint.exists():
        raise ValueError(f"{folder} holds a run without its settings.json; start again with --force")
    sessions = _sessions(files.provenance)
    if is_complete(folder):
        return read_rows(folder)
    is_new = not files.settings.exists()
    made = _make_folder(folder)
    write_json(files.settings, described)
    seeds = {name: value for name, value in described["settings"].items() if name in ("seed", "seeds")}
    session = {**_describe_session(device), **seeds}
    write_json(files.provenance, {"complete": False, "sessions": [*sessions, session]})
    start = time.perf_counter()
    try:
        rows = pd.DataFrame(compute(Checkpoint(files.checkpoint / "run")))
        if rows.empty:
            raise ValueError(f"{experiment} returned no rows")
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
        and _read_json(files.provenance, "complete")["complete"] is True
    )


def read_rows(folder: Path) -> pd.DataFrame:
    """Return a finished run's rows; `ValueError` if the folder holds none."""
    if not is_complete(folder):
        raise ValueError(f"no finished run in {folder}; run its experiment first")
    files = _Files(folder)
    content = files.rows.read_bytes()
    if hashlib.sha256(content).hexdigest() != _read_json(files.provenance, "rows_sha256")["rows_sha256"]:
        raise ValueError(f"{files.rows} is not what its run wrote (damaged or edited); start again with --force")
    # the python engine reads every float exactly, with any pandas; only an empty cell is a missing value
    return pd.read_csv(io.BytesIO(content), engine="python", keep_default_na=False, na_values=[""])


def read_settings(folder: Path) -> dict[str, Any]:
    """Return a run's settings as plain values."""
    settings: dict[str, Any] = _read_json(_Files(folder).settings, "settings")["settings"]
    return settings


def wall_seconds(folder: Path) -> float:
    """Return the seconds a finished run took, over all sessions that ended by themselves."""
    return float(sum(session["wall_seconds"] or 0.0 for session in _sessions(_Files(folder).provenance)))


def cache_folder() -> Path:
    """Return where what can be made again is kept.

    That is $MAXRL_LAB_CACHE, else $XDG_CACHE_HOME/maxrl_lab, else ~/.cache/maxrl_lab.
    """
    if own := os.environ.get("MAXRL_LAB_CACHE"):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maxrl_lab"
    except RuntimeError:  # nobody's home
        return Path(tempfile.gettempdir()) / "maxrl_lab"


def first_difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Return the first name in `wanted` whose value in `found` is another one or absent, None if there is none."""
    return next((name for name, value in wanted.items() if found.get(name, "absent") != value), None)


def file_name(text: str) -> str:
    """Return the text with all but letters, digits and `_.=+-` replaced, as the name of one file."""
    return re.sub(r"[^\w.=+-]", lambda sign: {"/": "_", "*": "x"}.get(sign[0], "-"), text)  # N/2, N*2 and N-2 differ


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that `path` holds either its old bytes or all of the new ones, even after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def _read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Return the JSON object in `path`; `ValueError` if it is damaged or lacks a key."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or any(key not in content for key in keys):
            raise ValueError(f"expected an object with {', '.join(keys) or 'names'}")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not readable JSON ({error}); start again with --force") from None
    return content


def _sessions(provenance: Path) -> list[dict[str, Any]]:
    """Return the sessions a run has had so far."""
    if not provenance.exists():
        return []
    sessions: list[dict[str, Any]] = _read_json(provenance, "sessions")["sessions"]
    if not isinstance(sessions, list) or any("wall_seconds" not in session for session in sessions):
        raise ValueError(f"{provenance} is damaged (expected a list of sessions); start again with --force")
    return sessions


def _refuse_other_settings(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if found == wanted:
        return
    if not isinstance(found.get("settings"), dict):
        raise ValueError(f"{folder / 'settings.json'} is damaged (expected an object); start again with --force")
    old, new = ({**each, **each["settings"], "settings": None} for each in (found, wanted))
    name = first_difference(old, new) or first_difference(new, old) or ""
    there, now = old.get(name, "absent"), new.get(name, "absent")
    raise ValueError(
        f"{folder} holds a run with other settings ({name} = {there!r} there, {now!r} now); "
        "choose another --out, or replace it with --force"
    )


def _describe_session(device: str) -> dict[str, Any]:
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": _versions(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "wall_seconds": None,
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _commit() -> str | None:
    """The commit of the source tree, with '+changes' if it has been edited; None outside a git checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True, check=True)
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes.strip() else "")
