"""A function that may run for ever or fill the memory, asked in a process of its own that is limited in both.

What it is asked is hostile or endless: what a model writes, a program that came with a model. The time is CPU time, so
that no answer depends on how busy the machine is, or on whether it was suspended meanwhile. The process is killed by
its own timer, even inside one long multiplication and without a parent, and started again for the next question.

A script asks `Process(__file__, ...)`, and answers with `serve` where it is run as a program.
"""

import atexit
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from maxrl_lab.errors import InputError

SECONDS = 3
"""CPU time for one question, in seconds."""
PATIENCE = 600
"""Seconds by the clock after which a process counts as stuck, which a busy machine does not reach."""
MEMORY = 4 * 2**30
"""Address space of the process, in bytes, where the system lets it be limited (macOS does not)."""


class Process:
    """A script behind a pipe: a line of JSON in, a line of JSON out; one question at a time, from any thread."""

    def __init__(self, script: str, library: str) -> None:
        """Name the script, and the library that it needs, for the error if it does not start."""
        self._script, self._library = script, library
        self._owner = os.getpid()  # a forked child must not share its parent's pipes
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        atexit.register(self._close)

    def ask(self, question: Any) -> Any:
        """Return the answer to a question, both of plain values; None if the process ended over it."""
        with self._lock:
            process = self._process or self._start()
            try:
                print(json.dumps(question), file=process.stdin, flush=True)
            except BrokenPipeError:  # it was killed between two questions
                process = self._start()
                print(json.dumps(question), file=process.stdin, flush=True)
            reply = _read(process)
            if not reply:
                self._close()
            return json.loads(reply or "null")

    def _start(self) -> "subprocess.Popen[str]":
        run = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
        process = subprocess.Popen(
            [sys.executable, "-c", run, self._script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if _read(process) != '"ready"':
            process.kill()
            raise InputError(f"{self._library} did not start; it comes with the extra llm")
        self._process = process
        return process

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None and os.getpid() == self._owner:
            process.kill()
            with contextlib.suppress(BrokenPipeError):
                process.__exit__(None, None, None)  # closes the pipes and waits


def _read(process: "subprocess.Popen[str]") -> str:
    """Return the next line of the process, or an empty text if it has ended or was killed for being stuck."""
    timer = threading.Timer(PATIENCE, process.kill)
    timer.daemon = True
    timer.start()
    try:
        return process.stdout.readline().strip() if process.stdout else ""
    finally:
        timer.cancel()


def serve(answer: Callable[[Any], Any]) -> None:
    """Answer the lines of standard input, in the process that `Process` starts."""
    replies, sys.stdout = sys.stdout, sys.stderr  # no library prints into the replies
    _limit_memory()
    print(json.dumps("ready"), file=replies, flush=True)
    for line in sys.stdin:
        _limit_time(SECONDS)
        reply = answer(json.loads(line))
        _limit_time(0)
        print(json.dumps(reply), file=replies, flush=True)


def _limit_time(seconds: float) -> None:
    """End this process after so much more CPU time; 0 takes the limit back. Windows has no such timer."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the parent may have ignored it
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_memory() -> None:
    if os.name != "posix":
        return
    resource = importlib.import_module("resource")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    with contextlib.suppress(OSError, ValueError):  # macOS refuses it
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
