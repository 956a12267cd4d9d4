"""A run on disk: complete, exact, refused when it does not fit, and whole after a kill at any moment.

Started as a script, this file is the process that gets killed: `python tests/test_runs.py PLAN FOLDER`.
"""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_problem import SmallProblem

from maxrl_lab import runs
from maxrl_lab.training.fit import Optimisation, fit
from maxrl_lab.training.methods import Expected, Sampled


@dataclasses.dataclass(frozen=True)
class Inner:
    rates: tuple[float, ...] = (0.1, 0.2)


@dataclasses.dataclass(frozen=True)
class Settings:
    seeds: int = 3
    rate: float = 0.1
    estimator: str = "maxrl"
    clip: float | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)


ROWS = [{"step": 0, "metric": "pass_rate", "value": 0.1}, {"step": 10, "metric": "pass_rate", "value": 1 / 3}]
FINISHED = {"settings.json", "rows.csv", "provenance.json"}


def finish(folder, settings=None, rows=ROWS, **options):
    return runs.execute(folder, "sweep", settings or Settings(), lambda _checkpoint: rows, **options)


def never(_checkpoint):
    raise AssertionError("computed although the run is complete or must be refused")


def snapshot(folder):
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def names(folder):
    return {path.name for path in folder.rglob("*")}


def read(folder, name):
    return json.loads((folder / name).read_text())


