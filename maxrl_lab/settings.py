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

import ast
import inspect
import math
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, NamedTuple, Protocol, SupportsIndex, get_args, get_origin, get_type_hints

from maxrl_lab import specs
from maxrl_lab.errors import InputError


class Bound(Protocol):
    """What a field's value must satisfy."""

    def check(self, name: str, value: Any) -> None:
        """Raise `InputError`, naming the field, for a value that is out of bounds."""


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


CHANGES_NO_RESULT = "changes no result"
"""Declared with a field, as in `Annotated[int, Whole(0), CHANGES_NO_RESULT]`: runs that differ in it are the same."""

Count = Annotated[int, Whole(1)]
CountOrZero = Annotated[int, Whole(0)]
Counts = Annotated[tuple[int, ...], Each(Whole(1))]
MaybeCounts = Annotated[tuple[int, ...], Each(Whole(1), may_be_empty=True)]
Widths = Annotated[tuple[int, ...], Each(Whole(1), may_be_empty=True, may_repeat=True)]
Positive = Annotated[float, Interval()]
Rates = Annotated[tuple[float, ...], Each(Interval())]
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
        for option in options(type(self)):
            option.check(getattr(self, option.name))


class Option(NamedTuple):
    """One field of a settings class."""

    name: str
    type: Any
    """The type of the value, or of each value of a tuple: int, float, str or bool."""
    several: bool
    """Whether the field is a tuple."""
    optional: bool
    """Whether the field may be None."""
    bound: Bound | None
    help: str
    """The field's docstring."""
    group: str
    """The first line of the docstring of the class that declares the field first."""
    changes_results: bool
    """Whether two runs that differ in the field may have different results."""

    def check(self, value: Any) -> None:
        """Raise `InputError`, which names the field, for a value of another type or out of bounds."""
        if value is None and self.optional:
            return
        if self.several and not isinstance(value, tuple | list):
            raise InputError(f"{self.name} must be a tuple, got {value!r}")
        if self.bound:
            self.bound.check(self.name, value)
        types, words = _TYPES.get(self.type, (object, ""))
        for item in value if self.several else (value,):
            if not isinstance(item, types) or (isinstance(item, bool) and self.type in (int, float)):
                raise InputError(f"{self.name} must be {words}, got {item!r}")


_TYPES: dict[Any, tuple[Any, str]] = {
    int: (SupportsIndex, "a whole number"),
    float: (int | float, "a number"),
    str: (str, "text"),
    bool: (bool, "true or false"),
}


def options(cls: type[Any]) -> tuple[Option, ...]:
    """Return the fields of a settings class, in the order of the dataclass."""
    return _options(cls)  # type: ignore[arg-type]  # every class can be hashed


@cache
def _options(cls: type[Any]) -> tuple[Option, ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple(_option(cls, field.name, hints[field.name]) for field in fields(cls))


def _option(cls: type[Any], name: str, hint: Any) -> Option:
    hint, notes = _without_notes(hint)
    members = [member for member in get_args(hint) if member not in (type(None), Ellipsis)]
    kind, inner = _without_notes(members[0]) if members else (hint, ())  # `Count | None` and `tuple[int, ...]`
    notes = (*notes, *inner)
    declaring = [base for base in cls.__mro__ if name in vars(base).get("__annotations__", {})]
    return Option(
        name=name,
        type=kind,
        several=get_origin(hint) is tuple,
        optional=type(None) in get_args(hint),
        bound=next((note for note in notes if hasattr(note, "check")), None),
        help=next((text for base in declaring if (text := docstrings(base).get(name))), ""),
        group=(declaring[-1].__doc__ or "").strip().partition("\n")[0],
        changes_results=CHANGES_NO_RESULT not in notes,
    )


def _without_notes(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type in an `Annotated` and what it is annotated with."""
    if get_origin(hint) is not Annotated:
        return hint, ()
    kind, *notes = get_args(hint)
    return kind, tuple(notes)


@cache
def docstrings(cls: type) -> dict[str, str]:
    """Return the docstring below each field of a class; empty where the source is not at hand."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError):
        return {}
    texts = {}
    body: Sequence[ast.stmt] = tree.body if isinstance(tree, ast.ClassDef) else ()
    for field, below in pairwise(body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            texts[field.target.id] = " ".join(str(below.value.value).split())
    return texts


def check_lists(**values: tuple[object, ...]) -> None:
    """Raise `InputError` for a setting that lists nothing, or something twice."""
    for name, value in values.items():
        if not value:
            raise InputError(f"{name} needs at least one value, got none")
        if len(set(value)) < len(value):
            raise InputError(f"{name} must be distinct, got {' '.join(map(str, value))}")


def check_rates(*learning_rates: float) -> None:
    """Raise `InputError` unless every learning rate is positive and finite."""
    for rate in learning_rates:
        Interval().check("learning rates", rate)
