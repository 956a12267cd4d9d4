"""Do the tests pass, and are rows the same, on every Python and with the oldest and the newest allowed dependencies?

    make test-versions                                       (every Python of this machine, newest and oldest)
    python tests/versions.py 3.10:oldest 3.13:newest         (two environments)
    python tests/versions.py 3.12 --tests tests/theory --uv  (fewer tests; uv shares files between environments)

For each Python and each resolution: copies the checkout to a scratch folder, makes a virtual environment there with the
extra `dev`, runs the tests that are about results and a few experiments at the preset `smoke`, and prints a line of a
table. `newest` is what the installer takes within the bounds of pyproject.toml; `oldest` holds every direct dependency
at its lower bound. Exit status 1 if an environment could not be made, a test failed or an experiment made no rows. An
environment with a CUDA build of torch takes six gigabytes, which are deleted before the next one is made.
"""

import argparse
import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
RESOLUTIONS = ("newest", "oldest")
EXTRA = "dev"
FOLDERS = ("theory", "training", "tabular", "tokens", "runs")
TESTS = (
    *(f"tests/{folder}" for folder in FOLDERS),
    "tests/experiments/test_experiments.py",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_*.py")),
)
"""The tests that are about results; those of pages, pictures and the course are not among them."""
ROWS = ("weight_functions", "navigation", "maze_scaling")
"""Experiments of each kind: no training, a table, a transformer."""
CLOCKS = ("timings",)
"""Tables that hold seconds."""
SHOWN = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "gymnasium", "minigrid")
NOT_COPIED = (".git", ".venv", "results", "mutants", "site", "build", "out", "__pycache__", "*.egg-info", ".*_cache")
ASK_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
ASK_PACKAGES = (
    "import json, platform, sys; from importlib.metadata import version; "
    "print(json.dumps([platform.python_version(), *map(version, sys.argv[1:])]))"
)


class Wanted(NamedTuple):
    """A Python and a resolution, of which an environment is to be made."""

    python: str
    resolution: str


class Outcome(NamedTuple):
    """How many tests passed, were skipped, and which ones failed."""

    passed: int
    skipped: int
    failed: tuple[str, ...]


@dataclass
class Tables:
    """The rows of the environments so far: environments whose rows have the same bytes share a letter."""

    known: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """Experiment to the distinct tables of it, name to text."""

    def letter(self, experiment: str, tables: dict[str, str]) -> str:
        """Return the letter of these tables; of new ones, with the largest difference from those of letter A."""
        known = self.known.setdefault(experiment, [])
        if tables not in known:
            known.append(tables)
        index = known.index(tables)
        letter = chr(ord("A") + index)
        return letter if index == 0 else f"{letter} ({difference(tables, known[0]):.0e})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the environments one after the other, and print the table and the tests that failed."""
    flags = parser().parse_args(arguments)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pythons = interpreters(SpecifierSet(project["requires-python"]))
    print(header(flags.rows), flush=True)
    tables, troubles = Tables(), []
    for wanted in flags.environments or [Wanted(name, resolution) for name in pythons for resolution in RESOLUTIONS]:
        with tempfile.TemporaryDirectory(prefix="versions-", dir=flags.scratch) as scratch:
            line, more = report(wanted, pythons, project, Path(scratch), flags, tables)
        print(line, flush=True)
        troubles += [f"{wanted.python} {wanted.resolution}: {trouble}" for trouble in more]
    for trouble in troubles:
        print(trouble)
    return int(bool(troubles))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = argparse.ArgumentParser(prog="versions", description="the lab on other Pythons and dependencies")
    flags.add_argument(
        "environments",
        nargs="*",
        type=parsed,
        metavar="PYTHON:RESOLUTION",
        help="As 3.12:oldest, 3.12:newest or /usr/bin/python3:newest (default: every Python here, both resolutions).",
    )
    flags.add_argument("--tests", nargs="+", default=TESTS, help="Files and folders of tests (default: of results).")
    flags.add_argument("--rows", nargs="*", default=ROWS, help=f"Experiments to run (default: {' '.join(ROWS)}).")
    flags.add_argument("--processes", default="auto", help="Processes that run tests (default: one for each core).")
    flags.add_argument("--uv", action="store_true", help="Install with uv, which shares files between environments.")
    flags.add_argument("--scratch", help="Folder in which environments are made (default: the system's).")
    return flags


