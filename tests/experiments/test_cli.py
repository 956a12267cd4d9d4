"""The commands a user types: what they print, what they leave on disk, and how they fail."""

import dataclasses
import functools
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

from experiments import EXPERIMENTS, EXTRAS
from experiments import __main__ as cli
from figures.style import save
from maxrl_lab.command import main

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "maxrl_lab.command"]

PLAIN = [name for name in EXPERIMENTS if name not in EXTRAS]
"""Experiments that need no extra; `llm` runs in test_llm_experiment.py, on a model that is made there."""

TIMED = ("maze_scaling", "maze_baselines", "gradient_signal", "data_scarce")
"""Experiments whose rows show every update, and so where its time went."""


def run(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=options.pop("cwd", ROOT), **options
    )


def places(folder):
    return ["--out", str(folder / "rows"), "--pictures", str(folder / "pictures"), "--quiet"]


def content(figure):
    """What a figure shows, to be compared; without drawing it, which takes longer than all else."""
    return [
        (
            [ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), *(text.get_text() for text in ax.texts)],
            [(line.get_label(), line.get_color(), line.get_xydata().tobytes()) for line in ax.lines],
            [path.vertices.tobytes() for shown in ax.collections for path in shown.get_paths()],
            [patch.get_path().vertices.tobytes() for patch in ax.patches],
            [image.get_array().tobytes() for image in ax.images],
        )
        for ax in figure.axes
    ]


@pytest.fixture
def saved(monkeypatch):
    """No picture is written: what each would have shown is collected by its name."""
    contents = {}
    monkeypatch.setattr(cli, "save", lambda figure, path: contents.update({path: content(figure)}))
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
            patch.setattr(cli, "save", lambda figure, path: (figures.append(content(figure)), save(figure, path)))
            assert main(["run", name, "--preset", "smoke", *places(smoke)]) == 0
        (figure,) = figures
        return figure

    return shown


@pytest.mark.parametrize("name", PLAIN)
def test_smoke_run_writes_rows_and_a_picture(name, smoke, smoke_run):
    smoke_run(name)
    folder = smoke / "rows" / "smoke" / name
    written = {path.name for path in folder.iterdir()}
    assert written == {"settings.json", "rows.csv", "provenance.json"} | ({"timings.csv"} if name in TIMED else set())
    assert json.loads((folder / "provenance.json").read_text())["complete"] is True
    assert (smoke / "pictures" / "smoke" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["weight_functions", "maze_scaling"])
def test_draw_repeats_picture_and_table_from_the_rows(name, smoke, smoke_run, tmp_path, monkeypatch, capsys):
    """Byte by byte, here for two experiments; `reproduce`, below, draws all of them once more."""
    smoke_run(name)
    before = (smoke / "pictures" / "smoke" / f"{name}.png").read_bytes()
    capsys.readouterr()
    rows = ["--preset", "smoke", "--out", str(smoke / "rows"), "--pictures", str(tmp_path)]
    assert main(["draw", name, *rows]) == 0
    picture = tmp_path / "smoke" / f"{name}.png"
    assert picture.read_bytes() == before
    drawn = capsys.readouterr().out
    assert str(picture) in drawn
    monkeypatch.setattr(cli, "save", lambda figure, path: None)
    assert main(["run", name, *rows]) == 0
    assert capsys.readouterr().out.partition("rows: ")[0] == drawn.partition("picture: ")[0]


