"""Settings: frozen dataclasses whose bounds stand beside each field and are checked once, when an object is made.

    @dataclass(frozen=True)
    class Settings(settings.Settings):
        \"\"\"What is compared.\"\"\"

        rollouts: Counts = (4, 16)
        \"\"\"Numbers N of rollouts in a group.\"\"\"
        learning_rate: Positive = 0.1
        \"\"\"Learning rate of Adam.\"\"\"

A bound is part of the field's type, so that a subclass may change a default and keep the bound. A field's docstring is
its help text on the command line (`maxrl_lab.runs.command_line`), under the heading of the class that declares it.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.fields import CHANGES_NO_RESULT, Bound, fields_of

_HIGHEST_RATE = 1e37


@dataclass(frozen=True)
class Whole:
    """A whole number from `minimum` to `maximum`."""

    minimum: int = 1
    maximum: int | None = None

    def check(self, name: str, value: Any) -> None:
        """Raise `InputError` for anything else."""
        count = specs.check_count(name, value, self.minimum)
        if self.maximum is not None and count > self.maximum:
            raise InputError(f"{name} must be at most {self.maximum}, got {count}")


@dataclass(frozen=True)
class Interval:
    """A finite number between two ends, each of which is allowed if it is closed."""

    low: float = 0.0
    high: float = math.inf
    closed_low: bool = False
    closed_high: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raise `InputError` for anything else."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not self._holds(value):
            raise InputError(f"{name} must {self}, got {value}")

    def _holds(self, value: float) -> bool:
        above = value >= self.low if self.closed_low else value > self.low
        return above and (value <= self.high if self.closed_high else value < self.high)

    def __str__(self) -> str:
        if (self.low, self.high) == (-math.inf, math.inf):
            return "be finite"
        if (self.low, self.high) == (0, math.inf):
            return "be finite and not negative" if self.closed_low else "be positive and finite"
        opening, closing = "[" if self.closed_low else "(", "]" if self.closed_high else ")"
        return f"lie in {opening}{self.low:g}, {self.high:g}{closing}"


@dataclass(frozen=True)
class LearningRate:
    """A positive number of at most 1e37: a larger one would overflow the arithmetic of single precision."""

    def check(self, name: str, value: Any) -> None:
        """Raise `InputError` for anything else."""
        Interval().check(name, value)
        if value > _HIGHEST_RATE:
            raise InputError(f"{name} must be at most {_HIGHEST_RATE:g}, got {value}")


@dataclass(frozen=True)
class Choice:
    """One of some names."""

    names: Collection[str]

    def check(self, name: str, value: Any) -> None:
        """Raise `InputError`, which lists the names, for any other."""
        specs.lookup(dict.fromkeys(self.names), name, value)


@dataclass(frozen=True)
class Each:
    """A tuple of values, each within a bound, not empty unless it `may_be_empty`, distinct unless they `may_repeat`."""

    bound: Bound | None = None
    may_be_empty: bool = False
    may_repeat: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raise `InputError` for an empty tuple, a repeated value, or a value out of bounds."""
        if value or not self.may_be_empty:
            check_lists(**{name: tuple(dict.fromkeys(value)) if self.may_repeat else tuple(value)})
        for item in value if self.bound else ():
            self.bound.check(name, item)  # type: ignore[union-attr]


Count = Annotated[int, Whole(1)]
CountOrZero = Annotated[int, Whole(0)]
Counts = Annotated[tuple[int, ...], Each(Whole(1))]
MaybeCounts = Annotated[tuple[int, ...], Each(Whole(1), may_be_empty=True)]
Widths = Annotated[tuple[int, ...], Each(Whole(1), may_be_empty=True, may_repeat=True)]
Finite = Annotated[float, Interval(-math.inf)]
Positive = Annotated[float, Interval()]
Rate = Annotated[float, LearningRate()]
Rates = Annotated[tuple[float, ...], Each(LearningRate())]
Probability = Annotated[float, Interval(0, 1, closed_low=True, closed_high=True)]
StrictProbability = Annotated[float, Interval(0, 1)]
Names = Annotated[tuple[str, ...], Each()]
MaybeNames = Annotated[tuple[str, ...], Each(may_be_empty=True)]
Processes = Annotated[int, Whole(0), CHANGES_NO_RESULT]


@dataclass(frozen=True)
class Settings:
    """The base of all settings: a subclass is a frozen dataclass with a default and a docstring for every field."""

    def __post_init__(self) -> None:
        """Check every field's type and bound; a subclass that checks more calls this first."""
        for field in fields_of(type(self)):
            field.check(getattr(self, field.name))


def check_lists(**values: tuple[object, ...]) -> None:
    """Raise `InputError` for a setting that lists nothing, or something twice."""
    for name, value in values.items():
        if not value:
            raise InputError(f"{name} needs at least one value, got none")
        if len(set(value)) < len(value):
            raise InputError(f"{name} must be distinct, got {' '.join(map(str, value))}")
