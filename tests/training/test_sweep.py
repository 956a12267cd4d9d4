"""Which runs a fair comparison trains, and which learning rate it chooses."""

import math

import pytest

from maxrl_lab.training.methods import Exact, Sampled
from maxrl_lab.training.sweep import Run, blocks, choose_learning_rates, reported_runs, swept_runs

MAXRL, RLOO = Sampled("maxrl", 4), Sampled("rloo", 4)
EXACT = Exact("maximum_likelihood")
NAN = math.nan


def row(rate, score, method="maxrl", rollouts=4):
    return {"method": method, "rollouts": rollouts, "learning_rate": rate, "score": score}


def choose(*rows):
    """The rate chosen for the only method."""
    (chosen,) = choose_learning_rates(rows, "score").values()
    return chosen


class TestRuns:
    def test_swept_runs_by_hand(self):
        assert swept_runs([MAXRL, EXACT], [0.1, 0.3], first_seed=5, seeds=2) == [
            Run(MAXRL, 0.1, 5),
            Run(MAXRL, 0.3, 5),
            Run(EXACT, 0.1, 5),
            Run(EXACT, 0.3, 5),
            Run(MAXRL, 0.1, 6),
            Run(MAXRL, 0.3, 6),
            Run(EXACT, 0.1, 6),
            Run(EXACT, 0.3, 6),
        ]

    def test_reported_runs_by_hand(self):
        best = {("maxrl", 4): 0.3, ("rloo", 4): 0.1, ("maximum_likelihood", None): 1.0}
        assert reported_runs([MAXRL, EXACT], best, seeds=2) == [
            Run(MAXRL, 0.3, 0),
            Run(EXACT, 1.0, 0),
            Run(MAXRL, 0.3, 1),
            Run(EXACT, 1.0, 1),
        ]

    def test_no_seed_is_swept_and_reported(self):
        # as the experiments call them: the sweep's first seed is the number of reported ones
        swept = swept_runs([MAXRL], [0.1], first_seed=3, seeds=4)
        reported = reported_runs([MAXRL], {("maxrl", 4): 0.1}, seeds=3)
        assert {each.seed for each in swept} == {3, 4, 5, 6}
        assert {each.seed for each in reported} == {0, 1, 2}

    def test_columns_name_the_run(self):
        assert Run(EXACT, 0.1, 7).row("report", 30) == {
            "stage": "report",
            "method": "maximum_likelihood",
            "rollouts": None,
            "learning_rate": 0.1,
            "seed": 7,
            "step": 30,
        }


class TestChoice:
    def test_best_mean_over_seeds(self):
        # means 0.25, 0.3, 0.2: the best single seed does not win
        assert choose(row(1, 0.5), row(1, 0.0), row(3, 0.3), row(3, 0.3), row(9, 0.1), row(9, 0.3)) == 3

    def test_order_of_the_rows_does_not_matter(self):
        rows = [row(1, 0.2), row(3, 0.4), row(9, 0.4), row(1, 0.2)]
        assert choose(*rows) == choose(*rows[::-1]) == 3

    @pytest.mark.parametrize("order", [1, -1])
    def test_smallest_of_equal_rates(self, order):
        assert choose(*[row(0.1, 0.5), row(0.3, 0.5), row(1.0, 0.5)][::order]) == 0.1

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_rate_at_which_one_seed_diverged_is_not_chosen(self, order):
        assert choose(*[row(0.1, 0.2), row(0.1, 0.2), row(0.3, NAN), row(0.3, 0.9)][::order]) == 0.1

    def test_nan_at_the_smallest_rate_does_not_hide_the_others(self):
        assert choose(row(0.1, NAN), row(0.3, 0.2), row(1.0, 0.5)) == 1.0

    def test_if_every_rate_diverged_the_smallest_is_reported(self):
        assert choose(row(0.3, NAN), row(0.1, NAN)) == 0.1

    def test_methods_and_rollouts_choose_for_themselves(self):
        rows = [row(1, 0.1), row(3, 0.2), row(1, 0.2, "rloo"), row(3, 0.1, "rloo")]
        rows += [row(1, 0.4, rollouts=8), row(3, 0.3, rollouts=8), row(3, 0.3, "likelihood", None)]
        assert choose_learning_rates(rows, "score") == {
            ("maxrl", 4): 3,
            ("rloo", 4): 1,
            ("maxrl", 8): 1,
            ("likelihood", None): 3,
        }

    def test_the_named_column_decides(self):
        rows = [{**row(1, 0.1), "other": 0.9}, {**row(3, 0.2), "other": 0.8}]
        assert choose_learning_rates(rows, "score") == {("maxrl", 4): 3}
        assert choose_learning_rates(rows, "other") == {("maxrl", 4): 1}


class TestBlocks:
    @pytest.mark.parametrize(
        ("size", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])], ids=["one", "rest", "all", "more"]
    )
    def test_every_run_once_in_order(self, size, sizes):
        runs = swept_runs([MAXRL], [0.1], first_seed=0, seeds=7)
        numbers, parts = zip(*blocks(runs, size), strict=True)
        assert numbers == tuple(range(1, len(sizes) + 1))
        assert [len(part) for part in parts] == sizes
        assert [each for part in parts for each in part] == runs

    def test_no_runs_no_blocks(self):
        assert list(blocks([], 3)) == []
