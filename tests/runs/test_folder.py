"""A run on disk: complete, refused when it does not fit, removed when it had not begun, kept when we are at fault."""

import dataclasses
import json
import os
import re

import pytest
from small_runs import FINISHED, ROWS, Sweep, finish, interrupted, names, never, read, run, snapshot

from maxrl_lab.errors import InputError
from maxrl_lab.runs.folder import (
    changed_code,
    execute,
    is_complete,
    made_in,
    read_settings_of,
    read_tables,
    wall_seconds,
)
from maxrl_lab.runs.record import sealed


class TestFiles:
    def test_settings_are_complete(self, tmp_path):
        finish(tmp_path, Sweep(rate=0.25))
        # Every field, defaults included; a tuple is a list in JSON.
        fields = {"seeds": 3, "rate": 0.25, "estimator": "maxrl", "clip": None, "rates": [0.1, 0.2], "processes": 0}
        assert read(tmp_path, "settings.json") == {"experiment": "sweep", "settings": fields, "device": "cpu"}
        assert read_settings_of(tmp_path, Sweep) == Sweep(rate=0.25)

    def test_settings_are_on_disk_before_the_first_computation(self, tmp_path):
        def compute(_checkpoint):
            assert read(tmp_path, "settings.json")["experiment"] == "sweep"
            assert read(tmp_path, "provenance.json")["complete"] is False
            assert not (tmp_path / "rows.csv").exists()
            return {"rows": ROWS}

        run(tmp_path, compute)
        assert read(tmp_path, "provenance.json")["complete"] is True

    def test_every_table_has_its_file_and_comes_back(self, tmp_path):
        tables = {"sweep": [{"rate": 0.1, "seed": 2}], "curves": ROWS, "timings": [{"seconds": 1.5}]}
        back = execute(tmp_path, "sweep", Sweep(), lambda _checkpoint: tables)
        assert {name: table.to_dict("records") for name, table in back.items()} == tables
        assert names(tmp_path) == {"settings.json", "provenance.json", "sweep.csv", "curves.csv", "timings.csv"}
        assert (tmp_path / "sweep.csv").read_text() == "rate,seed\n0.1,2\n"
        again = execute(tmp_path, "sweep", Sweep(), never)
        assert list(again) == list(tables)
        assert all(again[name].equals(back[name]) for name in tables)

    def test_no_other_file_is_left(self, tmp_path):
        def compute(checkpoint):
            checkpoint.save({"a": 0})
            checkpoint.stage("first").save({"a": 1})
            checkpoint.stage("second").save({"a": 2})
            assert {"run.pt", "first.pt", "second.pt"} <= names(tmp_path)
            return {"rows": ROWS}

        run(tmp_path, compute)
        assert names(tmp_path) == FINISHED

    def test_the_same_settings_give_the_same_bytes(self, tmp_path):
        finish(tmp_path / "a")
        finish(tmp_path / "b")
        for name in ("rows.csv", "settings.json"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    def test_other_files_of_a_run_are_made_in_its_folder(self, tmp_path):
        def compute(checkpoint):
            (made_in(checkpoint) / "policy.txt").write_text("trained")
            return {"rows": ROWS}

        run(tmp_path, compute)
        assert (tmp_path / "policy.txt").read_text() == "trained"


class TestSecondCall:
    def test_a_finished_run_is_read_not_computed(self, tmp_path):
        first = finish(tmp_path)
        before = snapshot(tmp_path)
        assert run(tmp_path, never).equals(first)
        assert snapshot(tmp_path) == before

    @pytest.mark.parametrize(
        ("experiment", "settings", "difference"),
        [
            ("sweep", Sweep(rate=0.5), "(rate = 0.1 there, 0.5 now)"),
            ("sweep", Sweep(estimator="rloo"), "(estimator = 'maxrl' there, 'rloo' now)"),
            ("sweep", Sweep(clip=1.0), "(clip = None there, 1.0 now)"),
            ("sweep", Sweep(rates=(0.1,)), "(rates = [0.1, 0.2] there, [0.1] now)"),
            ("scan", Sweep(), "(experiment = 'sweep' there, 'scan' now)"),
        ],
    )
    @pytest.mark.parametrize("complete", [True, False])
    @pytest.mark.parametrize("stale", [True, False])
    def test_other_settings_are_refused_and_nothing_changes(
        self, tmp_path, experiment, settings, difference, complete, stale
    ):
        if complete:
            finish(tmp_path)
        else:
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path, interrupted)
        before = snapshot(tmp_path)
        message = f"{tmp_path} holds a run with other settings {difference}"
        if stale and not complete:
            message = f"no finished run in {tmp_path}; run its experiment first"
        with pytest.raises(InputError, match=re.escape(message)):
            execute(tmp_path, experiment, settings, never, stale=stale)
        assert snapshot(tmp_path) == before

    def test_a_new_field_whose_default_is_none_is_named(self, tmp_path):
        finish(tmp_path)
        wider = dataclasses.make_dataclass("Wider", [("momentum", float | None, None)], bases=(Sweep,), frozen=True)
        with pytest.raises(InputError, match="momentum"):
            run(tmp_path, never, wider())

    def test_a_setting_that_changes_no_result_may_differ(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, interrupted)
        finish(tmp_path, Sweep(processes=2))
        assert run(tmp_path, never, Sweep(processes=1)).to_dict("records") == ROWS

    def test_a_run_is_not_continued_on_another_kind_of_device(self, tmp_path):
        finish(tmp_path)
        with pytest.raises(InputError, match=r"\(device = 'cpu' there, 'cuda' now\)"):
            run(tmp_path, never, device="cuda:0")

    def test_a_finished_run_without_settings_is_not_given_out_as_this_one(self, tmp_path):
        finish(tmp_path)
        (tmp_path / "settings.json").unlink()
        with pytest.raises(InputError, match=re.escape(f"{tmp_path} holds a run without its settings.json")):
            execute(tmp_path, "another", Sweep(rate=0.5), never)


