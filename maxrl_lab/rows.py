"""What an experiment measures: a row is one measurement, its columns by name; a table is a list of rows of one kind."""

from typing import Any

Row = dict[str, Any]
Tables = dict[str, list[Row]]
"""Rows by the name of their table."""
