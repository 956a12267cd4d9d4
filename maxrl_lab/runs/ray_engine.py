"""Jobs handed to a Ray cluster: one core, or a part of a GPU, and one thread each, wherever there is room.

    with RayEngine("auto") as cluster, workers.engine(cluster):
        ...                       # what calls `workers.in_parallel` meanwhile is made on the cluster

Rows are those of the processes of one machine, byte for byte, because a node that is not like this one refuses its jobs
(`maxrl_lab.runs.ray_worker`). A job whose worker or node is lost is made again elsewhere, from its last checkpoint if
run folders and the cache are on storage that all nodes share. Inside a job `in_parallel` makes its jobs one by one.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from maxrl_lab import extras
from maxrl_lab.errors import InputError
from maxrl_lab.runs import ray_worker
from maxrl_lab.runs.workers import _MEMORY, Progress, _environment

RETRIES = 3
"""How often a job is made again whose worker was lost."""
PATIENCE = 10.0
"""Seconds for which the head of the cluster may be silent; after a minute Ray would end this process without a word."""
INTERVAL = 2.0
"""Seconds between two questions to the head."""
OWN_STORE = 2**27
"""Bytes of shared memory of a Ray of this command's own: a job's tables are small."""


class RayEngine:
    """An engine for `workers.engine`, connected when it is given the first jobs, and disconnected when it is left.

    `address` is HOST:PORT, or `auto` for the cluster of which this machine is a node; None is $RAY_ADDRESS, else a Ray
    of this process's own on the cores of this machine. `gpus_per_job` is the part of a GPU that a job takes, 0 for one
    core. `modules` are those whose code has to be the same everywhere, and `shared` the folders that all nodes must
    see.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        gpus_per_job: float = 0.0,
        modules: Sequence[str] = (),
        shared: Sequence[Path] = (),
    ) -> None:
        extras.need("ray")
        self._address = address or os.environ.get("RAY_ADDRESS") or "local"
        if "://" in self._address:
            raise InputError(f"--address must be HOST:PORT or auto, got {self._address!r}")
        self._gpus, self._modules, self._shared = gpus_per_job, modules, shared
        self._closing = contextlib.ExitStack()
        self._task: Any = None

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._closing.close()  # the cluster ends what this process has handed out
        self._task = None

    def __call__(self, function: Callable[[Any], Any], jobs: Sequence[Any], progress: Progress) -> list[Any]:
        """Return `function` of every job, in their order; what a job raises is raised here.

        Raises `InputError` if the cluster cannot be reached, is lost, has no room for a job, or has a node that is not
        like this one.
        """
        if not jobs:
            return []
        self._connect()
        self._heard = self._asked = time.monotonic()
        import ray

        waiting = results = [self._task.remote(self._sender, ray.cloudpickle.dumps((function, job))) for job in jobs]
        for _ in progress(results):
            (ended,), waiting = self._next(waiting)
            _result(ended)
        return [_result(result) for result in results]

    def _connect(self) -> None:
        if self._task is not None:
            return
        import ray

        self._closing.callback(ray.shutdown)
        _initialise(self._address)
        self._head = ray.get_runtime_context().gcs_address
        self._refuse_without_room(ray.cluster_resources())
        marks = self._closing.enter_context(ray_worker.marks(self._shared))
        self._sender = ray.put(ray_worker.describe(self._modules, marks, gpu=self._gpus > 0))
        environment = {name: value for name, value in _MEMORY.items() if name not in os.environ}
        self._task = ray.remote(ray_worker.work).options(
            num_cpus=1, num_gpus=self._gpus, max_retries=RETRIES, runtime_env={"env_vars": environment}
        )

    def _refuse_without_room(self, has: dict[str, float]) -> None:
        """Raise `InputError` for a job that would wait for ever."""
        for kind, wanted in (("CPU", 1.0), ("GPU", self._gpus)):
            if has.get(kind, 0.0) < wanted:
                raise InputError(f"a job takes {wanted:g} {kind}, and the Ray cluster has {has.get(kind, 0.0):g}")

    def _next(self, waiting: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return a job that has ended, and the others; raise `InputError` if the head of the cluster is lost."""
        import ray

        while True:
            with _told():
                ended, others = ray.wait(waiting, timeout=INTERVAL)
            self._listen()
            if ended:
                return ended, others

    def _listen(self) -> None:
        """Raise `InputError` if the head has not answered for some time, though jobs may go on ending."""
        now = time.monotonic()
        if now - self._asked < INTERVAL:
            return
        self._asked = now
        if _answers(self._head):
            self._heard = now
        elif now - self._heard > PATIENCE:
            raise _lost(f"its head {self._head} does not answer any more")


def _initialise(address: str) -> None:
    """Connect to a cluster, or start one; raise `InputError` if that cannot be done."""
    import ray
    from ray._private.services import canonicalize_bootstrap_address  # Ray itself would try a dead cluster for minutes

    started = {"include_dashboard": False, "object_store_memory": OWN_STORE} if address == "local" else {}
    try:
        known = canonicalize_bootstrap_address(address)
        if address != "local" and not (known and _answers(known)):
            raise ConnectionError(f"nothing answers at {known}" if known else "none is known on this machine")
        # Ray shows its token only to a cluster that it has found by itself
        found_by_ray = known is not None and known == canonicalize_bootstrap_address("auto")
        with _environment({"RAY_USAGE_STATS_ENABLED": "0"}):
            ray.init("auto" if found_by_ray else address, log_to_driver=False, logging_level="ERROR", **started)
    except Exception as error:  # Ray raises many kinds, `Exception` itself among them
        if address == "local":
            raise InputError(f"Ray could not be started on this machine: {_first_line(error)}") from None
        hint = "`ray start --head` starts one, `ray start --address HOST:PORT` makes this machine a node of it"
        raise InputError(f"no Ray cluster at {address}: {_first_line(error)}; {hint}") from None


def _answers(address: str) -> bool:
    """Return whether something listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def _result(reference: Any) -> Any:
    """Return what a job has returned, or raise what it has raised."""
    import ray

    with _told():
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            if "function failed to import on the worker" in str(cause):
                reason = str(cause).strip().splitlines()[-1]
                raise InputError(
                    f"a node cannot import the lab ({reason}); install there what is installed here"
                ) from None
            raise cause from (None if isinstance(cause, InputError) else error)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raise an `InputError` for what happens to a cluster."""
    import ray

    try:
        yield
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
        raise _lost(
            f"a job has lost its worker {RETRIES + 1} times, for memory perhaps: {_first_line(error)}"
        ) from None
    except (ray.exceptions.RaySystemError, ray.exceptions.LocalRayletDiedError) as error:
        raise _lost(_first_line(error)) from None


def _lost(reason: str) -> InputError:
    return InputError(f"the Ray cluster is lost ({reason}); the same command goes on from what is there")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