class TestSettingsOfARun:
    def test_they_come_back_as_an_object(self, tmp_path):
        finish(tmp_path, Sweep(clip=0.5, rates=(0.3, 0.1)))
        assert read_settings_of(tmp_path, Sweep) == Sweep(clip=0.5, rates=(0.3, 0.1))

    def test_without_a_run_there_are_none(self, tmp_path, refuses):
        with refuses(f"no run in {tmp_path}; run its experiment first"):
            read_settings_of(tmp_path, Sweep)

    def test_those_of_another_version_are_refused_by_name(self, tmp_path, refuses):
        finish(tmp_path)
        newer = dataclasses.make_dataclass("Newer", [("momentum", float, 0.5)], bases=(Sweep,), frozen=True)
        file = tmp_path / "settings.json"
        with refuses(f"{file} holds no settings of today's code (other fields: momentum); start again with --force"):
            read_settings_of(tmp_path, newer)
        file.write_text('{"settings": [1]}')
        with refuses(f"{file} holds no settings of today's code (expected an object); start again with --force"):
            read_settings_of(tmp_path, Sweep)

    def test_those_out_of_bounds_are_refused(self, tmp_path, refuses):
        finish(tmp_path)
        described = read(tmp_path, "settings.json")
        described["settings"]["processes"] = -1
        (tmp_path / "settings.json").write_text(json.dumps(described))
        with refuses("processes must be a whole number >= 0, got -1"):
            read_settings_of(tmp_path, Sweep)

    def test_edited_ones_are_not_shown_as_those_of_the_run(self, tmp_path, refuses):
        finish(tmp_path)
        file = tmp_path / "settings.json"
        file.write_text(file.read_text().replace('"rate": 0.1', '"rate": 0.7'))
        with refuses(f"{file} is not what its run wrote (damaged or edited); start again with --force"):
            read_tables(tmp_path)

    def test_an_old_provenance_says_nothing_of_them(self, tmp_path):
        finish(tmp_path)
        old = read(tmp_path, "provenance.json")
        del old["settings"], old["digest"]
        (tmp_path / "provenance.json").write_text(json.dumps(old))
        assert read_tables(tmp_path)["rows"].to_dict("records") == ROWS


def test_a_folder_may_be_given_as_text(tmp_path):
    folder = str(tmp_path / "run")
    assert finish(folder).to_dict("records") == read_tables(folder)["rows"].to_dict("records") == ROWS
    assert is_complete(folder)
    assert read_settings_of(folder, Sweep) == Sweep()
    assert wall_seconds(folder) >= 0
    assert changed_code(folder, {"a.py": "1"}) == ["a.py"]


