"""Mutation score of the exact core: how many small changes to its code does the test suite notice?

    make mutation                                     (about ten minutes on 2 cores)
    python tests/mutation.py estimators/pass_at_k.py  (one file, or several)

Copies the library and the tests of its theory to a scratch folder, runs mutmut over objectives.py, exact.py,
bernstein.py and the files of estimators/ there, prints every surviving mutant as a diff, and ends with the score; exit
status 1 below 90%.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
MUTATED = ("objectives.py", "exact.py", "bernstein.py", "estimators/*")
TESTS = (
    "combinatorics",
    "specs",
    "objectives",
    "estimators",
    "bernstein",
    "exact",
    "from_objective",
    "ragged",
    "graded",
    "published_tables",
    "probe",
    "evaluate",
)
WANTED = 0.90
CONFIGURATION = """
[tool.mutmut]
source_paths = ["maxrl_lab/"]
only_mutate = [{mutated}]
pytest_add_cli_args_test_selection = ["tests/"]
pytest_add_cli_args = ["-p", "no:maxrl_lab", "-p", "no:cacheprovider", "-x"]
also_copy = ["maxrl_lab/", "tests/", "experiments/"]

[tool.pytest.ini_options]
addopts = "-q"
pythonpath = [".", "tests/support"]
"""


def main(mutated: Sequence[str] = MUTATED) -> int:
    """Run mutmut in a scratch folder and report."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        copy_project(folder, mutated)
        # one thread: forked workers hang in torch's thread pool
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
        mutmut = [str(Path(sys.executable).with_name("mutmut"))]
        subprocess.run([*mutmut, "run", "--max-children", "2"], cwd=folder, env=environment, check=False)
        results = subprocess.run(
            [*mutmut, "results", "--all", "true"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        outcomes = dict(re.findall(r"^\s*(\S+): (.+)$", results, flags=re.MULTILINE))
        for mutant, outcome in outcomes.items():
            if outcome not in ("killed", "timeout"):
                print(f"\n# {outcome}: {mutant}")
                subprocess.run([*mutmut, "show", mutant], cwd=folder, env=environment, check=False)
    caught = sum(outcome in ("killed", "timeout") for outcome in outcomes.values())
    print(f"\n{caught} of {len(outcomes)} mutants noticed: {caught / max(1, len(outcomes)):.1%}")
    return 0 if outcomes and caught >= WANTED * len(outcomes) else 1


def copy_project(folder: Path, mutated: Sequence[str]) -> None:
    """Copy the library and the tests of its theory, as they lie in the checkout, and say what is to be changed."""
    shutil.copytree(ROOT / "maxrl_lab", folder / "maxrl_lab")
    for room in ("tests/golden", "tests/support", "experiments"):  # the tests' support asks the catalogue
        shutil.copytree(ROOT / room, folder / room)
    for name in ("conftest.py", *(f"theory/test_{name}.py" for name in TESTS)):
        file = folder / "tests" / name
        file.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "tests" / name, file)
    patterns = ", ".join(f'"maxrl_lab/{name}"' for name in mutated)
    (folder / "pyproject.toml").write_text(CONFIGURATION.format(mutated=patterns))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or MUTATED))
