"""Hostile command lines are done, refused in one line, or interrupted: no traceback, and nothing half-written."""

import os
import shutil
from pathlib import Path
from random import Random

from experiments import _runs
from experiments.catalogue import EXPERIMENTS
from maxrl_lab.command import COMMANDS
from maxrl_lab.fields import Field, fields_of
from torture.forks import INTERRUPTED, Ended, Tally, command, fresh, stream

VALUES = (
    *(
        "0",
        "1",
        "2",
        "3",
        "-1",
        "1.5",
        "1e-9",
        "1e400",
        "nan",
        "inf",
        "-inf",
        "",
        " ",
        "0x10",
        "1_000",
        "\u0664",
        "1/2",
    ),
    *(
        "9" * 30,
        str(2**31),
        str(2**62),
        str(10**9),
        "none",
        "true",
        "maxrl",
        "grpo",
        "nosuch",
        "pkpo:k=9",
        "maxrl_order:",
    ),
    *("a b", "\u00e9\u4e2d", "\U0001f600", "--", "-", "~", "/dev/null", "/", "out", "../..", "*", "$HOME", "%s", "\n"),
    *("gridworld", "countdown", "0.1", "0.5", "1.0", "4", "8", "16", "cpu", "cuda", "cuda:99", "meta", "smoke", "full"),
)
PLAIN = (
    "--out",
    "--pictures",
    "--preset",
    "--device",
    "--quiet",
    "--force",
    "--stale",
    "--reference",
    "--help",
    "--nosuch",
)
LIMIT = 60.0
"""Seconds after which a command that still works is interrupted, as by Ctrl-C, and has to end."""


def read(tries: int, scratch: Path, seed: int = 0) -> list[Tally]:
    """Give so many random command lines to the lab; experiments are not run, all else is."""
    random, tally = stream("read", seed), Tally("a random command line read: done, or refused in one line")
    for _ in range(tries):
        given = _any_command(random)
        tally.add(_wrong(given, command(given, fresh(scratch / "read"), before=_compute_nothing, limit=LIMIT)))
    return [tally]


def run(tries: int, scratch: Path, seed: int = 0) -> list[Tally]:
    """Run so many experiments of the preset `smoke` with random settings; one that takes long is interrupted."""
    random, tally = (
        stream("run", seed),
        Tally("an experiment with random settings: done, refused in one line, or interrupted"),
    )
    names = [name for name, entry in EXPERIMENTS.items() if entry.extra is None]
    folder = fresh(scratch / "run")
    for _ in range(tries):
        name = random.choice(names)
        given = ["run", name, "--preset", "smoke", "--quiet", "--device", "cpu", "--out", "out"]
        given += _flags(random, list(fields_of(EXPERIMENTS[name].load().Settings)), random.randint(1, 3))
        shutil.rmtree(folder / "out", ignore_errors=True)
        ended = command(given, folder, variables={"MAXRL_LAB_CACHE": str(scratch / "run-cache")}, limit=LIMIT)
        tally.add(_wrong(given, ended) or _half_written(given, ended, folder / "out" / "smoke" / name))
    return [tally]


def _any_command(random: Random) -> list[str]:
    verb = random.choice([*COMMANDS, "run", "run", "run", "draw", "audit", "nosuch", "--help"])
    if verb in ("lesson", "explore", "recipe", "course"):  # they open a browser, need an extra, or write where told
        return [verb, random.choice(VALUES), "--help"]
    if verb in ("publish", "rates", "claims") or random.random() < 0.2:
        return [verb, *random.choices([*VALUES, *PLAIN], k=random.randint(0, 3)), "--nosuch"]
    if verb in ("run", "draw"):
        name = random.choice(list(EXPERIMENTS))
        fields = list(fields_of(EXPERIMENTS[name].load().Settings)) if EXPERIMENTS[name].extra is None else []
        plain = [text for flag in random.choices(PLAIN, k=2) for text in (flag, random.choice(VALUES))]
        return [verb, name, *(plain if random.random() < 0.3 else ()), *_flags(random, fields, random.randint(0, 3))]
    return [verb, *random.choices([*VALUES, *PLAIN, "json:dumps", "math:sqrt", "--rollouts"], k=random.randint(0, 4))]


def _flags(random: Random, fields: list[Field], count: int) -> list[str]:
    given = []
    for field in random.sample(fields, min(count, len(fields))):
        most = 3 if field.several else 1
        given += ["--" + field.name.replace("_", "-"), *random.choices(VALUES, k=random.randint(1, most))]
    return given


def _compute_nothing() -> None:
    """Let a command read its flags and settings, and end where it would begin to compute."""

    def tables(self: _runs.Run) -> dict[str, object]:
        raise SystemExit(0)

    _runs.Run.tables = tables  # type: ignore[assignment,method-assign]


def _wrong(given: list[str], ended: Ended) -> str | None:
    reason = None
    if ended.traceback:
        reason = ended.lines[-1]
    elif ended.status not in (0, 1, 2, INTERRUPTED):
        reason = f"status {ended.status}"
    elif ended.status == 2 and given[1:] and not ended.refused:
        reason = f"status 2 with {len(ended.lines)} lines"
    return reason and f"maxrl-lab {' '.join(map(repr, given))}: {reason[:200]}"


def _half_written(given: list[str], ended: Ended, folder: Path) -> str | None:
    """What is left of a refused command: nothing, or a run that was begun and is resumed or replaced."""
    if ended.refused and folder.exists() and not (folder / "checkpoint").exists():
        return f"maxrl-lab {' '.join(map(repr, given))}: refused, and leaves {sorted(os.listdir(folder))}"
    return None
