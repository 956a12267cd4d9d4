"""How long a `reproduce` takes: the seconds of each experiment, from the last run or from the reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from maxrl_lab.runs.files import read_json, write_json

Seconds = dict[str, float]
"""Experiment to the seconds that its run took."""


def recorded(file: Path, preset: str) -> Seconds:
    """Return the times of a preset in a file; none if there is no such file."""
    return dict(read_json(file).get(preset, {})) if file.exists() else {}


def record(file: Path, preset: str, seconds: Mapping[str, float]) -> None:
    """Add times of a preset to a file, or change them there."""
    content = read_json(file) if file.exists() else {}
    merged = {**content.get(preset, {}), **{name: round(value, 1) for name, value in seconds.items()}}
    write_json(file, {**content, preset: merged})


def left_text(names: Sequence[str], known: Mapping[str, float]) -> str:
    """Return how long these experiments will take, in words, as far as their times are known."""
    unknown = [name for name in names if name not in known]
    if len(unknown) == len(names):
        return "time left unknown: no earlier run"
    total = sum(known[name] for name in names if name in known)
    return f"about {duration(total)} left" + (f", without {len(unknown)} of unknown time" if unknown else "")


def duration(seconds: float) -> str:
    """Return a time as a reader would say it: `40 s`, `12 min`, `2 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
