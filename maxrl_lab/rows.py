"""What an experiment measures: a row is one measurement, its columns by name; a table is a list of rows of one kind."""

from typing import Any

Row = dict[str, Any]
Tables = dict[str, list[Row]]
"""Rows by the name of their table."""


def append(tables: Tables, more: Tables) -> None:
    """Append the rows of `more` to the tables of the same names; a name that is new makes a new table."""
    for name, rows in more.items():
        tables.setdefault(name, []).extend(rows)
