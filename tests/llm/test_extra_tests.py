"""Tests that need an extra are all known, not collected without it, and counted in one line."""

import ast
import os
import subprocess
import sys

import pytest
from extra_tests import FILES, TESTS, left_out, line

from maxrl_lab.extras import EXTRAS

HELPERS = ("small_llm", "small_llm_folder", "maxrl_lab.llm.trl")
"""Modules that import packages of the extra `llm` when they are imported."""


def imported(file):
    """The modules that a test file imports at its top level."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def needs(file, modules):
    return any(name == module or name.startswith(f"{module}.") for name in imported(file) for module in modules)


def test_every_file_that_imports_a_package_of_an_extra_is_known():
    for extra, modules in (("llm", (*EXTRAS["llm"], *HELPERS)), ("verl", EXTRAS["verl"])):
        known = {*FILES["verl"], *(FILES["llm"] if extra == "llm" else ())}
        files = {file.relative_to(TESTS).as_posix() for file in TESTS.rglob("test_*.py") if needs(file, modules)}
        assert files
        assert files <= known
    assert all((TESTS / file).is_file() for files in FILES.values() for file in files)


def test_each_extra_needs_all_of_its_packages():
    assert left_out({"llm": ("json",), "verl": ("json",)}) == {}
    assert list(left_out({"llm": ("json",), "verl": ("no_such_package",)})) == ["verl"]
    assert list(left_out({"llm": ("no_such_package",), "verl": ("json",)})) == ["llm", "verl"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["tests"], "not collected: 14 that need the extra llm, 3 that need the extra verl (make test-llm)"),
        (["tests/examples"], "not collected: 1 that need the extra llm (make test-llm)"),
        (["tests/llm"], "not collected: 12 that need the extra llm, 3 that need the extra verl (make test-llm)"),
        (["tests/theory", "tests/llm/test_llm_recipe.py"], None),
    ],
)
def test_the_line_counts_what_was_asked_for(paths, expected):
    assert line(FILES, [TESTS.parent / path for path in paths]) == expected
    assert line({}, [TESTS]) is None


def test_without_the_extras_the_others_are_collected_and_one_line_says_so():
    packages = [*EXTRAS["llm"], *EXTRAS["verl"]]
    code = f"import sys, pytest; sys.modules.update(dict.fromkeys({packages})); sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--collect-only", "-q", "-p", "no:cacheprovider", "tests/llm"]
    plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # hydra, which verl brings, has one
    done = subprocess.run(command, cwd=TESTS.parent, env={**os.environ, **plugins}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not collected: 12 that need the extra llm, 3 that need the extra verl (make test-llm)" in done.stdout
    assert "test_llm_recipe.py" in done.stdout
    assert "test_llm_trl.py" not in done.stdout
