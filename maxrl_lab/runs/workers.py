"""Independent training runs side by side: one process a core, one thread each.

Small transformers are bound by the overhead of many small operations, which a second thread hardly helps and a second
process does. Results do not depend on how many processes there are.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextvars import ContextVar
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from maxrl_lab.errors import InputError
from maxrl_lab.threads import one_thread

_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_TOP_PAD_": str(2**26)}
"""Read by glibc when a worker starts: large tensors are not given back to the system and cleared anew each time."""
Job = TypeVar("Job")
Result = TypeVar("Result")
Progress = Callable[[Iterable[Any]], Iterable[Any]]
Engine = Callable[[Callable[[Any], Any], Sequence[Any], Progress], list[Any]]
"""What makes jobs in place of the processes of this machine: (function, jobs, progress) to results, in order."""
_engine: ContextVar[Engine | None] = ContextVar("engine", default=None)


def in_parallel(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    processes: int = 0,
    progress: Progress = iter,
) -> list[Result]:
    """Return `function` of every job, in their order, in so many processes (0: one a core), each with one thread.

    The function and its jobs must be picklable. Inside `engine` that engine makes them instead.
    """
    if (other := _engine.get()) is not None:
        return other(function, jobs, progress)
    workers = processes or torch.get_num_threads()
    if min(workers, len(jobs)) < 2:
        with one_thread():
            return [function(job) for job in progress(jobs)]
    pool = _pool(workers)
    try:
        futures = pool.submit(function, jobs)
        for future in progress(_Sized(as_completed(futures), len(futures))):
            future.result()
    except BaseException as error:
        _pool.cache_clear()
        pool.end()
        if isinstance(error, BrokenProcessPool):
            message = "a worker was killed, for memory perhaps; --processes 1 trains one run at a time"
            raise InputError(message) from None
        raise
    return [future.result() for future in futures]


@contextlib.contextmanager
def engine(used: Engine) -> Iterator[None]:
    """Hand the jobs of `in_parallel` to another engine meanwhile: that of a cluster, for instance."""
    token = _engine.set(used)
    try:
        yield
    finally:
        _engine.reset(token)


class _Sized:
    """An iterator with a length, for the progress bar."""

    def __init__(self, items: Iterator[Any], size: int) -> None:
        self.items, self.size = items, size

    def __iter__(self) -> Iterator[Any]:
        return self.items

    def __len__(self) -> int:
        return self.size


class _Pool:
    """Worker processes that end when this process closes its end of a pipe, or ends itself, however it ends."""

    def __init__(self, workers: int) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._theirs, self._ours = context.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(self._theirs,))
        weakref.finalize(self, self._ours.close)  # when another pool takes its place

    def submit(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Future[Result]]:
        """Hand the jobs to the workers, which start now if they have not."""
        with _environment(_MEMORY):
            return [self._executor.submit(function, job) for job in jobs]

    def end(self) -> None:
        """End these workers at once, whatever they do: their last checkpoints are on disk."""
        self._ours.close()
        self._executor.shutdown(wait=False, cancel_futures=True)


_pool = lru_cache(maxsize=1)(_Pool)
"""One pool is kept for the calls to come, since its workers take seconds to start."""


@contextlib.contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    """Add variables to the environment of processes that start meanwhile, unless the user has set them."""
    new = {name: value for name, value in added.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def _start(parent: Connection) -> None:
    """Begin a worker: one thread; Ctrl-C is the parent's to handle; the worker ends when the pipe is closed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        try:
            parent.poll(None)  # nothing is ever sent: this ends when the other end is closed
        finally:
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
