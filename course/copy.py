"""A folder for a student: the stubs with the student's numbers in them, the boxes, and the student's name."""

from pathlib import Path
from string import Template

from course.checks import budget
from course.parameters import BOX_LETTERS, BOX_ROLLOUTS, Parameters, parameters_of
from maxrl_lab.errors import InputError

STUBS = Path(__file__).parent / "student"
NAME_FILE = "student.txt"
_BOXES = '''"""Exercise 2.4: six advantage functions as tables. `maxrl-lab course` has made this file."""

import numpy as np

TABLES = {
    # letter: a(K), the advantage of a success, and b(K), that of a failure, for K = 0, 1, ... of $rollouts successes
$rows
}


def _look_up(letter, rewards):
    rewards = np.asarray(rewards)
    if rewards.shape[-1] != $rollouts:
        raise ValueError("a box takes groups of $rollouts rollouts")
    successes = rewards.sum(-1, keepdims=True).astype(int)
    success, failure = (np.array(column)[successes] for column in TABLES[letter])
    return np.where(rewards == 1, success, failure)
$functions'''
_BOX = '''

def box_$letter(rewards):
    """Return the advantages of box $letter for rewards (6,) or (B, 6)."""
    return _look_up("$letter", rewards)
'''


def copy(folder: Path, student: str | None) -> list[str]:
    """Write the exercises into a folder, which is made if need be, and return the names of the files.

    Raises `InputError` if one of them is there already: answers are never overwritten.
    """
    asked = parameters_of(student)
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(STUBS.glob("*")) if path.is_file()}
    files = {name: text if name.startswith("test_") else filled(text, asked) for name, text in texts.items()}
    files["boxes.py"] = boxes(asked)
    if student:
        files[NAME_FILE] = student + "\n"
    if there := [name for name in files if (folder / name).exists()]:
        raise InputError(f"{folder} has a file {there[0]} already; answers are not overwritten: give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return list(files)


def filled(text: str, asked: Parameters) -> str:
    """Return a stub with the student's numbers."""
    return Template(text).substitute(
        k=asked.k,
        least_k=max(2, asked.k),
        order=asked.order,
        least_order=2 if asked.order == "N" else asked.order,
        rollouts=asked.rollouts,
        answers=asked.answers,
        right=asked.right,
        budget=budget.ROLLOUTS_IN_ALL,
        thresholds=", ".join(f"{threshold:g}" for threshold in budget.THRESHOLDS),
    )


def boxes(asked: Parameters) -> str:
    """Return the file with the boxes as tables."""
    rows = "\n".join(
        f'    "{letter}": ({list(box.success)}, {list(box.failure)}),' for letter, box in asked.lettered().items()
    )
    functions = "".join(Template(_BOX).substitute(letter=letter) for letter in BOX_LETTERS)
    return Template(_BOXES).substitute(rows=rows, functions=functions, rollouts=BOX_ROLLOUTS)


def student_of(folder: Path) -> str | None:
    """Return the name for which the exercises in a folder were made; None if they were made for none."""
    path = folder / NAME_FILE
    return path.read_text(encoding="utf-8").strip() or None if path.is_file() else None
