"""The estimators that experiments compare, and the check of their names."""

from collections.abc import Iterable, Sequence

from maxrl_lab import exact, specs
from maxrl_lab.settings import check_lists

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


def check_estimators(names: Iterable[str], rollouts: Sequence[int]) -> None:
    """Raise `InputError` unless every estimator exists at every N, and no two are the same there."""
    chosen = list(names)
    for count in rollouts:
        for name in chosen:
            exact.coefficients(name, rollouts=count)
        check_lists(estimators=tuple(specs.format_at(name, count) for name in chosen))
