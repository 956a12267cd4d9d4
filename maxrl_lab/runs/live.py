"""A live view of a run: the rows that its checkpoints hold so far, handed to TensorBoard, trackio or Weights & Biases.

The rows are read from the checkpoints' files, so that those of worker processes are seen like any others. A training
saves its rows with its state, every `checkpoint_every` updates; what is shown is what the tables will hold.
"""

import contextlib
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from math import isfinite
from pathlib import Path

import torch

from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row
from maxrl_lab.specs import lookup

SECONDS = 2.0
"""Time between two looks at the checkpoints."""
_RUN = ("kind", "task", "estimator", "method", "rollouts", "learning_rate", "seed")
"""Columns that name a training."""
_LABELS = ("k", "samples", "order", "example", "anchors")
"""Columns of numbers that say what was measured; columns of text do so, too."""
Log = Callable[[Mapping[str, float], int], object]
"""Takes the values of one step by name, and the step."""
Start = Callable[[str], tuple[Log, Callable[[], object]]]
"""Begins a training of a name; returns what logs its values, and what ends it."""


def _tensorboard(folder: Path, experiment: str) -> Start:  # noqa: ARG001
    from torch.utils.tensorboard.writer import SummaryWriter

    def start(name: str) -> tuple[Log, Callable[[], object]]:
        writer = SummaryWriter(str(folder / name), purge_step=0)  # what an interrupted session wrote is written again

        def log(values: Mapping[str, float], step: int) -> None:
            for tag, value in values.items():
                writer.add_scalar(tag, value, step)
            writer.flush()

        return log, writer.close

    return start


def _trackio(folder: Path, experiment: str) -> Start:  # noqa: ARG001
    def start(name: str) -> tuple[Log, Callable[[], object]]:
        run = import_module("trackio").init(project="maxrl_lab", name=f"{experiment}/{name}", embed=False)
        return lambda values, step: run.log(dict(values), step=step), run.finish

    return start


def _wandb(folder: Path, experiment: str) -> Start:
    mode = os.environ.get("WANDB_MODE", "offline")  # without a word of the user's nothing leaves the machine
    folder.mkdir(parents=True, exist_ok=True)

    def start(name: str) -> tuple[Log, Callable[[], object]]:
        run = import_module("wandb").init(
            project="maxrl_lab", group=experiment, name=name, dir=str(folder), mode=mode, reinit="create_new"
        )
        return lambda values, step: run.log(dict(values), step=step), run.finish

    return start


WRITERS: dict[str, Callable[[Path, str], Start]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
}
"""Name of a package to what makes its writer, from a folder and the name of the experiment."""


def open_writer(name: str, folder: Path, experiment: str) -> Start:
    """Return the writer of a package; raise `InputError` if there is none of that name or it is not installed."""
    make = lookup(WRITERS, "live view", name)
    if find_spec(name) is None:
        raise InputError(f"--log {name} needs {name}, which is not installed: pip install {name}")
    return make(folder, experiment)


@contextlib.contextmanager
def followed(checkpoints: Path, start: Start, seconds: float = SECONDS) -> Iterator[None]:
    """Hand the rows of the checkpoints below a folder to a writer meanwhile, those of the last ones at the end.

    A writer that fails is given up with one line on standard error: the run goes on.
    """
    follower, over = _Follower(checkpoints, start), threading.Event()

    def watch() -> None:
        try:
            while not over.wait(seconds):
                follower.look()
            follower.look()
            follower.close()
        except Exception as error:  # whatever a service does, it must not end the run
            print(f"maxrl-lab: the live view ended ({type(error).__name__}: {error}); the run goes on", file=sys.stderr)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Follower:
    """What has been handed on so far."""

    def __init__(self, folder: Path, start: Start) -> None:
        self.folder, self.start = folder, start
        self.times: dict[Path, int] = {}
        self.handed: dict[tuple[Path, str], int] = defaultdict(int)
        self.trainings: dict[str, tuple[Log, Callable[[], object]]] = {}

    def look(self) -> None:
        """Hand on the rows that are new in the files that have changed."""
        for file in sorted(self.folder.rglob("*.pt")):
            with contextlib.suppress(OSError):  # it has just been removed
                time = file.stat().st_mtime_ns
                if self.times.get(file) != time:
                    self.times[file] = time
                    self._hand_on(file)

    def _hand_on(self, file: Path) -> None:
        stage = file.relative_to(self.folder).with_suffix("").as_posix()
        steps: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
        for table, rows in _tables(file).items():
            for row in rows[self.handed[file, table] :]:
                if (step := row.get("step", row.get("updates"))) is not None:
                    steps[_name(stage, row), int(step)] |= values_of(table, row)
            self.handed[file, table] = len(rows)
        for (name, step), values in sorted(steps.items()):  # a step once, and later ones later, as some services ask
            if name not in self.trainings:
                self.trainings[name] = self.start(name)
            self.trainings[name][0](values, step)

    def close(self) -> None:
        """End all trainings."""
        for _, finish in self.trainings.values():
            finish()


def _tables(file: Path) -> dict[str, list[Row]]:
    """Return the tables in a checkpoint; none for a file without, or one that another process has just replaced."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # torch raises many kinds; a damaged checkpoint is for its training to refuse
        return {}
    tables = state.get("tables") if isinstance(state, dict) else None
    return tables if isinstance(tables, dict) else {}


def _name(stage: str, row: Row) -> str:
    """The training in words: the stage of the run, and the columns that tell its networks apart."""
    return "/".join([stage, *(f"{name} {row[name]}" for name in _RUN if row.get(name) is not None)])


def values_of(table: str, row: Row) -> dict[str, float]:
    """Return the finite numbers that a row measures, by names such as `evaluations/pass_at_k, k 8`."""
    named = {*_RUN, "step", "updates"}
    labels = [
        value if isinstance(value, str) else f"{name} {value}"
        for name, value in row.items()
        if name not in named and (isinstance(value, str) or name in _LABELS)
    ]
    return {
        ", ".join([f"{table}/{name}", *labels]): float(value)
        for name, value in row.items()
        if name not in {*named, *_LABELS} and isinstance(value, int | float) and isfinite(value)
    }
