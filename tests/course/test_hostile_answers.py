"""Code that loops, prints, exits, patches the grader, opens files, starts processes or takes all memory earns nothing.

Each fails alone: the answer beside it in another file is graded as if nothing had happened.
"""

import dataclasses
import json
import textwrap

import pytest

from course import exercises, grade
from course.parameters import parameters_of
from maxrl_lab import command

HONEST = """
import math


def weight(p, order):
    return 1.0 if p == 1 else -math.expm1(order * math.log1p(-p)) / p


def terms(p, error):
    {hostile}


def mixture(order):
    return [1 / k for k in range(1, order + 1)]
"""
SECONDS = 1.0
HOSTILE = {
    "loops": ("while True: pass", "it took longer than the time limit"),
    "sleeps": ("import time; time.sleep(100)", "it took longer than the time limit"),
    "prints": ("\n    while True:\n        print('x' * 1000)", "it took longer than the time limit"),
    "calls exit": ("import sys; sys.exit(0)", "lesson_1.py, line 10: calls exit instead of returning"),
    "leaves": ("import os; os._exit(0)", "it ended the process with exit status 0 instead of returning"),
    "crashes": ("import faulthandler; faulthandler._sigsegv()", "it ended the process by signal 11"),
    "recurs": ("return terms(p, error)", "RecursionError"),
    "takes memory": ("import numpy; return numpy.ones(10 * 2**27).sum()", "takes more memory than the 2 GiB"),
    "returns too much": ("return 'x' * 2**24", "it returned far more than was asked for"),
    "reads": ("return open({victim!r}).read()", "opens the file victim.txt; an answer needs no file"),
    "reads the grader": ("import os; return open(f'/proc/{os.getppid()}/environ').read()", "opens the file environ"),
    "writes": ("return open({victim!r}, 'w')", "opens the file victim.txt for writing; an answer needs no file"),
    "removes": ("import os; os.remove({victim!r})", "calls os.remove; an answer needs only numbers"),
    "forks": ("import os; return os.fork()", "calls os.fork"),
    "runs a program": ("import subprocess; subprocess.run(['true'])", "calls subprocess.Popen"),
    "kills the grader": ("import os, signal; os.kill(os.getppid(), signal.SIGKILL)", "calls os.kill"),
    "calls home": ("import socket; socket.create_connection(('127.0.0.1', 9))", "calls socket.connect"),
    "reads the solution": ("return open({solution!r}).read()", "opens the file lesson_1.py; an answer needs no file"),
    "imports by name": (
        "import importlib; importlib.import_module('maxrl_lab.objectives')",
        "imports maxrl_lab; write it",
    ),
    "patches the grader": (
        "\n    import sys\n    main = sys.modules['__main__']\n    main.encode = lambda *a: 1\n    return 0",
        "right is",
    ),
    "lies about all calls": (
        "\n    import os\n    os.write(3, b'[1]\\n' * 9)\n    return 0",
        "",
    ),
}


@pytest.fixture
def graded(tmp_path, monkeypatch):
    """Grade the three exercises of a lesson 1 whose second function is hostile; return the results by name."""
    victim = tmp_path / "victim.txt"
    victim.write_text("the grades")
    solution = str(exercises.__file__).replace("exercises.py", "solutions/lesson_1.py")

    def grade_it(hostile):
        folder = tmp_path / "answers"
        folder.mkdir()
        filled = hostile.replace("{victim!r}", repr(str(victim))).replace("{solution!r}", repr(solution))
        (folder / "lesson_1.py").write_text(HONEST.replace("{hostile}", filled))
        quick = dataclasses.replace(exercises.EXERCISES["terms"], seconds=SECONDS)
        monkeypatch.setitem(exercises.EXERCISES, "terms", quick)
        results = list(grade.grade(folder, parameters_of(None), ("weight", "terms", "mixture")))
        assert victim.read_text() == "the grades"
        return {result.exercise.name: result for result in results}

    return grade_it


@pytest.mark.parametrize("kind", HOSTILE)
def test_it_earns_nothing_and_its_neighbours_all(graded, kind):
    hostile, words = HOSTILE[kind]
    results = graded(hostile)
    assert (results["weight"].score, results["terms"].score) == (2, 0)
    assert words in results["terms"].message
    if kind not in ("patches the grader", "lies about all calls"):
        assert results["mixture"].score == 2


def test_what_a_wrong_answer_prints_is_shown(graded):
    results = graded("print('p is', p); return 0")
    assert "it prints:\np is 1.0\n" in results["terms"].message


def test_a_process_that_lives_on_is_ended(graded):
    results = graded(
        "import threading; threading.Thread(target=lambda: [None for _ in iter(int, 1)]).start(); return 0"
    )
    assert results["terms"].score == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no file lesson_1.py; `maxrl-lab course` makes it"),
        ("def terms(p, error:\n", "lesson_1.py, line 1: SyntaxError"),
        ("def weight(p): return 1\n", "lesson_1.py defines no function terms"),
        (
            "from maxrl_lab import objectives\ndef terms(p, error): return 1\n",
            "lesson_1.py, line 1: imports maxrl_lab; write",
        ),
        (
            "import course.solutions\ndef terms(p, error): return 1\n",
            "lesson_1.py, line 1: imports course; write it yourself",
        ),
        ("def terms(p, error):\n    '''Do.'''\n    raise NotImplementedError\n", "not done yet"),
        ("raise ValueError('no')\ndef terms(p, error): return 1\n", "lesson_1.py, line 1: ValueError: no"),
        ("while True: pass\ndef terms(p, error): return 1\n", "it took longer than the time limit"),
        ("import os; os._exit(7)\ndef terms(p, error): return 1\n", "it ended the process with exit status 7"),
        ("def terms(p, error): return " + "(" * 5000 + "1" + ")" * 5000, "lesson_1.py"),
        (
            "def terms(p, error): return {'a': object()}\n",
            "TypeError: expected numbers, text, a list, a dict or an array",
        ),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_file_that_is_no_answer(tmp_path, monkeypatch, text, words):
    if text is not None:
        (tmp_path / "lesson_1.py").write_text(text)
    quick = dataclasses.replace(exercises.EXERCISES["terms"], seconds=1.0)
    monkeypatch.setitem(exercises.EXERCISES, "terms", quick)
    (result,) = grade.grade(tmp_path, parameters_of(None), ("terms",))
    assert result.score == 0
    assert words in result.message


def test_a_test_of_break_it_sees_no_code_and_knows_no_order(tmp_path):
    """The functions come from another process in an unknown order: a test that counts its calls rejects right ones."""
    source = """
    import torch

    calls = []


    def is_right(function):
        calls.append(function)
        if not all(name.startswith("__") or name == "function" for name in vars(function)):
            raise ValueError(vars(function))
        if function.__code__.co_names and "expm1" in function.__code__.co_names:
            raise ValueError("code")
        return len(calls) <= 4
    """
    (tmp_path / "lesson_5.py").write_text(textwrap.dedent(source))
    (result,) = grade.grade(tmp_path, parameters_of(None), ("break_it",))
    assert result.score == 0
    assert "your test rejects a right function" in result.message


def test_the_report_is_json_whatever_an_answer_prints(tmp_path, capfd):
    """Standard output belongs to the report."""
    (tmp_path / "lesson_1.py").write_text(
        "import os\ndef terms(p, error):\n    print('{')\n    os.write(1, b'{')\n    return 1\n"
    )
    assert command.main(["grade", str(tmp_path), "terms", "--format", "json"]) == 1
    assert json.loads(capfd.readouterr().out)["score"] == 0
