"""The verbs list, run, draw and reproduce: what they print, what they leave on disk, and how they fail."""

import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import _reproduce, _runs
from experiments.catalogue import EXPERIMENTS
from figures import style
from maxrl_lab.command import main
from maxrl_lab.errors import InputError
from maxrl_lab.runs.record import sealed

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "maxrl_lab.command"]

PLAIN = [name for name, entry in EXPERIMENTS.items() if entry.extra is None]
"""Experiments that need no extra; `llm` runs in tests/llm, on a model that is made there."""

TIMED = ("maze_scaling", "maze_baselines", "gradient_signal", "data_scarce")
"""Experiments that measure every update, and so where its time went."""

CHEAP = ["run", "weight_functions", "--preset", "smoke"]
CHEAP_FOLDER = "rows/smoke/weight_functions"


def places(folder):
    return ["--out", str(folder / "rows"), "--pictures", str(folder / "pictures")]


def results(folder):
    """The bytes of every table but the times."""
    return {path.name: path.read_bytes() for path in folder.glob("*.csv") if path.name != "timings.csv"}


def content(figure):
    """What a figure shows, to be compared; without drawing it, which takes longer than all else."""
    panels = [
        (
            [ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), *(text.get_text() for text in ax.texts)],
            [(line.get_label(), line.get_color(), line.get_xydata().tobytes()) for line in ax.lines],
            [path.vertices.tobytes() for shown in ax.collections for path in shown.get_paths()],
            [patch.get_path().vertices.tobytes() for patch in ax.patches],
            [image.get_array().tobytes() for image in ax.images],
        )
        for ax in figure.axes
    ]
    return figure.get_suptitle(), panels


@pytest.fixture
def saved(monkeypatch):
    """No picture is written: what each would have shown is collected by its name."""
    contents = {}
    monkeypatch.setattr(_runs, "save", lambda figure, path: contents.update({path: content(figure)}))
    return contents


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Where the smoke runs are."""
    return tmp_path_factory.mktemp("smoke")


@pytest.fixture(scope="module")
def smoke_run(smoke):
    """`smoke_run(name)` runs an experiment, unless it has been, and returns what its picture shows."""

    @functools.cache
    def shown(name):
        figures = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                _runs, "save", lambda figure, path: (figures.append(content(figure)), style.save(figure, path))
            )
            assert main(["run", name, "--preset", "smoke", "--quiet", *places(smoke)]) == 0
        (figure,) = figures
        return figure

    return shown


@pytest.mark.parametrize("name", PLAIN)
def test_smoke_run_writes_tables_and_a_picture(name, smoke, smoke_run):
    smoke_run(name)
    folder = smoke / "rows" / "smoke" / name
    provenance = json.loads((folder / "provenance.json").read_text())
    tables = {f"{table}.csv" for table in provenance["tables"]}
    assert {path.name for path in folder.iterdir()} == {"settings.json", "provenance.json"} | tables
    assert ("timings.csv" in tables) == (name in TIMED)
    assert provenance["complete"] is True
    assert f"experiments/{EXPERIMENTS[name].room}/{name}.py" in provenance["code"]
    assert (smoke / "pictures" / "smoke" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["weight_functions", "maze_scaling"])
def test_draw_repeats_picture_and_table_from_the_rows(name, smoke, smoke_run, tmp_path, monkeypatch, capsys):
    """Byte by byte, here for two experiments; `reproduce`, below, draws all of them once more."""
    smoke_run(name)
    before = (smoke / "pictures" / "smoke" / f"{name}.png").read_bytes()
    capsys.readouterr()
    given = ["--preset", "smoke", "--out", str(smoke / "rows"), "--pictures", str(tmp_path)]
    assert main(["draw", name, *given]) == 0
    picture = tmp_path / "smoke" / f"{name}.png"
    assert picture.read_bytes() == before
    drawn = capsys.readouterr().out
    assert str(picture) in drawn
    monkeypatch.setattr(_runs, "save", lambda figure, path: None)
    assert main(["run", name, *given]) == 0
    shown = capsys.readouterr()
    assert shown.out.partition("rows: ")[0] == drawn.partition("picture: ")[0]
    assert f"{name}: complete in {smoke / 'rows/smoke' / name}, not run again; --force to replace it" in shown.err


SHORT = [
    *("run", "classification", "--preset", "smoke", "--steps", "60", "--seeds", "1", "--sweep_seeds", "1"),
    *("--estimators", "maxrl", "--rollouts", "4", "--quiet"),
]
"""Four runs in the sweep, two reported; a checkpoint after 50 steps of each."""
SHORT_FOLDER = "rows/smoke/classification"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The tables of a run in this process."""
    folder = tmp_path_factory.mktemp("whole")
    assert main([*SHORT, *places(folder)]) == 0
    return results(folder / SHORT_FOLDER)


