"""Exact pass rates along training, at numbers of episodes that are the same for every run."""

from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.exploration._climbing import Record
from maxrl_lab.rows import Row
from maxrl_lab.tabular.tasks import TabularTasks

_PER_DECADE = 6


class Curves:
    """What runs on one world tell of themselves: the last pass rate known at every number of episodes.

    spent: episodes of each run before its first, (R,) or one number.
    """

    def __init__(self, world: str, tasks: TabularTasks, spent: Tensor | float = 0.0) -> None:
        self.world, self.seeds, self.spent = world, tasks.shape[0], torch.as_tensor(spent, dtype=torch.float64)
        self.told: list[tuple[Row, float, float]] = []

    def recorder(self, heads: Sequence[Row]) -> Record:
        """Return what the runs with these heads tell."""

        def record(going: Tensor, episodes: Tensor, rates: Tensor) -> None:
            total = episodes + (self.spent[going] if self.spent.ndim else self.spent)
            for run, at, rate in zip(going.tolist(), total.tolist(), rates.tolist(), strict=True):
                self.told.append((heads[run], at, rate))

        return record

    def rows(self) -> list[Row]:
        """Return a row per run and number of episodes: 1, 1.5, 2.2, ..., up to the last that was told."""
        runs: dict[tuple[object, ...], list[tuple[float, float]]] = {}
        for head, at, rate in self.told:
            runs.setdefault(tuple(head.items()), []).append((at, rate))
        rows: list[Row] = []
        for key, points in runs.items():
            index = 0
            for step in range(_PER_DECADE * 12):
                episodes = 10 ** (step / _PER_DECADE)
                while index + 1 < len(points) and points[index + 1][0] <= episodes:
                    index += 1
                if points[index][0] <= episodes:
                    rows.append({"world": self.world, **dict(key), "episodes": episodes, "pass_rate": points[index][1]})  # type: ignore[arg-type]
                if episodes > points[-1][0]:
                    break
        return rows
