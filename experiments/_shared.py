"""What experiments of several families share: the estimators that are compared, and types and groups of settings."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from maxrl_lab import exact, objectives, specs
from maxrl_lab.settings import Count, Each, Interval, Settings, check_lists

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
class Readable:
    """A text that a function reads without an error."""

    read: Callable[[str], object]

    def check(self, name: str, value: str) -> None:  # noqa: ARG002
        """Raise `InputError`, as the function does, for any other text."""
        self.read(value)


Objectives = Annotated[tuple[str, ...], Each(Readable(objectives.resolve))]
"""Text forms of objectives."""
PassRates = Annotated[tuple[float, ...], Each(Interval(0, 1))]
"""Pass rates strictly between 0 and 1."""


@dataclass(frozen=True)
class Seeds(Settings):
    """Seeds: learning rates are chosen on some of them and reported on others."""

    seeds: Count = 5
    """Number of reported runs of each method."""
    sweep_seeds: Count = 2
    """Number of seeds of the sweep that chooses learning rates; none of them is reported."""


def check_estimators(names: Iterable[str], rollouts: Sequence[int]) -> None:
    """Raise `InputError` unless every estimator exists at every N, and no two are the same there."""
    listed = list(names)
    for count in rollouts:
        for name in listed:
            exact.coefficients(name, rollouts=count)
        check_lists(estimators=tuple(specs.format_at(name, count) for name in listed))
