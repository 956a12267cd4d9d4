"""The index of papers: every estimator is in it, its columns are those of the tables, and the page is current."""

import doctest
import json
import re
from pathlib import Path

import pytest
import torch

from maxrl_lab import estimators, exact, objectives, published, specs
from maxrl_lab.command import main
from maxrl_lab.published import METHODS, facts_of, verb

PAGE = Path(__file__).parents[2] / "docs" / "estimators.md"


def facts(name, rollouts=8):
    return facts_of(METHODS[name], rollouts)


def test_every_estimator_of_the_lab_is_in_the_index():
    assert {specs.parse(method.estimator, 8)[0] for method in METHODS.values()} == set(estimators.ESTIMATORS)


@pytest.mark.parametrize(
    ("name", "objective", "scale", "limit"),
    [
        ("Dr. GRPO", "expected_reward", 7 / 8, "expected_reward"),
        ("W-REINFORCE", "expected_reward", 1.1, "expected_reward"),
        ("GRPO", None, None, "grpo_limit"),
        ("MaxRL, Algorithm 1", "truncated_likelihood:order=7", 1, "maximum_likelihood"),
        ("MaxRL, cross-fitted", "truncated_likelihood:order=8", 1, "maximum_likelihood"),
        ("MaxRL of order 4, zero-sum", "truncated_likelihood:order=4", 1, "truncated_likelihood:order=4"),
        ("Pass@k Training, undivided", "pass_at_k:k=4", 1 / 8, "pass_at_k:k=4"),
        ("RS-GRPO", None, None, "tilted:beta=2.0"),
        ("MAPO", None, None, None),
    ],
)
def test_objectives_and_limits(name, objective, scale, limit):
    row = facts(name)
    assert (row.objective, row.limit) == (objective, limit)
    assert scale is None or row.scale == pytest.approx(scale)


@pytest.mark.parametrize("name", METHODS)
def test_limits_are_what_large_groups_approach(name):
    """At N = 4096 the weight is within 5% of a multiple of the limit's, from p = 0.1 to 0.9."""
    row = facts(name)
    if row.limit is None:
        return
    p = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    ratio = exact.weight(row.estimator, rollouts=4096, pass_rate=p) / objectives.resolve(row.limit).weight(p)
    ratio = ratio[p < 0.55] if name == "QAE" else ratio  # its weight has a dip of width 1/sqrt(N) at p = 0.6
    assert float(ratio.max() / ratio.min()) < 1.05


@pytest.mark.parametrize("name", METHODS)
def test_silence_and_sums_are_those_of_groups(name):
    row = facts(name, rollouts=6)
    estimator = estimators.resolve(row.estimator, 6)
    groups = torch.tensor([[float(i < k) for i in range(6)] for k in range(7)], dtype=torch.float64)
    advantages = estimator(groups)
    assert row.silent_without_success == (not advantages[0].any())
    assert row.silent_without_failure == (not advantages[6].any())
    assert row.sums_to_zero == (float(advantages.sum(1).abs().max()) < 1e-12)


def test_noise_by_hand():
    """REINFORCE at p = 1/2, where each of the four answers has the probability 1/4.

    |S|^2 = 1 - 1/2 + 1/4 = 3/4, and grad p is 1/8 or -1/8 in each logit, so |grad p|^2 = 4/64. The variance of one
    rollout is 3/8 - 1/16 = 5/16; over 1/16 it is 5, and of eight rollouts an eighth of that.
    """
    assert facts("REINFORCE", rollouts=1).noise[1] == pytest.approx(5)
    assert facts("REINFORCE", rollouts=8).noise[1] == pytest.approx(5 / 8)


def test_pass_at_k_training_is_the_zero_sum_table_of_pass_at_k():
    for rollouts, k in ((5, 2), (8, 4), (16, 3)):
        ours = estimators.make("pkpo_centred", k=k).coefficients(rollouts)
        theirs = estimators.make("passk_training", k=k, std=0).coefficients(rollouts)
        for column, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(column, other * rollouts * k / (rollouts - k), rtol=1e-12, atol=1e-14)


def test_the_page_is_current():
    page = PAGE.read_text(encoding="utf-8")
    assert verb.in_page(page, [verb._row(name, 8) for name in METHODS], 8) == page
    times = facts("NSR").noise[0] / facts("PSR").noise[0]
    assert f"the failures' noise is {times:.0f} times that of the successes" in page


def test_the_verb_prints_text_markdown_and_json(capsys):
    assert main(["estimators", "--rollouts", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(METHODS) + 1
    assert "objective at N = 4" in lines[0]
    grpo = next(line for line in lines if line.startswith("GRPO "))
    assert re.search(r" grpo +none \(\d+% off \S+\) +grpo_limit +yes +yes +yes +", grpo)
    assert any(line.endswith("pkpo_centred with k=4 needs at least 5 rollouts in a group, got N = 4") for line in lines)
    assert main(["estimators", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in rows] == list(METHODS)
    assert next(row for row in rows if row["method"] == "RLOO")["sums_to_zero"] is True
    assert main(["estimators", "--markdown", "--rollouts", "4"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert {line.count(" |") for line in table[2:]} == {table[0].count(" |")}
    assert "[2402.03300](https://arxiv.org/abs/2402.03300)" in "".join(table)
    assert "[2602.02710](https://arxiv.org/abs/2602.02710), Eq. 9" in "".join(table)


def test_a_page_is_renewed_between_its_marks(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- estimators -->\nold\n<!-- /estimators -->\nAfter\n", encoding="utf-8")
    assert main(["estimators", "--write", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("Before\n<!-- estimators -->\n| method |")
    assert text.endswith("|\n<!-- /estimators -->\nAfter\n")
    assert "old" not in text
    page.write_text("no marks", encoding="utf-8")
    assert main(["estimators", "--write", str(page)]) == 2
    assert "expected a page with the marks" in capsys.readouterr().err


def test_rollouts_out_of_range_end_in_one_line(capsys):
    assert main(["estimators", "--rollouts", "0"]) == 2
    assert capsys.readouterr().err == "maxrl-lab: error: --rollouts must be a whole number >= 1, got 0\n"


def test_the_example_in_the_docstring_holds():
    found = doctest.testmod(published)
    assert found.attempted > 0
    assert found.failed == 0
