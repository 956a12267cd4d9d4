"""What was measured on a machine, as one JSON file: every round of every side, from which the page makes ratios.

A comparison is a title and its sides. A side has the seconds of its rounds, which were interleaved with those of the
others; the `work` that a round does (environment steps, for instance), if sides do different amounts; the `base` it is
compared with; and a `target`: the least ratio to its base, or for a base the least work a second.
"""

import os
import platform
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import rounds_of
from maxrl_lab.rows import Row
from maxrl_lab.runs.files import read_json, write_json

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "scipy", "gymnasium", "minigrid", "navix", "transformers", "trl")


@dataclass(frozen=True)
class Side:
    """One way to do the work."""

    function: Callable[[], object]
    work: float | None = None
    base: str | None = None
    target: float | None = None


@dataclass
class Record:
    """The rows so far, by section; with a path they are written whenever one is added."""

    path: Path | None = None
    content: Row = field(default_factory=dict)

    @classmethod
    def of_machine(cls, path: Path, note: str = "") -> "Record":
        """Return the record of this machine: what its file holds, of which a section that is measured again is new."""
        before = read_json(path, "sections", "note") if path.exists() else {"sections": {}, "note": ""}
        kept = {"note": note or before["note"], "sections": before["sections"]}
        return cls(path, describe_machine() | kept)

    def begin(self, section: str) -> None:
        """Forget the rows of a section, and note how busy the machine is."""
        self.content.setdefault("sections", {})[section] = {"load": os.getloadavg()[0], "rows": []}

    def add(self, section: str, row: Row) -> None:
        """Add a row to a section."""
        if section not in self.content.setdefault("sections", {}):
            self.begin(section)
        self.content["sections"][section]["rows"].append(row)
        self.save()

    def save(self) -> None:
        """Write the file, if there is one."""
        if self.path is not None:
            write_json(self.path, self.content)

    def compare(
        self,
        section: str,
        title: str,
        sides: Mapping[str, Side],
        rounds: int,
        *,
        profile: Callable[[Callable[[], object]], list[list[Any]]],
        unit: str = "",
    ) -> dict[str, list[float]]:
        """Time the sides in turns, add the comparison, with the profile of what falls short; return the seconds."""
        times = rounds_of({name: side.function for name, side in sides.items()}, rounds)
        self.add_times(section, title, sides, times, profile=profile, unit=unit)
        return times

    def add_times(
        self,
        section: str,
        title: str,
        sides: Mapping[str, Side],
        times: Mapping[str, Sequence[float]],
        *,
        profile: Callable[[Callable[[], object]], list[list[Any]]],
        unit: str = "",
    ) -> None:
        """Add a comparison whose rounds have been timed elsewhere."""
        rows: dict[str, Row] = {
            name: {"seconds": list(times[name]), "work": side.work, "base": side.base, "target": side.target}
            for name, side in sides.items()
        }
        slow = {
            row["base"] or name for name, row in rows.items() if row["target"] and value(rows, name) < row["target"]
        }
        if self.path is not None:  # a profile takes another round
            for name in slow:
                rows[name]["profile"] = profile(sides[name].function)
        self.add(section, {"title": title, "unit": unit, "sides": rows})


def value(sides: Mapping[str, Row], name: str) -> float:
    """Return what a side's target is about: the median ratio to its base, or its median work a second."""
    return statistics.median(values(sides, name))


def values(sides: Mapping[str, Row], name: str) -> list[float]:
    """Return a base's work a second in every round; of another side how many times longer the same work takes."""
    side = sides[name]
    if side["base"] is None:
        return [(side["work"] or 1.0) / seconds for seconds in side["seconds"]]
    base = sides[side["base"]]
    scale = (base["work"] or 1.0) / (side["work"] or 1.0)
    return [scale * slow / fast for slow, fast in zip(side["seconds"], base["seconds"], strict=True)]


def records(kind: str) -> list[Row]:
    """Return the committed results of a kind, `machine` (a processor) or `card` (a GPU), by the name of their files."""
    contents = [read_json(file, "sections") for file in sorted(RESULTS.glob("*.json"), key=lambda file: file.stem)]
    return [content for content in contents if kind in content]


def file_of_machine() -> Path:
    """Return the file of this machine's results."""
    return RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', describe_machine()['machine'].lower()).strip('-')}.json"


def describe_machine() -> Row:
    """Return the processor, its cores, the threads that torch uses, and the versions of what is compared."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.M) if cpuinfo.exists() else []
    processor, cores = names[0] if names else platform.processor() or platform.machine(), os.cpu_count()
    return {
        "machine": f"{processor}, {cores} cores",
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            **{name: text for name in PACKAGES if (text := _version(name))},
        },
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
