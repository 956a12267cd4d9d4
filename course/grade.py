"""From a folder of answers to results. The student's code runs in processes of its own; the scores are made here."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from course.exercises import EXERCISES, Exercise
from course.parameters import Parameters
from course.sandbox.answers import Answer, Answers
from course.sandbox.process import MEMORY, Stopped
from course.wrong import WrongAnswerError
from maxrl_lab import specs
from maxrl_lab.errors import InputError

RIGHT = "right"


@dataclass(frozen=True)
class Result:
    """What one exercise has earned, and why."""

    exercise: Exercise
    score: int
    message: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether all points are earned."""
        return self.score == self.exercise.points


def grade(folder: Path, asked: Parameters, names: Sequence[str] = (), memory: int = MEMORY) -> Iterator[Result]:
    """Yield a result for every exercise that is named, or for all.

    Raises `InputError` if there is no such folder or exercise.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file; give its folder, and the name of an exercise if you want only one")
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; `maxrl-lab course {folder}` makes one with the exercises")
    exercises = [specs.lookup(EXERCISES, "exercise", name) for name in names or EXERCISES]
    with Answers(folder, memory) as answers:
        for exercise in exercises:
            yield result_of(exercise, answers, asked)


def result_of(exercise: Exercise, answers: Answers, asked: Parameters) -> Result:
    """Return the result of one exercise."""
    start, process = time.monotonic(), answers.process(exercise.file)
    process.begin(exercise.seconds)

    def function(name: str) -> Answer:
        return answers.function(exercise.file, name)

    score, message = exercise.points, RIGHT
    try:
        exercise.check(function, asked)
    except WrongAnswerError as wrong:
        score, message = int(wrong.share * exercise.points + 1e-9), str(wrong)
    except (InputError, Stopped) as error:
        score, message = 0, str(error)
    except Exception as error:  # an answer may break a check in ways that nobody has thought of
        score, message = 0, f"the answer cannot be checked: {type(error).__name__}: {error}"
    if score < exercise.points and (printed := process.prints()):
        message += f"\n\nit prints:\n{printed}"
    return Result(exercise, score, message, time.monotonic() - start)
