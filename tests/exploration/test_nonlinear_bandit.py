"""The bandits on a sphere: every row against what was played, and policies against a loop by hand."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from experiments.exploration import nonlinear_bandit
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.training.methods import Exact, Sampled
from maxrl_lab.training.sweep import Run

SMOKE = nonlinear_bandit.PRESETS["smoke"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    context = Context(torch.device("cpu"), Checkpoint(tmp_path_factory.mktemp("bandit") / "checkpoint"), quiet=True)
    return {name: pd.DataFrame(rows) for name, rows in nonlinear_bandit.run(SMOKE, context).items()}


class TestRows:
    def test_every_bandit_method_and_seed_has_its_rows(self, tables):
        runs = tables["runs"]
        assert set(runs.bandit) == {"needle", "hill", "phantom_bump", "real_bump"}
        keys = ["bandit", "dimension", "method", "rollouts"]
        seeds = runs.groupby(keys, dropna=False).seed.apply(list)
        assert len(seeds) == 4 * (3 + 2 * 2 + 1)  # learners, two estimators at two N, the exact gradient
        assert seeds.map(lambda numbers: numbers == [0, 1, 2]).all()

    def test_curves_are_chances_at_powers_of_two(self, tables):
        curves = tables["curves"]
        assert curves.value.between(0, 1).all()
        for _, part in curves.groupby(["bandit", "method", "rollouts", "seed"], dropna=False):
            assert part.pulls.tolist() == [1, 2, 4, 8, 16, 32, 64]

    def test_nothing_is_better_than_the_best_action(self, tables):
        runs = tables["runs"]
        assert (runs.final <= runs.best + 1e-12).all()
        assert (runs.mean_reward <= runs.best + 1e-12).all()

    def test_what_is_played_in_the_end_is_the_last_of_the_curve(self, tables):
        last = tables["curves"].query("pulls == 64").set_index(["bandit", "method", "rollouts", "seed"]).value
        final = tables["runs"].set_index(["bandit", "method", "rollouts", "seed"]).final
        assert (last - final).abs().max() < 1e-12

    def test_learners_obey_the_mixtures_bound(self, tables):
        learners = tables["runs"][tables["runs"].mixture_loss.notna()]
        assert len(learners) == 4 * 3 * 3
        assert (learners.mixture_loss <= learners.truth_loss + learners.log_models + 1e-9).all()

    def test_all_methods_of_a_seed_have_the_same_truth(self, tables):
        assert (tables["runs"].groupby(["bandit", "seed"]).best.agg(lambda best: best.max() - best.min()) < 1e-12).all()

    def test_closed_form_chances(self, tables):
        chance = tables["needles"].set_index("dimension").probability
        assert chance[3] == pytest.approx(0.1)
        assert chance[12] == pytest.approx(5e-4, rel=0.05)
        assert chance.is_monotonic_decreasing


class TestPolicies:
    def test_an_exact_gradient_by_hand(self):
        case = SMOKE.cases()[1]
        (values,) = nonlinear_bandit.climb(case, [Run(Exact("maximum_likelihood"), 0.5, 2)], 48, 16)
        chances, weights, wanted = case.chances[2], torch.zeros(3, dtype=torch.float64), []
        for _ in range(3):
            policy = (case.actions @ weights).softmax(0)
            wanted.append(float(policy @ chances))
            right = policy * chances / (policy @ chances)
            weights = weights + 0.5 * (right - policy) @ case.actions
        assert values.tolist() == pytest.approx(wanted, rel=1e-12)

    def test_runs_are_trained_as_if_alone(self):
        case = SMOKE.cases()[1]
        kinds = ("maxrl", 4, 1.0), ("rloo", 8, 3.0), ("rloo", 4, 9.0)
        runs = [Run(Sampled(name, count), rate, 0) for name, count, rate in kinds]
        together = nonlinear_bandit.climb(case, runs, 32, 8)
        assert [len(values) for values in together] == [8, 4, 8]
        for run, values in zip(runs, together, strict=True):
            assert torch.allclose(nonlinear_bandit.climb(case, [run], 32, 8)[0], values, rtol=0, atol=1e-12)

    def test_pulls_to_half(self):
        values = torch.tensor([[0.1, 0.4, 0.5], [0.5, 0.1, 0.1], [0.1, 0.1, 0.1]], dtype=torch.float64)
        best = torch.tensor([0.8, 0.8, 0.8], dtype=torch.float64)
        pulls = nonlinear_bandit._pulls_to_half(values, best, 4).tolist()
        assert pulls[:2] == [5, 1]
        assert pulls[2] != pulls[2]


class TestBadInput:
    def test_settings_that_are_refused(self, refuses):
        with refuses("bumps must be at most the 32 actions, got 33"):
            replace(SMOKE, bumps=33)
        with refuses("budget must be at least 16, the pulls of one round or update, got 15"):
            replace(SMOKE, budget=15)
        with refuses("needle_budget must be at least 16, the pulls of one round or update, got 8"):
            replace(SMOKE, needle_budget=8)
        with refuses("dimension must be a whole number >= 2, got 1"):
            replace(SMOKE, dimension=1)
        with refuses("needle_threshold must lie in (0, 1), got 1.5"):
            replace(SMOKE, needle_threshold=1.5)