SHORT = [
    *("run", "classification", "--preset", "smoke", "--steps", "60", "--seeds", "1", "--sweep_seeds", "1"),
    *("--estimators", "maxrl", "--rollouts", "4"),
]
"""Four runs in the sweep, two reported; a checkpoint after 50 steps of each."""
SHORT_ROWS = "rows/smoke/classification"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows of a run in this process."""
    folder = tmp_path_factory.mktemp("whole")
    assert main([*SHORT, *places(folder)]) == 0
    return (folder / SHORT_ROWS / "rows.csv").read_bytes()


def test_two_runs_of_one_command_are_bit_identical(whole, tmp_path):
    """In two interpreters: nothing depends on what a process did before, or on its hashes."""
    result = run(*SHORT, *places(tmp_path))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / SHORT_ROWS / "rows.csv").read_bytes() == whole


def test_killed_run_continues_to_the_same_rows(whole, tmp_path, saved):
    """SIGKILL as soon as the first stage's checkpoint is there; the second stage is then still to come."""
    killed = tmp_path / SHORT_ROWS
    process = subprocess.Popen([*COMMAND, *SHORT, *places(tmp_path)], cwd=ROOT)
    while not (killed / "checkpoint/run/sweep-1.pt").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "rows.csv").exists()
    assert main([*SHORT, *places(tmp_path)]) == 0
    assert len(json.loads((killed / "provenance.json").read_text())["sessions"]) == 2
    assert (killed / "rows.csv").read_bytes() == whole


def test_settings_are_flags_of_the_same_name(tmp_path, saved, capsys):
    flags = ["--rollouts", "2", "4", "--points", "5", "--lowest", "0.01"]
    assert main(["run", "weight_functions", "--preset", "smoke", *flags, *places(tmp_path)]) == 0
    settings = json.loads((tmp_path / "rows/smoke/weight_functions/settings.json").read_text())["settings"]
    assert (settings["rollouts"], settings["points"], settings["lowest"]) == ([2, 4], 5, 0.01)
    # the same folder refuses other settings, and leaves what is there
    before = (tmp_path / "rows/smoke/weight_functions/rows.csv").read_bytes()
    assert main(["run", "weight_functions", "--preset", "smoke", *places(tmp_path)]) == 2
    assert "lowest = 0.01 there, 0.001 now" in capsys.readouterr().err
    assert (tmp_path / "rows/smoke/weight_functions/rows.csv").read_bytes() == before
    assert main(["run", "weight_functions", "--preset", "smoke", "--force", *places(tmp_path)]) == 0
    assert (tmp_path / "rows/smoke/weight_functions/rows.csv").read_bytes() != before


def test_a_complete_run_is_not_run_again(tmp_path, saved, capsys):
    command = ["run", "weight_functions", "--preset", "smoke", *places(tmp_path)]
    assert main(command) == 0
    stamp = (tmp_path / "rows/smoke/weight_functions/rows.csv").stat().st_mtime_ns
    assert main(command) == 0
    assert "not run again" in capsys.readouterr().err
    assert (tmp_path / "rows/smoke/weight_functions/rows.csv").stat().st_mtime_ns == stamp


def test_reproduce_ends_with_a_table_of_what_was_made(smoke, smoke_run, tmp_path, saved, capsys):
    """It runs what is missing, and draws everything as it was."""
    shown = {tmp_path / "pictures" / "smoke" / f"{name}.png": smoke_run(name) for name in PLAIN}
    shutil.copytree(smoke / "rows", tmp_path / "rows")
    missing = tmp_path / "rows/smoke/weight_functions"
    shutil.rmtree(missing)
    capsys.readouterr()
    assert main(["reproduce", "--preset", "smoke", *places(tmp_path)]) == 0
    printed = capsys.readouterr()
    table = printed.out.strip().splitlines()
    assert table[0].split()[0] == "experiment"
    assert [line.split()[0] for line in table[1 : 1 + len(PLAIN)]] == PLAIN
    assert table[1 + len(PLAIN)] == ""
    assert printed.err.count("not run again") == len(PLAIN) - 1
    assert (missing / "rows.csv").read_bytes() == (smoke / "rows/smoke/weight_functions/rows.csv").read_bytes()
    assert [path.stem for path in saved] == PLAIN
    assert {path.stem: what == shown[path] for path, what in saved.items()} == dict.fromkeys(PLAIN, True)


