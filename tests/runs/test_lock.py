"""One process at a time in a folder, and no trace of one that has died."""

import os
import signal
import subprocess
import sys

import pytest
from small_runs import ROWS, finish, names, run

from maxrl_lab.runs.lock import LOCK, locked


def test_a_second_holder_is_refused_until_the_first_is_done(tmp_path, refuses):
    message = f"another process is at work in {tmp_path}; wait for it, or choose another folder with --out"
    with locked(tmp_path):
        with refuses(message), locked(tmp_path):
            pytest.fail("two holders")
        with refuses(message), locked(tmp_path):  # the refused one has not dropped the lock
            pytest.fail("two holders")
    with locked(tmp_path):
        pass
    assert names(tmp_path) == set()


def test_the_lock_is_dropped_after_an_error(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


def test_a_file_that_is_left_is_no_lock(tmp_path):
    (tmp_path / LOCK).touch()
    with locked(tmp_path):
        pass
    assert names(tmp_path) == set()


HOLD = """
import sys
from pathlib import Path
from maxrl_lab.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_holds_it_as_long_as_it_lives(tmp_path, refuses):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with refuses(f"another process is at work in {tmp_path}; wait for it, or choose another folder with --out"):
        finish(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert names(tmp_path) == {LOCK}
    assert finish(tmp_path).to_dict("records") == ROWS
    assert LOCK not in names(tmp_path)


def test_a_run_is_locked_while_it_computes(tmp_path, refuses):
    def compute(_checkpoint):
        with refuses(f"another process is at work in {tmp_path}; wait for it, or choose another folder with --out"):
            finish(tmp_path)
        with refuses(f"another process is at work in {tmp_path}; wait for it, or choose another folder with --out"):
            finish(tmp_path, force=True)
        return {"rows": ROWS}

    assert run(tmp_path, compute).to_dict("records") == ROWS


def test_a_complete_run_can_be_read_where_nothing_can_be_written(tmp_path):
    finish(tmp_path)
    with locked(tmp_path):  # nor is the lock asked for
        assert finish(tmp_path).to_dict("records") == ROWS
