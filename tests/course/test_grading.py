"""The verbs `course` and `grade`, and `pytest` in a student's folder: stubs, solutions, formats, exit statuses."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course import copy, exercises, formats, grade
from course.parameters import parameters_of
from maxrl_lab import command
from maxrl_lab.errors import InputError

SOLUTIONS = Path(exercises.__file__).with_name("solutions")
POINTS = 41


@pytest.fixture
def folder(tmp_path):
    copy.copy(tmp_path / "answers", None)
    return tmp_path / "answers"


@pytest.fixture(scope="module")
def solved():
    """The results of the solutions."""
    return list(grade.grade(SOLUTIONS, parameters_of(None)))


def test_there_are_sixteen_exercises_for_41_points():
    assert [exercise.number for exercise in exercises.EXERCISES.values()] == [
        *(
            "1.1",
            "1.2",
            "1.3",
            "2.1",
            "2.2",
            "2.3",
            "2.4",
            "3.1",
            "3.2",
            "3.3",
            "4.1",
            "4.2",
            "4.3",
            "5.1",
            "5.2",
            "5.3",
        )
    ]
    assert sum(exercise.points for exercise in exercises.EXERCISES.values()) == POINTS


def test_the_syllabus_has_every_exercise_with_its_points():
    page = Path(exercises.__file__).with_name("README.md").read_text()
    rows = re.findall(r"^\| (\d\.\d) \| `(\w+)` \| (\d+) \|", page, re.M)
    listed = [(exercise.number, exercise.name, str(exercise.points)) for exercise in exercises.EXERCISES.values()]
    assert rows == listed
    assert f"{POINTS} points in all" in page


def test_every_solution_is_right(solved):
    assert {result.exercise.name: result.message for result in solved if not result.passed} == {}
    assert formats.points(solved) == f"points: {POINTS} of {POINTS}"


def test_the_stubs_are_not_done_yet(folder, capsys):
    names = [name for name in exercises.EXERCISES if name not in ("fix_it", "chances")]
    assert command.main(["grade", str(folder), *names]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(names) + 1  # a line each, and the sum
    assert all(line.endswith("not done yet") for line in lines[:-1])
    assert lines[-1] == "points: 0 of 36"


def test_a_stub_names_what_is_asked(tmp_path):
    copy.copy(tmp_path, "Ada Lovelace")
    asked = parameters_of("ada lovelace")
    texts = {path.name: path.read_text() for path in tmp_path.glob("*")}
    assert not [name for name, text in texts.items() if "$" in text]
    assert f"Unbiased for pass@{asked.k} at every N >= {asked.k}" in texts["lesson_2.py"]
    assert f"order T = {asked.order} at every N >= {asked.order}" in texts["lesson_2.py"]
    assert f"with {asked.answers} equally likely answers, of which {asked.right} are right" in texts["lesson_3.py"]
    assert copy.student_of(tmp_path) == "Ada Lovelace"
    assert copy.student_of(SOLUTIONS) is None


def test_the_boxes_are_the_functions_that_are_asked(folder):
    namespace = {}
    exec((folder / "boxes.py").read_text(), namespace)
    for letter, box in parameters_of(None).lettered().items():
        for successes in range(7):
            advantages = namespace[f"box_{letter}"]([1] * successes + [0] * (6 - successes))
            wanted = [box.success[successes]] * successes + [box.failure[successes]] * (6 - successes)
            assert advantages.tolist() == wanted


def test_course_copies_and_never_overwrites(tmp_path, capsys):
    target = tmp_path / "new" / "answers"
    assert command.main(["course", str(target)]) == 0
    files = {"README.md", "boxes.py", "test_exercises.py", *(f"lesson_{number}.py" for number in range(1, 6))}
    assert {path.name for path in target.iterdir()} == files
    (target / "lesson_1.py").write_text("mine")
    assert command.main(["course", str(target), "--student", "ada"]) == 2
    assert (target / "lesson_1.py").read_text() == "mine"
    assert not (target / "student.txt").exists()
    assert "answers are not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grade", "no_such_folder"], "there is no folder no_such_folder"),
        (["grade", ".", "rlo"], "unknown exercise 'rlo'; choose one of: weight, terms"),
        (["grade", ".", "--format", "xml"], "invalid choice: 'xml'"),
        (["grade", ".", "rloo", "--practice"], "--practice belongs to the exercise budget"),
        (["course"], "give a folder for the exercises, or --gradescope FILE.zip"),
        (["course", "--gradescope", "grader.tar"], "give a name that ends in .zip, got grader.tar"),
        (["lesson", "6"], "invalid choice: 6"),
    ],
)
def test_bad_input_ends_in_one_line(arguments, message, capsys):
    assert command.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_practice_trains_on_other_levels(folder, capsys):
    shutil.copy(SOLUTIONS / "lesson_4.py", folder)
    assert command.main(["grade", str(folder), "--practice"]) == 0
    assert "grpo at N = 32, rate 3, 75 updates: mean pass rate 0.9" in capsys.readouterr().out


def test_json_has_every_message(solved):
    described = json.loads(formats.as_json(solved, "ada"))
    assert (described["student"], described["score"], described["points"]) == ("ada", POINTS, POINTS)
    assert [row["name"] for row in described["exercises"]] == list(exercises.EXERCISES)
    assert all(row["message"] == "right" and row["seconds"] >= 0 for row in described["exercises"])


def test_gradescope_reads_what_it_expects(folder):
    results = list(grade.grade(folder, parameters_of(None), ("rloo", "quiet")))
    described = json.loads(formats.as_gradescope(results, None))
    assert described["score"] == 0
    assert [test["status"] for test in described["tests"]] == ["failed", "failed"]
    assert [test["max_score"] for test in described["tests"]] == [2, 4]
    assert {"name", "number", "score", "max_score", "status", "output", "visibility"} <= set(described["tests"][0])
    assert {test["visibility"] for test in described["tests"]} == {"visible"}


def test_classroom50_reads_what_it_expects(solved):
    environment = {"CLASSROOM": "rl", "ASSIGNMENT": "maxrl", "SUBMISSION_TAG": "s1", "COMMIT_URL": "c"}
    described = formats.classroom50(solved, None, environment)
    assert described["schema"] == "classroom50/result/v1"
    assert (described["classroom"], described["assignment"], described["review"]) == ("rl", "maxrl", "c")
    assert (described["score"], described["max-score"]) == (POINTS, POINTS)
    assert all(isinstance(test["score"], int) and test["passed"] is True for test in described["tests"])
    assert list(described["tests"][0]) == ["test-name", "passed", "score", "max-score", "message"]


def test_a_report_goes_to_a_file(folder, tmp_path, capsys):
    report = tmp_path / "report.txt"
    assert command.main(["grade", str(folder), "rloo", "--out", str(report), "--student", "ada"]) == 1
    assert capsys.readouterr().out == ""
    assert report.read_text().splitlines()[0] == "student: ada"


def test_pytest_in_the_folder_says_the_same(folder):
    """From the folder, whose name for a package of the lab's does no harm."""
    shutil.copy(SOLUTIONS / "lesson_1.py", folder)
    (folder / "lesson_2.py").write_text("def rloo(rewards):\n    return rewards - rewards.mean(-1, keepdims=True)\n")
    (folder / "figures").mkdir()
    command_line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "weight or mixture or rloo"]
    done = subprocess.run([*command_line, "."], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 2 passed" in done.stdout  # table_weight is one of those asked for
    assert "0 of 2 points\n\nN = 2: it optimises expected_reward, times 0.5; asked is expected_reward" in done.stdout
    assert "getting it right is worth 0.5;" in done.stdout
    assert "0 of 2 points\n\nnot done yet" in done.stdout


TORCH = """
    rewards = torch.as_tensor(rewards)
    others = rewards.sum(-1, keepdim=True) - rewards
    return rewards - others / (rewards.shape[-1] - 1)
"""


@pytest.mark.parametrize(
    "beginning",
    ["import math, torch\n\ndef rloo(rewards):", "\ufeffimport torch\ndef rloo(rewards):"],
    ids=["one line for two", "byte order mark"],
)
def test_torch_may_be_imported_in_any_way(tmp_path, beginning):
    (tmp_path / "lesson_2.py").write_text(beginning + TORCH, encoding="utf-8")
    (result,) = grade.grade(tmp_path, parameters_of(None), ("rloo",))
    assert result.message == "right"


def test_a_neighbour_may_import_torch_and_a_stub_may_keep_its_last_line(tmp_path):
    """The file itself gets arrays, as it does not import torch."""
    (tmp_path / "scratch.py").write_text("import torch\n\ndef difference(rewards):" + TORCH)
    lines = (
        "import numpy",
        "from scratch import difference",
        "def rloo(rewards):",
        "    assert isinstance(rewards, numpy.ndarray)",
        "    return difference(rewards)",
        "    raise NotImplementedError",
    )
    (tmp_path / "lesson_2.py").write_text("\n".join(lines))
    (result,) = grade.grade(tmp_path, parameters_of(None), ("rloo",))
    assert result.message == "right"


def test_a_file_in_place_of_the_folder_is_told(folder):
    with pytest.raises(InputError, match=r"lesson_1\.py is a file; give its folder"):
        list(grade.grade(folder / "lesson_1.py", parameters_of(None)))
