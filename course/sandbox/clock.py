"""The time limit of a student's process: seconds of a processor, so that a busy machine does no honest answer harm."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 6.0
"""A process that waits instead of computing has so many times its limit."""
_WATCH_SECONDS = 0.1


class Clock:
    """Watches one process, and kills it when its time is over; `late` says whether that has happened."""

    def __init__(self, process: "subprocess.Popen[bytes]", seconds: float) -> None:
        self.late = False
        self._process = process
        self._since: float | None = None
        self.restart(seconds)
        threading.Thread(target=self._watch, daemon=True).start()

    def restart(self, seconds: float) -> None:
        """Give the process so many seconds from now on."""
        self._seconds, self._waited, self._before = seconds, 0.0, self._computed()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of this block, in which an answer of the process is awaited."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - self._since
            self._since = None

    def _watch(self) -> None:
        while self._process.poll() is None:
            since = self._since
            if since is not None and self._is_over(since):
                self.late = True
                self._process.kill()
            time.sleep(_WATCH_SECONDS)

    def _is_over(self, since: float) -> bool:
        waited = self._waited + time.monotonic() - since
        return self._computed() - self._before > self._seconds or waited > PATIENCE * self._seconds

    def _computed(self) -> float:
        """Seconds of a processor that the process has taken, where /proc says so; else 0, and only waiting counts."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
