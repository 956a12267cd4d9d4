"""What every experiment is given besides its settings, and the estimators they all compare."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from maxrl_lab import exact, specs
from maxrl_lab.runs import Checkpoint

EVERY_ESTIMATOR = (
    "reinforce",
    "mean_centred",
    "rloo",
    "grpo",
    "pkpo:k=N/2",
    "maxrl_order:order=N/2",
    "maxrl",
    "maxrl_no_baseline",
    "maxrl_control_variate",
    "maxrl_leave_one_out",
    "maxrl_cross_fitted",
)
"""Every estimator of the lab that exists for all even N."""


@dataclass(frozen=True)
class Context:
    """Where an experiment runs and where it keeps its unfinished state."""

    device: torch.device
    checkpoint: Checkpoint
    quiet: bool = False

    def progress(self, name: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
        """Return a wrapper that shows a progress bar on standard error while it is iterated."""
        return lambda items: tqdm(items, desc=name, disable=self.quiet, dynamic_ncols=True)


def check_rates(*learning_rates: float) -> None:
    """Raise `ValueError` unless every learning rate is positive and finite."""
    for rate in learning_rates:
        if not 0 < rate < math.inf:
            raise ValueError(f"learning rates must be positive and finite, got {rate}")


def check_estimators(names: Iterable[str], rollouts: Sequence[int]) -> None:
    """Raise `ValueError` unless every estimator exists at every N, and no two are the same there."""
    chosen = list(names)
    for count in rollouts:
        for name in chosen:
            exact.coefficients(name, rollouts=count)
        check_lists(estimators=tuple(specs.format_at(name, count) for name in chosen))


def check_lists(**values: tuple[object, ...]) -> None:
    """Raise `ValueError` for a setting that lists nothing, or something twice."""
    for name, value in values.items():
        if not value:
            raise ValueError(f"{name} needs at least one value, got none")
        if len(set(value)) < len(value):
            raise ValueError(f"{name} must be distinct, got {' '.join(map(str, value))}")
