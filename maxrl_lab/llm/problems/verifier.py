"""Mathematics compared by math-verify in a process of its own, because what a model writes is hostile or endless.

math-verify is given LaTeX only: its other extraction hands text to sympy's `parse_expr`, which is `eval`. LaTeX is
never executed, but it can ask for 9^{9^{9^9}}, for a large binomial, or for the meaning of a hundred brackets.
math-verify guards itself with `signal.alarm`, which works in the main thread only and never inside one long
multiplication; trainers call rewards from other threads. So it runs in a process that is limited in time and memory,
killed when it is late, and started again. A late comparison counts as no match.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import threading

from maxrl_lab.errors import InputError

SECONDS = 3
"""Time for one comparison, in seconds."""
_START_SECONDS = 120
"""Time for the process to import sympy on a busy machine, in seconds."""
_MEMORY = 4 * 2**30
"""Address space of the process, in bytes."""


@functools.lru_cache(maxsize=4096)  # the rollouts of a group repeat each other's answers
def matches(answer: str, reference: str) -> bool:
    """Return whether math-verify finds that an answer gives the reference, both in LaTeX, within `SECONDS`."""
    return _process_of(os.getpid()).matches(answer, reference)


@functools.cache
def _process_of(owner: int) -> "_Process":
    """Return the process of process `owner`: a forked child must not share its parent's pipes."""
    return _Process(owner)


class _Process:
    """math-verify behind a pipe: a line with two texts in, a line with 0 or 1 out; one question at a time."""

    def __init__(self, owner: int) -> None:
        self._owner = owner
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        atexit.register(self._close)

    def matches(self, answer: str, reference: str) -> bool:
        """Return whether math-verify finds in time that the answer gives the reference."""
        with self._lock:
            process = self._process or self._start()
            try:
                print(json.dumps([answer, reference]), file=process.stdin, flush=True)
            except BrokenPipeError:  # it was killed between two questions
                process = self._start()
                print(json.dumps([answer, reference]), file=process.stdin, flush=True)
            reply = _read(process, SECONDS + 2)
            if not reply:
                self._close()
            return reply == "1"

    def _start(self) -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            "-c",
            "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')",
            __file__,
        ]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if _read(process, _START_SECONDS) != "ready":
            process.kill()
            raise InputError("math-verify did not start; it comes with the extra llm")
        self._process = process
        return process

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None and os.getpid() == self._owner:
            process.kill()
            with contextlib.suppress(BrokenPipeError):
                process.__exit__(None, None, None)  # closes the pipes and waits


def _read(process: "subprocess.Popen[str]", seconds: float) -> str:
    """Return the next line of the process, or an empty text if it ended or was killed for being late."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        return process.stdout.readline().strip() if process.stdout else ""
    finally:
        timer.cancel()


def _serve() -> None:
    """Answer the lines of standard input, in the process that `_Process` starts."""
    replies, sys.stdout = sys.stdout, sys.stderr  # no library prints into the replies
    importlib.import_module("math_verify")
    alarm = getattr(signal, "alarm", lambda _: None)
    if os.name == "posix":
        resource = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        alarm(SECONDS)  # SIGALRM without a handler ends the process, even inside one multiplication or without a parent
        reply = _math_verify(*json.loads(line))
        alarm(0)
        print(int(reply), file=replies, flush=True)


def _math_verify(answer: str, reference: str) -> bool:
    """Return math-verify's verdict on two texts of LaTeX, without any limit on time."""
    library = importlib.import_module("math_verify")
    parsed = [
        library.parse(
            f"\\boxed{{{text}}}",
            extraction_config=[library.LatexExtractionConfig()],  # never ExprExtractionConfig: it evaluates
            fallback_mode="no_fallback",
            parsing_timeout=None,
        )
        for text in (reference, answer)
    ]
    # without the permission, (1, oo) answers x > 1, but x > 1 does not answer (1, oo)
    return all(parsed) and bool(library.verify(*parsed, allow_set_relation_comp=True, timeout_seconds=None))


if __name__ == "__main__":
    _serve()
