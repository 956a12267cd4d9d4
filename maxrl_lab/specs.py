"""Names to objects: one explicit table per choice, and the text form `name:option=value,option=value`.

The same text names an estimator or an objective in settings, on the command line and in rows, so that a row of a
results file can be turned back into the object that made it.
"""

import inspect
import operator
import re
from collections.abc import Callable, Mapping
from typing import SupportsIndex, TypeVar

from maxrl_lab.errors import InputError

Made = TypeVar("Made")
Option = int | float

MOST_ROLLOUTS = 1_000_000
"""Tables of coefficients have a row for each number of successes, and do not fit in memory for any number."""

SEPARATOR = " | "
"""Stands between an estimator and a surrogate in text: `grpo | entropy_bonus:coefficient=0.01`."""

_WHOLE = re.compile(r"[-+]?\d+")
_RELATIVE_TO_ROLLOUTS = re.compile(r"N\s*(?:([-+*/])\s*(\d+))?")


def lookup(table: Mapping[str, Made], kind: str, name: str) -> Made:
    """Return `table[name]`; an `InputError` lists the choices for an unknown name."""
    if name not in table:
        raise InputError(f"unknown {kind} {name!r}; choose one of: {', '.join(table)}")
    return table[name]


def check_options(function: Callable[..., object], kind: str, name: str, options: Mapping[str, object]) -> None:
    """Raise `InputError` unless `options` are keyword-only options of `function`, none missing, all within bounds.

    A bound stands in the option's type, as in `k: Annotated[int, Whole(1)]` (`maxrl_lab.settings`).
    """
    allowed = {p.name: p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    for option in options:
        if option not in allowed:
            choices = ", ".join(allowed) or "none"
            raise InputError(f"{kind} {name!r} has no option {option!r}; its options: {choices}")
    for option, parameter in allowed.items():
        if option in options:
            for bound in getattr(parameter.annotation, "__metadata__", ()):
                bound.check(option, options[option])
        elif parameter.default is parameter.empty:
            raise InputError(f"{kind} {name!r} needs the option {option!r}, as in '{name}:{option}=4'")


def check_rollouts(value: object, name: str = "rollouts") -> int:
    """Return a number N of rollouts as an int; `InputError` unless it is a whole number from 1 to `MOST_ROLLOUTS`."""
    rollouts = check_count(name, value)
    if rollouts > MOST_ROLLOUTS:
        raise InputError(f"{name} must be at most {MOST_ROLLOUTS}, got {rollouts}")
    return rollouts


def check_count(name: str, value: object, minimum: int = 1) -> int:
    """Return `value` as an int; raise `InputError` unless it is a whole number of at least `minimum`."""
    whole = None if isinstance(value, bool) or not isinstance(value, SupportsIndex) else operator.index(value)
    if whole is None or whole < minimum:
        raise InputError(f"{name} must be a whole number >= {minimum}, got {value!r}")
    return whole


def format_spec(name: str, options: Mapping[str, object]) -> str:
    """Return the text form, e.g. `pkpo:k=4`; `parse` reads it back."""
    return name + (":" + ",".join(f"{key}={value}" for key, value in options.items()) if options else "")


def parse(text: str, rollouts: int | None = None) -> tuple[str, dict[str, Option]]:
    """Split `name:option=value,...` into name and options; a value is a number or relative to `N`, e.g. `N-1`.

    `rollouts` gives `N` its value. Raises `InputError` for a malformed text.
    """
    name, _, tail = text.partition(":")
    options: dict[str, Option] = {}
    for item in filter(None, tail.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"expected 'name:option=value', got {text!r}")
        if key.strip() in options:
            raise InputError(f"the option {key.strip()!r} is given twice in {text!r}")
        options[key.strip()] = _number(value.strip(), rollouts)
    return name.strip(), options


def format_at(text: str, rollouts: int) -> str:
    """Return the text form with `N` replaced by its value: `pkpo:k=N/2` at 8 rollouts is `pkpo:k=4`."""
    return format_spec(*parse(text, rollouts))


def _number(text: str, rollouts: int | None) -> Option:
    relative = _RELATIVE_TO_ROLLOUTS.fullmatch(text)
    if relative and rollouts is not None:
        operator, operand = relative.group(1), int(relative.group(2) or 0)
        if operator == "/":
            if operand == 0 or rollouts % operand:
                raise InputError(f"{text!r} is not a whole number at N = {rollouts}")
            return rollouts // operand
        return {None: rollouts, "+": rollouts + operand, "-": rollouts - operand, "*": rollouts * operand}[operator]
    try:
        return int(text) if _WHOLE.fullmatch(text) else float(text)
    except ValueError:
        raise InputError(f"expected a number or an expression in N such as 'N-1', got {text!r}") from None
