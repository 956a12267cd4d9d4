"""Fair comparisons: the same learning rates for every method, chosen on seeds that are not reported."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from maxrl_lab.rows import Row
from maxrl_lab.training.methods import Method

Key = tuple[str, int | None]
"""A method's name and its number of rollouts."""


@dataclass(frozen=True)
class Run:
    """One network's training."""

    method: Method
    learning_rate: float
    seed: int

    def row(self, stage: str, step: int) -> Row:
        """Return the columns that name this run and moment."""
        return {
            "stage": stage,
            "method": self.method.name,
            "rollouts": self.method.rollouts,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "step": step,
        }


def swept_runs(methods: Sequence[Method], rates: Sequence[float], first_seed: int, seeds: int) -> list[Run]:
    """Return every method at every rate, on `seeds` seeds from `first_seed` on."""
    return [
        Run(method, rate, seed)
        for seed in range(first_seed, first_seed + seeds)
        for method in methods
        for rate in rates
    ]


def reported_runs(methods: Sequence[Method], best: dict[Key, float], seeds: int) -> list[Run]:
    """Return every method at its best rate, on seeds 0, 1, ..."""
    return [Run(method, best[method.name, method.rollouts], seed) for seed in range(seeds) for method in methods]


def choose_learning_rates(sweep: Sequence[Row], score: str) -> dict[Key, float]:
    """Return the rate with the highest mean of the column `score` per (method, rollouts).

    A rate at which any seed diverged (NaN) is not chosen; the smallest of equally good rates is.
    """
    scores: dict[Key, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in sweep:
        scores[row["method"], row["rollouts"]][row["learning_rate"]].append(row[score])
    best = {}
    for key, by_rate in scores.items():
        means = {rate: sum(values) / len(values) for rate, values in sorted(by_rate.items())}
        usable = {rate: mean for rate, mean in means.items() if not math.isnan(mean)} or means
        best[key] = max(usable, key=usable.__getitem__)
    return best


def blocks(runs: Sequence[Run], size: int) -> Iterator[tuple[int, Sequence[Run]]]:
    """Number, from 1, and slices of at most `size` runs, which are trained as one batched program."""
    for number, start in enumerate(range(0, len(runs), size), 1):
        yield number, runs[start : start + size]
