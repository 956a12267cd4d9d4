"""Runs that are killed, stopped and interrupted at random moments, and started again: the same rows every time."""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from torture.families import Family, arguments, own_cache
from torture.forks import INTERRUPTED, Ended, Tally, command, fresh, stream

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGSTOP": signal.SIGSTOP}
EXPECTED = {"SIGKILL": (-signal.SIGKILL,), "SIGTERM": (-signal.SIGTERM,), "SIGINT": (INTERRUPTED, -signal.SIGINT)}
"""How a disturbed command may end, if it has not ended before: an interrupt while modules are imported is silent."""


def moments(families: Sequence[Family], tries: int, scratch: Path, seed: int = 0) -> list[Tally]:
    """Disturb so many runs, once each at a moment of their own, and start each again."""
    random = stream("kills", seed)
    tallies = {name: Tally(f"run hit by {name}, then run again: the same bytes") for name in SIGNALS}
    for index in range(tries):
        name, family = list(SIGNALS)[index % len(SIGNALS)], families[index // len(SIGNALS) % len(families)]
        tallies[name].add(_once(family, name, random, fresh(scratch / "kill")))
    return list(tallies.values())


def _once(family: Family, name: str, random: Random, folder: Path) -> str | None:
    moment = random.uniform(0, 1.05 * family.seconds)

    def disturb(child: int) -> None:
        os.kill(child, SIGNALS[name])
        if name == "SIGSTOP":
            time.sleep(0.05)
            os.kill(child, signal.SIGCONT)

    ended = command(family.arguments, folder, variables=own_cache(folder), after=[(moment, disturb)])
    if name == "SIGSTOP":
        return family.judge(ended, folder)
    if (wrong := _wrong_end(ended, EXPECTED[name])) is not None:
        return f"{family.name}, {name} after {moment:.2f} s: {wrong}"
    return family.run_again(folder) or _left(folder)


def _wrong_end(ended: Ended, expected: Sequence[int]) -> str | None:
    if ended.traceback:
        return f"traceback: {ended.lines[-1]}"
    return None if ended.status in (0, *expected) else f"status {ended.status}: {ended.error[-200:]}"


def _left(folder: Path) -> str | None:
    left = [str(file.relative_to(folder)) for file in folder.rglob("*.tmp")]
    return f"temporary files are left: {', '.join(left)}" if left else None


def workers(family: Family, tries: int, scratch: Path, seed: int = 0) -> list[Tally]:
    """Kill one of two worker processes of so many runs; each run says so in a line, and goes on when started again."""
    random, tally = stream("workers", seed), Tally("a worker process killed, then run again: the same bytes")
    for _ in range(tries):
        folder = fresh(scratch / "worker")
        two = arguments(family.name, "--processes", "2")
        kill = [(random.uniform(3.0, 8.0), _kill_a_worker)]  # the workers take some seconds to start
        ended = command(two, folder, variables=own_cache(folder), after=kill)
        if ended.status != 0 and not ended.refused:
            tally.add(f"status {ended.status}: {ended.error[-200:]}")
            continue
        tally.add(family.run_again(folder))
    return [tally]


def _kill_a_worker(child: int) -> None:
    with contextlib.suppress(OSError):  # the run has ended, or has no worker yet
        pids = Path(f"/proc/{child}/task/{child}/children").read_text().split()
        workers = [pid for pid in pids if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
        if workers:
            os.kill(int(workers[0]), signal.SIGKILL)
