"""Rows and pictures of finished runs become what the repository shows: compressed rows, pictures, times."""

import shlex
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments import _runs, _times
from experiments._runs import Run
from maxrl_lab.runs.files import write_atomically, write_json
from maxrl_lab.runs.folder import wall_seconds
from maxrl_lab.runs.record import Record, sealed
from maxrl_lab.runs.tables import compress_table, table_file

if TYPE_CHECKING:
    import pandas as pd

TIMES = "times.json"
"""File in the folder of reference rows: preset to experiment to seconds."""


CLOCKS = ("timings",)
"""Tables that say how fast one machine was, and nothing that a figure or a claim reads."""


def publish(run: Run, tables: "Mapping[str, pd.DataFrame]") -> int:
    """Copy a finished run's rows, compressed, its settings and its provenance, and draw its picture; return the bytes.

    What was published of the experiment before is removed first.
    """
    figure = run.entry.figure().plot(tables, run.settings)
    folder = _runs.REFERENCE / run.entry.name
    shutil.rmtree(folder, ignore_errors=True)
    for name in tables:
        if name not in CLOCKS:
            compress_table(table_file(run.folder, name), folder)
    write_atomically(folder / "settings.json", (run.folder / "settings.json").read_bytes())
    write_json(folder / "provenance.json", sealed(for_others(Record(run.folder).read_provenance("sessions", "tables"))))
    picture = _runs.GALLERY / f"{run.entry.name}.png"
    _runs.save(figure, picture)
    _times.record(_runs.REFERENCE / TIMES, run.flags.preset, {run.entry.name: wall_seconds(run.folder)})
    return sum(file.stat().st_size for file in (*folder.iterdir(), picture))


def for_others(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance without clocks, and with commands that do not name the folders of one machine."""
    sessions = []
    for session in provenance["sessions"]:
        words = shlex.split(session["command"])
        kept = [
            word
            for before, word in zip(["", *words], words, strict=False)
            if not {before, word} & set(_PLACES) and not word.startswith(tuple(f"{flag}=" for flag in _PLACES))
        ]
        sessions.append({**session, "command": shlex.join(kept)})
    digests = {name: digest for name, digest in provenance["tables"].items() if name not in CLOCKS}
    return {**provenance, "sessions": sessions, "tables": digests}


_PLACES = ("--out", "--pictures")
