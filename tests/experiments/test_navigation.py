"""The navigation experiment: its tables against the saved policies, known rates, resuming and what is refused."""

import dataclasses
import math
from functools import partial

import pandas as pd
import pytest
from small_navigation import context_in, frames

from experiments.navigation import _comparison, navigation
from experiments.navigation._shared import optimisation
from maxrl_lab.tabular import study
from maxrl_lab.tabular.study import pass_rates, train
from maxrl_lab.training.sweep import Run

SMOKE = navigation.PRESETS["smoke"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("navigation")


@pytest.fixture(scope="module")
def tables(folder):
    """The smoke preset's tables; the checkpoints stay in `folder`."""
    return frames(navigation.run(SMOKE, context_in(folder)))


def test_who_trains_beside_changes_no_row(tmp_path):
    section, world = SMOKE.section(), SMOKE.world(1, held_out=2)
    optimised = optimisation("adam", SMOKE.steps, SMOKE.measurements)
    runs = [Run(method, 0.01, 1) for method in section.methods]
    keys = ["method", "rollouts", "learning_rate", "seed"]

    def tables_of(runs, name):
        checkpoint, measure = context_in(tmp_path / name).checkpoint, partial(_comparison._measure, section)
        return frames(train(runs, world, optimised, checkpoint=checkpoint, measure=measure)[1])

    together = tables_of(runs, "together")
    for index in (3, 10):
        run = pd.Series(runs[index].row(0))[keys]
        for name, alone in tables_of([runs[index]], str(index)).items():
            same = together[name][(together[name][keys] == run).all(axis=1)]
            pd.testing.assert_frame_equal(same.reset_index(drop=True), alone, rtol=1e-3, check_dtype=False)


class TestResuming:
    SETTINGS = dataclasses.replace(SMOKE, estimators=("rloo", "maxrl"), rollouts=(4,), steps=56, seeds=1)

    # A checkpoint after 50 steps of each stage; two stages of 56 steps, so 112 batches.
    @pytest.mark.parametrize("stops", [[53], [3, 8, 60], [112]], ids=["in the sweep", "again and again", "at the end"])
    def test_a_killed_run_ends_with_identical_rows(self, tmp_path, monkeypatch, stops):
        whole = navigation.run(self.SETTINGS, context_in(tmp_path / "whole"))
        honest, made = study.TabularBatch, []

        def counted(*arguments):
            made.append(arguments[-1])
            if len(made) == stop:
                raise KeyboardInterrupt
            return honest(*arguments)

        monkeypatch.setattr(study, "TabularBatch", counted)
        for stop in stops:  # noqa: B007 read by `counted`
            made.clear()
            with pytest.raises(KeyboardInterrupt):
                navigation.run(self.SETTINGS, context_in(tmp_path / "killed"))
        made.clear()
        stop = None
        resumed = navigation.run(self.SETTINGS, context_in(tmp_path / "killed"))
        assert len(made) < 112  # it did continue
        assert resumed == whole

    def test_a_rate_at_which_a_run_diverges_is_named(self, tmp_path, refuses):
        settings = dataclasses.replace(
            SMOKE, estimators=("rloo",), rollouts=(4,), learning_rates=(1e37,), steps=1, measurements=1
        )
        message = "rloo, N = 4, learning rate 1e+37, seed 2 has diverged: its policy is NaN after 1 updates; "
        with refuses(message + "leave that rate out, with --out or --force (the last checkpoint is kept)"):
            navigation.run(settings, context_in(tmp_path))


class TestKnownRates:
    def test_are_not_swept(self, tmp_path):
        known = ("rloo, N = 4: 0.02", "maxrl, N = 4: 0.05", "grpo, N = 4: 0.7")
        settings = dataclasses.replace(SMOKE, estimators=("rloo", "maxrl"), rollouts=(4,), fixed_rates=known)
        tables = frames(navigation.run(settings, context_in(tmp_path / "all")))
        assert list(tables) == ["curves", "difficulty"]
        used = tables["curves"].groupby("method").learning_rate.unique()
        assert {method: rates.tolist() for method, rates in used.items()} == {"rloo": [0.02], "maxrl": [0.05]}
        part = frames(
            navigation.run(dataclasses.replace(settings, fixed_rates=known[:1]), context_in(tmp_path / "one"))
        )
        assert set(part["sweep"].method) == {"maxrl"}


class TestTables:
    def test_columns_and_counts(self, tables):
        run = ["estimator", "method", "rollouts", "learning_rate", "seed", "step"]
        metrics = ["pass_at_1", "pass_at_8", "pass_at_64", "pass_at_512", "signal"]
        assert {name: sorted(table.columns) for name, table in tables.items()} == {
            "sweep": sorted([*run, *metrics]),
            "curves": sorted([*run, "total_rollouts", *metrics]),
            "difficulty": sorted([*run, "difficulty", "pass_rate"]),
        }
        for table in tables.values():
            assert table.notna().all(axis=None)
            assert not (table.select_dtypes("number").abs() == math.inf).any(axis=None)
        # 10 estimators at 2 N; 2 rates and 1 seed are swept, 2 seeds reported at steps 0 2 4, on 2 distances
        assert {name: len(table) for name, table in tables.items()} == {
            "sweep": 20 * 2,
            "curves": 20 * 2 * 3,
            "difficulty": 20 * 2 * 2,
        }

    def test_pass_at_k_is_monotone_and_probable(self, tables):
        for name in ("sweep", "curves"):
            curves = tables[name][[f"pass_at_{k}" for k in _comparison.KS]]
            assert (curves.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
            assert ((curves >= 0) & (curves <= 1)).all(axis=None)
            assert (curves.pass_at_8 > curves.pass_at_1).all()

    def test_total_rollouts(self, tables):
        curves = tables["curves"]
        assert (curves.total_rollouts == curves.step * curves.rollouts).all()

    def test_signal_lies_where_pass_at_n_does(self, tables):
        curves = tables["curves"].query("rollouts == 8")
        assert len(curves)
        assert curves.signal.tolist() == curves.pass_at_8.tolist()

    def test_swept_rates_are_chosen_by_the_sweep_and_its_seeds_are_not_reported(self, tables):
        key = ["method", "rollouts"]
        sweep = tables["sweep"]
        assert set(sweep.seed) == {2}
        best = sweep.loc[sweep.groupby(key).pass_at_1.idxmax()].set_index(key).learning_rate
        for name in ("curves", "difficulty"):
            assert set(tables[name].seed) == {0, 1}
            used = tables[name].groupby(key).learning_rate.unique()
            assert all(rates.tolist() == [best[index]] for index, rates in used.items())

    def test_all_methods_of_a_seed_start_alike(self, tables):
        start = tables["curves"].query("step == 0")
        spread = start.groupby("seed").pass_at_1.agg(["min", "max"])
        assert (spread["max"] / spread["min"] - 1 < 1e-4).all()  # single precision, in stacks of different sizes
        assert start.groupby("method").pass_at_1.nunique().min() > 1

    def test_difficulties_average_to_pass_at_1(self, tables):
        # As many levels of every difficulty, so the mean of the means.
        key = ["method", "rollouts", "seed"]
        final = tables["curves"].query("step == 4").set_index(key).pass_at_1.sort_index()
        means = tables["difficulty"].groupby(key).pass_rate.mean().sort_index()
        pd.testing.assert_series_equal(final, means, check_names=False, rtol=1e-12)

    def test_final_rows_are_recomputed_from_the_saved_policies(self, tables, folder):
        methods = list(SMOKE.section().methods)
        for seed in (0, 1):
            world = SMOKE.world(seed)
            stack = world.stack([seed] * len(methods))
            state = context_in(folder).checkpoint.stage(f"navigation-N-4-8-report-seed-{seed}-1").load()
            stack.load_state_dict(state["stack"])
            for method, rates in zip(methods, pass_rates(stack, world.train), strict=True):
                run = f"method == '{method.name}' and rollouts == {method.rollouts} and seed == {seed} and step == 4"
                final = tables["curves"].query(run)
                for k in _comparison.KS:
                    wanted = float((1 - (1 - rates) ** k).mean())
                    assert final[f"pass_at_{k}"].item() == pytest.approx(wanted, rel=1e-9)
                difficulty = tables["difficulty"].query(run).set_index("difficulty").pass_rate
                near, far = float(rates[:2].mean()), float(rates[2:].mean())
                assert difficulty[["2", "4"]].tolist() == pytest.approx([near, far], rel=1e-9)

    def test_estimators_are_named_as_in_the_settings(self, tables):
        for table in tables.values():
            pkpo = table[table.estimator == "pkpo:k=N/2"]
            assert set(zip(pkpo.method, pkpo.rollouts, strict=True)) == {("pkpo:k=2", 4), ("pkpo:k=4", 8)}
            assert (table.estimator == table.method)[~table.estimator.str.contains("N")].all()
            assert set(table.estimator) == set(SMOKE.estimators)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollouts": (4, 4)}, "rollouts must be distinct, got 4 4"),
        ({"learning_rates": (0.1, 0.1)}, "learning_rates must be distinct, got 0.1 0.1"),
        ({"learning_rates": (0.0,)}, "learning_rates must be positive and finite, got 0.0"),
        ({"estimators": ("rloo", "rloo")}, "estimators must be distinct, got rloo rloo"),
        (
            {"estimators": ("pkpo:k=2", "pkpo:k=N/2")},  # the same at N = 4
            "estimators must be distinct, got pkpo:k=2 pkpo:k=2",
        ),
        ({"rollouts": ()}, "rollouts needs at least one value, got none"),
        ({"distances": (2, 2)}, "distances must be distinct, got 2 2"),
    ],
)
def test_settings_that_are_refused(refuses, changes, message):
    with refuses(message):
        dataclasses.replace(SMOKE, **changes)
