"""The verb `audit` and the pytest fixture, as a user's own project meets them."""

import json
import subprocess
import sys

import pytest

from maxrl_lab.command import main

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit"], "required: function"),
        (["audit", "nothing"], "unknown estimator 'nothing'; choose one of: reinforce"),
        (["audit", "no_such_module:f"], "cannot load 'no_such_module:f'"),
        (["audit", "maxrl", "--rollouts", "0"], "--rollouts must be a whole number >= 1, got 0"),
        (["audit", "pkpo:k=9"], "pkpo with k=9 needs at least 9 rollouts in a group, got N = 8"),
        (["audit", "maxrl", "--expect", "truncated_likelihood"], "objective 'truncated_likelihood' takes the options"),
        (["audit", "maxrl", "--scale", "2"], "--scale belongs to --expect"),
        (["audit", "maxrl", "--expect", ""], "unknown objective ''; choose one of: expected_reward"),
        (["audit", "maxrl", "--plot", "curve.pdf"], "ends in .png, got 'curve.pdf'"),
        (["audit", "own"], "or name your own as module:function"),
        (
            ["audit", "maxrl", "--expect", "expected_reward", "--scale", "-1"],
            "scale must be positive and finite, got -1.0",
        ),
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
    command = [sys.executable, "-m", "maxrl_lab.command", *expect, "truncated_likelihood:order=N", "--json"]
    failed = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
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
