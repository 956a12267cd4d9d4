"""Mutation score: how many small changes to the code do the tests notice?

    make mutation                                         (a random sample of the mutants of each part)
    python tests/mutation.py --sample 150 --seed 1        (another sample)
    python tests/mutation.py tabular                      (all mutants of one part)
    python tests/mutation.py core --only 'maxrl_lab.estimators.pass_at_k.*' 'maxrl_lab.exact.x_bias__mutmut_3'

Copies the library and the tests that are about one part of it to a scratch folder, runs mutmut over the files of that
part there, and prints every mutant that no test noticed as a diff. Ends with the score of each part, for a sample with
Wilson's 95% interval; exit status 1 if one is below 95%, a sample's with its whole interval. A mutant whose tests take
much longer than they did without it is stopped, and counts as noticed. The slowest tests are left out, so that most
mutants take a second or two; what only those would notice counts as a survivor.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from maxrl_lab.intervals import wilson_interval

ROOT = Path(__file__).parent.parent


class Part(NamedTuple):
    """Files that are mutated, below `maxrl_lab`, and the test files that are about them, below `tests`."""

    mutated: tuple[str, ...]
    tests: tuple[str, ...]


PARTS = {
    "core": Part(
        ("objectives.py", "exact.py", "bernstein.py", "estimators/*.py"),
        (
            "theory/test_combinatorics.py",
            "theory/test_specs.py",
            "theory/test_objectives.py",
            "theory/test_estimators.py",
            "theory/test_bernstein.py",
            "theory/test_exact.py",
            "theory/test_from_objective.py",
            "theory/test_ragged.py",
            "theory/test_graded.py",
            "theory/test_published_tables.py",
            "theory/test_probe.py",
            "theory/test_evaluate.py",
        ),
    ),
    "training": Part(
        ("training/*.py", "classification.py"),
        ("training/test_*.py", "test_classification.py", "policies/test_stack.py"),
    ),
    "tabular": Part(
        ("tabular/*.py", "thresholds.py"),
        ("tabular/test_*.py", "test_thresholds.py", "envs/test_minigrid.py", "feedback/test_soft_control.py"),
    ),
}
LEFT_OUT = (
    "envs/test_minigrid.py::TestParity",
    "envs/test_minigrid.py::TestTables::test_the_full_view_shows_more_than_the_partial_one",
    "policies/test_stack.py::TestTrainedAloneOrTogether::test_each_of_20_mixed_runs_gets_what_it_gets_alone",
    "tabular/test_rollout.py::TestFrequencies::test_every_path_comes_as_often_as_it_should",
    "tabular/test_study.py::TestRealLevels::test_sampled_gradients_average_to_the_expected_one",
    "tabular/test_study.py::TestSweep::test_a_run_alone_is_the_run_in_a_sweep_of_twenty",
    "tabular/test_table_cache.py::test_that_warning_points_at_the_line_that_asked_for_the_tasks",
    "tabular/test_tabulating.py::TestWrappers::test_minigrid_by_deep_copies_is_minigrid_by_reference",
    "tabular/test_tabulating.py::test_tables_and_training_need_no_gymnasium",
    "theory/test_estimators.py::test_groups_of_a_batch_do_not_see_each_other",
    "theory/test_estimators.py::test_permuting_the_rewards_permutes_the_advantages",
    "theory/test_from_objective.py::test_all_forms_of_a_polynomial_have_its_mean",
)
"""Tests of the files above that take a second or more, start another process, or count frames (mutmut adds some)."""
NOTICED = ("killed", "timeout", "segfault")
WANTED = 0.95
CONFIGURATION = """
[tool.mutmut]
source_paths = ["maxrl_lab/"]
only_mutate = [{mutated}]
pytest_add_cli_args_test_selection = ["tests/"]
pytest_add_cli_args = [{slow}"-p", "no:maxrl_lab", "-p", "no:cacheprovider", "-x"]
also_copy = ["conftest.py", "maxrl_lab/", "tests/", "experiments/", "envs/"]
process_isolation = "forkserver"  # a child that has run no test: what is cached, is cached under the mutant
timeout_multiplier = 10.0  # of the time that the tests take without a mutant, for machines that are busy
timeout_constant = 12.0

