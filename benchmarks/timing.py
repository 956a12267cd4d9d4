"""Medians of interleaved rounds: on a machine whose speed drifts, only ratios measured together mean anything."""

import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any


def medians(functions: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Return each function's median seconds over `rounds` rounds of all of them, after one unmeasured round."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


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