def parsed(text: str) -> Wanted:
    """Return the Python and the resolution that are meant."""
    python, _, resolution = text.rpartition(":")
    if not python or resolution not in RESOLUTIONS:
        raise argparse.ArgumentTypeError(f"expected PYTHON:newest or PYTHON:oldest, got {text!r}")
    return Wanted(python, resolution)


def interpreters(allowed: SpecifierSet) -> dict[str, str]:
    """Return the allowed Pythons on the path, of pyenv and of uv, as '3.12' to a file; oldest first."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [Path(folder) for folder in os.get_exec_path()]
    folders += [*home.glob("versions/*/bin"), *Path.home().glob(".local/share/uv/python/*/bin")]
    files = {}
    for file in (file for folder in folders for file in sorted(folder.glob("python3*"))):
        if re.fullmatch(r"python3(\.\d+)?", file.name):
            asked = subprocess.run([file, "-c", ASK_VERSION], capture_output=True, text=True, check=False)
            if asked.returncode == 0 and asked.stdout.strip() in allowed:  # a shim of pyenv may lead nowhere
                files.setdefault(asked.stdout.strip(), str(file))
    return {name: files[name] for name in sorted(files, key=Version)}


def lower_bounds(project: Mapping[str, Any], extra: str | None) -> dict[str, str]:
    """Return the constraint `name==lower bound` of every dependency of the project and of an extra that has a bound.

    An extra that holds other extras brings theirs; of two bounds, the higher one counts.
    """
    texts = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    bounds: dict[str, Version] = {}
    for requirement in map(Requirement, texts):
        held = [lower_bounds(project, other) for other in sorted(requirement.extras)]
        if requirement.name == project["name"]:
            lows = [(name, text.rpartition("==")[2]) for more in held for name, text in more.items()]
        else:
            lows = [(requirement.name, s.version) for s in requirement.specifier if s.operator in (">=", "==", "~=")]
        for name, low in lows:
            bounds[name] = max(Version(low), bounds.get(name, Version(low)))
    constraints = {name: f"{name}=={low}" for name, low in bounds.items()}
    return constraints if extra is None else {**lower_bounds(project, None), **constraints}


def report(
    wanted: Wanted,
    pythons: Mapping[str, str],
    project: Mapping[str, Any],
    scratch: Path,
    flags: argparse.Namespace,
    tables: Tables,
) -> tuple[str, list[str]]:
    """Make one environment; return its line of the table and what went wrong."""
    checkout = scratch / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*NOT_COPIED))
    constraints = lower_bounds(project, EXTRA).values() if wanted.resolution == "oldest" else ()
    try:
        python = installed(pythons.get(wanted.python, wanted.python), checkout, constraints, flags.uv)
        asked = subprocess.run([python, "-c", ASK_PACKAGES, *SHOWN], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        return f"| {wanted.python} | {wanted.resolution} | could not be installed |", [error.stderr.strip()]
    version, *packages = json.loads(asked.stdout)
    tests = tested(python, checkout, flags.tests, flags.processes)
    troubles = list(tests.failed)
    letters = []
    for experiment in flags.rows:
        try:
            letters.append(tables.letter(experiment, rows_of(python, checkout, experiment)))
        except subprocess.CalledProcessError as error:
            letters.append("none")
            troubles.append(f"{experiment}: {error.stderr.strip()}")
    counts = map(str, (tests.passed, tests.skipped, len(tests.failed)))
    return f"| {' | '.join((version, wanted.resolution, *packages, *counts, *letters))} |", troubles


def header(rows: Sequence[str]) -> str:
    """Return the first two lines of the table."""
    titles = ("Python", "dependencies", *SHOWN, "passed", "skipped", "failed", *(f"`{name}`" for name in rows))
    return f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|"


def installed(python: str, checkout: Path, constraints: Sequence[str], uv: bool) -> Path:
    """Make a virtual environment beside a checkout and install it there, editable; return its Python."""
    environment = checkout.parent / "environment"
    file = checkout.parent / "constraints.txt"
    file.write_text("".join(f"{line}\n" for line in constraints))
    made = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    installer = ["uv", "pip", "install", "--python", str(made)] if uv else [str(made), "-m", "pip", "install"]
    install = [*installer, "--quiet", "--constraint", str(file), "--editable", f"{checkout}[{EXTRA}]"]
    for command in ([python, "-m", "venv", str(environment)], install):
        subprocess.run(command, env=clean(checkout), capture_output=True, text=True, check=True)
    return made


def clean(checkout: Path) -> dict[str, str]:
    """Return the variables of an environment: no other Python's, and a cache of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "MAXRL_LAB_CACHE": str(checkout.parent / "cache")}


