"""Files that are written whole or not at all, and where the lab keeps what can be made again."""

import contextlib
import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxrl_lab.errors import InputError

_DAY = 86_400


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that `path` holds either its old bytes or all of the new ones, even after a crash.

    What killed processes were writing in the folder is removed. An `OSError` names the file.
    """
    temporary = temporary_file(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk is noticed by a write, which has no name
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def temporary_file(path: Path) -> Path:
    """Return the name of a file beside `path` that goes, if this process is killed, with the next one made there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    return path.with_name(f"{path.name}.{os.getpid()}@{_host()}.tmp")


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of this host's dead processes, and those a day old, whose host cannot be asked."""
    for file in folder.glob("*.*@*.tmp"):
        process, _, host = file.stem.rpartition(".")[2].partition("@")
        if not process.isdecimal():
            continue  # it is not ours
        with contextlib.suppress(OSError):  # its process has just finished or removed it
            if (host == _host() and not _lives(int(process))) or file.stat().st_mtime < time.time() - _DAY:
                file.unlink()


def _lives(process: int) -> bool:
    if os.name != "posix":
        return True  # there is no signal that only asks
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it is another user's
    return True


def _host() -> str:
    """Return the name of this computer without dots, as part of a file's name: folders may be shared by several."""
    return file_name(platform.node()).replace(".", "-")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Return the JSON object in `path`; raise `InputError` if it is damaged or lacks a key."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or any(key not in content for key in keys):
            raise ValueError(f"expected an object with {', '.join(keys) or 'names'}")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON ({error}); start again with --force") from None
    return content


def file_name(text: str) -> str:
    """Return the text with all but letters, digits and `_.=+-` replaced, as the name of one file."""
    return re.sub(r"[^\w.=+-]", lambda sign: {"/": "_", "*": "x"}.get(sign[0], "-"), text)  # N/2, N*2 and N-2 differ


def cache_folder() -> Path:
    """Return where what can be made again is kept.

    That is $MAXRL_LAB_CACHE, else $XDG_CACHE_HOME/maxrl_lab, else ~/.cache/maxrl_lab; a leading `~` is the home folder.
    Raises `InputError` for a $MAXRL_LAB_CACHE in the home folder of a user who has none.
    """
    if folder := os.environ.get("MAXRL_LAB_CACHE"):
        try:
            return Path(folder).expanduser()
        except RuntimeError:
            raise InputError(f"MAXRL_LAB_CACHE must name a folder, got {folder!r}, and that user has no home") from None
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "maxrl_lab"
    except RuntimeError:  # the user has no home folder
        return Path(tempfile.gettempdir()) / "maxrl_lab"


def first_difference(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Return the first name in `wanted` whose value in `actual` is another one or absent, None if there is none."""
    return next((name for name, value in wanted.items() if actual.get(name, "absent") != value), None)
