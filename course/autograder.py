"""The zip that Gradescope builds an autograder from: `setup.sh`, `run_autograder`, the library, the worlds, the course.

PyTorch is installed first, from the index of builds without CUDA, because the build that the package index gives a
Linux machine brings several gigabytes of CUDA. The student's name, or e-mail address, is that of the submission.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from maxrl_lab.errors import InputError
from maxrl_lab.extras import CHECKOUT

FOLDERS = ("maxrl_lab", "envs", "course")
FILES = ("pyproject.toml", "README.md", "LICENSE")
LEFT_OUT = ("__pycache__", "explorer", "lessons", "solutions")
INDEX = "https://download.pytorch.org/whl/cpu"
SETUP = """#!/usr/bin/env bash
# Python 3.10 or newer, PyTorch without CUDA, and then the library, which finds that PyTorch.
set -euo pipefail
cd /autograder/source
if ! command -v python3 >/dev/null || ! python3 -m venv --help >/dev/null 2>&1; then
    apt-get update -qq && apt-get install -y -qq python3 python3-venv
fi
python3 -m venv /autograder/venv
/autograder/venv/bin/python -m pip install --quiet --upgrade pip
/autograder/venv/bin/python -m pip install --quiet '{torch}' --index-url {index}
/autograder/venv/bin/python -m pip install --quiet .
"""
RUN = """#!/usr/bin/env bash
# Grade /autograder/submission with the parameters of whoever has submitted it.
set -uo pipefail
AUTOGRADER="${AUTOGRADER:-/autograder}"
PYTHON="${PYTHON:-$AUTOGRADER/venv/bin/python}"
mkdir -p "$AUTOGRADER/results"
cd "$AUTOGRADER/source"
export PYTHONPATH="$AUTOGRADER/source"
BY="${BY:-email}"    # email or name; empty for the parameters of no name
NAME=""
if [ -n "$BY" ]; then
    NAME="$("$PYTHON" -c 'import json, sys; print(json.load(open(sys.argv[1]))["users"][0][sys.argv[2]])' \\
        "$AUTOGRADER/submission_metadata.json" "$BY")" || exit 1
fi
"$PYTHON" -m course grade "$AUTOGRADER/submission" --format gradescope --student "$NAME" \\
    --out "$AUTOGRADER/results/results.json"
[ $? -le 1 ]    # 1: not every point is earned; 2: the grader cannot run
"""


def write(path: Path) -> int:
    """Write the zip and return the number of its files; raise `InputError` for a name that does not end in .zip."""
    if path.suffix != ".zip":
        raise InputError(f"an autograder is a zip: give a name that ends in .zip, got {path}")
    files = list(_files())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        setup = SETUP.format(torch=torch_requirement(), index=INDEX)
        for name, text in (("setup.sh", setup), ("run_autograder", RUN)):
            described = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))
            described.external_attr = 0o755 << 16
            archive.writestr(described, text)
        for file in files:
            archive.write(file, file.relative_to(CHECKOUT))
    return len(files) + 2


def torch_requirement() -> str:
    """Return what the library asks of torch: another version would be replaced by the build with CUDA."""
    (requirement,) = re.findall(
        r'^ +"(torch[<>=][^"]*)"', (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"), re.M
    )
    return str(requirement)


def _files() -> Iterator[Path]:
    """Every file that the grader needs; no solutions."""
    for folder in FOLDERS:
        for file in sorted((CHECKOUT / folder).rglob("*")):
            if file.is_file() and not set(file.relative_to(CHECKOUT).parts) & set(LEFT_OUT):
                yield file
    yield from (CHECKOUT / name for name in FILES)