class TestOtherCode:
    OLD, NEW = {"a.py": "1", "b.py": "1"}, {"a.py": "1", "b.py": "2", "c.py": "1"}

    def test_a_complete_run_of_other_code_is_refused_by_file(self, tmp_path, refuses):
        finish(tmp_path, code=self.OLD)
        before = snapshot(tmp_path)
        message = (
            f"{tmp_path} holds a run of other code (differs in b.py, c.py); "
            "`run` with --force makes it anew, --stale shows it as it is"
        )
        with refuses(message):
            run(tmp_path, never, code=self.NEW)
        with refuses(message):
            read_tables(tmp_path, code=self.NEW)
        assert snapshot(tmp_path) == before

    def test_a_complete_run_of_the_same_code_is_read(self, tmp_path):
        finish(tmp_path, code=self.OLD)
        assert run(tmp_path, never, code=dict(reversed(self.OLD.items()))).to_dict("records") == ROWS
        assert read_tables(tmp_path, code=self.OLD).keys() == {"rows"}
        assert changed_code(tmp_path, self.OLD) == []

    def test_it_can_be_shown_and_says_what_changed(self, tmp_path):
        finish(tmp_path, code=self.OLD)
        before = snapshot(tmp_path)
        assert run(tmp_path, never, code=self.NEW, stale=True).to_dict("records") == ROWS
        assert read_tables(tmp_path).keys() == {"rows"}
        assert changed_code(tmp_path, self.NEW) == ["b.py", "c.py"]
        assert snapshot(tmp_path) == before

    def test_it_can_be_made_anew(self, tmp_path):
        finish(tmp_path, code=self.OLD)
        assert finish(tmp_path, rows=ROWS[:1], code=self.NEW, force=True).to_dict("records") == ROWS[:1]
        assert changed_code(tmp_path, self.NEW) == []

    def test_checkpoints_of_other_code_are_not_continued(self, tmp_path, refuses):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, interrupted, code=self.OLD)
        before = snapshot(tmp_path)
        message = f"{tmp_path} holds an unfinished run of other code (differs in b.py, c.py); --force starts it again"
        with refuses(message):
            run(tmp_path, never, code=self.NEW)
        with refuses(f"no finished run in {tmp_path}; run its experiment first"):
            run(tmp_path, never, code=self.NEW, stale=True)
        assert snapshot(tmp_path) == before


class TestInterruption:
    def test_a_computation_that_is_interrupted_leaves_no_rows_and_can_be_resumed(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, interrupted)
        assert names(tmp_path) == {"settings.json", "provenance.json", "checkpoint", "run", "half.pt"}
        assert not is_complete(tmp_path)
        with pytest.raises(InputError, match=re.escape(f"no finished run in {tmp_path}")):
            read_tables(tmp_path)

        def resumed(checkpoint):
            return {"rows": [*checkpoint.stage("half").load()["rows"], ROWS[1]]}

        assert run(tmp_path, resumed).to_dict("records") == ROWS
        assert len(read(tmp_path, "provenance.json")["sessions"]) == 2
        assert names(tmp_path) == FINISHED

    def test_rows_that_the_provenance_calls_incomplete_are_not_given_out(self, tmp_path):
        # A kill between writing the rows and writing that the run is complete.
        finish(tmp_path)
        provenance = read(tmp_path, "provenance.json")
        (tmp_path / "provenance.json").write_text(json.dumps(sealed({**provenance, "complete": False})))
        with pytest.raises(InputError, match="no finished run"):
            read_tables(tmp_path)

    @pytest.mark.parametrize("name", sorted(FINISHED))
    def test_an_empty_folder_or_a_lost_file_is_not_a_finished_run(self, tmp_path, name):
        assert not is_complete(tmp_path / "nowhere")
        finish(tmp_path)
        (tmp_path / name).unlink()
        assert is_complete(tmp_path) == (name == "settings.json")

    def test_wall_seconds_are_summed_over_sessions_that_ended_by_themselves(self, tmp_path, monkeypatch):
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path, interrupted)
        assert [session["wall_seconds"] for session in read(tmp_path, "provenance.json")["sessions"]] == [None, None]
        clock = iter([100.0, 102.5])
        monkeypatch.setattr("time.perf_counter", lambda: next(clock))
        finish(tmp_path)
        seconds = [session["wall_seconds"] for session in read(tmp_path, "provenance.json")["sessions"]]
        assert seconds == [None, None, 2.5]
        assert wall_seconds(tmp_path) == 2.5

    def test_a_run_whose_rows_cannot_be_written_can_be_resumed(self, tmp_path, monkeypatch):
        def full_disk(*_arguments):
            raise OSError("no space left on device")

        with monkeypatch.context() as patch:

            def compute(_checkpoint):
                patch.setattr(os, "fsync", full_disk)
                return {"rows": ROWS}

            with pytest.raises(OSError, match="no space left"):
                run(tmp_path, compute)
        assert names(tmp_path) == {"settings.json", "provenance.json"}
        assert finish(tmp_path).to_dict("records") == ROWS


