"""The zip for Gradescope: unpacked as Gradescope unpacks it, and run with the submission of a student."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from course import autograder, copy
from maxrl_lab import command


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The folder /autograder, with the zip in `source`."""
    folder = tmp_path_factory.mktemp("autograder")
    assert command.main(["course", "--gradescope", str(folder / "grader.zip")]) == 0
    with zipfile.ZipFile(folder / "grader.zip") as archive:
        for item in archive.infolist():
            path = Path(archive.extract(item, folder / "source"))
            path.chmod(item.external_attr >> 16 or 0o644)
    return folder


def test_it_holds_what_the_grader_needs_and_no_solution(unpacked):
    names = {path.relative_to(unpacked / "source").as_posix() for path in (unpacked / "source").rglob("*")}
    assert {"setup.sh", "run_autograder", "pyproject.toml", "course/grade.py", "envs/gridworld/levels.py"} <= names
    assert not [name for name in names if re.search(r"solutions/|explorer/|lessons/|__pycache__|tests/", name)]
    assert (unpacked / "grader.zip").stat().st_size < 2e6


def test_torch_without_cuda_comes_first(unpacked):
    text = (unpacked / "source" / "setup.sh").read_text()
    lines = [line for line in text.splitlines() if "pip install" in line and "--upgrade" not in line]
    (requirement,) = [text for text in metadata.requires("maxrl-lab") if text.startswith("torch")]
    installed = shlex.split(lines[0])
    assert Requirement(installed[-3]) == Requirement(requirement)  # another torch would be replaced, by one with CUDA
    assert installed[-2:] == ["--index-url", "https://download.pytorch.org/whl/cpu"]
    assert lines[1].endswith(" .")
    for script in ("setup.sh", "run_autograder"):
        assert os.access(unpacked / "source" / script, os.X_OK)
        subprocess.run(["bash", "-n", str(unpacked / "source" / script)], check=True)


def run(unpacked, by="email"):
    """Run the autograder as Gradescope does, with the Python of the tests."""
    environment = {**os.environ, "AUTOGRADER": str(unpacked), "PYTHON": sys.executable, "BY": by}
    script = [str(unpacked / "source" / "run_autograder")]
    return subprocess.run(script, env=environment, cwd=unpacked, capture_output=True, text=True, check=False)


def test_a_submission_is_graded_with_the_students_parameters(unpacked):
    submission, solutions = unpacked / "submission", Path(autograder.__file__).with_name("solutions")
    shutil.rmtree(submission, ignore_errors=True)
    copy.copy(submission, "somebody else")  # what the folder says does not count
    for name in ("lesson_1.py", "lesson_2.py"):
        shutil.copy(solutions / name, submission / name)
    for number in (4, 5):
        (submission / f"lesson_{number}.py").unlink()
    described = {"users": [{"name": "Ada Lovelace", "email": "ada@school.edu"}]}
    (unpacked / "submission_metadata.json").write_text(json.dumps(described))
    done = run(unpacked)
    assert done.returncode == 0, done.stderr
    results = json.loads((unpacked / "results" / "results.json").read_text())
    scores = {test["name"]: test["score"] for test in results["tests"]}
    assert results["output"] == "parameters of: ada@school.edu"
    assert len(scores) == 16
    assert (scores["weight"], scores["rloo"], scores["order_t"], scores["pass_at_k"]) == (2, 2, 0, 0)
    assert "there is no file lesson_5.py" in results["tests"][-1]["output"]


def test_without_a_name_it_grades_nothing(unpacked):
    """A submission without the field that says whose it is must not be graded with the parameters of no name."""
    (unpacked / "submission").mkdir(exist_ok=True)
    (unpacked / "submission_metadata.json").write_text("{}")
    shutil.rmtree(unpacked / "results", ignore_errors=True)
    assert run(unpacked).returncode != 0
    assert not (unpacked / "results" / "results.json").exists()
