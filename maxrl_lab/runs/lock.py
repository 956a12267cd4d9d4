"""One process at a time in a folder: a lock that the operating system drops when its holder ends, however it ends."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from maxrl_lab.errors import InputError

LOCK = ".lock"
"""The name of the file that is locked; only the lock on it means something, never that the file is there."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of an existing folder; raise `InputError` at once if it is held, in this process or another."""
    file = _lock(folder / LOCK)
    if file is None:
        raise InputError(f"another process is at work in {folder}; wait for it, or choose another folder with --out")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file; then it stays and does no harm
            (folder / LOCK).unlink()
        file.close()


def _lock(path: Path) -> IO[bytes] | None:
    """Return the locked file, None if somebody else has locked it."""
    while True:
        file = path.open("ab")
        try:
            _lock_file(file)
        except OSError:
            file.close()
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # its holder has removed it in between: what is locked is no longer at that path


try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def _lock_file(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

else:

    def _lock_file(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
