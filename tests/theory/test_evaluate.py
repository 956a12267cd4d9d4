"""Metrics against whole-number arithmetic, all subsets, hand-worked curves, and the measured coverage of intervals."""

import itertools
import math
import warnings
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from maxrl_lab import evaluate


def double(values):
    return torch.tensor(values, dtype=torch.float64)


# pass@k and coverage


def test_pass_at_k_of_all_small_counts_by_whole_number_arithmetic():
    for n in range(1, 9):
        for k in range(1, n + 1):
            # math.comb(n - c, k) is 0 where fewer than k samples are wrong
            expected = [float(1 - Fraction(math.comb(n - c, k), math.comb(n, k))) for c in range(n + 1)]
            found = evaluate.pass_at_k(torch.arange(n + 1), n, k)
            torch.testing.assert_close(found, double(expected), rtol=1e-13, atol=1e-15)


def test_pass_at_k_is_the_share_of_subsets_with_a_success():
    samples = [1, 0, 0, 1, 0, 0, 0]
    for k in range(1, 8):
        subsets = list(itertools.combinations(samples, k))
        expected = sum(any(subset) for subset in subsets) / len(subsets)
        assert float(evaluate.pass_at_k(2, 7, k)) == pytest.approx(expected, rel=1e-13)


def test_pass_at_k_of_many_samples():
    for c, k in ((1, 1), (1, 5_000), (3, 1_000), (9_000, 1), (40, 9_960)):
        expected = float(1 - Fraction(math.comb(10_000 - c, k), math.comb(10_000, k)))
        assert float(evaluate.pass_at_k(c, 10_000, k)) == pytest.approx(expected, rel=1e-11)
    # a chance of about 1e-6 keeps its digits too
    assert float(evaluate.pass_at_k(1, 10**6, 1)) == pytest.approx(1e-6, rel=1e-12)


def test_counts_and_samples_broadcast():
    # row by row: 1 of 2 or of 4 samples, 2 of 2 or of 4; at k = 2: 1, 1 - 3/6; 1, 1 - 1/6
    found = evaluate.pass_at_k([[1], [2]], torch.tensor([2, 4]), 2)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, double([[1, 1 / 2], [1, 5 / 6]]))
    assert evaluate.pass_at_k(1, 4, 2).shape == ()


def test_counts_that_cannot_be_are_refused(refuses):
    with refuses("pass@k needs k <= samples, got k = 5 with 4 samples"):
        evaluate.pass_at_k(2, 4, 5)
    with refuses("pass@k needs k <= samples, got k = 5 with 3 samples"):
        evaluate.pass_at_k([1, 1, 1], [8, 3, 4], 5)
    with refuses("correct must be a whole number from 0 to samples, got 5"):
        evaluate.pass_at_k([1, 4, 5, 6], 4, 2)
    with refuses("correct must be a whole number from 0 to samples, got -1"):
        evaluate.pass_at_k([[0], [-1]], 4, 2)
    for k in (0, -1, 2.0, True):
        with refuses(f"k must be a whole number >= 1, got {k!r}"):
            evaluate.pass_at_k(2, 4, k)
        with refuses(f"k must be a whole number >= 1, got {k!r}"):
            evaluate.exact_pass_at_k(0.5, k)
    # the ends themselves are fine
    assert evaluate.pass_at_k([0, 4], 4, 4).tolist() == [0, 1]


def test_exact_pass_at_k(refuses):
    # 1 - (3/4)^3 = 37/64
    torch.testing.assert_close(evaluate.exact_pass_at_k([0.0, 0.25, 1.0], 3), double([0, 37 / 64, 1]))
    with refuses("a pass rate must lie in [0, 1], got 1.5"):
        evaluate.exact_pass_at_k(1.5, 3)


@settings(max_examples=30)
@given(p=st.floats(0, 1), n=st.integers(1, 10), data=st.data())
def test_pass_at_k_is_unbiased_for_the_exact_one(p, n, data):
    k = data.draw(st.integers(1, n))
    chances = stats.binom.pmf(range(n + 1), n, p)
    mean = float(torch.from_numpy(chances) @ evaluate.pass_at_k(torch.arange(n + 1), n, k))
    assert mean == pytest.approx(float(evaluate.exact_pass_at_k(p, k)), abs=1e-12)


