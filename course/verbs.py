"""The verbs `course` (copy the exercises, or make an autograder), `grade` (what is right, and why not) and `lesson`."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from maxrl_lab import extras
from maxrl_lab.errors import InputError
from maxrl_lab.runs.command_line import Parser
from maxrl_lab.terminal import importing

LESSONS = range(1, 6)


def course(arguments: Sequence[str]) -> int:
    """Copy the exercises into a folder, or write the zip for Gradescope."""
    parser = Parser("maxrl-lab course", "copy the exercises of the course into a folder")
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="Folder for the exercises.")
    text = "Name whose parameters (k, T, N, the boxes) the exercises have; it is kept in student.txt."
    parser.add_argument("--student", metavar="NAME", help=text)
    text = "Write a zip that grades on Gradescope, in place of the exercises."
    parser.add_argument("--gradescope", type=Path, metavar="FILE.zip", help=text)
    flags = parser.parse_args(list(arguments))
    if (flags.folder is None) == (flags.gradescope is None):
        raise InputError("give a folder for the exercises, or --gradescope FILE.zip")
    if flags.gradescope:
        with importing():
            from course import autograder

        count = autograder.write(flags.gradescope)
        print(f"{flags.gradescope}: {count} files; upload it as the autograder of an assignment")
        return 0
    with importing():
        from course import copy

    files = copy.copy(flags.folder, flags.student)
    print(f"{flags.folder}: {', '.join(files)}")
    print(f"next: edit a function, then `maxrl-lab grade {flags.folder}`, or `pytest` in that folder")
    return 0


def grade(arguments: Sequence[str]) -> int:
    """Grade a folder of answers; return 0 if all points are earned, else 1."""
    with importing():
        from course import copy, formats
        from course import grade as grading
        from course.exercises import EXERCISES
        from course.parameters import parameters_of

    parser = Parser("maxrl-lab grade", "what is right in a folder of answers, what is wrong, and why")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="Folder with the files lesson_1.py to lesson_5.py.")
    text = f"Exercises to grade (default: all): {', '.join(EXERCISES)}."
    parser.add_argument("exercises", nargs="*", metavar="EXERCISE", help=text)
    text = "Name whose parameters are asked; '' for those of no name (default: the name in FOLDER/student.txt)."
    parser.add_argument("--student", metavar="NAME", help=text)
    text = "Form of the report (default: text)."
    parser.add_argument("--format", choices=formats.FORMATS, default="text", help=text)
    parser.add_argument("--out", type=Path, metavar="FILE", help="File for the report (default: print it).")
    text = "Train the plan of `budget` on the levels for practice, and print the pass rate; no points."
    parser.add_argument("--practice", action="store_true", help=text)
    flags = parser.parse_args(list(arguments))
    if flags.practice:
        return _practice(flags.folder, flags.exercises)
    student = copy.student_of(flags.folder) if flags.student is None else flags.student
    results = []
    by_line = flags.format == "text" and flags.out is None
    for result in grading.grade(flags.folder, parameters_of(student), flags.exercises):
        results.append(result)
        if by_line:
            print(formats.line(result), flush=True)
    if by_line:
        print(formats.points(results))
    else:
        report = formats.FORMATS[flags.format](results, student)
        flags.out.write_text(report + "\n", encoding="utf-8") if flags.out else print(report)
    return 0 if all(result.passed for result in results) else 1


def lesson(arguments: Sequence[str]) -> int:
    """Open a lesson in the browser."""
    parser = Parser("maxrl-lab lesson", "open a lesson of the course in the browser; no network is needed")
    parser.add_argument("number", type=int, choices=LESSONS, metavar="N", help="Number of the lesson, 1 to 5.")
    parser.add_argument("--edit", action="store_true", help="Open the lesson's code as well.")
    parser.add_argument("--headless", action="store_true", help="Print the address and open no browser.")
    flags = parser.parse_args(list(arguments))
    extras.need("course")
    path = Path(__file__).parent / "lessons" / f"lesson_{flags.number}.py"
    if not path.is_file():
        raise InputError(f"lesson {flags.number} is not in this checkout")
    command = [sys.executable, "-m", "marimo", "edit" if flags.edit else "run", str(path)]
    return subprocess.call(command + ["--headless"] * flags.headless, cwd=extras.CHECKOUT)


def _practice(folder: Path, exercises: Sequence[str]) -> int:
    """Print what a plan reaches on levels that are not graded."""
    with importing():
        from course.checks import budget
        from course.exercises import EXERCISES
        from course.sandbox.answers import Answers
        from course.sandbox.process import Stopped
        from course.wrong import WrongAnswerError

    if list(exercises) not in ([], ["budget"]):
        raise InputError("--practice belongs to the exercise budget")
    try:
        exercise = EXERCISES["budget"]
        with Answers(folder) as answers:
            answers.process(exercise.file).begin(exercise.seconds)
            method, rate, updates = budget.read(answers.function(exercise.file, "budget")())
    except (WrongAnswerError, Stopped) as error:
        raise InputError(str(error)) from None
    mean = budget.mean_pass_rate(method, rate, updates, budget.PRACTICE_SEED)
    print(f"{method.name} at N = {method.rollouts}, rate {rate:g}, {updates} updates: mean pass rate {mean:.3f}")
    print(f"(levels for practice; untrained {budget.untrained(budget.PRACTICE_SEED):.4f})")
    return 0
