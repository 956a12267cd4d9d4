"""The GitHub Action: its script runs as GitHub starts it, and its inputs are those of the page."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "action.yml").read_text(encoding="utf-8")
SCRIPT = textwrap.dedent(re.search(r"\n      run: \|\n((?: {8}.*\n|\n)+)", TEXT)[1])
INPUTS = re.findall(r"^  ([a-z-]+):$", TEXT[TEXT.index("\ninputs:") : TEXT.index("\noutputs:")], flags=re.M)


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the script in a project with `own.py`, and returns status, summary and outputs."""
    (tmp_path / "own.py").write_text(
        "def advantages(rewards, weight=1):\n    return weight * (rewards - rewards.mean(-1, keepdim=True))\n"
    )
    (tmp_path / "rates.txt").write_text("0.5\n0.1\n")
    summary, outputs = tmp_path / "summary.md", tmp_path / "outputs"

    def run(**inputs):
        variables = {name.upper().replace("-", "_"): "" for name in INPUTS} | {"ROLLOUTS": "8"} | inputs
        places = {"RUNNER_TEMP": tmp_path, "GITHUB_STEP_SUMMARY": summary, "GITHUB_OUTPUT": outputs}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, **variables, **{name: str(place) for name, place in places.items()}, "PATH": path}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", SCRIPT]  # as GitHub starts it
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, summary.read_text(), outputs.read_text(), done.stderr

    return run


def test_an_expectation_that_holds_is_status_0_and_a_report(run):
    status, summary, outputs, _ = run(FUNCTION="own:advantages", EXPECT="expected_reward")
    assert status == 0
    assert summary.startswith(":white_check_mark: expected expected\\_reward: holds")
    assert "### `advantages at N = 8 rollouts`" in summary
    assert "| K successes | 0 | 1 |" in summary
    assert Path(re.fullmatch(r"report=(.+)\n", outputs)[1]).read_text() == summary


def test_an_expectation_that_does_not_hold_is_status_1_and_still_a_report(run):
    status, summary, _, _ = run(FUNCTION="own:advantages", EXPECT="maximum_likelihood")
    assert status == 1
    assert summary.startswith(":x: expected maximum\\_likelihood: DOES NOT HOLD")


def test_every_input_reaches_the_command(run):
    status, summary, _, _ = run(
        FUNCTION="own:advantages",
        ROLLOUTS="4",
        EXPECT_ESTIMATOR="mean_centred",
        SCALE="3",
        FORM="single-group",
        SET="weight=3\n",
        PASS_RATES="rates.txt",
    )
    assert status == 0
    assert "expected the coefficients of mean\\_centred: holds" in summary
    assert "over 2 tasks with the mean pass rate 0.3" in summary
    assert "at N = 4 rollouts" in summary


def test_bad_input_is_status_2_and_named_in_the_summary(run):
    for function in ("own:absent", "--help"):
        status, summary, _, errors = run(FUNCTION=function)
        assert status == 2
        assert "maxrl-lab: error: " in errors
        assert "maxrl-lab: error: " in summary


def test_nothing_of_an_input_is_run(run, tmp_path):
    run(FUNCTION="$(touch hacked)", EXPECT="`touch hacked`", SET="a=$(touch hacked)")
    assert not (tmp_path / "hacked").exists()


def test_the_page_lists_the_inputs():
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    assert [name for name in INPUTS if f"`{name}`" not in page] == []


def test_it_is_what_github_reads():
    yaml = pytest.importorskip("yaml")  # of the extra docs
    action = yaml.safe_load(TEXT)
    assert list(action["inputs"]) == INPUTS
    assert action["runs"]["using"] == "composite"
    (script,) = [step["run"] for step in action["runs"]["steps"] if step.get("id") == "audit"]
    assert script == SCRIPT
