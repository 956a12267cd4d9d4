"""What an experiment claims of its rows: a sentence, an estimate with its 95% interval, and the verdict these give.

>>> Claim("rises", "Fig. 3", "Pass@1 rises by 0.1 [0.02, 0.18].", estimate=0.1, low=0.02, high=0.18, seeds=5).verdict
'holds'
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from maxrl_lab.errors import InputError

Direction = Literal["above", "below", "within"]
Verdict = Literal["holds", "fails", "undecided"]

CONFIDENCE = 0.95
"""Confidence of the interval of every claim that is measured."""


@dataclass(frozen=True)
class Claim:
    """One claim, as the rows of one run decide it."""

    name: str
    """Name within the experiment: lower-case letters, digits and _."""
    paper: str
    """Where arXiv:2602.02710v1 claims it, such as `Fig. 3`; empty for the lab's own claims."""
    sentence: str
    """What was found, as one complete sentence with its numbers, their interval and their scale."""
    estimate: float
    low: float
    """Lower bound of the 95% interval; the estimate itself where it is exact, NaN where there is no interval."""
    high: float
    """Upper bound, likewise."""
    boundary: float = 0.0
    """What the estimate is compared with."""
    direction: Direction = "above"
    """Where the claim says that the estimate is: above or below the boundary, or within a distance `boundary` of 0."""
    seeds: int | None = None
    """Number of seeds that the interval is over; None for an estimate that is exact."""

    def __post_init__(self) -> None:
        """Raise `InputError` for bounds in the wrong order, and for an exact estimate with an interval."""
        if self.low > self.high or self.low > self.estimate or self.estimate > self.high:
            raise InputError(f"{self.name}: expected low <= estimate <= high, got {self.text()}")
        if self.seeds is None and not self.low == self.estimate == self.high:
            raise InputError(f"{self.name}: an exact estimate has no interval, got {self.text()}")
        if self.direction == "within" and self.boundary <= 0:
            raise InputError(f"{self.name}: expected a positive distance from 0, got {self.boundary}")

    @property
    def verdict(self) -> Verdict:
        """Return `holds` if the interval is on the claimed side of the boundary, `fails` if on the other side.

        An interval that reaches the boundary is `undecided`, and so is an estimate without an interval.
        """
        if any(math.isnan(value) for value in (self.estimate, self.low, self.high)):
            return "undecided"
        low, high = self._distances()
        return "holds" if low > 0 else "fails" if high < 0 else "undecided"

    def _distances(self) -> tuple[float, float]:
        """The bounds of how far the estimate is on the claimed side."""
        if self.direction == "above":
            return self.low - self.boundary, self.high - self.boundary
        if self.direction == "below":
            return self.boundary - self.high, self.boundary - self.low
        nearest = max(self.low, -self.high, 0.0)
        return self.boundary - max(-self.low, self.high), self.boundary - nearest

    def text(self) -> str:
        """Return the estimate with its interval: `0.1 [0.02, 0.18]`, or the estimate alone where it is exact."""
        return number(self.estimate) if self.seeds is None else interval_text(self.estimate, self.low, self.high)


def number(value: float) -> str:
    """Return a number with three significant digits, or with those before the point, as a reader would write it."""
    if 1000 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e+")


def interval_text(estimate: float, low: float, high: float) -> str:
    """Return `0.1 [0.02, 0.18]`, with `no interval` for bounds that are NaN."""
    bounds = "no interval" if math.isnan(low) else f"{number(low)}, {number(high)}"
    return f"{number(estimate)} [{bounds}]"


def wrong_by_chance(claims: Sequence[Claim]) -> tuple[int, float]:
    """Return how many claims rest on an interval, and how many of their verdicts may be expected to be wrong by chance.

    A 95% interval leaves out the true value in 5% of cases, and only then is a verdict wrong; so the expected number is
    at most 5% of theirs, and less where the truth is far from the boundary. Exact claims are not counted.
    """
    measured = sum(claim.seeds is not None for claim in claims)
    return measured, (1 - CONFIDENCE) * measured
