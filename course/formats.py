"""Results as text for people, and as the JSON that grading platforms read."""

import datetime
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from course.grade import Result
from course.sandbox.answers import NOT_DONE


def line(result: Result) -> str:
    """Return a result for people: one line, and below it what is wrong."""
    exercise = result.exercise
    head = f"{exercise.number} {exercise.name:<13}{result.score} of {exercise.points}   {exercise.question}"
    if result.passed:
        return head
    if result.message == NOT_DONE:
        return f"{head}: {NOT_DONE}"
    return "\n".join([head, "", *("    " + text if text else "" for text in result.message.splitlines()), ""])


def points(results: Sequence[Result]) -> str:
    """Return the sum in one line."""
    return f"points: {_score(results)} of {_most(results)}"


def as_text(results: Sequence[Result], student: str | None) -> str:
    """Return a report for people."""
    name = [f"student: {student}"] if student else []
    return "\n".join([*name, *map(line, results), points(results)])


def as_json(results: Sequence[Result], student: str | None) -> str:
    """Return every result with its message, and the sums."""
    rows = [
        {
            "number": result.exercise.number,
            "name": result.exercise.name,
            "score": result.score,
            "points": result.exercise.points,
            "message": result.message,
            "seconds": round(result.seconds, 3),
        }
        for result in results
    ]
    described = {"student": student, "score": _score(results), "points": _most(results), "exercises": rows}
    return json.dumps(described, indent=2)


def as_gradescope(results: Sequence[Result], student: str | None) -> str:
    """Return what Gradescope reads from /autograder/results/results.json."""
    tests = [
        {
            "name": result.exercise.name,
            "number": result.exercise.number,
            "score": result.score,
            "max_score": result.exercise.points,
            "status": "passed" if result.passed else "failed",
            "output": result.message,
            "output_format": "text",
            "visibility": "visible",
        }
        for result in results
    ]
    described: dict[str, Any] = {
        "score": _score(results),
        "execution_time": round(sum(result.seconds for result in results)),
        "stdout_visibility": "hidden",
        "tests": tests,
        "leaderboard": [{"name": "points", "value": _score(results)}],
    }
    if student:
        described["output"] = f"parameters of: {student}"
    return json.dumps(described, indent=2)


def as_classroom50(results: Sequence[Result], student: str | None) -> str:
    """Return the result.json of Classroom 50 (schema classroom50/result/v1), named by its environment."""
    return json.dumps(classroom50(results, student, os.environ), indent=2)


def classroom50(results: Sequence[Result], student: str | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the same as values."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "schema": "classroom50/result/v1",
        "classroom": environment.get("CLASSROOM", ""),
        "assignment": environment.get("ASSIGNMENT", ""),
        "submission": environment.get("SUBMISSION_TAG", ""),
        "commit": environment.get("COMMIT_URL", ""),
        "release": environment.get("RELEASE_URL", ""),
        "review": environment.get("REVIEW_URL") or environment.get("COMMIT_URL", ""),
        "datetime": now,
        "student": student or "",
        "score": _score(results),
        "max-score": _most(results),
        "tests": [
            {
                "test-name": result.exercise.name,
                "passed": result.passed,
                "score": result.score,
                "max-score": result.exercise.points,
                "message": result.message,
            }
            for result in results
        ],
    }


FORMATS: dict[str, Callable[[Sequence[Result], str | None], str]] = {
    "text": as_text,
    "json": as_json,
    "gradescope": as_gradescope,
    "classroom50": as_classroom50,
}


def _score(results: Sequence[Result]) -> int:
    return sum(result.score for result in results)


def _most(results: Sequence[Result]) -> int:
    return sum(result.exercise.points for result in results)
