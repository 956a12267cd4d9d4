"""The learning rates that finished runs have chosen, for presets that spend no time on a sweep."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from maxrl_lab.errors import InputError
from maxrl_lab.training.sweep import name_of_row

if TYPE_CHECKING:
    import pandas as pd

_SECTION = ("comparison", "world", "optimiser", "task")
"""Columns that tell comparisons of one experiment apart."""
_METHOD = ("method", "rollouts", "learning_rate")


def chosen_rates(tables: "Mapping[str, pd.DataFrame]") -> dict[str, float]:
    """Return each reported method's rate by its name, as `sweep.compare` knows it; nothing for a run without a sweep.

    Raises `InputError` for a method that was reported at two rates.
    """
    rates: dict[str, float] = {}
    if "sweep" not in tables:
        return rates
    for name, table in tables.items():
        if name == "sweep" or not set(_METHOD) <= set(table.columns):
            continue
        for row in _distinct(table):
            if rates.setdefault(method := _name(row), row["learning_rate"]) != row["learning_rate"]:
                raise InputError(f"{method} was reported at rates {rates[method]:g} and {row['learning_rate']:g}")
    return rates


def _distinct(table: "pd.DataFrame") -> Iterable[Mapping[str, Any]]:
    """The methods of a table, each with its section and its rate."""
    columns = [name for name in (*_SECTION, "kind", *_METHOD) if name in table.columns]
    known: list[dict[str, Any]] = table[columns].drop_duplicates().dropna(subset="learning_rate").to_dict("records")
    return known


def _name(row: Mapping[str, Any]) -> str:
    """The method's name at its N behind the words of its section; an exact mean is `expected`."""
    words = [str(row[name]) for name in _SECTION if name in row]
    words += ["expected"] if row.get("kind") == "expected" else []
    return name_of_row(row["method"], row["rollouts"], " ".join(words))
