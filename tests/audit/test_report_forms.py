"""A report as text, summary, Markdown and JSON, and what the command's flags add."""

import json

import pytest

from maxrl_lab import audit
from maxrl_lab.audit.layout import escaped
from maxrl_lab.command import main


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A project whose function needs a value, prints and warns."""
    (tmp_path / "own_with_a_switch.py").write_text(
        "import warnings\n"
        "def advantages(rewards, double, name='x'):\n"
        "    print('not part of the report')\n"
        "    warnings.warn('nor this')\n"
        "    return rewards * (2 if double is True else 1) * (3 if name == 'y=z' else 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    return "own_with_a_switch:advantages"


@pytest.mark.parametrize(
    ("flags", "scale"),
    [(["--set", "double=true"], 2), (["--set", "double=False"], 1), (["--set", "double=True", "--set", "name=y=z"], 6)],
)
def test_values_of_arguments_are_set_by_name(own, flags, scale, capsys):
    assert main(["audit", own, *flags, "--expect", "expected_reward", "--scale", str(scale)]) == 0
    shown = capsys.readouterr()
    assert "not part of the report" not in shown.out
    assert "nor this" not in shown.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "advantages needs 'double', which the audit cannot guess: --set double=VALUE, or in Python arguments="),
        (["--set", "double"], "--set expects NAME=VALUE, got 'double'"),
        (["--set", "=1"], "--set expects NAME=VALUE, got '=1'"),
        (["--set", "half=1"], "advantages has no argument 'half'; its arguments: rewards, double, name"),
        (["--set", "double=1", "--json", "--markdown"], "not allowed with argument"),
        (["--set", "double=1", "--scale", "1"], "--scale belongs to --expect or --expect-estimator"),
        (["--set", "double=1", "--expect-estimator", "pkpo:k=9"], "pkpo with k=9 needs at least 9 rollouts"),
    ],
)
def test_bad_flags_are_one_line(own, flags, message, capsys):
    assert main(["audit", own, *flags]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("maxrl-lab: error: ")
    assert message in error


def test_a_summary_is_the_report_without_tables():
    report = audit.audit("maxrl", rollouts=8)
    lines = report.summary().splitlines()
    assert lines[0] == "maxrl at N = 8 rollouts"
    assert lines[1] == report.text().splitlines()[1]
    assert lines[-1].split(maxsplit=1) == ["traps", "own_reward_baseline, nothing_at_N=1"]
    assert audit.audit("maxrl_leave_one_out", rollouts=8).summary().splitlines()[-1].split() == [
        "traps",
        "none",
        "found",
    ]


def test_markdown_has_every_part_and_no_stray_marks():
    report = audit.audit("maxrl_leave_one_out", rollouts=4, pass_rates=[0.5])
    lines = report.markdown().splitlines()
    assert lines[0] == "### `maxrl_leave_one_out at N = 4 rollouts`"
    assert lines[2].startswith("**optimises truncated\\_likelihood:order=4, times 1 (")
    tables = [line for line in lines if line.startswith("|")]
    assert tables[:2] == ["| K successes | 0 | 1 | 2 | 3 | 4 |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    assert {len(table.split("|")) for table in tables} == {8, 10}  # six and eight cells, and what stands outside
    assert "over 1 task with the mean pass rate 0.5: activity" in report.markdown()
    assert "No traps found." in lines
    assert escaped("a_b|c*[d]<e>\n`f`") == r"a\_b\|c\*\[d\]\<e\> \`f\`"
    traps = audit.audit("maxrl", rollouts=4).markdown()
    assert "<details><summary>Traps: own_reward_baseline, nothing_at_N=1</summary>" in traps
    assert traps.rstrip().endswith("</details>")


def test_markdown_puts_the_verdict_first(capsys):
    assert main(["audit", "maxrl", "--markdown", "--expect", "truncated_likelihood:order=N"]) == 1
    assert capsys.readouterr().out.startswith(":x: expected truncated\\_likelihood:order=8: DOES NOT HOLD (residual")
    assert main(["audit", "maxrl", "--markdown", "--expect-estimator", "maxrl"]) == 0
    assert capsys.readouterr().out.startswith(":white_check_mark: expected the coefficients of maxrl: holds")


def test_json_holds_what_the_text_says(capsys):
    flags = ["--json", "--beta", "1", "1", "--expect-estimator", "grpo", "--expect", "expected_reward"]
    assert main(["audit", "grpo:ddof=1", "--rollouts", "4", *flags]) == 1
    described = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert described["expected"]["holds"] is False
    assert described["expected"]["objective"] == "expected_reward"
    assert described["expected_estimator"] == {
        "estimator": "grpo",
        "scale": pytest.approx(0.75**0.5),
        "holds": True,
    } | {"residual": pytest.approx(0, abs=1e-12)}
    assert described["known"]["names"] == ["grpo:ddof=1"]
    assert described["limit"]["objective"] == "grpo_limit"
    assert described["power"]["s"] == pytest.approx(described["power"]["t"], abs=1e-3)
    assert described["singleton"]["convention"] == "refuses"
    assert described["over"]["masses"]["silent"] == pytest.approx(2 / 5)  # K is uniform on 0..4
    assert len(described["masses"]) == len(described["noise"])


def test_a_pooled_report_says_what_one_group_would_give():
    def advantages(rewards):
        return rewards / rewards.mean().clamp(min=1e-12)

    verdict = audit.audit(advantages, rollouts=8).text().splitlines()[1]
    assert verdict.startswith(
        "  optimises no objective that can be named: its coefficients do not describe it (see traps)"
    )
    assert "; one group at a time it optimises truncated_likelihood:order=8, times 1 (" in verdict
