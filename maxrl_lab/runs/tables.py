"""The tables of a run as csv files: exact to the bit, checked by their digests, read without executing anything."""

import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.files import write_atomically

ROWS = "rows"
"""Name of the one table of an experiment that has only one."""
TIMINGS = "timings"
"""Name of the table that holds what two runs of the same settings may measure differently: times."""
TIMING_COLUMNS = ("seconds_sample", "seconds_verify", "seconds_update", "tokens_per_second")
"""Columns that a list of rows may carry, and that belong to the table `timings`."""


def table_file(folder: Path, name: str) -> Path:
    """Return the file of a table."""
    return folder / f"{name}.csv"


def write_tables(folder: Path, tables: Tables | list[Row]) -> dict[str, str]:
    """Write every table to its own file; return the SHA-256 of each file by the name of the table.

    A list of rows counts as the one table `rows`. Raises `RuntimeError` for no table, an empty one, or a name that
    cannot be a file's.
    """
    frames = _split_rows(tables) if isinstance(tables, list) else {name: pd.DataFrame(tables[name]) for name in tables}
    for name, frame in frames.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise RuntimeError(f"the name of a table must be lower-case letters, digits and _, got {name!r}")
        if frame.empty:
            raise RuntimeError(f"the table {name!r} has no rows")
    if not frames:
        raise RuntimeError("expected at least one table, got none")
    digests = {}
    for name, frame in frames.items():
        content = frame.to_csv(index=False, lineterminator="\n").encode()
        write_atomically(table_file(folder, name), content)
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def read_table(file: Path, digest: str) -> pd.DataFrame:
    """Return the rows in a file; raise `InputError` if its SHA-256 is not `digest`."""
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{file} is not what its run wrote (damaged or edited); start again with --force")
    # the python engine reads every float exactly, with any pandas; only an empty cell is a missing value
    return pd.read_csv(io.BytesIO(content), engine="python", keep_default_na=False, na_values=[""])


def _split_rows(rows: list[Row]) -> Mapping[str, pd.DataFrame]:
    """Return the rows, and their timings by the number of the row, if there are any."""
    frame = pd.DataFrame(rows)
    timings = frame[[name for name in TIMING_COLUMNS if name in frame]].dropna(how="all")
    if timings.empty:
        return {ROWS: frame}
    return {ROWS: frame.drop(columns=timings.columns), TIMINGS: timings.round(6).rename_axis("row").reset_index()}
