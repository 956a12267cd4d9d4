"""Explored tables on disk: checked by content, never trusted, read without executing anything."""

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from maxrl_lab.runs.files import write_atomically
from maxrl_lab.tabular.exploring import FAILURE, RUNNING, SUCCESS, Array, Table

_ARRAYS = ("successors", "outcome", "observations", "features")


def write(file: Path, table: Table) -> None:
    """Keep a deterministic table whose start is state 0; a folder that cannot be written to costs a warning."""
    arrays: dict[str, Any] = {
        "successors": table.successors[..., 0].astype(np.int32),
        "outcome": table.outcome,
        "observations": table.observations.astype(np.int32),
        "features": table.features,
    }
    content = io.BytesIO()
    np.savez_compressed(content, checksum=_checksum(file.name, arrays), **arrays)
    try:
        write_atomically(file, content.getvalue())
    except OSError as error:
        message = f"the table is not kept for the next time ({error}); MAXRL_LAB_CACHE names another folder"
        warnings.warn(message, RuntimeWarning, stacklevel=4)


def read(file: Path) -> Table | None:
    """Return the table in a file, None if there is none or it is not what `write` wrote under that name."""
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in _ARRAYS}
            trusted = np.array_equal(stored["checksum"], _checksum(file.name, arrays))
    except Exception:  # numpy and zipfile raise many kinds for a damaged file; all mean the same here
        return None
    if not trusted or not _makes_sense(**arrays):
        return None
    successors = arrays["successors"].astype(np.int64)[..., None]
    start = np.zeros(len(successors))
    start[0] = 1.0
    observations = arrays["observations"].astype(np.int64)
    return Table(successors, np.ones(successors.shape), start, arrays["outcome"], observations, arrays["features"])


def _checksum(name: str, arrays: dict[str, Array]) -> Array:
    """SHA-256 of the file's name and of each array's name, type, shape and bytes: (32,) uint8."""
    digest = hashlib.sha256(name.encode())
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _makes_sense(successors: Array, outcome: Array, observations: Array, features: Array) -> bool:
    shapes = successors.ndim == 2 and features.ndim == 2 and outcome.shape == observations.shape == successors.shape[:1]
    types = [str(array.dtype) for array in (successors, outcome, observations, features)]
    if not shapes or types != ["int32", "int8", "int32", "uint8"] or min(successors.shape) < 1:
        return False
    return bool(
        (successors.min() >= 0 and successors.max() < len(successors))
        and (observations.min() >= 0 and observations.max() < len(features))
        and np.isin(outcome, (RUNNING, SUCCESS, FAILURE)).all()
    )
