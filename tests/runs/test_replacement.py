"""`--force`: the old run stays until the new one is complete, whatever ends the new one and whenever."""

import json
import os
import pathlib
import shutil

import pytest
from small_runs import FINISHED, ROWS, Sweep, finish, interrupted, names, never, read, run, snapshot

from maxrl_lab.errors import InputError
from maxrl_lab.runs import folder as folder_module
from maxrl_lab.runs.folder import is_complete, made_in, read_settings_of, read_tables

NEW = Sweep(rate=0.5)
NEW_ROWS = [{"step": 7}]


def fail(_checkpoint):
    raise RuntimeError("a fault")


def refuse(_checkpoint):
    raise InputError("no such level")


def rows_of(folder):
    return read_tables(folder)["rows"].to_dict("records")


def test_a_complete_run_takes_the_place_of_the_old_one(tmp_path):
    finish(tmp_path)
    assert finish(tmp_path, NEW, NEW_ROWS, force=True).to_dict("records") == NEW_ROWS
    assert read_settings_of(tmp_path, Sweep) == NEW
    assert len(read(tmp_path, "provenance.json")["sessions"]) == 1
    assert names(tmp_path) == FINISHED


def test_tables_and_files_of_the_old_run_go_with_it(tmp_path):
    def compute(checkpoint):
        policy = made_in(checkpoint) / "policy"
        policy.mkdir()
        (policy / f"{checkpoint.path.parts.count('replacement')}.txt").write_text("trained")
        return {"rows": ROWS, "timings": [{"seconds": 1}]}

    run(tmp_path, compute)
    (tmp_path / "notes.csv").write_text("mine")
    assert names(tmp_path) == {*FINISHED, "timings.csv", "policy", "0.txt", "notes.csv"}
    run(tmp_path, lambda checkpoint: {"rows": compute(checkpoint)["rows"]}, force=True)
    assert names(tmp_path) == {*FINISHED, "policy", "1.txt", "notes.csv"}


def test_nothing_to_replace_is_an_ordinary_run(tmp_path):
    assert finish(tmp_path, force=True).to_dict("records") == ROWS
    assert names(tmp_path) == FINISHED


def test_damaged_files_are_replaced(tmp_path):
    finish(tmp_path)
    for name in FINISHED:
        (tmp_path / name).write_bytes(b"\xff damaged")
    assert finish(tmp_path, force=True).to_dict("records") == ROWS


class TestTheNewRunFails:
    @pytest.mark.parametrize(
        ("compute", "error"), [(fail, RuntimeError), (refuse, InputError), (interrupted, KeyboardInterrupt)]
    )
    def test_the_old_run_is_as_it_was(self, tmp_path, compute, error):
        finish(tmp_path)
        before = snapshot(tmp_path)
        with pytest.raises(error):
            run(tmp_path, compute, NEW, force=True)
        assert before.items() <= snapshot(tmp_path).items()
        assert is_complete(tmp_path)
        assert run(tmp_path, never).to_dict("records") == ROWS

    def test_a_replacement_that_could_not_begin_leaves_nothing(self, tmp_path):
        finish(tmp_path)
        with pytest.raises(InputError, match="no such level"):
            run(tmp_path, refuse, NEW, force=True)
        assert names(tmp_path) == FINISHED

    def test_settings_that_are_refused_touch_nothing(self, tmp_path):
        finish(tmp_path)
        before = snapshot(tmp_path)
        with pytest.raises(RuntimeError):
            run(tmp_path, lambda _checkpoint: {"rows": []}, NEW, force=True)
        assert before.items() <= snapshot(tmp_path).items()


