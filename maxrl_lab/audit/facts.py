"""What a report says of a table beyond its objective, a line each: name and sentence."""

from collections.abc import Iterator

from maxrl_lab.audit.families import PowerFit
from maxrl_lab.audit.known import Known
from maxrl_lab.audit.limit import Limit
from maxrl_lab.audit.masses import OverTasks
from maxrl_lab.audit.singleton import Singleton

SHOWN_NAMES = 4
"""Up to so many estimators that are one table are named."""

Fact = tuple[str, str]


def facts(
    known: Known | None, limit: Limit | None, power: PowerFit | None, singleton: Singleton | None, asked: str
) -> Iterator[Fact]:
    """Yield what is known of the coefficients, the limit, the nearest power, the group of one, and the call."""
    if known:
        names = " and ".join(known.names[:SHOWN_NAMES])
        yield "coefficients", f"those of {names}, times {known.scale:.6g} (largest deviation {known.deviation:.1e})"
    if limit:
        yield (
            "as N grows",
            f"its weight tends to that of {limit.objective} (its form is the same at N = {limit.rollouts})",
        )
    if power:
        span = f"for p from {power.low:.3g} to {1 - power.low:.3g}"
        yield (
            "power family",
            f"p^{-power.s:.3g} (1-p)^{-power.t:.3g} is nearest {span}, off by up to {power.residual:.1%}",
        )
    if singleton:
        yield "at N = 1", str(singleton)
    if asked:
        yield "asked with", asked


def of_tasks(over: OverTasks) -> str:
    """Return the sentence on a set of tasks."""
    masses = over.masses
    return (
        f"over {over.tasks} with the mean pass rate {over.pass_rate:.4g}: activity {masses.activity:.4g}, positive "
        f"mass {masses.positive:.4g}, negative mass {masses.negative:.4g}, silent groups {masses.silent:.1%} (if all "
        f"tasks had the mean pass rate: {over.silent_at_mean:.1%})"
    )
