"""Interleaved rounds: on a machine whose speed drifts, only ratios measured together mean anything."""

import cProfile
import functools
import pstats
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

SHOWN = 5
"""Number of entries of a profile."""


def rounds_of(functions: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, list[float]]:
    """Return each function's seconds in `rounds` rounds of all of them in turn, after one unmeasured round."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            seconds = seconds_of(function)
            if turn:
                times[name].append(seconds)
    return times


def seconds_of(function: Callable[[], object]) -> float:
    """Return the seconds that a function takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def middle(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median of each function's seconds."""
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def medians(functions: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Return each function's median seconds over `rounds` rounds of all of them, after one unmeasured round."""
    return middle(rounds_of(functions, rounds))


def profile_of_calls(function: Callable[[], object]) -> list[list[Any]]:
    """Return what most of the time is spent in, by Python's profiler: [name, share of the time] each."""
    profiler = cProfile.Profile()
    profiler.runcall(function)
    stats: Any = pstats.Stats(profiler)
    costs: dict[str, float] = defaultdict(float)
    for (file, _, name), (_, _, seconds, _, _) in stats.stats.items():
        costs[f"{Path(file).stem}.{name}" if file != "~" else name.strip("<>{}")] += seconds
    return _largest(costs)


def profile_of_operations(function: Callable[[], object]) -> list[list[Any]]:
    """Return what most of the time is spent in, by torch's profiler: [operation, share of the time] each."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        function()
    return _largest({event.key: event.self_cpu_time_total for event in record.key_averages()})


def _largest(costs: Mapping[str, float]) -> list[list[Any]]:
    total = sum(costs.values()) or 1.0
    largest = sorted(costs.items(), key=lambda item: -item[1])[:SHOWN]
    return [[name, cost / total] for name, cost in largest]


class Stopwatch:
    """Seconds spent inside of methods, by class and name."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[type, str], float] = defaultdict(float)

    def watch(self, owner: type, name: str) -> None:
        """Time a class's own method from now on."""
        method = vars(owner)[name]

        @functools.wraps(method)
        def timed(*args: Any, **others: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*args, **others)
            finally:
                self.seconds[owner, name] += time.perf_counter() - start

        setattr(owner, name, timed)