def test_coverage_is_the_mean_over_tasks():
    # two runs of three tasks with 4 samples: pass@1 is c/4, pass@2 is 1 - C(4-c,2)/6, pass@4 is 1 from c = 1 on
    correct = torch.tensor([[0, 1, 4], [2, 2, 2]])
    found = evaluate.coverage(correct, 4, [1, 2, 4])
    torch.testing.assert_close(found, double([[5 / 12, 3 / 6, 2 / 3], [1 / 2, 5 / 6, 1]]))
    assert evaluate.coverage(correct[:, None], 4, [1, 2, 4]).shape == (2, 1, 3)
    # tasks may have different numbers of samples: at k = 2, 1 of 2 is 1 and 1 of 4 is 1/2
    torch.testing.assert_close(evaluate.coverage([1, 1], [2, 4], [2]), double([3 / 4]))


def test_exact_coverage_is_the_mean_over_tasks():
    pass_rates = double([[0.0, 0.5], [1.0, 0.5]])
    found = evaluate.exact_coverage(pass_rates, [1, 3])
    torch.testing.assert_close(found, double([[1 / 4, 7 / 16], [3 / 4, 15 / 16]]))
    # three axes of runs and a single task each
    assert torch.equal(evaluate.exact_coverage(pass_rates[None, ..., None], [1]), pass_rates[None, ..., None])
    torch.testing.assert_close(evaluate.exact_coverage([0.0, 0.5], [1, 3]), double([1 / 4, 7 / 16]))


# Scaling efficiency


def test_scaling_efficiency_by_hand():
    ks = [1, 2, 4, 8]
    baseline = [0.1, 0.2, 0.4, 0.6]
    found = evaluate.scaling_efficiency([0.2, 0.3, 0.4, 0.7], baseline, ks)
    # 0.2 is reached at 2; 0.3 half-way in log k from 2 to 4, at sqrt(8); 0.4 at 4 itself; 0.7 never
    torch.testing.assert_close(found, double([2 / 1, math.sqrt(8) / 2, 4 / 4, math.inf]))
    # an equal curve needs as many samples
    torch.testing.assert_close(evaluate.scaling_efficiency(baseline, baseline, ks), torch.ones(4, dtype=torch.float64))


def test_scaling_efficiency_interpolates_in_log_k():
    # a quarter of the way from 2 to 32 = 2 16^(1/4) = 4, three quarters = 16
    found = evaluate.scaling_efficiency([0.3, 0.5], [0.2, 0.6], [2, 32])
    torch.testing.assert_close(found, double([4 / 2, 2 * 16**0.75 / 32]))


def test_scaling_efficiency_where_the_baseline_starts_above_is_an_upper_bound():
    found = evaluate.scaling_efficiency([0.3, 0.4, 0.5], [0.45, 0.5, 0.7], [2, 4, 8])
    # 2 samples are already enough for 0.3 and 0.4
    torch.testing.assert_close(found, double([2 / 2, 2 / 4, 4 / 8]))


def test_scaling_efficiency_counts_from_where_the_baseline_first_gets_there():
    # the baseline passes 0.3 between 1 and 4, falls below and passes it again
    found = evaluate.scaling_efficiency([0.3, 0.3, 0.3], [0.2, 0.4, 0.1], [1, 4, 16])
    torch.testing.assert_close(found, double([2 / 1, 2 / 4, 2 / 16]))
    assert found.dtype == torch.float64


@pytest.mark.parametrize(
    ("ours", "theirs", "ks"),
    [
        ([0.1, 0.2], [0.1, 0.2], [2, 1]),
        ([0.1, 0.2], [0.1, 0.2], [2, 2]),
        ([0.1, 0.2], [0.1, 0.2], [0, 1]),
        ([0.1, 0.2], [0.1, 0.2], [1, 2, 4]),
        ([0.1, 0.2, 0.3], [0.1, 0.2], [1, 2]),
        ([0.1, 0.2], [0.1, 0.2, 0.3], [1, 2]),
        ([], [], []),
    ],
)
def test_curves_that_do_not_fit_are_refused(refuses, ours, theirs, ks):
    with refuses(
        f"expected increasing ks >= 1 and one coverage for each, got ks {ks} "
        f"with shapes ({len(ours)},) and ({len(theirs)},)"
    ):
        evaluate.scaling_efficiency(ours, theirs, ks)


# Majority vote and signal


def test_majority_vote():
    assert evaluate.majority_vote([["4", "5", "4"], ["7"]]) == ["4", "7"]
    # among equally frequent answers, the first that was drawn: 2 of 3 2 3 ... is 3
    assert evaluate.majority_vote([[3, 2, 2, 3], [2, 3, 2, 3], [1, 2, 3]]) == [3, 2, 1]
    assert evaluate.majority_vote([[9, 2, 2, 3, 3]]) == [2]
    assert evaluate.majority_vote(iter([])) == []


