"""What experiments of several families share: the estimators that are compared, and types and groups of settings."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from maxrl_lab import exact, objectives, specs
from maxrl_lab.errors import InputError
from maxrl_lab.runs.files import read_json
from maxrl_lab.settings import Count, Each, Interval, Settings, check_lists

RATES = Path(__file__).parent / "rates.json"
"""Learning rates that the preset `standard` chose, by experiment and method; `maxrl-lab rates` writes it."""
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
    "maxrl_centred:order=N/2",
    "pkpo_centred:k=N/2",
)
"""The paper's estimators, the lab's, and what both are compared with: all exist at every even N."""


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


@dataclass(frozen=True)
class KnownRates(Settings):
    """Known learning rates: those that a sweep has chosen before need no sweep."""

    fixed_rates: Annotated[tuple[str, ...], Each(Readable(lambda text: read_rate(text)), may_be_empty=True)] = ()
    """Rates that are not swept, such as `maxrl, N = 16: 0.3`; the flag without values sweeps every method's."""

    @property
    def fixed(self) -> dict[str, float]:
        """Return the rates by the name of the method, as `sweep.compare` takes them."""
        return dict(map(read_rate, self.fixed_rates))


def read_rate(text: str) -> tuple[str, float]:
    """Return a method's name and its rate from `maxrl, N = 16: 0.3`; raise `InputError` for another text."""
    name, separator, rate = text.rpartition(": ")
    try:
        value = float(rate)
    except ValueError:
        value = math.nan
    if not (separator and name) or not 0 < value < math.inf:
        raise InputError(f"expected a method and its learning rate, such as 'maxrl, N = 16: 0.3', got {text!r}")
    return name, value


def known_rates(experiment: str) -> tuple[str, ...]:
    """Return the rates that the preset `standard` chose for an experiment, from rates.json; none if there are none."""
    if not RATES.exists():
        return ()
    return tuple(f"{name}: {rate:g}" for name, rate in read_json(RATES).get(experiment, {}).items())


def check_estimators(names: Iterable[str], rollouts: Sequence[int]) -> None:
    """Raise `InputError` unless every estimator exists at every N, and no two are the same there."""
    listed = list(names)
    for count in rollouts:
        for name in listed:
            exact.coefficients(name, rollouts=count)
        check_lists(estimators=tuple(specs.format_at(name, count) for name in listed))
