"""What moves a policy, over tasks: activity, masses and silent groups against loops over all groups, and bad files."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch

from maxrl_lab import audit, estimators
from maxrl_lab.audit import masses, tasks
from maxrl_lab.audit.noise import SHOWN_PASS_RATES
from maxrl_lab.command import main


def table(spec, rollouts):
    return estimators.resolve(spec, rollouts).coefficients(rollouts)


def by_enumeration(spec, rollouts, pass_rate):
    """Return activity, positive and negative mass and the share of silent groups, from all 2^N groups."""
    estimator, totals = estimators.resolve(spec, rollouts), np.zeros(4)
    for rewards in itertools.product((0, 1), repeat=rollouts):
        chance = math.prod(pass_rate if reward else 1 - pass_rate for reward in rewards)
        advantages = estimator(torch.tensor(rewards, dtype=torch.float64)).numpy()
        sums = abs(advantages).sum(), advantages.clip(0).sum(), (-advantages).clip(0).sum()
        totals += chance * np.array([*(value / rollouts for value in sums), float((advantages == 0).all())])
    return totals


@pytest.mark.parametrize("spec", ["maxrl", "grpo", "rloo", "reinforce", "nsr", "pkpo:k=2", "maxrl_leave_one_out"])
@pytest.mark.parametrize("pass_rate", [0.0, 0.1, 0.5, 1.0])
def test_masses_are_means_over_all_groups(spec, pass_rate):
    got = masses.at(*table(spec, 5), pass_rate)
    np.testing.assert_allclose(got, by_enumeration(spec, 5, pass_rate), atol=1e-12)


def test_activity_of_algorithm_1_is_what_sampling_more_gains():
    """E sum |A_i| / N = 2 (pass@N - pass@1), and half of it goes each way."""
    for pass_rate in (0.01, 0.3, 0.9):
        got = masses.at(*table("maxrl", 8), pass_rate)
        assert got.activity == pytest.approx(2 * (1 - (1 - pass_rate) ** 8 - pass_rate), abs=1e-12)
        assert got.positive == pytest.approx(got.negative, abs=1e-12)


def test_silent_groups_come_from_every_task_and_not_from_the_mean():
    """Nine tasks of ten at p = 0.02 and one at p = 0.9: E[(1-p)^4 + p^4], which the mean pass rate gets badly wrong."""
    rates = (*[0.02] * 9, 0.9)
    over = masses.over(*table("maxrl", 4), tasks.Listed(rates))
    assert over.pass_rate == pytest.approx(0.108)
    assert over.masses.silent == pytest.approx(sum((1 - p) ** 4 + p**4 for p in rates) / 10, abs=1e-12)
    assert over.masses.silent > over.silent_at_mean + 0.2
    assert over.silent_at_mean == pytest.approx(0.892**4 + 0.108**4, abs=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 2.0), (1.0, 1.0), (30.0, 4.0)])
def test_beta_tasks_are_beta_binomial(alpha, beta):
    for rollouts in (1, 8, 200):
        expected = scipy.stats.betabinom(rollouts, alpha, beta).pmf(np.arange(rollouts + 1))
        np.testing.assert_allclose(tasks.Beta(alpha, beta).count_chances(rollouts), expected, rtol=1e-9)
    assert tasks.Beta(alpha, beta).mean == pytest.approx(alpha / (alpha + beta))


def test_many_tasks_are_the_distribution_that_they_come_from():
    rates = scipy.stats.beta(0.5, 2).ppf((np.arange(20_000) + 0.5) / 20_000)
    listed = tasks.Listed(tuple(rates.tolist())).count_chances(8)
    np.testing.assert_allclose(listed, tasks.Beta(0.5, 2.0).count_chances(8), atol=1e-4)


def test_a_report_has_the_masses_of_the_shown_pass_rates_and_of_the_tasks():
    report = audit.audit("maxrl", rollouts=8, pass_rates=[0.1, 0.5])
    assert [m.silent for m in report.masses] == pytest.approx([p**8 + (1 - p) ** 8 for p in SHOWN_PASS_RATES])
    assert report.over.masses.silent == pytest.approx((0.1**8 + 0.9**8 + 2 * 0.5**8) / 2)
    assert "over 2 tasks with the mean pass rate 0.3: activity" in report.text()
    assert report.to_json()["over"]["masses"]["silent"] == report.over.masses.silent
    assert audit.audit("maxrl", rollouts=8).over is None


def test_low_precision_and_noise_do_not_hide_silent_groups():
    def jittered(rewards):
        noise = torch.tensor(np.random.default_rng().normal(0, 1e-6, rewards.shape))
        return rewards - rewards.mean(-1, keepdim=True) + noise

    assert audit.audit(jittered, rollouts=4).masses[4].silent == pytest.approx(2 / 16)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rates.txt", "# a comment\n0.1\n\n0.5\n"),
        ("rates.json", "[0.1, 0.5]"),
        ("rates.csv", "task,pass_rate\na,0.1\nb,0.5\n"),
        ("rates.csv", "﻿pass_rate\n0.1\n0.5\n"),
    ],
)
def test_pass_rates_are_read_from_lines_json_and_csv(tmp_path, name, text, capsys):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert tasks.read(tmp_path / name).pass_rates == (0.1, 0.5)
    assert main(["audit", "maxrl", "--pass-rates", str(tmp_path / name)]) == 0
    assert "over 2 tasks with the mean pass rate 0.3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rates.txt", "0.1\n1.5\n", "a pass rate must be a number in [0, 1], got '1.5' in {path}, line 2"),
        ("rates.txt", "0.1\nnan\n", "a pass rate must be a number in [0, 1], got 'nan' in {path}, line 2"),
        ("rates.txt", "0.1\nhalf\n", "a pass rate must be a number in [0, 1], got 'half' in {path}, line 2"),
        ("rates.txt", "# none\n", "{path} holds no pass rates"),
        ("rates.json", "[0.1, null]", "a pass rate must be a number in [0, 1], got None in {path}, entry 1"),
        ("rates.json", "[0.1, true]", "a pass rate must be a number in [0, 1], got True in {path}, entry 1"),
        ("rates.json", '{"a": 0.1}', "{path} must hold a list of pass rates, got a dict"),
        ("rates.json", "[0.1", "{path} is not JSON: "),
        ("rates.csv", "task,pass_rate\na\n", "a pass rate must be a number in [0, 1], got '' in {path}, line 2"),
        ("rates.csv", "task,my_pass_rate\na,0.1\n", "{path} has no column 'pass_rate', only task, my_pass_rate"),
    ],
)
def test_what_is_no_pass_rate_is_named_with_its_line(tmp_path, name, text, message, capsys):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert main(["audit", "maxrl", "--pass-rates", str(path)]) == 2
    error = capsys.readouterr().err
    assert message.format(path=path) in error
    assert error.count("\n") == 1


def test_files_that_hold_no_text_and_bad_numbers_are_one_line(tmp_path, capsys):
    (tmp_path / "rates.txt").write_bytes(b"\xff\xfe0.1")
    for arguments, message in (
        (["--pass-rates", str(tmp_path / "rates.txt")], "is not a text file of pass rates"),
        (["--pass-rates", str(tmp_path / "absent.txt")], "No such file"),
        (["--beta", "0", "1"], "alpha of a Beta distribution must be positive and finite, got 0.0"),
        (["--beta", "1", "nan"], "beta of a Beta distribution must be positive and finite, got nan"),
        (["--beta", "1", "1", "--pass-rates", "x"], "not allowed with argument"),
    ):
        assert main(["audit", "maxrl", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    for rates, message in (([], "at least one task, got none"), ([0.5, None], "got None of task 1"), ([2], "got 2 of")):
        with pytest.raises(ValueError, match=message):
            audit.audit("maxrl", rollouts=4, pass_rates=rates)
