"""A small part of `make torture`: it runs, it holds, and it sees what does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torture import answers, worlds
from torture.__main__ import HEAD, with_lines
from torture.corruptions import KINDS, _same
from torture.forks import Ended, Tally

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
from pathlib import Path
import torch
from experiments.catalogue import EXPERIMENTS
from torture import commands, corruptions, kills
from torture.families import undisturbed
torch.set_num_threads(1)
EXPERIMENTS["classification"].load(), EXPERIMENTS["classification"].figure()
scratch = Path(sys.argv[1])
family = undisturbed("classification", scratch)
tallies = kills.moments([family], 4, scratch) + corruptions.files([family], 6, scratch) + commands.read(6, scratch)
family = type(family)(family.name, {**family.rows, "sweep.csv": b""}, family.seconds)
tallies += [tally for tally in kills.moments([family], 1, scratch) if tally.tried]
for tally in tallies:
    print(tally.tried, len(tally.failures), *tally.failures, sep="|")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_runs_that_are_killed_or_damaged_and_commands_that_are_read_hold(tmp_path):
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests/support")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1800, env=environment)
    *lines, seen = [line.split("|") for line in ended.stdout.splitlines()]
    assert [line[:2] for line in lines] == [["1", "0"]] * 4 + [["3", "0"]] * 2 + [["0", "0"], ["6", "0"]], ended.stdout
    assert seen[:2] == ["1", "1"]
    assert "other rows in sweep.csv" in seen[2]


def test_worlds_hold():
    for tally in worlds.random_worlds(20):
        assert not tally.failures
        assert tally.tried == 20


def test_a_world_that_is_wrong_is_seen(monkeypatch):
    honest = worlds._plainly
    monkeypatch.setattr(worlds, "_plainly", lambda *world: honest(*world) + 1e-9)
    exact, _ = worlds.random_worlds(5)
    assert len(exact.failures) == 5


def test_an_answer_that_ends_in_an_error_is_seen(monkeypatch):
    monkeypatch.setattr(answers.rewards, "is_right", lambda text, problem: 1 / 0)
    (tally,) = answers.hostile(3)
    assert [failure.partition(" ")[0] for failure in tally.failures] == ["ZeroDivisionError"] * 3


def test_what_counts_as_refused():
    assert Ended(2, "", "maxrl-lab: error: expected a number\n", 0.1).refused
    assert not Ended(2, "", "maxrl-lab: error: one\nand another\n", 0.1).refused
    assert not Ended(1, "", "maxrl-lab: error: one\n", 0.1).refused
    assert Ended(1, "", "Traceback (most recent call last):\n  ...", 0.1).traceback


def test_damage_is_none_where_json_says_the_same():
    assert _same(b'{"a": 1}', b'{"a":1}')
    assert not _same(b'{"a": 1}', b'{"a": 2}')
    assert not _same(b"1,2", b"1,3")
    assert set(KINDS) == {"cut off", "one bit flipped", "emptied", "replaced by another file"}


def test_the_line_of_a_tally():
    tally = Tally("a run")
    for failure in (None, "other rows", None):
        tally.add(failure)
    assert tally.line == "| a run | 3 | 2 |"


def test_a_kind_replaces_its_own_lines_of_the_page():
    page = "before\n<!-- torture -->\nnothing yet\n<!-- /torture -->\nafter\n"
    whole = with_lines(page, ["| a | 3 | 3 |", "| b | 4 | 3 |"])
    assert whole.splitlines()[2:6] == [*HEAD, "| a | 3 | 3 |", "| b | 4 | 3 |"]
    again = with_lines(whole, ["| b | 5 | 5 |", "| c | 1 | 1 |"])
    assert again == whole.replace("| b | 4 | 3 |\n", "| b | 5 | 5 |\n| c | 1 | 1 |\n")
    assert with_lines(again, []) == again
