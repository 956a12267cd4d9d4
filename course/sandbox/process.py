"""The grader's end of a student's process: a function there is a function here, with a time limit."""

import contextlib
import json
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
from course.sandbox.clock import Clock
from course.wrong import WrongAnswerError

MEMORY = 2 * 2**30
"""Bytes that a student's process may take beyond its libraries."""
_START_SECONDS = 120.0
_DRAIN_SECONDS = 0.05
_LONGEST_LINE = 2**22
_SHOWN_PRINTS = 300


class RaisedError(WrongAnswerError):
    """The student's function has raised; the message says what."""


class Stopped(BaseException):
    """The student's process has ended or taken too long. No `Exception`: whoever tries ways to call gives up."""


class Process:
    """One student's file, running; it starts when a function of it is first called."""

    def __init__(self, path: Path, memory: int = MEMORY) -> None:
        self.path, self.memory = path, memory
        self._seconds, self._printed = 0.0, ""
        self._popen: subprocess.Popen[bytes] | None = None
        self._clock: Clock | None = None

    def begin(self, seconds: float) -> None:
        """Set the time limit of the calls to come, in seconds of a processor, and forget what was printed."""
        self._seconds, self._printed = seconds, ""
        if self._clock is not None:
            self._clock.restart(seconds)

    def prints(self) -> str:
        """Return the beginning of what the file has printed."""
        time.sleep(_DRAIN_SECONDS)
        return self._printed[:_SHOWN_PRINTS].rstrip()

    def call(self, function: str, arguments: Sequence[Any], want: str = "value") -> Any:
        """Return what a function of the file returns; arrays come as numpy arrays.

        Raises `RaisedError` if the function or the file raises, and `Stopped` if the process ends or runs out of time.
        """
        process, clock = self._running()
        callables: list[Callable[..., Any]] = []
        encoded = child.encode(list(arguments), callables)
        reply = self._ask(process, clock, {"function": function, "arguments": encoded, "want": want})
        while "call" in reply:
            reply = self._ask(process, clock, _answer(callables, reply))
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
            self._popen = self._clock = None

    def _running(self) -> "tuple[subprocess.Popen[bytes], Clock]":
        """The process with its clock; it is started, and loads the file, if it was not there or has ended."""
        if self._popen is not None and self._clock is not None and self._popen.poll() is None:
            return self._popen, self._clock
        self.close()
        command = [sys.executable, "-I", "-B", "-u", "-W", "ignore", child.__file__, str(self.path), str(self.memory)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
        )
        self._popen, self._clock = process, Clock(process, _START_SECONDS)
        threading.Thread(target=self._drain, args=(process,), daemon=True).start()
        self._receive(process, self._clock)
        self._clock.restart(self._seconds)
        loaded = self._receive(process, self._clock)
        if "error" in loaded:
            self.close()
            raise RaisedError(loaded["error"])
        return process, self._clock

    def _drain(self, process: "subprocess.Popen[bytes]") -> None:
        """Read what the file prints; keep its beginning."""
        with process.stderr as stream:  # type: ignore[union-attr]
            for line in iter(lambda: stream.readline(4096), b""):
                if len(self._printed) < _SHOWN_PRINTS:
                    self._printed += line.decode(errors="replace")

    def _ask(self, process: "subprocess.Popen[bytes]", clock: Clock, message: dict[str, Any]) -> Any:
        """Send a message and return the reply, within the time that remains."""
        with contextlib.suppress(BrokenPipeError), clock.running():  # broken: the process has ended, and no reply comes
            process.stdin.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        return self._receive(process, clock)

    def _receive(self, process: "subprocess.Popen[bytes]", clock: Clock) -> Any:
        """Return the next line that comes back; raise `Stopped` if none does in time."""
        with clock.running():
            line = process.stdout.readline(_LONGEST_LINE)  # type: ignore[union-attr]
        if not line.endswith(b"\n"):
            raise Stopped(self._reason(process, clock.late, len(line)))
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
