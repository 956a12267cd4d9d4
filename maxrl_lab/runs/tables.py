"""The tables of a run as csv files: exact to the bit, checked by their digests, read without executing anything.

A run writes plain files. One that is kept in the repository is compressed; it is read like any other.
"""

import gzip
import hashlib
import io
import re
import zlib
from pathlib import Path

import pandas as pd

from maxrl_lab.errors import InputError
from maxrl_lab.rows import Tables
from maxrl_lab.runs.files import write_atomically


def table_file(folder: Path, name: str) -> Path:
    """Return the file of a table: the compressed one where only that is there."""
    plain, compressed = folder / f"{name}.csv", folder / f"{name}.csv.gz"
    return compressed if compressed.exists() and not plain.exists() else plain


def compress_table(file: Path, folder: Path) -> Path:
    """Write a table, compressed, to another folder and return its file; the same bytes for the same rows."""
    compressed = folder / f"{file.name}.gz"
    write_atomically(compressed, gzip.compress(file.read_bytes(), 9, mtime=0))
    return compressed


def write_tables(folder: Path, tables: Tables) -> dict[str, str]:
    """Write every table to its own file; return the SHA-256 of each file by the name of the table.

    Raises `RuntimeError`, a fault of the experiment, for no table, an empty one, or a name that cannot be a file's.
    """
    if not tables:
        raise RuntimeError("expected at least one table, got none")
    for name, rows in tables.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise RuntimeError(f"the name of a table must be lower-case letters, digits and _, got {name!r}")
        if not rows:
            raise RuntimeError(f"the table {name!r} has no rows")
    digests = {}
    for name, rows in tables.items():
        content = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode()
        write_atomically(folder / f"{name}.csv", content)
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def read_table(file: Path, digest: str) -> pd.DataFrame:
    """Return the rows in a file; raise `InputError` if the SHA-256 of the plain file is not `digest`."""
    content = _plain(file)
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{file} is not what its run wrote (damaged or edited); start again with --force")
    # pandas 3 reads every float exactly, pandas 2 some a unit in the last place off
    # only an empty cell is a missing value
    return pd.read_csv(io.BytesIO(content), engine="python", keep_default_na=False, na_values=[""])


def _plain(file: Path) -> bytes:
    """Return the bytes of a table as its run wrote them; nothing for a compressed file that is damaged."""
    content = file.read_bytes()
    if file.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return b""