class TestWhoIsAtFault:
    @pytest.mark.parametrize("error", [InputError("no such level"), FileNotFoundError("no such file")])
    def test_a_run_that_the_user_could_not_begin_leaves_nothing(self, tmp_path, error):
        def compute(_checkpoint):
            raise error

        with pytest.raises(type(error)):
            run(tmp_path / "rows" / "smoke" / "sweep", compute)
        assert names(tmp_path) == set()

    def test_what_lay_in_the_folder_before_is_kept(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")

        def compute(_checkpoint):
            raise InputError("no such level")

        with pytest.raises(InputError):
            run(tmp_path, compute)
        assert names(tmp_path) == {"notes.txt"}

    def test_a_run_that_had_begun_is_kept_for_the_user_to_mend(self, tmp_path):
        def compute(checkpoint):
            checkpoint.stage("half").save({"rows": ROWS[:1]})
            raise InputError("a worker was killed")

        with pytest.raises(InputError, match="a worker was killed"):
            run(tmp_path, compute)
        assert "half.pt" in names(tmp_path)

    @pytest.mark.parametrize("error", [ValueError("wrong shape"), RuntimeError("no rows"), KeyError("rows")])
    def test_a_run_that_our_fault_has_ended_is_kept(self, tmp_path, error):
        def compute(_checkpoint):
            raise error

        with pytest.raises(type(error)) as raised:
            run(tmp_path, compute)
        assert raised.value is error
        assert names(tmp_path) == {"settings.json", "provenance.json"}


class TestDamage:
    @pytest.mark.parametrize("name", ["settings.json", "provenance.json"])
    @pytest.mark.parametrize("content", [b"", b'{"experiment": "swe', b"\xff\xfe\x00", b'["not", "an", "object"]'])
    def test_damaged_json_is_one_line_that_names_the_file(self, tmp_path, name, content):
        finish(tmp_path)
        (tmp_path / name).write_bytes(content)
        before = snapshot(tmp_path)
        with pytest.raises(InputError, match=re.escape(str(tmp_path / name))) as refusal:
            run(tmp_path, never)
        assert len(str(refusal.value).splitlines()) == 1
        assert "--force" in str(refusal.value)
        assert snapshot(tmp_path) == before

    @pytest.mark.parametrize(("key", "reader"), [("tables", read_tables), ("sessions", wall_seconds)])
    def test_provenance_whose_parts_are_of_another_kind_is_refused(self, tmp_path, key, reader):
        finish(tmp_path)
        changed = sealed({**read(tmp_path, "provenance.json"), key: 3})
        (tmp_path / "provenance.json").write_text(json.dumps(changed))
        message = f"{tmp_path / 'provenance.json'} is damaged (its {key} are no "
        with pytest.raises(InputError, match=re.escape(message)):
            reader(tmp_path)

    @pytest.mark.parametrize("reader", [read_tables, is_complete, wall_seconds, lambda folder: run(folder, never)])
    def test_no_part_of_the_provenance_is_believed_once_one_of_them_has_changed(self, tmp_path, reader):
        finish(tmp_path, code={"a.py": "1"})
        file = tmp_path / "provenance.json"
        whole, refused = file.read_bytes(), 0
        for place in range(0, len(whole), len(whole) // 50):
            content = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
            file.write_bytes(content)
            try:
                is_other = json.loads(content) != json.loads(whole)
            except ValueError:
                is_other = True
            if is_other:  # a changed blank says the same
                with pytest.raises(InputError, match=re.escape(str(file))):
                    reader(tmp_path)
                refused += 1
        assert refused > 30

    def test_damaged_rows_are_named(self, tmp_path):
        finish(tmp_path)
        (tmp_path / "rows.csv").write_bytes(b"")
        with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'rows.csv'} is not what its run wrote")):
            run(tmp_path, never)