def tested(python: Path, checkout: Path, tests: Sequence[str], processes: str) -> Outcome:
    """Run tests of a checkout; a pytest that writes no report or does not get to its end is one failure more."""
    file = checkout.parent / "tests.xml"
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={file}"]
    many = ["--numprocesses", processes, "--dist", "loadfile"]
    done = subprocess.run([*command, *many, *tests], cwd=checkout, env=clean(checkout), capture_output=True, text=True)
    if not file.exists():
        return Outcome(0, 0, (f"pytest: {(done.stderr or done.stdout).strip()}",))
    cases = list(ElementTree.parse(file).getroot().iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    names = tuple(f"{case.get('classname')}::{case.get('name')}\n{case[0].get('message')}" for case in failed)
    if done.returncode not in (0, 1):  # 1: tests failed, and the report says which
        names += (f"pytest: exit status {done.returncode}\n{(done.stderr or done.stdout).strip()}",)
    return Outcome(len(cases) - len(failed) - len(skipped), len(skipped), names)


def rows_of(python: Path, checkout: Path, experiment: str) -> dict[str, str]:
    """Run an experiment at the preset `smoke`, with one thread; return its tables, name to text."""
    out = checkout.parent / "rows"
    command = [python, "-m", "experiments", "run", experiment, "--preset", "smoke", "--device", "cpu", "--quiet"]
    variables = {**clean(checkout), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "--out", out, "--pictures", out / "pictures"],
        cwd=checkout,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    files = sorted((out / "smoke" / experiment).glob("*.csv"))
    return {file.stem: file.read_text() for file in files if file.stem not in CLOCKS}


def difference(tables: Mapping[str, str], others: Mapping[str, str]) -> float:
    """Return the largest difference of two numbers of tables, divided by the larger one where that exceeds 1.

    Infinite if words, columns or the number of rows differ.
    """
    if tables.keys() != others.keys():
        return math.inf
    return max(
        (_apart(one, other) for name in tables for one, other in _pairs(tables[name], others[name])), default=0.0
    )


def _pairs(table: str, other: str) -> Iterator[tuple[str, str]]:
    """Yield the cells of two tables side by side; ('', 'more') where one has more."""
    first, second = (list(csv.reader(text.splitlines())) for text in (table, other))
    if [len(row) for row in first] != [len(row) for row in second]:
        yield "", "more"
        return
    for row, beside in zip(first, second, strict=True):
        yield from zip(row, beside, strict=True)


def _apart(one: str, other: str) -> float:
    """Return the difference of two cells; a number and none, or one and infinity, differ by infinity."""
    if one == other:
        return 0.0
    try:
        a, b = float(one), float(other)
    except ValueError:
        return math.inf
    apart = abs(a - b) / max(1.0, abs(a), abs(b))
    return math.inf if math.isnan(apart) else apart


if __name__ == "__main__":
    sys.exit(main())
