"""`pytest` in this folder: one test for each exercise; a failure is its explanation."""

import sys
from pathlib import Path

import pytest

from maxrl_lab import extras

sys.path.insert(0, str(extras.CHECKOUT))
from course import copy, exercises, grade, parameters
from course.sandbox.answers import Answers

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def answers():
    with Answers(FOLDER) as opened:
        yield opened


@pytest.mark.parametrize("name", exercises.EXERCISES)
def test_exercise(name, answers):
    asked = parameters.parameters_of(copy.student_of(FOLDER))
    result = grade.result_of(exercises.EXERCISES[name], answers, asked)
    if not result.passed:
        pytest.fail(f"{result.score} of {result.exercise.points} points\n\n{result.message}", pytrace=False)
