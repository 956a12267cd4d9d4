"""Where a verb makes its experiments: on the cores of this machine, or on a Ray cluster."""

import argparse
import contextlib
from collections.abc import Iterator, Sequence

from experiments.catalogue import Entry
from maxrl_lab.errors import InputError
from maxrl_lab.terminal import importing


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where jobs are made."""
    group = parser.add_argument_group("Engine: where the jobs of an experiment are made")
    text = "Engine that makes the jobs: the cores of this machine (local) or a cluster (ray) (default: local)."
    group.add_argument("--engine", choices=("local", "ray"), default="local", help=text)
    text = "Address of a Ray cluster, HOST:PORT, or auto for the one that has this machine as a node (default: "
    text += "$RAY_ADDRESS, else a Ray of this command's own)."
    group.add_argument("--address", metavar="ADDRESS", help=text)
    text = "Part of a GPU that a job takes on a Ray cluster, more than 0 and at most 1 (default: 1 with --device cuda)."
    group.add_argument("--gpus-per-job", type=float, metavar="NUMBER", help=text)


@contextlib.contextmanager
def engine_of(entries: Sequence[Entry], flags: argparse.Namespace) -> Iterator[None]:
    """Let the engine that the flags name make what the experiments hand out meanwhile.

    Raises `InputError` for flags that do not go together, and for a single experiment that hands out nothing.
    """
    if flags.engine == "local":
        for name in ("address", "gpus_per_job"):
            if getattr(flags, name) is not None:
                raise InputError(f"--{name.replace('_', '-')} goes with --engine ray")
        yield
        return
    if len(entries) == 1 and not entries[0].hands_out:
        raise InputError(
            f"{entries[0].name} trains all its runs as one program, and has no jobs for --engine ray to hand out; "
            "`maxrl-lab reproduce --engine ray` makes whole experiments side by side"
        )
    with importing():
        from maxrl_lab.runs import workers
        from maxrl_lab.runs.files import cache_folder
        from maxrl_lab.runs.ray_engine import RayEngine

    modules = [entry.module for entry in entries]
    shared = (flags.out, cache_folder())
    cluster = RayEngine(flags.address, gpus_per_job=_gpus(flags), modules=modules, shared=shared)
    with cluster, workers.engine(cluster):
        yield


def _gpus(flags: argparse.Namespace) -> float:
    """Return the part of a GPU that each job takes."""
    from maxrl_lab.runs.context import find_device

    device, part = find_device(flags.device), flags.gpus_per_job
    if device.type != "cuda":
        if part is not None:
            raise InputError("--gpus-per-job goes with --device cuda")
        return 0.0
    if str(device) != "cuda":
        raise InputError(f"--engine ray chooses among the GPUs: expected --device cuda, got {flags.device}")
    if part is not None and not 0 < part <= 1:
        raise InputError(f"--gpus-per-job must be more than 0 and at most 1, got {part:g}")
    return 1.0 if part is None else float(part)
