"""What users of training frameworks trip over: every mistake is the input of a test, here or where the table says."""

import ast
import itertools

import numpy as np
import pytest
import torch
from house import ROOT

from maxrl_lab import estimators, evaluate, intervals

TESTED = {
    "groups that have lost a rollout, or had one cut off": (
        "theory/test_ragged.py::test_masked_rollouts_are_as_if_they_had_never_been",
        "theory/test_ragged.py::test_leaving_out_what_was_cut_off",
        "llm/test_llm_trl_groups.py::test_the_gradient_is_that_of_the_rollouts_that_are_left",
        "llm/test_llm_verl.py::test_groups_of_different_sizes_by_choice",
    ),
    "groups of one": ("test_known_mistakes.py::test_a_group_of_one",),
    "rewards of -1 and 1": (
        "test_known_mistakes.py::test_rewards_of_minus_one_and_one",
        "theory/test_estimators.py::test_a_reward_that_is_neither_right_nor_wrong_is_named",
    ),
    "rewards that are None or NaN": (
        "theory/test_ragged.py::test_none_stands_for_a_lost_reward_in_a_list",
        "theory/test_ragged.py::test_masks_that_are_refused",
        "theory/test_estimators.py::test_a_reward_of_none_is_named",
    ),
    "ids that are sparse, negative or shuffled": (
        "theory/test_ragged.py::test_rows_in_any_order_are_the_groups_that_they_name",
        "audit/test_ragged_expectation.py::test_functions_that_ragged_groups_lead_astray",
    ),
    "a rejected row that stays in the baseline": (
        "audit/test_ragged_expectation.py::test_functions_that_ragged_groups_lead_astray",
        "test_known_mistakes.py::test_a_rejected_row_in_the_baseline_moves_the_others",
    ),
    "copies of rows, which inflate K": (
        "test_known_mistakes.py::test_a_copy_of_a_row_inflates_k",
        "theory/test_ragged.py::test_rows_that_are_refused",
    ),
    "completions of a group that are all cut off": (
        "llm/test_llm_trl_groups.py::test_a_group_of_which_all_answers_are_cut_off",
    ),
    "steps per generation that differ from the accumulation": (
        "llm/test_llm_trl.py::test_are_the_estimators_whatever_trl_does_with_the_rollouts",
    ),
    "pass@k with c = 0 and n < k, and n that differs by problem": (
        "test_known_mistakes.py::test_pass_at_k_of_problems_with_few_samples",
    ),
    "best@k from draws with replacement": (
        "test_known_mistakes.py::test_draws_with_replacement_miss_a_success_that_is_there",
    ),
    "intervals over episodes": ("test_known_mistakes.py::test_an_interval_over_episodes_is_too_narrow",),
    "one seed": ("theory/test_intervals.py::test_one_seed_has_a_mean_but_no_interval",),
    "a verifier that is not symmetric": ("llm/test_llm_rewards.py::test_equality_of_mathematics",),
    "verifiers that do not end": (
        "llm/test_llm_rewards.py::test_a_comparison_that_does_not_end_is_wrong_and_the_next_one_is_right",
    ),
    "another temperature in sampling than in scoring": (
        "llm/test_llm_trl.py::test_of_a_step_is_the_estimate_summed_over_tokens",
        "llm/test_llm_trl.py::test_that_make_another_objective_are_refused_unless_meant",
    ),
    "seeds that have no effect": (
        "llm/test_llm_training.py::test_seeds_differ",
        "envs/test_levels.py::test_the_same_seed_makes_the_same_levels_and_another_makes_others",
    ),
    "a resumed run that repeats samples": (
        "llm/test_llm_trl.py::test_a_resumed_run_ends_where_the_whole_one_did",
        "experiments/test_cli.py::test_killed_run_continues_to_the_same_rows",
        "training/test_fit.py::test_a_resumed_run_has_logged_every_update_once",
    ),
}
"""Mistake to the tests that have it as an input, below tests/."""


