"""A job on a node of a cluster: refused where its rows might be others than on the machine that has sent it.

Neither the code nor the folders travel: every node has the lab installed, or its checkout, and sees the same storage.
Versions, processor, code and folders are compared once in each worker, before its first job.
"""

import contextlib
import os
import platform
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from maxrl_lab import extras
from maxrl_lab.errors import InputError
from maxrl_lab.runs.files import cache_folder, first_difference, temporary_file
from maxrl_lab.runs.fingerprint import changed_files, fingerprint, name_files
from maxrl_lab.threads import one_thread

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "gymnasium", "minigrid")
"""The packages that rows are computed with."""


PATIENCE = 10.0
"""Seconds after which a file that one node has made is seen by all others that share its folder."""


@dataclass(frozen=True)
class Sender:
    """The process that hands out jobs, with what a node must have in common with it."""

    name: str
    """A name that no other process has."""
    folder: str
    """The current folder."""
    cache: str
    """The folder of what can be made again."""
    path: tuple[str, ...]
    """The folders that modules are imported from."""
    marks: tuple[Path, ...]
    """Files that a node sees if it shares the folders that hold them."""
    gpu: bool
    """Whether jobs are made on a GPU."""
    facts: Mapping[str, str]
    """Versions and processor."""
    code: Mapping[str, Mapping[str, str]]
    """The fingerprint of each module whose code matters."""


def describe(modules: Sequence[str], marks: Sequence[Path], gpu: bool) -> Sender:
    """Return what nodes have to compare themselves with: this process."""
    code = {module: fingerprint(module) for module in modules}
    cache = str(cache_folder().absolute())
    return Sender(uuid.uuid4().hex, str(Path.cwd()), cache, tuple(sys.path), tuple(marks), gpu, _facts(gpu), code)


@contextlib.contextmanager
def marks(folders: Sequence[Path]) -> Iterator[list[Path]]:
    """Put an empty file into each folder meanwhile, which tells whether another machine sees the folder."""
    files = [temporary_file(folder.absolute() / f".seen-{uuid.uuid4().hex}") for folder in folders]
    try:
        for file in files:
            file.touch()
        yield files
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def work(sender: Sender, packed: bytes) -> Any:
    """Return the result of a job, made with one thread; raise `InputError` if this node is not as the sender is."""
    if sender.name not in _compared:
        _prepare(sender)
        _compared.add(sender.name)
    import ray

    try:
        function, job = ray.cloudpickle.loads(packed)
    except ModuleNotFoundError as error:
        raise InputError(f"{_node()} has no module {error.name}; install there what is installed here") from None
    with one_thread():
        return function(job)


_compared: set[str] = set()
"""The senders that this process was compared with."""


def _prepare(sender: Sender) -> None:
    """Make this process work where the sender does; raise `InputError` if its rows might differ."""
    checkout = [str(extras.CHECKOUT)] if extras.in_checkout() else []
    sys.path[:] = dict.fromkeys((*checkout, *sys.path, *sender.path))  # in this order, without repetitions
    node = _node()
    try:
        os.chdir(sender.folder)
    except OSError:
        raise InputError(
            f"{node} has no folder {sender.folder}; call the command in one that all nodes share"
        ) from None
    os.environ["MAXRL_LAB_CACHE"] = sender.cache
    for mark in sender.marks:
        if not _appears(mark):
            raise InputError(f"{node} does not share {mark.parent}; rows (--out) and $MAXRL_LAB_CACHE must be shared")
    facts = _facts(sender.gpu)
    if (name := first_difference(facts, sender.facts)) is not None:
        raise InputError(f"{node} has another {name}: {facts[name]}, where this command has {sender.facts[name]}")
    for module, code in sender.code.items():
        if files := changed_files(fingerprint(module), code):
            raise InputError(
                f"{node} has other code, which differs in {name_files(files)}; install the same commit there"
            )


def _node() -> str:
    return f"the node {platform.node()}"


def _appears(file: Path) -> bool:
    """Return whether a file is there, soon: network file systems remember for seconds what was not."""
    end = time.monotonic() + PATIENCE
    while not file.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def _facts(gpu: bool) -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "none"
    kind = torch.cuda.get_device_name() if gpu else f"with {torch.backends.cpu.get_cpu_capability()}"
    return {**versions, "GPU" if gpu else "CPU": kind}
