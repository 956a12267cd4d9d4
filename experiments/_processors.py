"""Does a conclusion survive another processor? The same runs made elsewhere, beside the committed ones.

Processors round differently, and training amplifies that: the same seed ends in another policy. `processors.csv.gz`
beside the committed rows has what mazes in tokens came to on other processors, the final pass@k on held-out mazes of
every method and seed. A page shows by how much MaxRL leads on each of them, and in all runs together, between

    <!-- processors -->
    <!-- /processors -->
"""

import gzip
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

import pandas as pd

from experiments import _runs
from experiments._claims import Estimate, over_seeds
from experiments.tokens._shared import MazeSettings
from experiments.tokens.claims._rows import final, word
from maxrl_lab.errors import InputError
from maxrl_lab.runs.files import write_atomically
from maxrl_lab.runs.folder import read_settings_of
from maxrl_lab.tokens.comparison import family
from maxrl_lab.tokens.settings import CHANGE_NO_RUN

COLUMNS = ["processor", "estimator", "rollouts", "learning_rate", "seed", "k", "pass_at_k"]
_ROW = ["processor", "family", "rollouts", "seed", "k"]
"""What tells rows apart: of a method with several options a processor has one."""
COMMITTED = ("maze_scaling", "maze_baselines")
"""Experiments whose committed rows are of one processor."""
FILE, HERE, OURS = "processors.csv.gz", "committed rows", "maxrl"
_BLOCK = re.compile(r"<!-- processors -->\n.*?<!-- /processors -->", re.S)


def add(runs: Iterable[_runs.Made], processor: str) -> list[str]:
    """Take in the ends of another processor's runs, in the place of the same runs; return a line a run.

    Raises `InputError`, and takes in nothing, for an experiment that the table is not about, for settings that make
    other runs than the committed ones, for two coefficients of one method, and for a name that no column can have.
    """
    if not re.fullmatch(r"[\w .-]+", processor) or processor == HERE:
        raise InputError(f"expected a processor's name of letters, digits, dots and spaces, got {processor!r}")
    rows, lines = elsewhere(), []
    for run, tables in runs:
        _check_same(run)
        ends = _ends(tables["evaluations"], processor)
        if (twice := _with_family(ends).duplicated(_ROW)).any():
            raise InputError(f"--processor takes in one option of a method, got two of {ends[twice].estimator.iloc[0]}")
        rows = pd.concat([rows, ends])
        lines.append(f"{run.entry.name}: {len(ends)} rows of the {processor} processor")
    kept = _with_family(rows).drop_duplicates(_ROW, keep="last")[COLUMNS]
    content = kept.sort_values(COLUMNS).to_csv(index=False, lineterminator="\n").encode()
    write_atomically(_runs.REFERENCE / FILE, gzip.compress(content, 9, mtime=0))
    return lines


def elsewhere() -> pd.DataFrame:
    """Return the rows of other processors."""
    file = _runs.REFERENCE / FILE
    return _read(file) if file.exists() else pd.DataFrame(columns=COLUMNS)


def rendered(text: str) -> str:
    """Return a page with the table in its block, if it has one."""
    return _BLOCK.sub(lambda _: f"<!-- processors -->\n{as_markdown()}\n<!-- /processors -->", text)


def as_markdown() -> str:
    """Return a table with a row for each method, N and k that several processors have run."""
    rows = pd.concat([*(_ends(_committed(name), HERE) for name in COMMITTED), elsewhere()])
    rows = _with_family(rows).drop_duplicates(_ROW)
    processors = list(dict.fromkeys(rows.processor))
    lines = [
        f"| MaxRL's lead over | N | pass@k | {' | '.join(processors)} | all runs | verdicts |",
        "|---" * (len(processors) + 5) + "|",
    ]
    for other, count, k, by_processor in _leads(rows):
        estimates = {name: over_seeds(leads) for name, leads in by_processor.items()}
        everywhere = over_seeds(pd.concat(list(by_processor.values())))
        listed = [*(estimates.get(name) for name in processors), everywhere]
        cells = [other.replace("|", "\\|"), count, k, *(estimate or "-" for estimate in listed)]
        verdicts = ", ".join(f"*{_verdict(estimate)}*" if estimate else "-" for estimate in listed)
        lines.append(f"| {' | '.join(map(str, cells))} | {verdicts} |")
    return "\n".join(lines)


def _leads(rows: pd.DataFrame) -> Iterator[tuple[str, int, int, dict[str, "pd.Series[float]"]]]:
    """Yield another method, N, k, and by processor MaxRL's lead by seed, where several processors have run both."""
    for k in (1, int(rows.k.max())):
        for count in sorted(rows.rollouts.unique()):
            there = rows[(rows.k == k) & (rows.rollouts == count)]
            for other in dict.fromkeys(there.family[there.family != OURS]):
                by_processor = there.groupby("processor", sort=False)
                leads = {str(name): lead for name, ends in by_processor if len(lead := _lead(ends, other))}
                if len(leads) > 1:
                    yield word(other), int(count), k, leads


def _lead(rows: pd.DataFrame, other: str) -> "pd.Series[float]":
    """Return MaxRL's lead over another method on one processor, by seed; only seeds that both have are in it."""
    by_seed = rows.set_index("seed")
    ours, theirs = (by_seed.pass_at_k[by_seed.family == name] for name in (OURS, other))
    ours, theirs = ours.align(theirs, join="inner")
    return ours - theirs


def _check_same(run: _runs.Run) -> None:
    """Raise `InputError` unless a run and the committed one have the same mazes, training and measurements."""
    name = run.entry.name
    if name not in COMMITTED:
        raise InputError(f"--processor takes in {' and '.join(COMMITTED)}, got {name}")
    theirs = read_settings_of(_runs.REFERENCE / name, type(run.settings))
    for field in fields(MazeSettings):
        expected, got = (getattr(settings, field.name) for settings in (theirs, run.settings))
        if field.name not in CHANGE_NO_RUN | {"fixed_rates"} and expected != got:
            raise InputError(
                f"--processor takes in runs like the committed ones, with {field.name} {expected}, got {got}"
            )


def _ends(evaluations: pd.DataFrame, processor: str) -> pd.DataFrame:
    """Return the final pass@k of a run's methods and seeds."""
    return final(evaluations).assign(processor=processor)[COLUMNS]


def _with_family(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(family=rows.estimator.map(family))


def _verdict(lead: Estimate) -> str:
    return lead.claim("lead", "", "").verdict


def _committed(name: str) -> pd.DataFrame:
    return _read(_runs.REFERENCE / name / "evaluations.csv.gz")


def _read(file: Path) -> pd.DataFrame:
    """Return a table, every number to the last bit: what is taken in is written again with the next rows."""
    return pd.read_csv(file, converters={"learning_rate": _number, "pass_at_k": _number})


def _number(cell: str) -> float:
    """Return a cell's number exactly, which not every pandas does; an empty cell is that of a diverged run."""
    return float(cell or "nan")
