"""What `make test-versions` reads, runs and prints: bounds, Pythons, counts of tests, and differences of rows."""

import argparse
import os
import sys
from pathlib import Path

import pytest
import versions
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PROJECT = {
    "name": "a-lab",
    "dependencies": ["torch>=2.6,<2.14", "numpy>=1.26"],
    "optional-dependencies": {
        "lab": ["pandas>=2.2", "pytest>=7", "tqdm"],
        "course": ["a-lab[lab]", "marimo~=0.25", "pytest>=8"],
        "dev": ["a-lab[course]", "pytest>=8.1; python_version < '3'", "navix==0.7.4", "numpy>=1.25"],
        "docs": ["mkdocs>=1.6"],
    },
}


def project_of_this_checkout():
    return versions.tomllib.loads((versions.ROOT / "pyproject.toml").read_text())["project"]


def test_lower_bounds_of_an_extra_and_of_all_that_it_holds():
    assert versions.lower_bounds(PROJECT, None) == {"torch": "torch==2.6", "numpy": "numpy==1.26"}
    assert set(versions.lower_bounds(PROJECT, "dev").values()) == {
        "torch==2.6",
        "numpy==1.26",  # the base asks for more than the extra
        "pandas==2.2",
        "marimo==0.25",
        "navix==0.7.4",
        "pytest==8.1",  # the highest of three; tqdm has no bound
    }


def test_every_dependency_of_the_project_has_a_lower_bound_that_it_allows():
    project = project_of_this_checkout()
    bounds = versions.lower_bounds(project, versions.EXTRA)
    extras = project["optional-dependencies"]
    requirements = map(Requirement, [*project["dependencies"], *extras["lab"], *extras["course"], *extras["dev"]])
    for requirement in (item for item in requirements if item.name != project["name"]):
        assert requirement.specifier.contains(bounds[requirement.name].rpartition("==")[2], prereleases=True)


def test_pythons_on_the_path_that_are_allowed_and_that_start(tmp_path, monkeypatch):
    answers = {"python3.10": "3.10", "python3.9": "3.9", "python3": "3.14", "python3-config": "3.12"}
    for name, answer in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho {answer}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3.13").write_text("#!/bin/sh\necho 3.13\nexit 127\n")  # a shim of pyenv that leads nowhere
    (tmp_path / "python3.13").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    pythons = versions.interpreters(SpecifierSet(">=3.10"))
    assert list(pythons.items()) == [("3.10", str(tmp_path / "python3.10")), ("3.14", str(tmp_path / "python3"))]


@pytest.mark.parametrize("text", ["3.12", "3.12:newer", ":newest"])
def test_an_environment_that_says_too_little_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected PYTHON:newest or PYTHON:oldest, got"):
        versions.parsed(text)
    assert versions.parsed("/usr/bin/python3:oldest") == ("/usr/bin/python3", "oldest")


def test_tests_are_counted(tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "test_small.py").write_text(
        "import os, pytest\n"
        "@pytest.mark.parametrize('number', [1, 2, 3])\n"
        "def test_right(number): assert number\n"
        "def test_alone(): assert os.environ['MAXRL_LAB_CACHE'].endswith('cache') and 'PYTHONPATH' not in os.environ\n"
        "def test_wrong(): assert 1 == 2\n"
        "def test_broken(missing): pass\n"
        "def test_skipped(): pytest.skip('no')\n"
    )
    outcome = versions.tested(Path(sys.executable), checkout, ["test_small.py"], "0")
    assert (outcome.passed, outcome.skipped) == (4, 1)
    assert [line.partition("\n")[0] for line in outcome.failed] == ["test_small::test_wrong", "test_small::test_broken"]
    assert "assert 1 == 2" in outcome.failed[0]


def test_a_pytest_that_cannot_start_is_a_failure(tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    outcome = versions.tested(Path(sys.executable), checkout, ["--no-such-flag"], "0")
    assert (outcome.passed, outcome.skipped, len(outcome.failed)) == (0, 0, 1)
    assert "--no-such-flag" in outcome.failed[0]


def test_a_pytest_that_is_interrupted_is_a_failure(tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "test_small.py").write_text(
        "def test_right(): pass\ndef test_interrupted(): raise KeyboardInterrupt\ndef test_never_run(): pass\n"
    )
    outcome = versions.tested(Path(sys.executable), checkout, ["test_small.py"], "0")
    assert outcome.passed < 3
    assert [line.partition("\n")[0] for line in outcome.failed] == ["pytest: exit status 2"]


TABLE = "name,step,pass_rate\nmaxrl,1,0.25\nrloo,2,1000.0\n"


@pytest.mark.parametrize(
    ("other", "apart"),
    [
        (TABLE, 0.0),
        (TABLE.replace("0.25", "0.250"), 0.0),
        (TABLE.replace("0.25", "0.26"), 0.01),  # below 1 as it is
        (TABLE.replace("1000.0", "1010.0"), 10 / 1010),  # above 1 in parts of the larger number
        (TABLE.replace("rloo", "grpo"), float("inf")),
        (TABLE.replace("step", "time"), float("inf")),
        (TABLE + "grpo,3,0.5\n", float("inf")),
        (TABLE.replace("0.25", "nan"), float("inf")),
        (TABLE.replace("0.25", ""), float("inf")),
    ],
)
def test_difference_of_tables(other, apart):
    assert versions.difference({"rows": other}, {"rows": TABLE}) == pytest.approx(apart)
    assert versions.difference({"rows": TABLE}, {"rows": other}) == pytest.approx(apart)


def test_difference_where_a_table_is_missing():
    assert versions.difference({"rows": TABLE}, {"rows": TABLE, "sweep": TABLE}) == float("inf")


def test_tables_of_the_same_bytes_share_a_letter():
    tables = versions.Tables()
    first, second, third = ({"rows": TABLE.replace("0.25", number)} for number in ("0.25", "0.26", "0.35"))
    letters = [tables.letter("navigation", rows) for rows in (first, second, first, second, third)]
    assert letters == ["A", "B (1e-02)", "A", "B (1e-02)", "C (1e-01)"]
    assert tables.letter("coverage", second) == "A"  # another experiment has letters of its own


@pytest.mark.skipif(os.name == "nt", reason="a stand-in for Python that is a shell script")
def test_an_environment_that_cannot_be_made_is_a_line_and_a_failure(tmp_path, monkeypatch, capsys):
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho 'no module venv' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))  # the Pythons of this machine take seconds to start
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(versions, "ROOT", tmp_path / "checkout")
    (tmp_path / "checkout").mkdir()
    text = '[project]\nname = "a"\nrequires-python = ">=3.10"\ndependencies = []\noptional-dependencies = {dev = []}\n'
    (tmp_path / "checkout" / "pyproject.toml").write_text(text)
    assert versions.main([f"{python}:oldest", "--rows", "--scratch", str(tmp_path)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[2:] == [
        f"| {python} | oldest | could not be installed |",
        f"{python} oldest: no module venv",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkout", "python3"]  # the scratch is gone


def test_what_is_run_is_there():
    assert all((versions.ROOT / path).exists() for path in versions.TESTS)
