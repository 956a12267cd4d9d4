"""The verbs of the course; `maxrl_lab.command` hands them over, and `python -m course VERB` needs no installed command.

A verb is imported when it is called.
"""

import sys
from collections.abc import Callable, Sequence

from maxrl_lab import specs
from maxrl_lab.runs.command_line import guarded
from maxrl_lab.terminal import importing


def course(arguments: Sequence[str]) -> int:
    """Copy the exercises into a folder, or write the zip for Gradescope."""
    from course import verbs

    return verbs.course(arguments)


def grade(arguments: Sequence[str]) -> int:
    """Say what is right in a folder of answers, what is wrong, and why."""
    from course import verbs

    return verbs.grade(arguments)


def lesson(arguments: Sequence[str]) -> int:
    """Open a lesson in the browser."""
    from course import verbs

    return verbs.lesson(arguments)


def explore(arguments: Sequence[str]) -> int:
    """Open the explorer page."""
    with importing():
        from course.explorer import verb

    return verb.main(arguments)


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "course": course,
    "grade": grade,
    "lesson": lesson,
    "explore": explore,
}


def _dispatch(arguments: Sequence[str]) -> int:
    verb = specs.lookup(VERBS, "command", arguments[0] if arguments else "")
    return verb(arguments[1:])


if __name__ == "__main__":
    sys.exit(guarded(_dispatch, sys.argv[1:]))
