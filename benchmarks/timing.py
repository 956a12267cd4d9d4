"""Medians of interleaved rounds: on a machine whose speed drifts, only ratios measured together mean anything."""

import statistics
import time
from collections.abc import Callable, Mapping


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
