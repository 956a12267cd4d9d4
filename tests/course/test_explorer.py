"""The explorer: one file, as its parts make it, whose numbers are those of the library."""

import inspect
import json
import math
import re

import pytest

from course.explorer import build, golden, verb
from maxrl_lab import estimators
from maxrl_lab.command import main

TOLERANCE = 1e-12


@pytest.fixture(scope="module")
def source():
    return build.PAGE.read_text(encoding="utf-8")


def test_the_page_is_what_its_parts_make(source):
    assert source == build.page()  # else: python -m course.explorer.build


def test_it_is_one_small_file_that_names_no_other(source):
    assert len(source.encode()) < 100_000
    assert not re.search(
        r"https?:|//[a-z]+\.|@import|url\((?!#)|\bsrc=|\bimport\b|fetch\(|XMLHttpRequest|WebSocket", source
    )
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', source)[1]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_no_text_is_ever_executed(source):
    assert not re.search(
        r"\beval\b|\bFunction\(|setTimeout\(\s*[\"'`]|document\.write|\bon(click|input|error|load)=", source
    )


def test_comments_and_indentation_are_left_out_and_nothing_else():
    script = "  const a = 1; // one\n    // it's a line\n  const b = `x // y`;\n\n"
    assert build.without_comments(script) == "const a = 1;\nconst b = `x // y`;"


def same(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=TOLERANCE, abs_tol=1e-300) or abs(left - right) < 1e-17
    return left == right


def test_the_golden_values_are_the_library_s_of_today():
    kept, today = json.loads(golden.FILE.read_text(encoding="utf-8")), json.loads(json.dumps(golden.values()))
    assert kept.keys() == today.keys()
    wrong = [key for key in kept if not same(kept[key], today[key])]
    assert wrong == []  # else: python -m course.explorer.golden


def test_every_estimator_is_among_the_golden_values():
    named = {row["estimator"].partition(":")[0] for row in json.loads(golden.FILE.read_text())["tables"]}
    assert named == set(estimators.ESTIMATORS)


def test_every_option_is_among_the_golden_values():
    options = {
        (name, option.name)
        for name, formula in estimators.ESTIMATORS.items()
        for option in inspect.signature(formula).parameters.values()
        if option.kind is option.KEYWORD_ONLY
    }
    specs = {row["estimator"] for row in json.loads(golden.FILE.read_text())["tables"]}
    given = {
        (spec.partition(":")[0], pair.partition("=")[0]) for spec in specs for pair in spec.partition(":")[2].split(",")
    }
    assert options == {(name, option) for name, option in given if option}


def test_the_command_opens_the_page(monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(verb.webbrowser, "open", lambda address: opened.append(address) or True)
    assert main(["explore"]) == 0
    assert opened == [build.PAGE.as_uri()]
    assert capsys.readouterr().out == f"{build.PAGE}\n"


def test_the_command_says_where_the_page_lies(monkeypatch, capsys):
    monkeypatch.setattr(verb.webbrowser, "open", lambda address: False)
    assert main(["explore", "--path"]) == 0
    assert capsys.readouterr().out == f"{build.PAGE}\n"
    assert main(["explore"]) == 0
    assert capsys.readouterr().out == f"no browser could be opened; open this file in one: {build.PAGE}\n"
    assert main(["explore", "somewhere"]) == 2