class TestFiles:
    def test_settings_are_complete(self, tmp_path):
        finish(tmp_path, Settings(rate=0.25))
        # Every field, defaults included; a tuple is a list in JSON.
        fields = {"seeds": 3, "rate": 0.25, "estimator": "maxrl", "clip": None, "inner": {"rates": [0.1, 0.2]}}
        assert read(tmp_path, "settings.json") == {"experiment": "sweep", "settings": fields, "device": "cpu"}
        assert runs.read_settings(tmp_path) == fields

    def test_settings_are_on_disk_before_the_first_computation(self, tmp_path):
        def compute(_checkpoint):
            assert read(tmp_path, "settings.json")["experiment"] == "sweep"
            assert read(tmp_path, "provenance.json")["complete"] is False
            assert not (tmp_path / "rows.csv").exists()
            return ROWS

        runs.execute(tmp_path, "sweep", Settings(), compute)
        assert read(tmp_path, "provenance.json")["complete"] is True

    def test_rows_are_long_form_with_one_line_each(self, tmp_path):
        finish(tmp_path)
        expected = "step,metric,value\n0,pass_rate,0.1\n10,pass_rate,0.3333333333333333\n"
        assert (tmp_path / "rows.csv").read_bytes() == expected.encode()

    def test_every_float_comes_back_with_the_same_bits(self, tmp_path):
        # Random bit patterns cover all exponents; the rest are the ends of the range and the signed zero.
        random = np.random.default_rng(0).integers(0, 2**64, 2000, dtype=np.uint64).view(np.float64)
        extremes = [0.1, 1 / 3, -0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, np.inf, -np.inf]
        values = np.concatenate([random[np.isfinite(random)], extremes])
        back = finish(tmp_path, rows=[{"value": value} for value in values.tolist()])["value"].to_numpy()
        assert back.dtype == np.float64
        assert np.array_equal(back.view(np.uint64), values.view(np.uint64))

    def test_missing_whole_and_boolean_values_come_back(self, tmp_path):
        rows = [{"count": 2**53 + 1, "right": True, "value": float("nan")}, {"count": 0, "right": False, "value": 1.0}]
        back = finish(tmp_path, rows=rows)
        assert back["count"].tolist() == [2**53 + 1, 0]  # not representable in float64
        assert back["right"].tolist() == [True, False]
        assert back["value"].isna().tolist() == [True, False]

    def test_no_other_file_is_left(self, tmp_path):
        def compute(checkpoint):
            checkpoint.stage("first").save({"a": 1})
            checkpoint.stage("second").save({"a": 2})
            assert {"first.pt", "second.pt"} <= names(tmp_path)
            return ROWS

        runs.execute(tmp_path, "sweep", Settings(), compute)
        assert names(tmp_path) == FINISHED

    def test_the_same_settings_give_the_same_bytes(self, tmp_path):
        finish(tmp_path / "a")
        finish(tmp_path / "b")
        for name in ("rows.csv", "settings.json"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def timed(seconds):
    """Rows of which the second says where its time went."""
    first = {"view": "evaluation", "step": 0, "value": 0.1}
    return [first, {"view": "dynamics", "step": 1, "value": 0.2, "seconds_sample": seconds, "tokens_per_second": 1e3}]


class TestTimings:
    def test_they_are_kept_apart_by_the_number_of_the_row(self, tmp_path):
        back = finish(tmp_path, rows=timed(0.25))
        assert list(back.columns) == ["view", "step", "value"]
        assert (tmp_path / "timings.csv").read_text() == "row,seconds_sample,tokens_per_second\n1,0.25,1000.0\n"
        assert names(tmp_path) == {*FINISHED, "timings.csv"}
        assert finish(tmp_path, rows=ROWS).equals(back)  # complete: read, not computed again

    def test_rows_are_the_same_bytes_however_long_it_took(self, tmp_path):
        finish(tmp_path / "slow", rows=timed(12.5))
        finish(tmp_path / "fast", rows=timed(0.1))
        slow, fast = (tmp_path / each for each in ("slow", "fast"))
        assert (slow / "rows.csv").read_bytes() == (fast / "rows.csv").read_bytes()
        assert (slow / "timings.csv").read_bytes() != (fast / "timings.csv").read_bytes()
        digests = [read(folder, "provenance.json")["rows_sha256"] for folder in (slow, fast)]
        assert digests[0] == digests[1]

    def test_none_without_timings(self, tmp_path):
        finish(tmp_path)
        assert names(tmp_path) == FINISHED

    def test_force_removes_those_of_the_run_it_replaces(self, tmp_path):
        finish(tmp_path, rows=timed(0.25))
        finish(tmp_path, rows=ROWS, force=True)
        assert names(tmp_path) == FINISHED

    def test_a_run_that_lost_them_is_complete(self, tmp_path):
        whole = finish(tmp_path, rows=timed(0.25))
        (tmp_path / "timings.csv").unlink()
        assert runs.is_complete(tmp_path)
        assert finish(tmp_path, rows=ROWS).equals(whole)


class TestProvenance:
    def test_a_session_says_what_ran_on_what(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["/usr/local/bin/maxrl-lab", "sweep", "--seeds", "3"])
        finish(tmp_path)
        (session,) = read(tmp_path, "provenance.json")["sessions"]
        assert session["command"] == "maxrl-lab sweep --seeds 3"
        assert session["python"] == sys.version.split()[0]
        assert session["packages"]["torch"] == metadata.version("torch")
        assert session["packages"].keys() >= {"maxrl-lab", "numpy", "scipy", "pandas", "gymnasium", "safetensors"}
        assert session["device"] == "cpu"
        assert session["threads"] == torch.get_num_threads()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", session["started"])
        assert session["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", session["commit"])

    def test_versions_of_extras_are_recorded_where_they_are_installed(self, tmp_path, monkeypatch):
        def version(name):
            if name in ("trl", "vllm"):
                raise metadata.PackageNotFoundError(name)
            return f"{name} 1.2"

        monkeypatch.setattr(runs.metadata, "version", version)
        finish(tmp_path)
        (session,) = read(tmp_path, "provenance.json")["sessions"]
        expected = {"maxrl-lab", "torch", "numpy", "scipy", "scikit-learn", "pandas", "gymnasium", "minigrid"}
        expected |= {"safetensors", "transformers", "accelerate", "peft", "datasets", "reasoning-gym", "math-verify"}
        assert session["packages"] == {name: f"{name} 1.2" for name in expected | {"verl"}}

    @pytest.mark.parametrize(("changes", "expected"), [("", "abc"), (" M maxrl_lab/fit.py\n", "abc+changes")])
    def test_the_commit_says_whether_the_tree_was_edited(self, tmp_path, monkeypatch, changes, expected):
        outputs = {"ls-files": "runs.py\n", "rev-parse": "abc\n", "status": changes}
        answer = lambda command, **_: SimpleNamespace(stdout=outputs[command[3]])  # noqa: E731
        monkeypatch.setattr(runs.subprocess, "run", answer)
        finish(tmp_path)
        assert read(tmp_path, "provenance.json")["sessions"][0]["commit"] == expected

    @pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")])
    def test_without_git_the_commit_is_null(self, tmp_path, monkeypatch, error):
        def fail(*_arguments, **_options):
            raise error

        monkeypatch.setattr(runs.subprocess, "run", fail)
        finish(tmp_path)
        assert read(tmp_path, "provenance.json")["sessions"][0]["commit"] is None

    def test_wall_seconds_are_summed_over_sessions_that_ended_by_themselves(self, tmp_path, monkeypatch):
        with pytest.raises(KeyboardInterrupt):
            runs.execute(tmp_path, "sweep", Settings(), interrupted)
        with pytest.raises(KeyboardInterrupt):
            runs.execute(tmp_path, "sweep", Settings(), interrupted)
        assert [session["wall_seconds"] for session in read(tmp_path, "provenance.json")["sessions"]] == [None, None]
        clock = iter([100.0, 102.5])
        monkeypatch.setattr(runs.time, "perf_counter", lambda: next(clock))
        finish(tmp_path)
        assert [session["wall_seconds"] for session in read(tmp_path, "provenance.json")["sessions"]] == [
            None,
            None,
            2.5,
        ]
        assert runs.wall_seconds(tmp_path) == 2.5


def interrupted(checkpoint):
    checkpoint.stage("half").save({"rows": ROWS[:1]})
    raise KeyboardInterrupt


class TestSecondCall:
    def test_a_finished_run_is_read_not_computed(self, tmp_path):
        first = finish(tmp_path)
        before = snapshot(tmp_path)
        second = runs.execute(tmp_path, "sweep", Settings(), never)
        assert second.equals(first)
        assert snapshot(tmp_path) == before

    @pytest.mark.parametrize(
        ("experiment", "settings", "difference"),
        [
            ("sweep", Settings(rate=0.5), "(rate = 0.1 there, 0.5 now)"),
            ("sweep", Settings(estimator="rloo"), "(estimator = 'maxrl' there, 'rloo' now)"),
            ("sweep", Settings(clip=1.0), "(clip = None there, 1.0 now)"),
            (
                "sweep",
                Settings(inner=Inner((0.1,))),
                "(inner = {'rates': [0.1, 0.2]} there, {'rates': [0.1]} now)",
            ),
            ("scan", Settings(), "(experiment = 'sweep' there, 'scan' now)"),
        ],
    )
    @pytest.mark.parametrize("complete", [True, False])
    def test_other_settings_are_refused_and_nothing_changes(self, tmp_path, experiment, settings, difference, complete):
        if complete:
            finish(tmp_path)
        else:
            with pytest.raises(KeyboardInterrupt):
                runs.execute(tmp_path, "sweep", Settings(), interrupted)
        before = snapshot(tmp_path)
        with pytest.raises(ValueError, match=re.escape(f"{tmp_path} holds a run with other settings {difference}")):
            runs.execute(tmp_path, experiment, settings, never)
        assert snapshot(tmp_path) == before

    def test_a_new_field_whose_default_is_none_is_named(self, tmp_path):
        finish(tmp_path)
        wider = dataclasses.make_dataclass("Wider", [("momentum", float | None, None)], bases=(Settings,), frozen=True)
        with pytest.raises(ValueError, match="momentum"):
            runs.execute(tmp_path, "sweep", wider(), never)

    def test_a_finished_run_without_settings_is_not_given_out_as_this_one(self, tmp_path):
        finish(tmp_path)
        (tmp_path / "settings.json").unlink()
        with pytest.raises(ValueError, match=r"settings\.json"):
            runs.execute(tmp_path, "another", Settings(rate=0.5), never)


class TestForce:
    def test_force_replaces_a_run(self, tmp_path):
        finish(tmp_path)
        back = finish(tmp_path, Settings(rate=0.5), [{"step": 7}], force=True)
        assert back.to_dict("list") == {"step": [7]}
        assert runs.read_settings(tmp_path)["rate"] == 0.5
        assert len(read(tmp_path, "provenance.json")["sessions"]) == 1
        assert names(tmp_path) == FINISHED

    def test_force_forgets_the_checkpoints_of_the_run_it_replaces(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            runs.execute(tmp_path, "sweep", Settings(), interrupted)

        def compute(checkpoint):
            assert checkpoint.stage("half").load() is None
            return ROWS

        runs.execute(tmp_path, "sweep", Settings(rate=0.5), compute, force=True)

    def test_force_starts_again_from_damaged_files(self, tmp_path):
        finish(tmp_path)
        for name in FINISHED:
            (tmp_path / name).write_bytes(b"\xff damaged")
        assert finish(tmp_path, force=True).to_dict("records") == ROWS

    def test_a_kill_during_force_leaves_no_checkpoint_of_other_settings(self, tmp_path, monkeypatch):
        with pytest.raises(KeyboardInterrupt):
            runs.execute(tmp_path, "sweep", Settings(), interrupted)

        def killed(*_arguments, **_options):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(runs.shutil, "rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                finish(tmp_path, Settings(rate=0.5), force=True)
        seen = []

        def compute(checkpoint):
            seen.append(checkpoint.stage("half").load())
            return ROWS

        try:
            runs.execute(tmp_path, "sweep", Settings(rate=0.5), compute)
        except ValueError as refusal:  # refusing until --force comes again is right, too
            assert "other settings" in str(refusal)  # noqa: PT017
        assert seen in ([], [None])


class TestInterruption:
    def test_a_computation_that_fails_leaves_no_rows_and_can_be_resumed(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            runs.execute(tmp_path, "sweep", Settings(), interrupted)
        assert names(tmp_path) == {"settings.json", "provenance.json", "checkpoint", "run", "half.pt"}
        assert not runs.is_complete(tmp_path)
        with pytest.raises(ValueError, match=re.escape(f"no finished run in {tmp_path}")):
            runs.read_rows(tmp_path)

        def resumed(checkpoint):
            return [*checkpoint.stage("half").load()["rows"], ROWS[1]]

        assert runs.execute(tmp_path, "sweep", Settings(), resumed).to_dict("records") == ROWS
        assert len(read(tmp_path, "provenance.json")["sessions"]) == 2
        assert names(tmp_path) == FINISHED

    def test_rows_that_the_provenance_calls_incomplete_are_not_given_out(self, tmp_path):
        # A kill between writing the rows and writing that the run is complete.
        finish(tmp_path)
        provenance = read(tmp_path, "provenance.json")
        (tmp_path / "provenance.json").write_text(json.dumps({**provenance, "complete": False}))
        with pytest.raises(ValueError, match="no finished run"):
            runs.read_rows(tmp_path)

    @pytest.mark.parametrize("name", sorted(FINISHED))
    def test_an_empty_folder_or_a_lost_file_is_not_a_finished_run(self, tmp_path, name):
        assert not runs.is_complete(tmp_path / "nowhere")
        finish(tmp_path)
        (tmp_path / name).unlink()
        assert runs.is_complete(tmp_path) == (name == "settings.json")


class TestDamage:
    @pytest.mark.parametrize("name", ["settings.json", "provenance.json"])
    @pytest.mark.parametrize("content", [b"", b'{"experiment": "swe', b"\xff\xfe\x00"])
    def test_damaged_json_is_one_line_that_names_the_file(self, tmp_path, name, content):
        finish(tmp_path)
        (tmp_path / name).write_bytes(content)
        before = snapshot(tmp_path)
        with pytest.raises(ValueError, match=re.escape(str(tmp_path / name))) as refusal:
            runs.execute(tmp_path, "sweep", Settings(), never)
        assert len(str(refusal.value).splitlines()) == 1
        assert "--force" in str(refusal.value)
        assert snapshot(tmp_path) == before

    @pytest.mark.parametrize("name", ["settings.json", "provenance.json"])
    def test_json_of_another_shape_is_refused_too(self, tmp_path, name):
        finish(tmp_path)
        (tmp_path / name).write_text('["not", "an", "object"]')
        with pytest.raises(ValueError, match=re.escape(str(tmp_path / name))):
            runs.execute(tmp_path, "sweep", Settings(), never)

    def test_damaged_rows_are_named(self, tmp_path):
        finish(tmp_path)
        (tmp_path / "rows.csv").write_bytes(b"")
        with pytest.raises(ValueError, match=re.escape(str(tmp_path / "rows.csv"))):
            runs.execute(tmp_path, "sweep", Settings(), never)

    def test_a_computation_without_rows_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="sweep returned no rows"):
            finish(tmp_path, rows=[])
        assert not runs.is_complete(tmp_path)

    def test_text_that_looks_like_a_missing_value_comes_back_as_text(self, tmp_path):
        assert finish(tmp_path, rows=[{"schedule": "None"}, {"schedule": "NA"}])["schedule"].tolist() == ["None", "NA"]


class TestCheckpoint:
    def test_tensors_and_plain_values_come_back(self, tmp_path):
        state = {"step": 3, "rows": ROWS, "nested": {"weights": torch.tensor([1 / 3], dtype=torch.float64)}, "no": None}
        checkpoint = runs.Checkpoint(tmp_path).stage("stage")
        assert checkpoint.load() is None
        checkpoint.save({"step": 0})
        checkpoint.save(state)
        back = checkpoint.load()
        assert torch.equal(back["nested"].pop("weights"), state["nested"].pop("weights"))
        assert back == state
        assert names(tmp_path) == {"stage.pt"}

    def test_stages_do_not_share_state(self, tmp_path):
        root = runs.Checkpoint(tmp_path)
        root.stage("a").save({"who": "a"})
        root.stage("a").stage("b").save({"who": "a/b"})
        assert root.stage("a").load() == {"who": "a"}
        assert root.stage("a").stage("b").load() == {"who": "a/b"}
        assert root.stage("b").load() is None

    def test_stages_whose_names_differ_after_a_dot_do_not_share_state(self, tmp_path):
        runs.Checkpoint(tmp_path).stage("rate=0.1").save({"rate": 0.1})
        assert runs.Checkpoint(tmp_path).stage("rate=0.5").load() is None

    def test_the_checkpoint_itself_is_removed_when_the_run_is_complete(self, tmp_path):
        def compute(checkpoint):
            checkpoint.save({"a": 1})
            return ROWS

        runs.execute(tmp_path, "sweep", Settings(), compute)
        assert names(tmp_path) == FINISHED

    @pytest.mark.parametrize(
        "damage",
        [
            "truncated",
            "empty",
            "not an archive",
            pytest.param("one byte changed"),
        ],
    )
    def test_a_damaged_checkpoint_is_one_line_that_names_the_file(self, tmp_path, damage):
        checkpoint = runs.Checkpoint(tmp_path).stage("stage")
        checkpoint.save({"weights": torch.arange(100.0)})
        file = tmp_path / "stage.pt"
        whole = file.read_bytes()
        weights = whole.index(torch.arange(100.0).numpy().tobytes())
        changed = whole[: weights + 4] + b"\xff" + whole[weights + 5 :]
        content = {
            "truncated": whole[: len(whole) // 2],
            "empty": b"",
            "not an archive": b"PK, said the file",
            "one byte changed": changed,
        }
        file.write_bytes(content[damage])
        with pytest.raises(ValueError, match=re.escape(str(file))) as refusal:
            checkpoint.load()
        assert len(str(refusal.value).splitlines()) == 1
        assert "--force" in str(refusal.value)

    def test_code_in_a_checkpoint_is_not_executed(self, tmp_path):
        loot = tmp_path / "executed"
        file = tmp_path / "stage.pt"
        torch.save({"step": Trap(loot)}, file)
        with pytest.raises(ValueError, match=re.escape(str(file))):
            runs.Checkpoint(tmp_path).stage("stage").load()
        assert not loot.exists()
        torch.load(file, weights_only=False)  # the trap is armed: an ordinary load springs it
        assert loot.exists()

    def test_a_state_that_cannot_be_loaded_is_refused_when_saved(self, tmp_path):
        with pytest.raises(ValueError, match="value"):
            runs.Checkpoint(tmp_path).stage("stage").save({"rows": [{"value": np.float64(0.5)}]})


class Trap:
    """Unpickling it makes a directory."""

    def __init__(self, loot):
        self.loot = str(loot)

    def __reduce__(self):
        return os.mkdir, (self.loot,)


class TestWriteAtomically:
    def test_it_makes_the_folder_and_leaves_the_file_alone_in_it(self, tmp_path):
        runs.write_atomically(tmp_path / "new" / "file.txt", b"first")
        runs.write_atomically(tmp_path / "new" / "file.txt", b"second")
        assert (tmp_path / "new" / "file.txt").read_bytes() == b"second"
        assert names(tmp_path) == {"new", "file.txt"}

    @pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
    def test_a_write_that_fails_midway_keeps_the_old_content(self, tmp_path, monkeypatch, call):
        file = tmp_path / "file.txt"
        runs.write_atomically(file, b"old")
        monkeypatch.setattr(call, full_disk)
        with pytest.raises(OSError, match="no space left"):
            runs.write_atomically(file, b"new")
        assert snapshot(tmp_path).keys() == {str(file)}
        assert file.read_bytes() == b"old"

    def test_the_bytes_are_flushed_to_disk_before_they_get_their_name(self, tmp_path, monkeypatch):
        file = tmp_path / "file.txt"
        runs.write_atomically(file, b"old")
        flushed = []

        def fsync(descriptor):
            flushed.append((os.fstat(descriptor).st_size, file.read_bytes()))

        monkeypatch.setattr(os, "fsync", fsync)
        runs.write_atomically(file, b"the new content")
        assert flushed[0] == (len(b"the new content"), b"old")

    def test_a_run_whose_rows_cannot_be_written_can_be_resumed(self, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:

            def compute(_checkpoint):
                patch.setattr(os, "fsync", full_disk)
                return ROWS

            with pytest.raises(OSError, match="no space left"):
                runs.execute(tmp_path, "sweep", Settings(), compute)
        assert names(tmp_path) == {"settings.json", "provenance.json"}
        assert finish(tmp_path).to_dict("records") == ROWS


def full_disk(*_arguments):
    raise OSError("no space left on device")


# Killed by SIGKILL, which no handler sees: 12 steps, a checkpoint every 4, so a run writes settings, provenance,
# 3 checkpoints, rows and provenance again.
WRITES = 7
OPTIMISATION = Optimisation(
    steps=12, measure_every=3, checkpoint_every=4, optimiser="adam", schedule="cosine", warmup=2
)
METHODS = [Sampled("maxrl", 4), Sampled("grpo", 4), Expected("rloo", 4)]


def train_small_problem(folder, before_batch=lambda _step: None):
    problem = SmallProblem(seeds=[0, 0, 1])

    def batch(step):
        before_batch(step)
        return problem.batch(step)

    def compute(checkpoint):
        return fit(
            problem.stack,
            METHODS,
            [0.1, 0.1, 0.05],
            OPTIMISATION,
            batch=batch,
            measure=problem.measure,
            checkpoint=checkpoint.stage("fit"),
        )

    return runs.execute(folder, "small problem", OPTIMISATION, compute)


def kill_self(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_step(folder, step):
    train_small_problem(folder, before_batch=lambda now: kill_self() if now == step else None)


def killed_at_write(folder, write):
    """The kill comes when the bytes are in the temporary file and the file has not got its name."""
    count = iter(range(1, WRITES + 1))
    runs.os.fsync = lambda _descriptor: kill_self() if next(count) == write else None
    train_small_problem(folder)


def killed_at_cleaning(folder):
    runs.shutil.rmtree = kill_self
    train_small_problem(folder)


PLANS = {
    **{f"step-{step}": (killed_at_step, step) for step in (0, 6, 8)},
    **{f"write-{write}": (killed_at_write, write) for write in range(1, WRITES + 1)},
    "cleaning": (killed_at_cleaning,),
}


def die_by_every_plan(folder):
    """Fork a child for each plan and print how each ended."""
    import torch._dynamo  # noqa: F401  (torch.optim imports it on first use: paid once here, not in every child)

    for name, (plan, *arguments) in PLANS.items():
        child = os.fork()
        if child == 0:
            plan(folder / name, *arguments)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(name, os.WTERMSIG(status) if os.WIFSIGNALED(status) else "survived")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    # One thread, as the forked children cannot inherit a thread pool; these networks are too small to use more.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    assert ended.stdout.split() == [word for name in PLANS for word in (name, str(int(signal.SIGKILL)))]
    return folder


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train_small_problem(folder)
    return (folder / "rows.csv").read_bytes()


# The step that the second session starts with: that of the last whole checkpoint; None where nothing is left to train.
STARTS_AGAIN_AT = {
    **{"step-0": 0, "step-6": 4, "step-8": 8},
    **{"write-1": 0, "write-2": 0, "write-3": 0, "write-4": 4, "write-5": 8, "write-6": None, "write-7": None},
    "cleaning": None,
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("plan", PLANS)
def test_a_killed_run_ends_with_the_rows_of_one_that_was_not(killed, uninterrupted, plan):
    folder = killed / plan
    steps = []
    train_small_problem(folder, before_batch=steps.append)
    assert (folder / "rows.csv").read_bytes() == uninterrupted
    assert read(folder, "provenance.json")["complete"] is True
    assert steps == ([] if STARTS_AGAIN_AT[plan] is None else list(range(STARTS_AGAIN_AT[plan], 12)))


def test_the_uninterrupted_run_measured_what_its_recipe_says(uninterrupted):
    # 3 runs, measured at steps 0, 3, 6, 9 and 12.
    lines = uninterrupted.decode().splitlines()
    assert lines[0] == "step,run,seed,log_pass_rate"
    assert [line.split(",")[0] for line in lines[1::3]] == ["0", "3", "6", "9", "12"]
    assert len(lines) == 1 + 5 * 3


if __name__ == "__main__":
    die_by_every_plan(Path(sys.argv[1]))


def test_a_run_is_not_continued_on_another_kind_of_device(tmp_path):
    finish(tmp_path)
    with pytest.raises(ValueError, match=r"\(device = 'cpu' there, 'cuda' now\)"):
        finish(tmp_path, device="cuda:0")


def test_the_cache_is_where_the_user_says_or_at_home_or_among_the_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert runs.cache_folder() == tmp_path / "own"
    monkeypatch.setenv("MAXRL_LAB_CACHE", "")  # as if it were not set
    assert runs.cache_folder() == tmp_path / "xdg/maxrl_lab"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert runs.cache_folder() == tmp_path / "home/.cache/maxrl_lab"
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert runs.cache_folder() == tmp_path / "temporary/maxrl_lab"
    assert list(tmp_path.iterdir()) == []  # it only says where


def test_names_of_files_are_one_level_and_differ_where_estimators_do():
    assert runs.file_name("pkpo:k=4-0") == "pkpo-k=4-0"
    assert runs.file_name("reasoning_gym/chain_sum") == "reasoning_gym_chain_sum"
    texts = [f"maxrl_order:order={order}-0" for order in ("N", "N/2", "N-2", "N+2", "N*2", "2")]
    found = [runs.file_name(text) for text in texts]
    assert len({*found}) == len(found)
    assert runs.file_name("a b\\c\n<d>|'\"*?") == "a-b-c--d----x-"
    assert not any(set(name) & set("/\\: ") for name in found)
