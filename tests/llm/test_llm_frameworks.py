"""TRL's and verl's own advantage code against what is known by hand, and the committed table against a fresh one."""

import math
from pathlib import Path

import pytest
import torch

from maxrl_lab import audit, estimators
from maxrl_lab.llm.frameworks import __main__ as command
from maxrl_lab.llm.frameworks import calls, read_table
from maxrl_lab.llm.frameworks import table as frameworks
from maxrl_lab.llm.frameworks.entries import ENTRIES, Entry

COMMITTED = Path(frameworks.__file__).with_name("FRAMEWORKS.md")
FAST = (2, 4, 8)
"""The columns that are cheap to make again."""
TWO_GROUPS = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 0]])


@pytest.mark.parametrize("function", [calls.trl_grpo_none, calls.verl_grpo_no_std, calls.verl_opo])
def test_subtracting_the_mean_shrinks_rl_by_one_over_n(function):
    """The baseline contains the rollout's own reward: 1 - 1/8 of the gradient is left at N = 8."""
    report = audit.audit(function, rollouts=8)
    assert report.objective == "expected_reward"
    assert report.nearest.scale == pytest.approx(7 / 8, abs=1e-6)
    assert function(TWO_GROUPS).tolist() == [[0.75, -0.25, -0.25, -0.25], [0.25, 0.25, 0.25, -0.75]]


@pytest.mark.parametrize("function", [calls.trl_rloo, calls.verl_rloo, calls.verl_rloo_vectorized, calls.verl_remax])
def test_a_baseline_without_the_own_reward_is_rl(function):
    report = audit.audit(function, rollouts=4)
    assert report.objective == "expected_reward"
    assert report.nearest.scale == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("function", "epsilon"), [(calls.trl_grpo, 1e-4), (calls.verl_grpo, 1e-6)])
def test_grpo_divides_by_the_sample_deviation(function, epsilon):
    """RL times 1/sqrt(2) at N = 2 and 2/sqrt(3) at N = 3; no objective at N = 4; the lab's `grpo` at every K."""
    for rollouts, scale in ((2, 1 / math.sqrt(2)), (3, 2 / math.sqrt(3))):
        report = audit.audit(function, rollouts=rollouts)
        assert report.objective == "expected_reward"
        assert report.nearest.scale == pytest.approx(scale, abs=3e-4)
    assert audit.audit(function, rollouts=4).objective is None
    groups = torch.tril(torch.ones(9, 8), diagonal=-1)  # row K has K successes
    expected = estimators.make("grpo", ddof=1, epsilon=epsilon)(groups)
    torch.testing.assert_close(function(groups), expected, rtol=1e-5, atol=1e-6)


def test_trl_divides_by_the_deviation_of_the_whole_batch():
    """4 of 8 right: sample variance 8/7 * 1/4 = 2/7."""
    centred = torch.tensor([[0.75, -0.25, -0.25, -0.25], [0.25, 0.25, 0.25, -0.75]])
    torch.testing.assert_close(calls.trl_grpo_batch(TWO_GROUPS), centred / (math.sqrt(2 / 7) + 1e-4))


@pytest.mark.parametrize(("function", "scale"), [(calls.verl_grpo_passk, 0.5), (calls.verl_grpo_passk_no_std, 0.25)])
def test_verl_passk_is_pass_at_n(function, scale):
    """Best minus second best is 1 only where one of four is right: (1-p)^3, which is pass@4's weight over 4.

    With one success the sample deviation is sqrt(1/4), so dividing by it doubles that.
    """
    report = audit.audit(function, rollouts=4)
    assert report.objective == "pass_at_k:k=4"
    assert report.nearest.scale == pytest.approx(scale, abs=1e-5)


