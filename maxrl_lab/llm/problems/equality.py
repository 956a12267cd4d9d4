"""Whether two mathematical answers are equal: numbers exactly, everything else by math-verify in a process of its own.

The answer comes from a model, so it is hostile until shown otherwise. Plain numbers, most answers by far, are compared
here as fractions. The rest goes to math-verify with LaTeX extraction only: its other extraction hands text to sympy's
`parse_expr`, which is `eval`. Parsing LaTeX never is, but it can be asked for 9^{9^{9^9}}, for a large binomial or for
the meaning of a hundred brackets. math-verify guards itself with `signal.alarm`, which works in the main thread only
and never inside one long multiplication; trainers call rewards from other threads. So it runs in a process that is
limited in time and memory, killed when it is late, and started again. Late means not equal.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from fractions import Fraction

from maxrl_lab.errors import InputError

MAX_ANSWER = 1000
"""Characters; a longer answer is no answer."""
SECONDS = 3
"""Time for one comparison."""
_START_SECONDS = 120
"""Time for the process to import sympy, on a busy machine."""
_MEMORY = 4 * 2**30
"""Bytes of address space for the process."""

_WHOLE_OR_DECIMAL = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_RATIO = re.compile(r"[-+]?[0-9]+/[0-9]+")
_FRAC = re.compile(r"([-+]?)\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}")
_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_NEEDLESS_SPACE = re.compile(r"[^\S\n]+(?![A-Za-z0-9])|(?<![A-Za-z0-9])[^\S\n]+")
_TYPOGRAPHY = (("\\left", ""), ("\\right", ""), ("\\!", ""), ("\\,", ""), ("\\;", ""), ("\\ ", " "), ("{,}", ","))


def canonical(text: str) -> str:
    r"""Return the answer without what does not change it: `$`, `%`, needless spaces, a full stop, thousands commas.

    A space between two letters or digits stays: 1 1/2 is not 11/2. Lines stay lines.
    """
    text = re.sub(r"\\(left|right)arrow", r"\\to", text).replace("\\$", "").replace("$", "")
    for mark, plain in _TYPOGRAPHY:
        text = text.replace(mark, plain)
    lines = (_NEEDLESS_SPACE.sub("", " ".join(line.split())) for line in text.strip().splitlines())
    text = "\n".join(lines).removesuffix(".").removesuffix("%").removesuffix("\\")
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def number(text: str) -> Fraction | None:
    r"""Return the value of a plain number, or None: 12, -3.50, 1,000, 3/4, \frac{3}{4}."""
    text = canonical(text)
    if frac := _FRAC.fullmatch(text):
        text = f"{frac[1]}{frac[2]}/{frac[3]}"
    if len(text) > MAX_ANSWER or not (_WHOLE_OR_DECIMAL.fullmatch(text) or _RATIO.fullmatch(text)):
        return None
    try:
        return Fraction(text)
    except ZeroDivisionError:
        return None


def same(answer: str, reference: str) -> bool:
    """Return whether the answer equals the reference; longer than `MAX_ANSWER` or beyond `SECONDS` is not equal."""
    if len(answer) > MAX_ANSWER:
        return False
    plain, wanted = canonical(answer), canonical(reference)
    if not plain or not wanted:
        return False
    if plain == wanted:
        return True
    value, target = number(plain), number(wanted)
    if value is not None and target is not None and (value == target or value.denominator == target.denominator == 1):
        return value == target
    return _verified(answer.replace("$", ""), reference.replace("$", ""))


@functools.lru_cache(maxsize=4096)  # the rollouts of a group repeat each other's answers
def _verified(answer: str, reference: str) -> bool:
    return _process_of(os.getpid()).verified(answer, reference)


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

    def verified(self, answer: str, reference: str) -> bool:
        """Return whether math-verify finds the two equal in time."""
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
            raise InputError("math-verify did not start; it comes with: pip install -e '.[llm]' (make llm)")
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
        alarm(SECONDS)  # without a handler it ends the process, even inside one multiplication, even without a parent
        reply = _math_verify(*json.loads(line))
        alarm(0)
        print(int(reply), file=replies, flush=True)


def _math_verify(answer: str, reference: str) -> bool:
    """Return whether the two are equal as LaTeX; without any limit on time."""
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
    return all(parsed) and bool(library.verify(*parsed, timeout_seconds=None))


if __name__ == "__main__":
    _serve()