def test_no_answer_is_no_candidate():
    # two of three samples have no answer, and the one answer wins; among none there is no vote
    assert evaluate.majority_vote([(None, None, (1, 2)), [None, None], [None, 3, 2, 3]]) == [(1, 2), None, 3]


def test_a_vote_is_right_as_its_first_sample_is():
    answers = [[None, "5", None], [None, None], ["4", "5", "5"], ["4", "5"], ["5", "4"]]
    right = [[False, True, False], [False, False], [False, True, True], [False, True], [True, False]]
    assert evaluate.majority_right(answers, right) == [True, False, True, False, True]
    # no answer is never right, even if a verifier says so
    assert evaluate.majority_right([[None, None]], [[True, True]]) == [False]
    assert evaluate.majority_right(torch.tensor([[1, 2, 2]]), torch.tensor([[True, False, False]])) == [False]


def test_a_vote_needs_a_verdict_for_each_answer(refuses):
    with refuses("expected a verdict for each answer, got [2] verdicts for [3] answers"):
        evaluate.majority_right([[1, 2, 2]], [[True, False]])
    with refuses("expected a verdict for each answer, got [1] verdicts for [1, 1] answers"):
        evaluate.majority_right([[1], [2]], [[True]])


def test_majority_vote_of_rows_of_a_tensor_or_an_array():
    answers = [[1, 5, 5], [0, 2, 0]]
    for rows in (answers, torch.tensor(answers), np.array(answers)):
        voted = evaluate.majority_vote(rows)
        assert voted == [5, 0]
        assert all(type(answer) is int for answer in voted)


@pytest.mark.parametrize("answers", [[[1], []], torch.zeros(2, 0)])
def test_a_vote_needs_an_answer(refuses, answers):
    with refuses("majority vote needs at least one sample per problem, got none"):
        evaluate.majority_vote(answers)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_signal_fraction_is_the_share_of_tasks_with_a_success(dtype):
    rewards = torch.tensor([[[0, 0], [0, 1], [1, 1], [1, 0]], [[0, 0], [0, 0], [0, 0], [0, 1]]]).to(dtype)
    found = evaluate.signal_fraction(rewards)
    assert found.dtype == torch.float64
    assert found.tolist() == [3 / 4, 1 / 4]
    assert evaluate.signal_fraction(rewards[0]).tolist() == 3 / 4


def test_the_signal_is_of_rewards_of_0_and_1_and_has_tasks(refuses):
    with refuses("rewards must be 0 or 1 (right or wrong), got 0.5"):
        evaluate.signal_fraction(torch.tensor([[0.5, 0.0]]))
    with refuses("expected rewards of shape (..., B, N), got (3,)"):
        evaluate.signal_fraction(torch.tensor([0, 1, 0]))


# Intervals over seeds


@pytest.mark.parametrize("correct", [math.nan, 1.5])
def test_counts_that_are_no_whole_numbers_are_refused(correct):
    with pytest.raises(ValueError, match=f"correct must be a whole number from 0 to samples, got {correct:g}"):
        evaluate.pass_at_k(correct, 4, 2)


def test_curves_of_another_shape_and_empty_ks_are_refused():
    with pytest.raises(ValueError, match="expected increasing ks >= 1 and one coverage for each"):
        evaluate.scaling_efficiency([[0.1, 0.2], [0.2, 0.3]], [[0.1, 0.2], [0.2, 0.3]], [1, 2])
    with pytest.raises(ValueError, match="coverage needs at least one k, got none"):
        evaluate.coverage([1], 2, [])


def test_an_unknown_coverage_has_an_unknown_efficiency():
    assert bool(evaluate.scaling_efficiency([math.nan], [0.1], [1]).isnan())


def test_counts_may_be_a_filtered_column_of_a_data_frame():
    rows = pd.DataFrame({"correct": [0, 1, 2]})
    column = rows[rows.correct > 0].correct  # has no label 0, and may not be written to
    assert torch.equal(evaluate.pass_at_k(column, 4, 2), evaluate.pass_at_k([1, 2], 4, 2))
    array = column.to_numpy()
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(evaluate.pass_at_k(array, 4, 2), evaluate.pass_at_k([1, 2], 4, 2))


@pytest.mark.parametrize("curve", [lambda: evaluate.coverage([], [], [1]), lambda: evaluate.exact_coverage([], [1])])
def test_the_coverage_of_no_task_is_refused(refuses, curve):
    with refuses("coverage needs at least one task, got none"):
        curve()


def test_the_answers_of_one_problem_are_not_those_of_many(refuses):
    with refuses("majority vote needs a list of answers for each problem, got the text '12'"):
        evaluate.majority_vote(["12", "12", "13"])