[tool.pytest.ini_options]
addopts = "-q -m 'not slow'"
markers = ["slow"]
pythonpath = [".", "tests/support"]
"""
CONFTEST = """
import torch._dynamo  # torch.optim does on first use: paid once here, not in the child of every mutant
from hypothesis import Phase, settings
# the first example that fails is enough: no simpler one is looked for
settings.register_profile("first_failure", phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
settings.load_profile("first_failure")
"""
LIST_MUTANTS = """
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import get_mutant_name
for path in walk_mutatable_files():
    for name in mutate_file_contents(str(path), path.read_text()).mutant_names:
        print(get_mutant_name(path, name))
"""


class Score(NamedTuple):
    """How many mutants were tried of how many there are, and what became of them."""

    outcomes: Mapping[str, str]
    """Mutant to outcome, as mutmut calls it."""
    mutants: int

    @property
    def noticed(self) -> int:
        """The number of mutants that a test noticed."""
        return sum(outcome in NOTICED for outcome in self.outcomes.values())

    @property
    def bounds(self) -> tuple[float, float]:
        """Between what the share of noticed mutants lies: one number where every mutant was tried."""
        if len(self.outcomes) == self.mutants:
            return self.noticed / self.mutants, self.noticed / self.mutants
        interval = wilson_interval(self.noticed, len(self.outcomes))
        return float(interval.low), float(interval.high)

    def line(self, name: str) -> str:
        """Return the score in words; the interval of a sample, none where every mutant was tried."""
        tried, (low, high) = len(self.outcomes), self.bounds
        line = f"{name}: {self.noticed} of {tried} mutants noticed, {self.noticed / tried:.1%}"
        if tried < self.mutants:
            line += f" (95% interval {low:.1%} to {high:.1%}; a sample of {self.mutants})"
        counts = Counter(self.outcomes.values()).most_common()
        return f"{line}: {', '.join(f'{count} {outcome}' for outcome, count in counts)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run mutmut on each part in a scratch folder and report."""
    parser = argparse.ArgumentParser(prog="mutation", description="how many small changes do the tests notice?")
    parser.add_argument("parts", nargs="*", help=f"Parts of the library: {', '.join(PARTS)} (default: all of them).")
    parser.add_argument("--sample", type=int, help="Number of mutants of each part, at random (default: all).")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the sample (default: 0).")
    parser.add_argument("--only", nargs="+", default=["*"], help="Names or patterns of the mutants (default: all).")
    parser.add_argument("--children", type=int, default=2, help="Mutants that are tried at a time (default: 2).")
    flags = parser.parse_args(arguments)
    if unknown := set(flags.parts) - set(PARTS):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    scores = {}
    for name in flags.parts or PARTS:
        with tempfile.TemporaryDirectory() as scratch:
            copy_project(Path(scratch), PARTS[name])
            mutants = list_mutants(Path(scratch))
            wanted = [mutant for mutant in mutants if any(fnmatchcase(mutant, pattern) for pattern in flags.only)]
            tried = choose(wanted, flags.sample, flags.seed)
            if tried:
                scores[name] = Score(try_mutants(Path(scratch), tried, flags.children), len(wanted))
    print("", *(score.line(name) for name, score in scores.items()), sep="\n")
    return int(not scores or any(score.bounds[1] < WANTED for score in scores.values()))


def copy_project(folder: Path, part: Part) -> None:
    """Copy the library and the tests of a part, as they lie in the checkout, and say what is to be changed."""
    for room in ("maxrl_lab", "tests/golden", "tests/support", "experiments", "envs"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for pattern in ("conftest.py", *part.tests):
        for file in (ROOT / "tests").glob(pattern):
            copy = folder / file.relative_to(ROOT)
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(file, copy)
    mutated = ", ".join(f'"maxrl_lab/{name}"' for name in part.mutated)
    slow = "".join(f'"--deselect", "tests/{name}", ' for name in LEFT_OUT)
    (folder / "pyproject.toml").write_text(CONFIGURATION.format(mutated=mutated, slow=slow))
    (folder / "conftest.py").write_text(CONFTEST)


def list_mutants(folder: Path) -> list[str]:
    """Return the names of all mutants of the copied project, sorted."""
    return sorted(in_folder(folder, [sys.executable, "-c", LIST_MUTANTS]).split())


def choose(mutants: Sequence[str], size: int | None, seed: int) -> list[str]:
    """Return a random sample of that size, drawn without replacement; all of them if there are no more."""
    return list(mutants) if size is None or size >= len(mutants) else random.Random(seed).sample(mutants, size)


def try_mutants(folder: Path, mutants: Sequence[str], children: int) -> dict[str, str]:
    """Run the tests on each of the mutants; print those that were not noticed, and return what became of all."""
    mutmut = str(Path(sys.executable).with_name("mutmut"))
    command = [mutmut, "run", "--max-children", str(children), *mutants]
    subprocess.run(command, cwd=folder, env=environment(folder), check=True)
    results = in_folder(folder, [mutmut, "results", "--all", "true"])
    known = dict(re.findall(r"^\s*(\S+): (.+)$", results, flags=re.MULTILINE))
    outcomes = {mutant: known[mutant] for mutant in mutants}
    for mutant, outcome in outcomes.items():
        if outcome != "killed":
            print(f"\n# {outcome}: {mutant}\n{in_folder(folder, [mutmut, 'show', mutant])}", flush=True)
    return outcomes


def in_folder(folder: Path, command: Sequence[str]) -> str:
    """Return what a command prints in the scratch folder."""
    run = subprocess.run(command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True, check=True)
    return run.stdout


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of the commands; one thread each, because forked workers hang in torch's thread pool."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"}


if __name__ == "__main__":
    sys.exit(main())
