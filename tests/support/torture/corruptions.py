"""Files of runs and caches that are cut, flipped, emptied or replaced: named or made again, never trusted."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from torture.families import Family, own_cache
from torture.forks import Tally, command, fresh, stream


def _flipped(content: bytes, _: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    changed[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return bytes(changed)


KINDS: dict[str, Callable[[bytes, bytes, Random], bytes]] = {
    "cut off": lambda content, _, random: content[: random.randrange(len(content))],
    "one bit flipped": _flipped,
    "emptied": lambda content, _, random: b"",
    "replaced by another file": lambda _, other, random: other,
}


def files(families: Sequence[Family], tries: int, scratch: Path, seed: int = 0) -> list[Tally]:
    """Damage one file of so many finished or interrupted runs or caches, and go on with the command."""
    random = stream("corruptions", seed)
    whole = {(family, state): _prepared(family, state, scratch) for state in STATES for family in families}
    kinds = [kind for kind, folder in whole.items() if _trusted(folder, kind[1])]  # not every family has a cache
    tallies = {state: Tally(what) for state, what in STATES.items()}
    for index in range(tries):
        family, state = kinds[index % len(kinds)]
        folder = scratch / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole[family, state], folder)
        tallies[state].add(_once(family, state, folder, random))
    return list(tallies.values())


STATES = {
    "finished": "a file of a finished run damaged: named, never shown",
    "interrupted": "a file of an interrupted run damaged: named, or made again",
    "cached": "a file of the cache damaged: made again",
}


def _prepared(family: Family, state: str, scratch: Path) -> Path:
    """Return a folder with a run that is finished or interrupted, or with a full cache and no run."""
    folder = fresh(scratch / f"{state}-{family.name}")
    if state == "interrupted":
        for part in (0.7, 0.6, 0.5, 0.4):
            kill = [(part * family.seconds, lambda child: os.kill(child, signal.SIGKILL))]
            command(family.arguments, folder, variables=own_cache(folder), after=kill)
            if list(folder.rglob("checkpoint/**/*.pt")):
                break
        return folder
    command(family.arguments, folder, variables=own_cache(folder))
    if state == "cached":
        shutil.rmtree(folder / "out")
    return folder


def _once(family: Family, state: str, folder: Path, random: Random) -> str | None:
    kept = _trusted(folder, state)
    file = random.choice(kept)
    before, (kind, damage) = file.read_bytes(), random.choice(list(KINDS.items()))
    after = damage(before, random.choice(kept).read_bytes(), random)
    file.write_bytes(after)
    verb = random.choice(["draw", "run"]) if state == "finished" else "run"
    given = family.arguments if verb == "run" else ["draw", family.name, "--preset", "smoke", "--out", "out"]
    ended = command(given, folder, variables=own_cache(folder))
    if (ended.refused and state != "cached") or _same(before, after):
        return None
    wrong = family.judge(ended, folder)
    if wrong is None and _still_says(file, before, after) and "cache" in file.relative_to(folder).parts:
        shutil.rmtree(folder / "out")  # an interrupted run may not need what is kept; a new one does
        wrong = family.run_again(folder)
    if wrong is None and _still_says(file, before, after):
        wrong = "status 0, and the file still says something else"
    return wrong and f"{file.relative_to(folder)} {kind}, {verb} of {state} {wrong}"


def _trusted(folder: Path, state: str) -> list[Path]:
    """Return the files that a command may believe: none that is empty, a picture, a lock, a finished run's cache."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.stat().st_size]
    files = [file for file in files if file.suffix not in (".png", ".lock")]
    return [file for file in files if state != "finished" or "cache" not in file.relative_to(folder).parts]


def _still_says(file: Path, before: bytes, after: bytes) -> bool:
    """Whether the damage outlives the command: in the file itself, or in the sessions that a run goes on from."""
    if not file.exists():
        return False
    now = file.read_bytes()
    if file.name != "provenance.json":
        return now == after
    whole, kept = ((_read(content) or {}).get("sessions", []) for content in (before, now))
    return len(kept) > len(whole) and kept[: len(whole)] != whole


def _same(before: bytes, after: bytes) -> bool:
    """Whether the damage is none: the same bytes, or JSON that says the same."""
    return before == after or (_read(before) is not None and _read(before) == _read(after))


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
