"""What a command meets in a terminal: an interrupt at any moment, a reader that leaves, a path in the home folder."""

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from maxrl_lab.errors import InputError

_TOO_LARGE = ("allocate memory", "out of memory", "not enough memory", "overflow", "maximum allowed dimension")
"""Words of the errors of torch and numpy about sizes that no memory holds."""


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """End the process at once, and in silence, if it is interrupted while modules are imported.

    An interrupt that Python raises there may be swallowed by what is imported, or ends in a traceback of other people's
    code. Nothing has begun yet that would have to be put away.
    """
    in_main = threading.current_thread() is threading.main_thread()
    ours = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Let a command go on to its end if the reader of its output or of its progress bars leaves, as `| head` does.

    A character that the stream's encoding lacks, as in the name of a folder, is written as its number.
    """
    before = sys.stdout, sys.stderr
    streams = [stream and _Lasting(stream) for stream in before]
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in filter(None, streams):
            stream.flush()
        sys.stdout, sys.stderr = before


class _Lasting:
    """A stream whose reader may leave: what is written afterwards goes nowhere."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._while_read():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._while_read():
            self._stream.flush()

    @contextlib.contextmanager
    def _while_read(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def within_memory() -> Iterator[None]:
    """Raise a one-line `InputError` for a number, or a size, that this machine cannot hold."""
    try:
        yield
    except (OverflowError, MemoryError) as error:
        raise _refusal(error) from None
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError) or not any(words in str(error).lower() for words in _TOO_LARGE):
            raise
        raise _refusal(error) from None


def _refusal(error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"a number or a size is too large for this machine ({reason})")


def with_home(argument: str) -> str:
    """Return an argument with the home folder for ~ where the shell leaves it, as in `--out=~/rows`."""
    flag, equals, path = argument.rpartition("=")
    return flag + equals + os.path.expanduser(path) if re.fullmatch(r"(--[\w-]+)?", flag) else argument
