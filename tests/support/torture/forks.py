"""Commands in forked children: the lab is imported once, and a command costs what it does itself."""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maxrl_lab.command import main

INTERRUPTED = 130


@dataclass(frozen=True)
class Ended:
    """How a command has ended: its exit status, or minus the signal, and what it has written."""

    status: int
    out: str
    error: str
    seconds: float

    @property
    def lines(self) -> list[str]:
        """The lines on standard error that say something; a forked child leaves the pool's semaphores to Python."""
        lines = [line for line in self.error.splitlines() if line.strip()]
        return [line for line in lines if "resource_tracker" not in line and not line.startswith("  warnings.warn(")]

    @property
    def refused(self) -> bool:
        """Whether the command has ended as bad input does: status 2, and one line that says what was wrong."""
        return self.status == 2 and len(self.lines) == 1 and self.lines[0].startswith("maxrl-lab: error: ")

    @property
    def traceback(self) -> bool:
        """Whether somebody has been shown a traceback."""
        return "Traceback (most recent call last)" in self.error + self.out


def command(
    arguments: Sequence[str],
    folder: Path,
    *,
    variables: Mapping[str, str] | None = None,
    before: Callable[[], object] = lambda: None,
    after: Sequence[tuple[float, Callable[[int], object]]] = (),
    limit: float = 600.0,
) -> Ended:
    """Run `maxrl-lab ARGUMENTS` in a folder and return how it ended.

    `before` is called in the child, each function of `after` in the parent, with the child's number, once so many
    seconds have passed. A child that is still there after `limit` seconds is interrupted, as by Ctrl-C; one that does
    not answer is killed.
    """
    output, error = folder.with_suffix(".out"), folder.with_suffix(".err")
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        _become(arguments, folder, output, error, variables or {}, before)
    waiting = [*sorted(after, key=lambda pair: pair[0]), (limit, _signal(signal.SIGINT))]
    waiting.append((limit + 20, _signal(signal.SIGKILL)))
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        while waiting and time.perf_counter() - start >= waiting[0][0]:
            waiting.pop(0)[1](child)
        time.sleep(0.001)
    texts = [file.read_text(errors="replace") for file in (output, error)]
    return Ended(os.waitstatus_to_exitcode(status), *texts, time.perf_counter() - start)


def _signal(number: int) -> Callable[[int], object]:
    return lambda child: os.kill(child, number)


def _become(
    arguments: Sequence[str],
    folder: Path,
    output: Path,
    error: Path,
    variables: Mapping[str, str],
    before: Callable[[], object],
) -> None:
    """Be the command, from here on."""
    status = 1
    try:
        os.chdir(folder)
        os.environ.update(variables)
        for number, file in ((1, output), (2, error)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w") for number in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before()
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def tables(folder: Path) -> dict[str, bytes]:
    """Return the tables of a run that are the same bytes whenever it is made."""
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.csv")) if file.stem != "timings"}


def fresh(folder: Path) -> Path:
    """Return the folder, new and empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@dataclass
class Tally:
    """How often the lab held, of how many tries, and what it did where it did not."""

    what: str
    tried: int = 0
    failures: tuple[str, ...] = ()

    def add(self, failure: str | None) -> None:
        """Count one try; `failure` says what went wrong, None if nothing did."""
        self.tried += 1
        if failure is not None:
            self.failures += (failure,)

    @property
    def line(self) -> str:
        """The row of the table."""
        return f"| {self.what} | {self.tried:,} | {self.tried - len(self.failures):,} |"


def stream(name: str, seed: int) -> random.Random:
    """Return random numbers of one kind of torture."""
    return random.Random(f"{name} {seed}")
