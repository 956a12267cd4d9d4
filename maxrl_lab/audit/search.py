"""The best of many sizes without trying them all: orders and k run to N, and neighbours are alike."""

from collections.abc import Callable

TRIED = 32
"""Sizes that are tried in a round."""


def best_size(residual: Callable[[int], float], low: int, high: int) -> tuple[int, float]:
    """Return the size from `low` to `high` with the smallest residual, and that residual.

    A round tries sizes whose ratios are about equal, and the next one those between the neighbours of the best. It
    finds the smallest residual wherever the residual falls up to one size and rises after it. The smallest of several
    equal ones is taken.
    """
    known: dict[int, float] = {}
    while True:
        sizes = sorted({round(low * (high / low) ** (step / TRIED)) for step in range(TRIED + 1)})
        known.update((size, residual(size)) for size in sizes if size not in known)
        best = min(sizes, key=lambda size: (known[size], size))
        index = sizes.index(best)
        lower, upper = sizes[max(index - 1, 0)], sizes[min(index + 1, len(sizes) - 1)]
        if len(sizes) == high - low + 1 or (lower, upper) == (low, high):
            return best, known[best]
        low, high = lower, upper
