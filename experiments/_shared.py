"""What experiments of several families share: the estimators that are compared, and the settings of a comparison."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from maxrl_lab import exact, specs
from maxrl_lab.settings import Count, Settings, check_lists

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
