"""Likelihood in mazes: rows of fresh policies, the cost of inverse sampling by hand, resuming, and what is refused."""

import dataclasses
import math

import pandas as pd
import pytest
import torch
from small_navigation import context_in, frames

from experiments.navigation import navigation_likelihood
from maxrl_lab.tabular import study
from maxrl_lab.tabular.study import pass_rates
from maxrl_lab.training.methods import Exact, Inverse, Sampled

SMOKE = navigation_likelihood.PRESETS["smoke"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("navigation_likelihood")


@pytest.fixture(scope="module")
def tables(folder):
    """The smoke preset's tables; the checkpoints stay in `folder`."""
    return frames(navigation_likelihood.run(SMOKE, context_in(folder)))


class TestNavigationLikelihood:
    def test_columns_and_counts(self, tables):
        run, metrics = (
            ["method", "rollouts", "learning_rate", "seed", "step"],
            ["pass_at_1", "pass_at_64", "log_pass_rate"],
        )
        assert list(tables) == ["sweep", "curves"]
        assert list(tables["sweep"].columns) == [*run, "cost", *metrics]
        assert list(tables["curves"].columns) == [*run, "split", "cost", *metrics]
        assert len(tables["sweep"]) == 3 * 2  # methods, rates
        assert len(tables["curves"]) == 3 * 2 * 3 * 2  # methods, seeds, steps, splits
        for table in tables.values():
            assert table.drop(columns=["rollouts", "cost"]).notna().all(axis=None)
            assert not (table.select_dtypes("number").abs() == math.inf).any(axis=None)
            assert (table.pass_at_1 < table.pass_at_64).all()
            assert (table.log_pass_rate <= table.pass_at_1.map(math.log)).all()  # Jensen

    def test_rates_are_chosen_by_likelihood_on_a_seed_that_is_not_reported(self, tables):
        sweep, curves = tables["sweep"], tables["curves"]
        assert set(sweep.seed) == {2}
        assert set(sweep.step) == {SMOKE.steps}
        assert set(curves.seed) == {0, 1}
        best = sweep.loc[sweep.groupby("method").log_pass_rate.idxmax()].set_index("method").learning_rate
        used = curves.groupby("method").learning_rate.unique()
        assert {method: [best[method]] for method in used.index} == {m: rates.tolist() for m, rates in used.items()}

    def test_cost(self, tables):
        for table in tables.values():
            assert table[table.method == "maximum_likelihood"].cost.isna().all()
            assert (table[table.method == "maxrl_leave_one_out"].cost == 4).all()
            inverse = table[table.method == "inverse_sampling:successes=1"]
            assert ((inverse.cost > 1) & (inverse.cost < 8)).all()
        # the cost is that of training, whatever split the row measures
        curves = tables["curves"].query("method == 'inverse_sampling:successes=1'")
        assert (curves.groupby(["seed", "step", "learning_rate"]).cost.nunique() == 1).all()

    def test_mean_cost_by_hand(self):
        # m = 1, cap 3: 1 + (1-p) + (1-p)^2, so 1.75 at p = 1/2 and 3 at p = 0
        method = Inverse(1, 3)
        rates = torch.tensor([0.5, 0.0], dtype=torch.float64)
        assert navigation_likelihood.mean_cost(method, rates) == pytest.approx((1.75 + 3) / 2, rel=1e-14)
        assert navigation_likelihood.mean_cost(Sampled("rloo", 3), rates) == 3.0
        assert navigation_likelihood.mean_cost(Exact("maximum_likelihood"), rates) is None

    def test_rows_at_the_start_are_those_of_fresh_policies(self, tables):
        start = tables["curves"].query("step == 0 and split == 'train'")
        for seed in (0, 1):
            world = SMOKE.world(seed)
            (run_rates,) = pass_rates(world.stack([seed]), world.train)
            mine = start[start.seed == seed].set_index("method")
            assert mine.pass_at_1.tolist() == pytest.approx([float(run_rates.mean())] * 3, rel=1e-5)
            assert mine.log_pass_rate.tolist() == pytest.approx([float(run_rates.log().mean())] * 3, rel=1e-5)
            cost = float(((1 - (1 - run_rates) ** 8) / run_rates).mean())
            assert mine.cost["inverse_sampling:successes=1"] == pytest.approx(cost, rel=1e-5)

    def test_the_exact_gradient_climbs(self, tables):
        exactly = tables["curves"].query("split == 'train' and method == 'maximum_likelihood'")
        by_step = exactly.pivot(index="seed", columns="step", values="log_pass_rate")
        assert (by_step.diff(axis=1)[[2, 4]] > 0).all(axis=None)

    def test_blocks_of_runs_change_no_result(self, tmp_path, tables):
        parts = frames(navigation_likelihood.run(dataclasses.replace(SMOKE, runs_at_once=2), context_in(tmp_path)))
        for name, whole in tables.items():
            key = [
                column for column in ("method", "rollouts", "learning_rate", "seed", "step", "split") if column in whole
            ]
            whole, part = (table.sort_values(key, ignore_index=True) for table in (whole, parts[name]))
            pd.testing.assert_frame_equal(whole, part, rtol=1e-3)

    def test_killed_while_measuring(self, tmp_path, monkeypatch):
        whole = navigation_likelihood.run(SMOKE, context_in(tmp_path / "whole"))
        honest, calls = study.pass_rates, []

        def killed(*arguments):
            calls.append(None)
            if len(calls) == 4:  # the sweep measures once; the report's second measurement of two splits
                raise KeyboardInterrupt
            return honest(*arguments)

        monkeypatch.setattr(study, "pass_rates", killed)
        with pytest.raises(KeyboardInterrupt):
            navigation_likelihood.run(SMOKE, context_in(tmp_path / "killed"))
        before = len(calls)
        resumed = navigation_likelihood.run(SMOKE, context_in(tmp_path / "killed"))
        # the end of the sweep, and three measurements of two splits of each reported seed
        assert len(calls) - before == 1 + 2 * 6
        assert resumed == whole


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"rollouts": (4, 4)}, "rollouts must be distinct, got 4 4"),
            ({"held_out": 0}, "held_out must be a whole number >= 1, got 0"),
            ({"successes": (1, 9)}, "successes must be at most the cap of 8 rollouts, got 9"),
            ({"successes": (0,)}, "successes must be a whole number >= 1, got 0"),
        ],
    )
    def test_settings(self, refuses, changes, message):
        with refuses(message):
            dataclasses.replace(SMOKE, **changes)
