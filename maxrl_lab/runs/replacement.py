"""A run that replaces another one: it is made in a folder below, and moved up when it is complete.

Until then the old run is as it was, whatever ends the new one. A kill while files are moved loses nothing: whoever
looks at the folder next finishes the move.
"""

import shutil
from pathlib import Path

from maxrl_lab.errors import InputError
from maxrl_lab.runs.lock import locked
from maxrl_lab.runs.record import Record


def replacement(folder: Path) -> Record:
    """Return the run that is to replace the one in a folder."""
    return Record(folder / "replacement")


def is_waiting(folder: Path) -> bool:
    """Return whether a finished replacement has not, or not wholly, been moved to its place."""
    try:
        return replacement(folder).says_complete()
    except InputError:  # it is damaged: --force makes it again
        return False


def finish_replacement(folder: Path) -> None:
    """Put a finished replacement, if there is one, in the place of the run that it replaces."""
    if is_waiting(folder):
        with locked(folder):
            move_up(folder)


def move_up(folder: Path) -> None:
    """Move a finished replacement, if there is one, to its place; the caller holds the lock.

    The old run is removed first. Then the settings are moved first and the provenance last, so that at any moment the
    two say how far this has come.
    """
    if not is_waiting(folder):
        return
    old, new = Record(folder), replacement(folder)
    if new.settings.exists():
        old.remove()
        new.settings.replace(old.settings)
    for path in sorted(new.folder.iterdir()):
        if path not in (new.provenance, new.checkpoint):
            _replace(path, folder / path.name)
    new.provenance.replace(old.provenance)
    shutil.rmtree(new.folder, ignore_errors=True)


def _replace(path: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    path.replace(target)
