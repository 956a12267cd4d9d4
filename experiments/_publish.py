"""Rows and pictures of finished runs become what the repository shows: compressed rows, pictures, times."""

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from experiments import _runs, _times
from experiments._runs import Run
from maxrl_lab.runs.files import write_atomically
from maxrl_lab.runs.folder import wall_seconds
from maxrl_lab.runs.tables import compress_table, table_file

if TYPE_CHECKING:
    import pandas as pd

TIMES = "times.json"
"""File in the folder of reference rows: preset to experiment to seconds."""


def publish(run: Run, tables: "Mapping[str, pd.DataFrame]") -> int:
    """Copy a finished run's rows, compressed, its settings and its provenance, and draw its picture; return the bytes.

    What was published of the experiment before is removed first.
    """
    figure = run.entry.figure().plot(tables, run.settings)
    folder = _runs.REFERENCE / run.entry.name
    shutil.rmtree(folder, ignore_errors=True)
    for name in tables:
        compress_table(table_file(run.folder, name), folder)
    for name in ("settings.json", "provenance.json"):
        write_atomically(folder / name, (run.folder / name).read_bytes())
    picture = _runs.GALLERY / f"{run.entry.name}.png"
    _runs.save(figure, picture)
    _times.record(_runs.REFERENCE / TIMES, run.flags.preset, {run.entry.name: wall_seconds(run.folder)})
    return sum(file.stat().st_size for file in (*folder.iterdir(), picture))