@pytest.mark.parametrize("mistake", TESTED)
def test_every_mistake_is_the_input_of_a_test_that_exists(mistake):
    for reference in TESTED[mistake]:
        file, name = reference.split("::")
        tree = ast.parse((ROOT / "tests" / file).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, reference


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def test_a_group_of_one(refuses):
    """Algorithm 1 learns nothing from it, the leave-one-out form is REINFORCE, and RLOO does not exist."""
    assert estimators.make("maxrl")([1]).tolist() == [0]
    assert estimators.make("maxrl_leave_one_out")([1]).tolist() == [1]
    with refuses("rloo needs at least 2 rollouts in a group, got N = 1"):
        estimators.make("rloo")([1])


def test_rewards_of_minus_one_and_one(refuses):
    rewards = double([1, -1, -1, -1])
    with refuses("rewards must be 0 or 1 (right or wrong), got -1.0; where -1 means wrong, give (r + 1) / 2"):
        estimators.make("maxrl")(rewards)
    assert estimators.make("maxrl")((rewards + 1) / 2).tolist() == [3, -1, -1, -1]


def test_a_rejected_row_in_the_baseline_moves_the_others():
    """K = 1 of 3 is left: 2, -1, -1. With the rejected success in the mean it is 1, -1, -1."""
    rewards, mask = double([1, 0, 0, 1]), torch.tensor([True, True, True, False])
    assert estimators.make("maxrl")(rewards, mask).tolist() == [2, -1, -1, 0]
    assert (estimators.make("maxrl")(rewards) * mask).tolist() == [1, -1, -1, 0]


def test_a_copy_of_a_row_inflates_k(refuses):
    """A success that is logged twice halves what it is worth, and nothing in the rewards says so."""
    once, twice = estimators.make("maxrl")([1, 0, 0, 0]), estimators.make("maxrl")([1, 1, 0, 0, 0])
    assert (once[0], twice[0]) == (3, 1.5)
    with refuses("rows 0 and 1 are the same rollout 'z1' of group 'x': give it once"):
        estimators.grouped("maxrl", [1, 1, 0, 0, 0], ["x"] * 5, rollouts=["z1", "z1", "z2", "z3", "z4"])


def test_pass_at_k_of_problems_with_few_samples(refuses):
    """No success among 2 samples says little of pass@4: it is no 0, and no mean over problems may take it for one."""
    for correct in (0, 2):
        with refuses("pass@k needs k <= samples, got k = 4 with 2 samples"):
            evaluate.pass_at_k([correct, 1], [2, 8], 4)
    # 1 of 8 and 2 of 4: 1 - C(7,2)/C(8,2) = 1/4, 1 - C(2,2)/C(4,2) = 5/6
    torch.testing.assert_close(evaluate.pass_at_k([1, 2], [8, 4], 2), double([1 / 4, 5 / 6]))
    torch.testing.assert_close(evaluate.coverage([1, 2], [8, 4], [2]), double([(1 / 4 + 5 / 6) / 2]))


def test_draws_with_replacement_miss_a_success_that_is_there():
    """One success among 4 samples: the best of all is right; 4 draws with replacement hold it in 1 - (3/4)^4."""
    drawn = list(itertools.product([1, 0, 0, 0], repeat=4))
    assert sum(map(max, drawn)) / len(drawn) == pytest.approx(0.684, abs=5e-4)
    assert float(evaluate.pass_at_k(1, 4, 4)) == 1


def test_an_interval_over_episodes_is_too_narrow():
    """Five seeds with 100 episodes each, whose seeds differ as much as episodes do: how often is the truth covered?

    2000 data sets: a share that is truly 0.95 lies outside 0.95 -+ 0.02 with probability below 1e-4.
    """
    draws = np.random.default_rng(0)
    episodes = draws.normal(size=(5, 2000, 1)) + draws.normal(size=(5, 2000, 100))
    by_seed = intervals.t_interval(episodes.mean(-1))
    covered = np.mean((by_seed.low <= 0) & (by_seed.high >= 0))
    assert covered == pytest.approx(0.95, abs=0.02)
    pooled = intervals.t_interval(episodes.transpose(0, 2, 1).reshape(500, 2000))
    assert np.mean((pooled.low <= 0) & (pooled.high >= 0)) < 0.3
