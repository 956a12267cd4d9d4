"""Bad folders: full disks, read-only ones, none at all, spaces and letters of all kinds: done, or one line."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from torture.families import Family, arguments, own_cache
from torture.forks import Tally, command, fresh

NAMES = ("with a space", "\u00e9\u4e2d\u6587", "quote'\"", "-dash", "new\nline", "\U0001f600", "a" * 200, "$HOME", "%s")


def bad_folders(family: Family, scratch: Path) -> list[Tally]:
    """Run one experiment in and into folders that are hard to work with."""
    return [_names(family, scratch), _mounted(family, scratch), _without_home(family, scratch)]


def _names(family: Family, scratch: Path) -> Tally:
    tally = Tally("a folder with a strange name: the same bytes")
    for name in NAMES:
        folder = fresh(scratch / "names" / name)
        tally.add(family.run_again(folder))
    folder = fresh(scratch / "not utf-8" / os.fsdecode(b"\xff\xfe"))
    ended = command(family.arguments, folder, variables=own_cache(folder))
    tally.add(None if ended.refused else family.judge(ended, folder))
    return tally


def _mounted(family: Family, scratch: Path) -> Tally:
    """A disk that is full after some KB, and one that cannot be written; both need the right to mount one."""
    tally = Tally("a disk that is full or read-only: one line that names it")
    for options in ("size=4k", "size=12k", "size=40k", "ro"):
        with _disk(fresh(scratch / "disk"), options) as disk:
            if disk is not None:
                given = [text if text != "out" else str(disk / "out") for text in arguments(family.name)]
                folder = fresh(scratch / "beside")
                ended = command(given, folder, variables=own_cache(folder))
                right = ended.refused and "disk" in ended.error
                tally.add(None if right else f"{options}: status {ended.status}: {ended.error[-200:]}")
                cache = {"MAXRL_LAB_CACHE": str(disk / "cache")}
                ended = command(family.arguments, fresh(folder), variables=cache)
                right = ended.refused and "disk" in ended.error
                wrong = f"cache on {options}: {family.judge(ended, folder)}: {ended.error[-200:]}"
                tally.add(None if right or family.judge(ended, folder) is None else wrong)
    return tally


@contextlib.contextmanager
def _disk(folder: Path, options: str) -> Iterator[Path | None]:
    """A small disk of its own, None where this user may not mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _without_home(family: Family, scratch: Path) -> Tally:
    tally = Tally("no home folder, or one that cannot be written: the same bytes, or one line")
    for home in ("", "/nonexistent", "/dev/null"):
        folder = fresh(scratch / "homeless")
        variables = {"HOME": home, "XDG_CACHE_HOME": "", "MAXRL_LAB_CACHE": ""}
        ended = command(family.arguments, folder, variables=variables)
        tally.add(None if ended.refused else family.judge(ended, folder))
    return tally