def test_two_runs_of_one_command_are_bit_identical(whole, tmp_path):
    """In two interpreters: nothing depends on what a process did before, or on its hashes."""
    command = [*COMMAND, *SHORT, *places(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / SHORT_FOLDER) == whole
    assert len(whole) == 3


def test_killed_run_continues_to_the_same_rows(whole, tmp_path, saved):
    """SIGKILL as soon as the first stage's checkpoint is there; the second stage is then still to come."""
    killed = tmp_path / SHORT_FOLDER
    process = subprocess.Popen([*COMMAND, *SHORT, *places(tmp_path)], cwd=ROOT)
    while not list((killed / "checkpoint").glob("run/sweep*.pt")):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(killed.glob("*.csv"))
    assert main([*SHORT, *places(tmp_path)]) == 0
    assert len(json.loads((killed / "provenance.json").read_text())["sessions"]) == 2
    assert results(killed) == whole


def test_settings_are_flags_of_the_same_name(tmp_path, saved, capsys):
    flags = ["--rollouts", "2", "4", "--points", "5", "--lowest", "0.01"]
    assert main([*CHEAP, *flags, *places(tmp_path)]) == 0
    folder = tmp_path / CHEAP_FOLDER
    settings = json.loads((folder / "settings.json").read_text())["settings"]
    assert (settings["rollouts"], settings["points"], settings["lowest"]) == ([2, 4], 5, 0.01)
    # the same folder refuses other settings, and leaves what is there
    before = (folder / "rows.csv").read_bytes()
    assert main([*CHEAP, *places(tmp_path)]) == 2
    assert "lowest = 0.01 there, 0.001 now" in capsys.readouterr().err
    assert (folder / "rows.csv").read_bytes() == before
    # a figure is drawn with the settings of the run, whatever the preset says
    shown = dict(saved)
    assert main(["draw", "weight_functions", "--preset", "smoke", *places(tmp_path)]) == 0
    assert saved == shown
    assert main([*CHEAP, "--force", *places(tmp_path)]) == 0
    assert (folder / "rows.csv").read_bytes() != before


def test_a_complete_run_is_not_run_again(tmp_path, saved, capsys):
    assert main([*CHEAP, *places(tmp_path)]) == 0
    stamp = (tmp_path / CHEAP_FOLDER / "rows.csv").stat().st_mtime_ns
    assert main([*CHEAP, *places(tmp_path)]) == 0
    assert "not run again" in capsys.readouterr().err
    assert (tmp_path / CHEAP_FOLDER / "rows.csv").stat().st_mtime_ns == stamp


def test_a_killed_force_that_is_continued_is_not_called_complete(tmp_path, saved, monkeypatch, capsys):
    assert main([*CHEAP, *places(tmp_path)]) == 0
    module = EXPERIMENTS["weight_functions"].load()
    run = module.run

    def killed(settings, context):
        context.checkpoint.save({})
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run", killed)
    assert main([*CHEAP, "--force", *places(tmp_path)]) == 130
    monkeypatch.setattr(module, "run", run)
    assert (tmp_path / CHEAP_FOLDER / "replacement").exists()
    capsys.readouterr()
    assert main([*CHEAP, *places(tmp_path)]) == 0
    assert not (tmp_path / CHEAP_FOLDER / "replacement").exists()
    assert "not run again" not in capsys.readouterr().err
    assert main([*CHEAP, *places(tmp_path)]) == 0
    assert "not run again" in capsys.readouterr().err


def test_the_tables_are_named_where_they_are(tmp_path, saved, smoke, smoke_run, capsys):
    assert main([*CHEAP, *places(tmp_path)]) == 0
    assert f"\nrows: {tmp_path / CHEAP_FOLDER / 'rows.csv'}\npicture: " in capsys.readouterr().out
    smoke_run("classification")
    main(["run", "classification", "--preset", "smoke", *places(smoke)])
    shown = capsys.readouterr().out
    assert f"\nrows: {smoke / SHORT_FOLDER / '{sweep,curves,coverage}.csv'}\npicture: " in shown


def test_reproduce_ends_with_a_table_of_what_was_made(smoke, smoke_run, tmp_path, saved, capsys, monkeypatch):
    """It runs what is missing, and draws everything as it was; test_report.py has the report, which needs pictures."""
    monkeypatch.setattr(_reproduce, "write_report", lambda _made, _verdicts, _flags: tmp_path / "report.html")
    shown = {tmp_path / "pictures" / "smoke" / f"{name}.png": smoke_run(name) for name in PLAIN}
    shutil.copytree(smoke / "rows", tmp_path / "rows")
    missing = tmp_path / CHEAP_FOLDER
    shutil.rmtree(missing)
    capsys.readouterr()
    assert main(["reproduce", "--preset", "smoke", "--quiet", *places(tmp_path)]) == 0
    printed = capsys.readouterr()
    table = printed.out.strip().splitlines()
    assert table[0].split()[0] == "experiment"
    assert [line.split()[0] for line in table[1 : 1 + len(PLAIN)]] == PLAIN
    assert table[1 + len(PLAIN)] == ""
    assert printed.err.count("not run again") == len(PLAIN) - 1
    assert results(missing) == results(smoke / CHEAP_FOLDER)
    assert [path.stem for path in saved] == PLAIN
    assert {path.stem: what == shown[path] for path, what in saved.items()} == dict.fromkeys(PLAIN, True)


def test_list_shows_every_experiment_with_its_figure_and_its_question(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)
    for line, entry in zip(lines, EXPERIMENTS.values(), strict=True):
        assert f"  {entry.paper}  " in line
        assert line.endswith(f"  {entry.question()}")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_asks_one_question(name):
    question = EXPERIMENTS[name].question()
    assert question.endswith("?")
    assert question[0].isupper()


EDIT = """
from pathlib import Path
from maxrl_lab.command import main
command = ["run", "weight_functions", "--preset", "smoke", "--quiet"]
estimators = Path("maxrl_lab/estimators/columns.py")
print("status", main(command))
estimators.write_text(estimators.read_text() + "# a comment\\n")
print("status", main(command), "after a comment")
estimators.write_text(estimators.read_text() + "EDITED = True\\n")
print("status", main(command), "after code")
"""


class TestOtherCode:
    @pytest.fixture
    def old(self, tmp_path, saved, monkeypatch):
        """A run whose code has changed since in one file."""
        assert main([*CHEAP, *places(tmp_path)]) == 0
        changed = {**_runs.fingerprint("experiments.exact.weight_functions"), "maxrl_lab/exact.py": "other"}
        monkeypatch.setattr(_runs, "fingerprint", lambda _module: changed)
        return tmp_path

    @pytest.mark.parametrize("verb", ["run", "draw"])
    def test_it_is_refused_and_the_file_is_named(self, old, saved, capsys, verb):
        saved.clear()
        assert main([verb, *CHEAP[1:], *places(old)]) == 2
        error = capsys.readouterr().err
        assert f"{old / CHEAP_FOLDER} holds a run of other code (differs in maxrl_lab/exact.py)" in error
        assert error.count("\n") == 1
        assert saved == {}

    def test_reproduce_refuses_it_too(self, old, capsys):
        assert main(["reproduce", "--preset", "smoke", "--quiet", *places(old)]) == 2
        assert "other code (differs in maxrl_lab/exact.py)" in capsys.readouterr().err

    @pytest.mark.parametrize("verb", ["run", "draw"])
    def test_stale_shows_it_and_says_so_on_the_picture_and_below_the_table(self, old, saved, capsys, verb):
        (before,) = saved.values()
        capsys.readouterr()
        assert main([verb, *CHEAP[1:], "--stale", *places(old)]) == 0
        (after,) = saved.values()
        note = "made by other code, which differs in maxrl_lab/exact.py"
        assert after == (f"{note}\n{before[0]}", before[1])
        assert f"\nnote: {note}\n" in capsys.readouterr().out

    def test_force_makes_it_anew(self, old, saved, capsys):
        assert main([*CHEAP, "--force", *places(old)]) == 0
        assert main(["draw", *CHEAP[1:], *places(old)]) == 0
        assert "other code" not in capsys.readouterr().out + str(saved.values())

    def test_a_run_of_todays_code_has_no_note(self, tmp_path, saved, capsys):
        for flags in ([], ["--stale"]):
            assert main([*CHEAP, *flags, *places(tmp_path)]) == 0
            assert "note:" not in capsys.readouterr().out

    def test_an_edited_estimator_is_noticed_and_an_edited_comment_is_not(self, tmp_path):
        """In a copy of the checkout, in an interpreter that begins there."""
        for package in ("maxrl_lab", "envs", "experiments", "figures"):
            shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
        shutil.copy(ROOT / "pyproject.toml", tmp_path)
        done = subprocess.run([sys.executable, "-c", EDIT], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert re.findall(r"status (.*)", done.stdout) == ["0", "0 after a comment", "2 after code"]
        assert done.stderr.count("not run again") == 1
        assert "holds a run of other code (differs in maxrl_lab/estimators/columns.py)" in done.stderr

    def test_force_and_stale_exclude_each_other(self, tmp_path, capsys):
        assert main([*CHEAP, "--force", "--stale", *places(tmp_path)]) == 2
        assert "not allowed with argument" in capsys.readouterr().err


def test_an_out_folder_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "rows").write_text("a file")
    assert main([*CHEAP, *places(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_edited_rows_are_refused_and_can_be_replaced(tmp_path, saved, capsys):
    assert main([*CHEAP, *places(tmp_path)]) == 0
    rows = tmp_path / CHEAP_FOLDER / "rows.csv"
    rows.write_text(rows.read_text().replace("pass_rate", "p", 1))
    assert main(["draw", *CHEAP[1:], *places(tmp_path)]) == 2
    assert "is not what its run wrote" in capsys.readouterr().err
    rows.write_bytes(b"\x80")
    assert main([*CHEAP, "--force", *places(tmp_path)]) == 0


def test_force_replaces_a_run_whose_files_are_damaged(tmp_path, saved):
    assert main([*CHEAP, *places(tmp_path)]) == 0
    for name in ("settings.json", "provenance.json", "rows.csv"):
        (tmp_path / CHEAP_FOLDER / name).write_text("x")
    assert main([*CHEAP, *places(tmp_path)]) == 2
    assert main([*CHEAP, "--force", *places(tmp_path)]) == 0


def test_settings_that_do_not_fit_todays_code_are_refused(tmp_path, saved, capsys):
    assert main([*CHEAP, *places(tmp_path)]) == 0
    file = tmp_path / CHEAP_FOLDER / "settings.json"
    described = json.loads(file.read_text())
    described["settings"]["temperature"] = described["settings"].pop("points")
    file.write_text(json.dumps(described))
    provenance = file.with_name("provenance.json")
    written = json.loads(provenance.read_text())
    written["settings"] = hashlib.sha256(file.read_bytes()).hexdigest()  # as other code would have written both
    provenance.write_text(json.dumps(sealed(written)))
    assert main(["draw", *CHEAP[1:], *places(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"{file} holds no settings of today's code (other fields: points, temperature)" in error
    assert error.count("\n") == 1


def test_help_is_printed_without_running(capsys):
    assert main(["--help"]) == 0
    assert "maxrl-lab COMMAND" in capsys.readouterr().out
    assert main([]) == 2


class TestHowARunEnds:
    def end(self, monkeypatch, folder, error):
        def fail(settings, context):
            raise error

        monkeypatch.setattr(EXPERIMENTS["weight_functions"].load(), "run", fail)
        return main([*CHEAP, *places(folder)])

    def test_an_interrupt_says_how_to_continue(self, monkeypatch, capsys, tmp_path):
        assert self.end(monkeypatch, tmp_path, KeyboardInterrupt()) == 130
        assert "the same command, without --force, goes on where it stopped" in capsys.readouterr().err
        assert (tmp_path / CHEAP_FOLDER / "settings.json").exists()

    def test_what_the_user_has_caused_is_one_line_and_leaves_nothing(self, monkeypatch, capsys, tmp_path):
        assert self.end(monkeypatch, tmp_path, InputError("no such\nlevel")) == 2
        assert capsys.readouterr().err == "maxrl-lab: error: no such level\n"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("error", [ValueError("wrong shape"), KeyError("rows")])
    def test_a_fault_of_the_lab_is_shown_and_the_run_is_kept(self, monkeypatch, tmp_path, error):
        """Python ends what `main` lets through with a traceback and status 1."""
        with pytest.raises(type(error)) as raised:
            self.end(monkeypatch, tmp_path, error)
        assert raised.value is error
        assert (tmp_path / CHEAP_FOLDER / "settings.json").exists()


def test_figures_of_one_rollout_count(tmp_path):
    assert main([*CHEAP, "--rollouts", "4", *places(tmp_path)]) == 0