def test_verl_gpg_is_algorithm_1_on_one_prompt_and_pools_several():
    """Alone, N/K (r - mean) is MaxRL's Algorithm 1; in a batch with 4 of 8 right it is 2 (r - mean)."""
    assert audit.audit(calls.verl_gpg, rollouts=8, batched=False).objective == "truncated_likelihood:order=7"
    assert calls.verl_gpg(TWO_GROUPS).tolist() == [[1.5, -0.5, -0.5, -0.5], [0.5, 0.5, 0.5, -1.5]]
    assert "pooled_groups" in {trap.name for trap in audit.audit(calls.verl_gpg, rollouts=4).traps}


def test_verl_grpo_vectorized_ignores_its_setting():
    assert calls.verl_grpo_vectorized_no_std(TWO_GROUPS).equal(calls.verl_grpo_vectorized(TWO_GROUPS))
    assert not calls.verl_grpo_no_std(TWO_GROUPS).equal(calls.verl_grpo(TWO_GROUPS))


def test_moved_internals_are_an_error(monkeypatch):
    monkeypatch.setattr(calls, "_TRAINER", {key: value for key, value in calls._TRAINER.items() if key != "beta"})
    with pytest.raises(ValueError, match=r"GRPOTrainer is no longer that of TRL 1\.16.*'beta'"):
        calls.trl_grpo(TWO_GROUPS)


def test_the_command_line_can_name_one():
    function = audit.load("maxrl_lab.llm.frameworks.calls:verl_rloo", 4)
    assert audit.audit(function, rollouts=4).text().startswith("verl_rloo at N = 4 rollouts\n  optimises expected_rew")


def test_a_failing_row_says_why():
    def gone(rewards):
        raise RuntimeError("no such | thing\nsecond line")

    (row,) = frameworks.table_lines(Entry(gone), (2, 4))
    assert row[:6] == ["gone", "fails", "fails", "", "", ""]
    assert "no such / thing" in row[6]
    assert "second line" not in row[6]


def test_cells():
    """Scaled, plain, no known objective, no mean gradient, no table."""
    cells = [
        frameworks.objective(audit.audit(function, rollouts=8))
        for function in ("mean_centred", "maxrl", "maxrl_no_baseline", "grpo", "pkpo:k=2")
    ]
    assert cells == ["RL x 0.875", "order 7", "order 8", cells[3], "pass@2"]
    assert cells[3].startswith("~ RL x ")
    assert cells[3].endswith("% off)")
    assert frameworks.short_name("grpo_limit") == "GRPO's limit"
    assert frameworks.objective(audit.audit("maxrl", rollouts=1)) == "nothing"
    assert frameworks.objective(audit.audit(calls.verl_gpg, rollouts=4)) == "none"


def lines(text):
    """Everything but the versions, which may differ from those the committed copy was made with."""
    kept = text.splitlines()
    del kept[frameworks.VERSION_LINE]
    return kept


def test_the_committed_table_is_what_the_installed_frameworks_do():
    """Without the columns of larger N, which take most of a minute; those are the slow test's."""
    first, _, _ = COMMITTED.read_text().partition(read_table.TITLE)
    table = [line.strip("| ").split(" | ") for line in first.splitlines() if line.startswith("| ")]
    kept = [0, *(table[0].index(f"N = {count}") for count in FAST), *range(1 + len(frameworks.ROLLOUTS), len(table[0]))]
    fresh = [row for entry in ENTRIES for row in frameworks.table_lines(entry, FAST)]
    committed = [cells + [""] * (len(table[0]) - len(cells)) for cells in table[2:]]  # empty cells at the end
    assert fresh == [[cells[place] for place in kept] for cells in committed]


def test_the_committed_preface_is_the_current_one():
    counted = frameworks._binary(ENTRIES)
    preface = frameworks.PREFACE.format(versions="", edge=frameworks.EDGE_ROLLOUTS, binary=counted)
    assert lines(COMMITTED.read_text())[: len(lines(preface))] == lines(preface)


@pytest.mark.slow
def test_the_command_writes_the_committed_file(tmp_path):
    command.main(["--write", str(tmp_path / "table.md")])
    assert lines((tmp_path / "table.md").read_text()) == lines(COMMITTED.read_text())
