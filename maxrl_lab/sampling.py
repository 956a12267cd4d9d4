"""Sampling until enough fits, and giving up when it never will: one loop for levels, problems and questions."""

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

Item = TypeVar("Item")

_PATIENCE_PER_ITEM = 50
"""The last of M equally likely items is overlooked with probability (1 - 1/M)^(50 M), less than e^-50."""


def sample_enough(
    sample: Callable[[int], Iterable[Item | None]],
    count: int,
    *,
    patience: int | None = None,
    key: Callable[[Item], Hashable] | None = None,
) -> list[Item]:
    """Return the first `count` items that `sample` brings; fewer if it brings nothing more, or nothing new for long.

    sample: is given the number of missing items and returns candidates, as many as it likes, lazily if they are dear;
        None stands for a candidate that does not fit. The search ends when it returns no candidate at all.
    patience: how many candidates in a row may bring nothing new before the search is given up; None is no limit.
    key: if given, no two items have the same key, and the patience is at least 50 candidates for each item found.

    What to say when fewer are found is left to the caller.
    """
    items: list[Item] = []
    keys: set[Hashable] = set()
    in_vain = 0
    while len(items) < count:
        is_empty = True
        for candidate in sample(count - len(items)):
            is_empty = False
            in_vain += 1
            if candidate is not None and (key is None or key(candidate) not in keys):
                in_vain = 0
                items.append(candidate)
                keys.update([] if key is None else [key(candidate)])
            least = _PATIENCE_PER_ITEM * len(keys)
            if len(items) == count or (patience is not None and in_vain >= max(patience, least)):
                return items
        if is_empty:
            break
    return items
