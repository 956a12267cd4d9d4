"""Runs of a few rows, for the tests of what a run leaves on disk."""

import json
from dataclasses import dataclass
from typing import Annotated

from maxrl_lab import settings
from maxrl_lab.fields import CHANGES_NO_RESULT
from maxrl_lab.runs.folder import execute
from maxrl_lab.settings import Whole


@dataclass(frozen=True)
class Sweep(settings.Settings):
    """What is swept."""

    seeds: int = 3
    rate: float = 0.1
    estimator: str = "maxrl"
    clip: float | None = None
    rates: tuple[float, ...] = (0.1, 0.2)
    processes: Annotated[int, Whole(0), CHANGES_NO_RESULT] = 0


ROWS = [{"step": 0, "metric": "pass_rate", "value": 0.1}, {"step": 10, "metric": "pass_rate", "value": 1 / 3}]
FINISHED = {"settings.json", "rows.csv", "provenance.json"}


def finish(folder, settings=None, rows=ROWS, **options):
    """Return the rows of a run that computes these, if it has to."""
    return execute(folder, "sweep", settings or Sweep(), lambda _checkpoint: {"rows": rows}, **options)["rows"]


def run(folder, compute, settings=None, **options):
    """Return the rows of a run that computes its tables as told, if it has to."""
    return execute(folder, "sweep", settings or Sweep(), compute, **options)["rows"]


def never(_checkpoint):
    raise AssertionError("computed although the run is complete or must be refused")


def interrupted(checkpoint):
    """Compute half, keep it, and be interrupted."""
    checkpoint.stage("half").save({"rows": ROWS[:1]})
    raise KeyboardInterrupt


def snapshot(folder):
    """Return the content and the time of every file."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def names(folder):
    """Return the names of all files and folders below."""
    return {path.name for path in folder.rglob("*")}


def read(folder, name):
    """Return the JSON in a file."""
    return json.loads((folder / name).read_text())