def test_list_shows_every_experiment_with_its_question(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)
    assert all(line.endswith(("?", ".")) for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "unknown command 'rum'; choose one of: list, run, draw, reproduce, audit"),
        (["run"], "NAME is one of: weight_functions"),
        (["run", "nothing"], "unknown experiment 'nothing'; choose one of: weight_functions"),
        (["run", "classification", "--preset", "huge"], "invalid choice: 'huge'"),
        (["run", "classification", "--seedz", "3"], "unrecognized arguments: --seedz 3"),
        (["run", "classification", "--seeds", "x"], "invalid int value: 'x'"),
        (["run", "classification", "--seeds", "0"], "seeds must be a whole number >= 1, got 0"),
        (["run", "classification", "--rollouts"], "rollouts"),
        (["run", "classification", "--estimators", "maxrll"], "unknown estimator 'maxrll'; choose one of"),
        (["run", "classification", "--estimators", "rloo", "--rollouts", "1"], "rloo needs at least 2 rollouts"),
        (["run", "classification", "--learning_rates", "-1"], "learning rates must be positive and finite, got -1.0"),
        (["run", "weight_functions", "--objectives", "mle"], "unknown objective 'mle'; choose one of"),
        (["run", "weight_functions", "--lowest", "0.7"], "lowest must lie between 0 and 0.5, got 0.7"),
        (["run", "bias_variance", "--budget", "100"], "budget must be a multiple of every N"),
        (["run", "bias_variance", "--pass_rates", "1.5"], "pass_rates must lie strictly between 0 and 1, got 1.5"),
        (["run", "unbiasedness", "--pass_rate", "0"], "must lie between 0 and 1, got 0.0"),
        (["run", "likelihood_limit", "--hardest", "0.9"], "hardest must lie between 0 and 0.5, got 0.9"),
        (["run", "gradient_norms", "--learning_rate", "0"], "learning rates must be positive and finite, got 0.0"),
        (["run", "weight_functions", "--device", "tpu"], "--device must be auto, cpu, cuda or cuda:INDEX, got 'tpu'"),
        (["run", "weight_functions", "--device", "cuda:7"], "--device cuda:7: torch sees"),
        (["draw", "classification"], "no finished run in"),
        (["reproduce", "--preset", "huge"], "invalid choice: 'huge'"),
        (["audit"], "required: function"),
        (["audit", "nothing"], "unknown estimator 'nothing'; choose one of: reinforce"),
        (["audit", "no_such_module:f"], "cannot load 'no_such_module:f'"),
        (["audit", "maxrl", "--rollouts", "0"], "--rollouts must be a whole number >= 1, got 0"),
        (["audit", "pkpo:k=9"], "pkpo with k=9 needs at least 9 rollouts in a group, got N = 8"),
        (["audit", "maxrl", "--expect", "truncated_likelihood"], "objective 'truncated_likelihood' takes the options"),
        (["audit", "maxrl", "--scale", "2"], "--scale belongs to --expect"),
        (
            ["audit", "maxrl", "--expect", "expected_reward", "--scale", "-1"],
            "scale must be positive and finite, got -1.0",
        ),
        (["audit", "maxrl", "--expect", ""], "unknown objective ''; choose one of: expected_reward"),
        (["audit", "maxrl", "--plot", "curve.pdf"], "ends in .png, got 'curve.pdf'"),
        (["audit", "own"], "or name your own as module:function"),
        (["run", "navigation", "--horizon", "5"], "distances must be within the horizon of 5 steps, got 8"),
        (["run", "navigation", "--layout", "maze"], "unknown layout 'maze'; choose one of: open, obstacles, prim"),
        (["run", "navigation", "--size", "8"], "a Prim maze needs an odd size, got 8"),
        (
            ["run", "navigation", "--minigrid_names", "Empty"],
            "unknown MiniGrid level 'Empty'; choose one of: Empty-5x5",
        ),
        (
            ["run", "navigation", "--rollouts", "3", "--estimators", "pkpo:k=4"],
            "pkpo with k=4 needs at least 4 rollouts",
        ),
        (
            ["run", "trajectories", "--distances", "60", "--horizon", "64"],
            "found 0 of 6 distinct train levels prim 9 x 9",
        ),
        (["run", "navigation_likelihood", "--distances", "2", "2"], "distances must be distinct, got 2 2"),
        (
            ["run", "navigation_bias_variance", "--policy", "table"],
            "unknown policy 'table'; choose one of: convolutional",
        ),
        (["run", "likelihood_limit", "--learning_rates", "nan"], "learning rates must be positive and finite, got nan"),
        (["run", "maze_scaling", "--size", "8"], "a Prim maze needs an odd size, got 8"),
        (["run", "maze_scaling", "--rollouts", "1"], "rloo needs at least 2 rollouts in a group, got N = 1"),
        (["run", "maze_scaling", "--precision", "float16"], "unknown precision 'float16'; choose one of: float32"),
        (["run", "maze_scaling", "--memory", "0"], "memory must be positive and finite, got 0.0"),
        (
            ["run", "maze_baselines", "--methods", "grpo + selfish"],
            "unknown surrogate 'selfish'; choose one of: sequence",
        ),
        (["run", "maze_baselines", "--methods", "grpo", "grpo"], "methods must be distinct, got grpo grpo"),
        (["run", "coverage", "--top_p", "0"], "top_p must lie in (0, 1], got 0.0"),
        (["run", "coverage", "--estimators", "maxrll"], "unknown estimator 'maxrll'; choose one of"),
        (["run", "gradient_signal", "--rate_samples", "0"], "rate_samples must be a whole number >= 1, got 0"),
        (
            ["run", "maze_trajectories", "--mazes", "100", "--held_out", "9"],
            "mazes must be at most held_out = 9, got 100",
        ),
        (["run", "data_scarce", "--tasks", "chess"], "unknown task 'chess'; choose one of: modular_sum, countdown"),
        (
            ["run", "data_scarce", "--prompts", "16", "--training_set", "40"],
            "training_set must be a multiple of prompts = 16, got 40",
        ),
        (
            ["run", "data_scarce", "--preset", "smoke", "--modulus", "2", "--sum_length", "2", "--device", "cpu"],
            "of 4 distinct test problems of modular_sum 2 2",
        ),
        (["run", "length_bias", "--surrogates", "mean"], "unknown surrogate 'mean'; choose one of: sequence_sum"),
        (
            ["run", "length_bias", "--surrogates", "entropy_bonus:coefficient=0.1", "--quiet"],
            "needs the entropies of the rollouts'",
        ),
        (["run", "length_bias", "--long", "0"], "short and long must be a whole number >= 1, got 0"),
        (["run", "length_bias", "--rollouts", "1"], "rollouts must be a whole number >= 2, got 1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("maxrl-lab: error: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing written


def test_an_out_folder_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "rows").write_text("a file")
    assert main(["run", "weight_functions", "--preset", "smoke", *places(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_edited_rows_are_refused_and_can_be_replaced(tmp_path, saved, capsys):
    assert main(["run", "weight_functions", "--preset", "smoke", *places(tmp_path)]) == 0
    rows = tmp_path / "rows/smoke/weight_functions/rows.csv"
    rows.write_text(rows.read_text().replace("pass_rate", "p", 1))
    assert main(["draw", "weight_functions", "--preset", "smoke", *places(tmp_path)[:-1]]) == 2
    assert "is not what its run wrote" in capsys.readouterr().err
    rows.write_bytes(b"\x80")
    assert main(["run", "weight_functions", "--preset", "smoke", "--force", *places(tmp_path)]) == 0


def test_help_is_printed_without_running(capsys):
    assert main(["--help"]) == 0
    assert "maxrl-lab COMMAND" in capsys.readouterr().out
    assert main([]) == 2


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_setting_is_explained_in_the_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", name, "--help"])
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(EXPERIMENTS[name].Settings):
        # a sentence of its own between the flag (--x, or --x and --nox) and its default, with no other flag between
        flags = rf"--{field.name} (?:bool, --no{field.name} )?"
        assert re.search(rf"{flags}(?:(?! --).)*?\. \(default: ", shown), field.name


def test_audit_of_a_users_own_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "def advantages(rewards):\n"
        "    mean = rewards.mean(-1, keepdim=True)\n"
        "    return (rewards - mean) / (mean + 1e-6)\n"
    )
    expect = ["audit", "own:advantages", "--rollouts", "8", "--expect"]
    assert main([*expect, "truncated_likelihood:order=N-1", "--plot", "curve.png"]) == 0
    assert "expected truncated_likelihood:order=7: holds" in capsys.readouterr().out
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    # the status is the process's, and nothing but the report is on standard output
    failed = run(*expect, "truncated_likelihood:order=N", "--json", cwd=tmp_path)
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["expected"]["holds"] is False


def test_audit_forms_and_scale(capsys):
    assert main(["audit", "mean_centred", "--expect", "expected_reward", "--scale", "0.875"]) == 0
    assert main(["audit", "mean_centred", "--expect", "expected_reward", "--scale", "1"]) == 1
    assert "DOES NOT HOLD" in capsys.readouterr().out


def test_plugin_works_in_a_users_own_suite(pytester):
    """In a session that finds it by its entry point, as nobody names it."""
    pytester.makepyfile(
        test_own="def advantages(rewards):\n"
        "    return rewards - rewards.mean(-1, keepdim=True)\n"
        "def test_right(assert_optimises):\n"
        "    assert_optimises(advantages, 'expected_reward', rollouts=8)\n"
        "def test_wrong(assert_optimises):\n"
        "    assert_optimises(advantages, 'maximum_likelihood', rollouts=8)\n"
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1)
    assert "expected maximum_likelihood, times any" in result.stdout.str()
    assert "w_N(p)" in result.stdout.str()


def test_interrupting_says_how_to_continue(monkeypatch, capsys, tmp_path):
    def interrupt(settings, context):
        raise KeyboardInterrupt

    monkeypatch.setattr(EXPERIMENTS["weight_functions"], "run", interrupt)
    assert main(["run", "weight_functions", "--preset", "smoke", *places(tmp_path)]) == 130
    assert "continues from the last checkpoint" in capsys.readouterr().err


def test_a_users_module_that_breaks_when_imported_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in (
        ("breaks_syntax", "def f(:"),
        ("breaks_raise", "raise RuntimeError('a\\nb')"),
        ("breaks_exit", "exit(0)"),
    ):
        (tmp_path / f"{name}.py").write_text(text)
        assert main(["audit", f"{name}:f"]) == 2
        error = capsys.readouterr().err
        assert f"cannot load '{name}:f'" in error
        assert error.count("\n") == 1


def test_json_is_json_whatever_the_function_does(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prints_and_divides.py").write_text(
        "def nothing(r):\n    print('debug')\n    return r * 0\ndef nan(r):\n    return r / r.mean()\n"
    )
    for name in ("nothing", "nan"):
        assert main(["audit", f"prints_and_divides:{name}", "--single-group", "--json"]) == 0
        text = capsys.readouterr().out
        assert json.loads(text, parse_constant=pytest.fail)["rollouts"] == 8


def test_the_verdict_says_why_it_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pools_or_descends.py").write_text(
        "def pools(r):\n    return r / r.mean().clamp(min=1e-9)\ndef descends(r):\n    return -r\n"
    )
    assert main(["audit", "pools_or_descends:pools", "--expect", "truncated_likelihood:order=N"]) == 1
    assert "DOES NOT HOLD (the coefficients do not describe the function: pooled_groups)" in capsys.readouterr().out
    assert main(["audit", "pools_or_descends:descends", "--expect", "expected_reward"]) == 1
    assert "but it descends" in capsys.readouterr().out


def test_force_replaces_a_run_whose_files_are_damaged(tmp_path, saved):
    command = ["run", "weight_functions", "--preset", "smoke", *places(tmp_path)]
    assert main(command) == 0
    for name in ("settings.json", "provenance.json", "rows.csv"):
        (tmp_path / "rows/smoke/weight_functions" / name).write_text("x")
    assert main(command) == 2
    assert main([*command, "--force"]) == 0


def test_figures_of_one_rollout_count(tmp_path):
    assert main(["run", "weight_functions", "--preset", "smoke", "--rollouts", "4", *places(tmp_path)]) == 0