class TestInterrupted:
    def test_it_continues_without_force(self, tmp_path):
        finish(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, interrupted, NEW, force=True)

        def resumed(checkpoint):
            assert checkpoint.stage("half").load() == {"rows": ROWS[:1]}
            return {"rows": NEW_ROWS}

        assert run(tmp_path, resumed, NEW).to_dict("records") == NEW_ROWS
        assert len(read(tmp_path, "provenance.json")["sessions"]) == 2
        assert names(tmp_path) == FINISHED

    def test_it_continues_where_the_old_run_has_the_same_settings(self, tmp_path):
        finish(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, interrupted, force=True)
        assert finish(tmp_path, rows=NEW_ROWS).to_dict("records") == NEW_ROWS

    def test_force_starts_it_again(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, interrupted)

        def compute(checkpoint):
            assert checkpoint.stage("half").load() is None
            raise KeyboardInterrupt

        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path, compute, force=True)
        assert (tmp_path / "checkpoint/run/half.pt").exists()

    def test_other_settings_see_the_old_run(self, tmp_path, refuses):
        finish(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, interrupted, NEW, force=True)
        with refuses(
            f"{tmp_path} holds a run with other settings (rate = 0.1 there, 0.7 now); "
            "choose another --out, or replace it with --force"
        ):
            run(tmp_path, never, Sweep(rate=0.7))

    def test_other_code_does_not_continue_it(self, tmp_path):
        finish(tmp_path, code={"a.py": "1"})
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, interrupted, code={"a.py": "2"}, force=True)
        assert run(tmp_path, never, code={"a.py": "1"}).to_dict("records") == ROWS
        with pytest.raises(InputError, match=r"other code \(differs in a.py\)"):
            run(tmp_path, never, code={"a.py": "3"})

    def test_a_damaged_replacement_hides_nothing_and_can_be_made_again(self, tmp_path):
        finish(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, interrupted, NEW, force=True)
        for name in ("settings.json", "provenance.json"):
            (tmp_path / "replacement" / name).write_text("x")
        assert run(tmp_path, never).to_dict("records") == ROWS
        assert finish(tmp_path, NEW, NEW_ROWS, force=True).to_dict("records") == NEW_ROWS


class Killed(BaseException):
    """Nobody handles it."""


CHANGES = [
    *((os, name) for name in ("unlink", "rename", "replace", "rmdir", "mkdir")),
    *((pathlib.Path, name) for name in ("unlink", "rename", "replace", "rmdir", "mkdir")),
    (shutil, "rmtree"),
]
"""All that changes a folder."""


def kill_before_change(patch, number):
    """Raise `Killed` instead of the change of this number, and of all that would follow: clean-up is killed, too."""
    done = []

    def counted(change):
        def killing(*arguments, **options):
            done.append(change)
            if len(done) > number:
                raise Killed
            return change(*arguments, **options)

        return killing

    for owner, name in CHANGES:
        patch.setattr(owner, name, counted(getattr(owner, name)))


def policy_and(rows):
    def compute(checkpoint):
        policy = made_in(checkpoint) / "policy"
        policy.mkdir(exist_ok=True)
        (policy / "weights.txt").write_text(json.dumps(rows))
        return {"rows": rows, "sweep": rows, "timings": rows} if rows == ROWS else {"rows": rows, "curves": rows}

    return compute


def test_a_kill_at_any_moment_leaves_the_old_run_or_the_new_one(tmp_path, monkeypatch):
    """Every call that changes the folder is the last one of a process once; somebody only looks, then all goes on."""
    monkeypatch.setattr(folder_module, "describe_session", lambda _device: {})  # which asks git, a hundred times
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    seen = []
    for number in range(200):
        folder = tmp_path / str(number)
        run(folder, policy_and(ROWS))
        with pytest.MonkeyPatch.context() as patch:
            kill_before_change(patch, number)
            try:
                run(folder, policy_and(NEW_ROWS), NEW, force=True)
            except Killed:
                pass
            else:
                break
        shown = rows_of(folder)
        seen.append(shown)
        assert (folder / "policy" / "weights.txt").read_text() == json.dumps(shown)
        if shown == ROWS:
            assert read_settings_of(folder, Sweep) == Sweep()
            assert read_tables(folder).keys() == {"rows", "sweep", "timings"}
            assert run(folder, never).to_dict("records") == ROWS
            run(folder, policy_and(NEW_ROWS), NEW, force=True)
        assert run(folder, never, NEW).to_dict("records") == NEW_ROWS
        assert read_settings_of(folder, Sweep) == NEW
        assert read_tables(folder).keys() == {"rows", "curves"}
        left = {path for path in names(folder) if not path.endswith(".tmp") and path != ".lock"}
        assert left == {"settings.json", "provenance.json", "rows.csv", "curves.csv", "policy", "weights.txt"}
    assert seen.count(ROWS) > 5
    assert seen.count(NEW_ROWS) > 5
    assert seen == sorted(seen, key=lambda rows: rows == NEW_ROWS)  # at one moment the new one takes its place
