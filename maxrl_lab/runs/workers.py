"""Independent training runs side by side: one process a core, one thread each.

Small transformers are bound by the overhead of many small operations, which a second thread hardly helps and a second
process does. Results do not depend on how many there are.
"""

import atexit
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from typing import Any, TypeVar

import torch

from maxrl_lab.errors import InputError

_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_TOP_PAD_": str(2**26)}
"""Read by glibc when a worker starts: large tensors are not given back to the system and cleared anew each time."""
Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    processes: int = 0,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[Result]:
    """Return `function` of every job, in their order, in so many processes (0: one a core), each with one thread.

    The function and its jobs must be picklable.
    """
    workers = processes or torch.get_num_threads()
    if min(workers, len(jobs)) < 2:
        with one_thread():
            return [function(job) for job in progress(jobs)]
    futures = [_pool(workers).submit(function, job) for job in jobs]
    try:
        for future in progress(_finished(futures)):
            future.result()
    except BrokenProcessPool:
        _end_workers()
        raise InputError("a worker was killed, for memory perhaps; --processes 1 trains one run at a time") from None
    except BaseException:
        _end_workers()
        raise
    return [future.result() for future in futures]


def _finished(futures: Sequence[Future[Any]]) -> Iterable[Future[Any]]:
    """Futures as they end, with a length for the progress bar."""
    return _Sized(as_completed(futures), len(futures))


class _Sized:
    def __init__(self, items: Iterator[Any], size: int) -> None:
        self.items, self.size = items, size

    def __iter__(self) -> Iterator[Any]:
        return self.items

    def __len__(self) -> int:
        return self.size


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread meanwhile, so that results do not depend on where a job runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _end_workers() -> None:
    """Stop what is running: its last checkpoint is on disk. The next call starts new workers."""
    _pool.cache_clear()
    for worker in multiprocessing.active_children():
        worker.terminate()


@lru_cache(maxsize=1)
def _pool(workers: int) -> ProcessPoolExecutor:
    # spawned, not forked: torch's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    for name, value in _MEMORY.items():
        os.environ.setdefault(name, value)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(os.getpid(),))
    atexit.register(pool.shutdown, wait=False, cancel_futures=True)
    return pool


def _start(parent: int) -> None:
    """One thread; Ctrl-C is the parent's to handle; end with the parent, even if it is killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
