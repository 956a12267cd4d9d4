"""The grader's end of a student's process: a function there is a function here, with a time limit."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from course.sandbox import child
from course.wrong import WrongAnswerError

MEMORY = 2 * 2**30
"""Bytes that a student's process may take beyond its libraries."""
_START_SECONDS = 120.0
_WATCH_SECONDS = 0.1
_DRAIN_SECONDS = 0.05
_LONGEST_LINE = 2**22
_SHOWN_PRINTS = 300


class RaisedError(WrongAnswerError):
    """The student's function has raised; the message says what."""


class Stopped(BaseException):
    """The student's process has ended or taken too long. No `Exception`: whoever tries ways to call gives up."""


class Process:
    """One student's file, running. `seconds` is what remains of the time limit."""

    def __init__(self, path: Path, memory: int = MEMORY) -> None:
        self.path, self.memory, self.seconds = path, memory, 0.0
        self._printed = ""
        self._popen: subprocess.Popen[bytes] | None = None
        self._deadline = math.inf

    def begin(self, seconds: float) -> None:
        """Set the time limit, and forget what was printed."""
        self.seconds, self._printed = seconds, ""

    def prints(self) -> str:
        """Return the beginning of what the file has printed."""
        time.sleep(_DRAIN_SECONDS)
        return self._printed[:_SHOWN_PRINTS].rstrip()

    def call(self, function: str, arguments: Sequence[Any], want: str = "value") -> Any:
        """Return what a function of the file returns; arrays come as numpy arrays.

        Raises `RaisedError` if the function or the file raises, and `Stopped` if the process ends or runs out of time.
        """
        process = self._running()
        callables: list[Callable[..., Any]] = []
        encoded = child.encode(list(arguments), callables)
        reply = self._ask(process, {"function": function, "arguments": encoded, "want": want})
        while "call" in reply:
            reply = self._ask(process, _answer(callables, reply))
        if "error" in reply:
            raise RaisedError(reply["error"])
        return child.decode(reply["value"], lambda values: values)

    def close(self) -> None:
        """End the process and what it has started."""
        if self._popen is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL) if hasattr(os, "killpg") else self._popen.kill()
            self._popen.wait()
            for pipe in (self._popen.stdin, self._popen.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            self._popen = None

    def _running(self) -> "subprocess.Popen[bytes]":
        """The process; it is started, and has loaded the file, if it was not there or has ended."""
        if self._popen is not None and self._popen.poll() is None:
            return self._popen
        self.close()
        command = [sys.executable, "-I", "-B", "-u", "-W", "ignore", child.__file__, str(self.path), str(self.memory)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
        )
        for task in (self._drain, self._watch):
            threading.Thread(target=task, args=(self._popen,), daemon=True).start()
        self._receive(self._popen, _START_SECONDS)
        start = time.monotonic()
        loaded = self._receive(self._popen, self.seconds)
        self.seconds -= time.monotonic() - start
        if "error" in loaded:
            self.close()
            raise RaisedError(loaded["error"])
        return self._popen

    def _drain(self, process: "subprocess.Popen[bytes]") -> None:
        """Read what the file prints; keep its beginning."""
        with process.stderr as stream:  # type: ignore[union-attr]
            for line in iter(lambda: stream.readline(4096), b""):
                if len(self._printed) < _SHOWN_PRINTS:
                    self._printed += line.decode(errors="replace")

    def _watch(self, process: "subprocess.Popen[bytes]") -> None:
        """Kill a process that is late."""
        while process.poll() is None:
            if time.monotonic() > self._deadline:
                process.kill()
            time.sleep(_WATCH_SECONDS)

    def _ask(self, process: "subprocess.Popen[bytes]", message: dict[str, Any]) -> Any:
        """Send a message and return the reply, within the time that remains."""
        start = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # the process has ended: no reply will come
            process.stdin.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        reply = self._receive(process, self.seconds)
        self.seconds -= time.monotonic() - start
        return reply

    def _receive(self, process: "subprocess.Popen[bytes]", seconds: float) -> Any:
        """Return the next line that comes back within `seconds`; raise `Stopped` if none does."""
        self._deadline = time.monotonic() + seconds
        line = process.stdout.readline(_LONGEST_LINE)  # type: ignore[union-attr]
        late, self._deadline = time.monotonic() > self._deadline, math.inf
        if not line.endswith(b"\n"):
            raise Stopped(self._reason(process, late, len(line)))
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            self.close()
            raise Stopped("it wrote into the grader's pipe") from None

    def _reason(self, process: "subprocess.Popen[bytes]", late: bool, length: int) -> str:
        """Why there is no whole line."""
        status = None if length else process.wait()
        self.close()
        if late:
            return "it took longer than the time limit: does a loop never end?"
        if length:
            return "it returned far more than was asked for"
        how = f"by signal {-status}" if status and status < 0 else f"with exit status {status}"
        return f"it ended the process {how} instead of returning"


def _answer(callables: Sequence[Callable[..., Any]], request: dict[str, Any]) -> dict[str, Any]:
    """Answer a call of one of the grader's functions."""
    try:
        arguments = child.decode(request["arguments"], lambda values: values)
        return {"value": child.encode(np.asarray(callables[request["call"]](*arguments)))}
    except Exception as error:  # the student may call it with anything
        return {"error": f"{type(error).__name__}: {error}"}
