"""Fields of a settings class: what their annotations and docstrings say of them."""

import ast
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, NamedTuple, Protocol, SupportsIndex, get_args, get_origin, get_type_hints

from maxrl_lab.errors import InputError

CHANGES_NO_RESULT = "changes no result"
"""Declared with a field, as in `Annotated[int, Whole(0), CHANGES_NO_RESULT]`: runs that differ in it are the same."""


class Bound(Protocol):
    """What a field's value must satisfy."""

    def check(self, name: str, value: Any) -> None:
        """Raise `InputError`, naming the field, for a value that is out of bounds."""


class Field(NamedTuple):
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


def fields_of(cls: type[Any]) -> tuple[Field, ...]:
    """Return the fields of a settings class, in the order of the dataclass."""
    return _fields_of(cls)  # type: ignore[arg-type]  # every class can be hashed


@cache
def _fields_of(cls: type[Any]) -> tuple[Field, ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple(_field(cls, field.name, hints[field.name]) for field in fields(cls))


def _field(cls: type[Any], name: str, hint: Any) -> Field:
    hint, notes = _without_notes(hint)
    members = [member for member in get_args(hint) if member not in (type(None), Ellipsis)]
    kind, inner = _without_notes(members[0]) if members else (hint, ())  # `Count | None` and `tuple[int, ...]`
    notes = (*notes, *inner)
    declaring = [base for base in cls.__mro__ if name in inspect.get_annotations(base)]
    return Field(
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
