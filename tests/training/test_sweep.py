"""Which runs a fair comparison trains, and which learning rate it chooses."""

import math

import pytest

from maxrl_lab.errors import InputError
from maxrl_lab.training.methods import Exact, Expected, Sampled
from maxrl_lab.training.sweep import Run, choose_learning_rates, compare, in_blocks, reported_runs, swept_runs

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

    def test_columns_name_the_run(self):
        assert Run(EXACT, 0.1, 7).row(30) == {
            "method": "maximum_likelihood",
            "rollouts": None,
            "learning_rate": 0.1,
            "seed": 7,
            "step": 30,
        }

    def test_a_run_in_words(self):
        assert Run(MAXRL, 0.1, 7).name == "maxrl, N = 4, learning rate 0.1, seed 7"
        assert Run(EXACT, 1e-4, 0).name == "maximum_likelihood, learning rate 0.0001, seed 0"


class TestComparison:
    """A sweep whose score is best at rate 0.3 for maxrl and at rate 1 for the others."""

    def compare(self, methods, **changes):
        self.swept, self.reported = [], []

        def sweep(runs):
            self.swept += runs
            best = {"maxrl": 0.3}
            return [{**run.row(9), "score": -abs(run.learning_rate - best.get(run.method.name, 1))} for run in runs]

        def report(runs):
            self.reported += runs
            return {"curves": [run.row(step) for step in (0, 9) for run in runs]}

        options = {"seeds": 3, "sweep_seeds": 2, "score": "score", "sweep": sweep, "report": report, **changes}
        return compare(methods, (0.1, 0.3, 1.0), **options)

    def test_every_method_is_reported_at_the_rate_that_its_own_sweep_chose(self):
        found = self.compare([MAXRL, EXACT])
        assert found.best == {("maxrl", 4): 0.3, ("maximum_likelihood", None): 1.0}
        assert found.runs == self.reported
        assert [(run.method, run.learning_rate, run.seed) for run in self.reported] == [
            (MAXRL, 0.3, 0), (EXACT, 1.0, 0), (MAXRL, 0.3, 1), (EXACT, 1.0, 1), (MAXRL, 0.3, 2), (EXACT, 1.0, 2),
        ]  # fmt: skip
        assert found.report == {"curves": [run.row(step) for step in (0, 9) for run in self.reported]}

    def test_the_sweep_is_alike_for_every_method_and_on_seeds_that_are_not_reported(self):
        found = self.compare([MAXRL, EXACT])
        assert self.swept == swept_runs([MAXRL, EXACT], (0.1, 0.3, 1.0), first_seed=3, seeds=2)
        assert {row["seed"] for row in found.sweep} == {3, 4}
        assert [row["learning_rate"] for row in found.sweep] == [run.learning_rate for run in self.swept]

    def test_a_sweep_at_one_n_may_serve_all(self):
        methods = [Sampled(name, count) for count in (8, 16) for name in ("maxrl", "rloo")]
        found = self.compare(methods, swept_as=lambda method: Sampled(method.estimator, 4))
        assert {(run.method.name, run.method.rollouts) for run in self.swept} == {("maxrl", 4), ("rloo", 4)}
        assert len(self.swept) == 2 * 3 * 2  # every swept method once a rate and seed, not once for each N
        assert found.best == {("maxrl", 8): 0.3, ("maxrl", 16): 0.3, ("rloo", 8): 1.0, ("rloo", 16): 1.0}

    def test_a_method_whose_rate_is_known_is_not_swept(self):
        found = self.compare([MAXRL, EXACT], fixed={"maxrl, N = 4": 0.5, "maxrl, N = 8": 0.7})
        assert found.best == {("maxrl", 4): 0.5, ("maximum_likelihood", None): 1.0}
        assert {run.method for run in self.swept} == {EXACT}
        assert {run.learning_rate for run in self.reported if run.method == MAXRL} == {0.5}

    def test_rates_of_another_section_are_another_matter(self):
        fixed = {"world sgd maxrl, N = 4": 0.5, "maxrl, N = 4": 0.7}
        assert self.compare([MAXRL], fixed=fixed, section="world sgd").best == {("maxrl", 4): 0.5}
        assert self.compare([MAXRL], fixed=fixed, section="world adam").best == {("maxrl", 4): 0.3}

    def test_a_comparison_whose_rates_are_all_known_has_no_sweep(self):
        found = self.compare([MAXRL, EXACT], fixed={"maxrl, N = 4": 0.5, "maximum_likelihood": 0.1})
        assert self.swept == []
        assert found.tables == {"curves": found.report["curves"]}
        assert {run.learning_rate for run in self.reported} == {0.5, 0.1}
        assert list(self.compare([MAXRL]).tables) == ["sweep", "curves"]
        self.compare([MAXRL], fixed={"maxrl, N = 4": 0.5}, sweep=lambda _runs: pytest.fail("nothing is to be swept"))

    @pytest.mark.parametrize("twin", [MAXRL, Expected("maxrl", 4)], ids=["equal", "of another kind"])
    def test_methods_that_rows_cannot_tell_apart_are_refused_before_anything_is_trained(self, twin):
        with pytest.raises(InputError, match=r"methods must be distinct, got \('maxrl', 4\), \('maxrl', 4\)"):
            self.compare([MAXRL, twin])
        assert self.swept == []

    def test_a_sweep_that_returns_learning_curves_is_a_fault(self):
        def curves(runs):
            return [{**run.row(step), "score": 0.0} for step in (0, 9) for run in runs]

        with pytest.raises(RuntimeError, match="a sweep of 6 runs must return as many rows, got 12"):
            self.compare([MAXRL], sweep=curves)


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
        trained = []

        def train(number, block):
            trained.append((number, len(block)))
            return {"curves": [run.row(0) for run in block], f"block_{number}": [{}]}

        tables = in_blocks(runs, size, train)
        assert trained == list(enumerate(sizes, 1))
        assert tables.pop("curves") == [run.row(0) for run in runs]
        assert set(tables) == {f"block_{number}" for number in range(1, len(sizes) + 1)}

    def test_no_runs_no_blocks(self):
        assert in_blocks([], 3, lambda *_block: pytest.fail("nothing is to be trained")) == {}
