"""Files that are written whole or not at all, and where the lab keeps what can be made again."""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxrl_lab.errors import InputError


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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Return the JSON object in `path`; raise `InputError` if it is damaged or lacks a key."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or any(key not in content for key in keys):
            raise ValueError(f"expected an object with {', '.join(keys) or 'names'}")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable JSON ({error}); start again with --force") from None
    return content


def file_name(text: str) -> str:
    """Return the text with all but letters, digits and `_.=+-` replaced, as the name of one file."""
    return re.sub(r"[^\w.=+-]", lambda sign: {"/": "_", "*": "x"}.get(sign[0], "-"), text)  # N/2, N*2 and N-2 differ


def cache_folder() -> Path:
    """Return where what can be made again is kept.

    That is $MAXRL_LAB_CACHE, else $XDG_CACHE_HOME/maxrl_lab, else ~/.cache/maxrl_lab.
    """
    if folder := os.environ.get("MAXRL_LAB_CACHE"):
        return Path(folder)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maxrl_lab"
    except RuntimeError:  # the user has no home folder
        return Path(tempfile.gettempdir()) / "maxrl_lab"


def first_difference(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Return the first name in `wanted` whose value in `actual` is another one or absent, None if there is none."""
    return next((name for name, value in wanted.items() if actual.get(name, "absent") != value), None)
