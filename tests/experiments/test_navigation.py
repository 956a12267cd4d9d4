"""The navigation experiment: its tables against the saved policies, resuming, equal rollouts and what is refused."""

import dataclasses
import math
from functools import partial

import pandas as pd
import pytest
from small_navigation import GRID, context_in, frames

from experiments.navigation import navigation
from experiments.navigation._shared import optimisation
from maxrl_lab.tabular import study
from maxrl_lab.tabular.study import pass_rates, train
from maxrl_lab.training.sweep import Run

SMOKE = navigation.PRESETS["smoke"]
SECTION = ["comparison", "world", "optimiser"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXRL_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("navigation")


@pytest.fixture(scope="module")
def tables(folder):
    """The smoke preset's tables; the checkpoints stay in `folder`."""
    return frames(navigation.run(SMOKE, context_in(folder)))


def test_who_trains_beside_changes_no_row(tmp_path):
    section = navigation.Section("equal steps", "gridworld", "adam", (0.01,), (4, 8), SMOKE.estimators, SMOKE.steps)
    world, optimised = GRID.world(1), optimisation("adam", SMOKE.steps, SMOKE.measurements)
    runs = [Run(method, 0.01, seed) for seed in (0, 1) for method in section.methods]
    keys = ["method", "rollouts", "learning_rate", "seed"]

    def tables_of(runs, name):
        measure = partial(navigation._measure, section, world, SMOKE.coverage_ks)
        return frames(
            train(runs, world, optimised, checkpoint=context_in(tmp_path / name).checkpoint, measure=measure)[1]
        )

    together = tables_of(runs, "together")
    for index in (3, 10):
        run = pd.Series(runs[index].row(0))[keys]
        for name, alone in tables_of([runs[index]], str(index)).items():
            same = together[name][(together[name][keys] == run).all(axis=1)]
            pd.testing.assert_frame_equal(same.reset_index(drop=True), alone, rtol=1e-3, check_dtype=False)


class TestResuming:
    SETTINGS = dataclasses.replace(
        SMOKE,
        estimators=("rloo", "maxrl"),
        rollouts=(4,),
        sgd_rollouts=(),
        minigrid_names=(),
        steps=56,
        seeds=1,
        equal_estimators=(),
    )

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
            SMOKE, sgd_rates=(1e38,), estimators=("rloo",), rollouts=(4,), adam_rates=(0.01,), steps=1, measurements=1
        )
        message = "rloo, N = 4, learning rate 1e+38, seed 2 has diverged: its policy is NaN after 1 updates; "
        with refuses(message + "leave that rate out (the last checkpoint is kept)"):
            navigation.run(settings, context_in(tmp_path))


def at_the_end(table):
    """The rows after the last update of each comparison at each N."""
    return table[table.step == table.groupby([*SECTION, "rollouts"]).step.transform("max")]


class TestTables:
    def test_columns(self, tables):
        run = ["estimator", "method", "rollouts", "learning_rate", "seed", "step"]
        metrics = ["pass_at_1", "pass_at_8", "pass_at_64", "pass_at_512", "signal"]
        assert {name: sorted(table.columns) for name, table in tables.items()} == {
            "sweep": sorted([*SECTION, *run, *metrics]),
            "curves": sorted([*SECTION, *run, "split", "total_rollouts", *metrics]),
            "coverage": sorted([*SECTION, *run, "split", "k", "coverage"]),
            "difficulty": sorted([*SECTION, *run, "split", "difficulty", "pass_rate"]),
        }
        for table in tables.values():
            assert table.notna().all(axis=None)
            assert not (table.select_dtypes("number").abs() == math.inf).any(axis=None)

    def test_counts_of_rows(self, tables):
        # gridworld with Adam has 7 x 2 methods, at equal rollouts 1 x 2, the others 7; 2 rates, 1 swept and 2 reported
        # seeds
        counts = {name: table.groupby(SECTION).size() for name, table in tables.items()}
        for *section, methods, names in (
            ("equal steps", "gridworld", "adam", 14, 2),
            ("equal steps", "gridworld", "sgd", 7, 2),
            ("equal steps", "minigrid", "adam", 7, 1),
            ("equal rollouts", "gridworld", "adam", 2, 2),
        ):
            assert counts["sweep"][tuple(section)] == methods * 2  # final rows on the training levels
            assert counts["curves"][tuple(section)] == methods * 2 * 3 * 2  # seeds, steps 0 2 4, splits
            assert counts["coverage"][tuple(section)] == methods * 2 * 2 * 2
            assert counts["difficulty"][tuple(section)] == methods * 2 * 2 * names

    def test_pass_at_k_is_monotone_and_probable(self, tables):
        for name in ("sweep", "curves"):
            curves = tables[name][[f"pass_at_{k}" for k in navigation.KS]]
            assert (curves.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
            assert ((curves >= 0) & (curves <= 1)).all(axis=None)
            # equal only where a policy has become deterministic, which SGD at a rate of 1 can do
            assert (curves.pass_at_8 > curves.pass_at_1).mean() > 0.95

    def test_total_rollouts(self, tables):
        curves = tables["curves"]
        assert (curves.total_rollouts == curves.step * curves.rollouts).all()  # of each level

    def test_signal_lies_where_pass_at_n_does(self, tables):
        curves = tables["curves"].query("rollouts == 8")
        assert len(curves)
        assert curves.signal.tolist() == curves.pass_at_8.tolist()

    def test_swept_rates_are_chosen_by_the_sweep_and_its_seeds_are_not_reported(self, tables):
        key = [*SECTION, "method", "rollouts"]
        sweep = tables["sweep"]
        assert set(sweep.seed) == {2}
        best = sweep.loc[sweep.groupby(key).pass_at_1.idxmax()].set_index(key).learning_rate
        for name in ("curves", "coverage", "difficulty"):
            assert set(tables[name].seed) == {0, 1}
            used = tables[name].groupby(key).learning_rate.unique()
            assert all(rates.tolist() == [best[index]] for index, rates in used.items())

    def test_all_methods_of_a_seed_start_alike(self, tables):
        start = tables["curves"].query("step == 0")
        # single precision, in stacks of different sizes
        spread = start.groupby(["world", "seed", "split"]).pass_at_1.agg(["min", "max"])
        assert (spread["max"] / spread["min"] - 1 < 1e-4).all()
        assert start.groupby(["world", "split"]).pass_at_1.nunique().min() > 1

    def test_difficulties_average_to_pass_at_1(self, tables):
        # As many levels of every difficulty, so the mean of the means.
        key = [*SECTION, "split", "method", "rollouts", "seed"]
        final = at_the_end(tables["curves"]).set_index(key).pass_at_1.sort_index()
        means = tables["difficulty"].groupby(key).pass_rate.mean().sort_index()
        pd.testing.assert_series_equal(final, means, check_names=False, rtol=1e-12)

    def test_final_rows_are_recomputed_from_the_saved_policies(self, tables, folder):
        section, world = SMOKE.sections()[0], SMOKE.world(SMOKE.held_out)
        stack = world.stack(range(28))
        state = context_in(folder).checkpoint.stage("navigation-equal-steps-gridworld-adam-N-4-8-report-1").load()
        stack.load_state_dict(state["stack"])
        named = [(seed, method) for seed in (0, 1) for method in section.methods]
        query = "comparison == 'equal steps' and optimiser == 'adam' and world == 'gridworld' and step == 4"
        for split, tasks in world.splits.items():
            for (seed, method), rates in zip(named, pass_rates(stack, tasks), strict=True):
                run = f"{query} and method == '{method.name}' and rollouts == {method.rollouts} and seed == {seed}"
                final = {
                    name: table.query(f"{run} and split == '{split}'")
                    for name, table in tables.items()
                    if name != "sweep"
                }
                coverage = final["coverage"].set_index("k").coverage
                for k in (1, 8):
                    wanted = float((1 - (1 - rates) ** k).mean())
                    assert coverage[k] == pytest.approx(wanted, rel=1e-9)
                    assert final["curves"][f"pass_at_{k}"].item() == pytest.approx(wanted, rel=1e-9)
                near, far = float(rates[:2].mean()), float(rates[2:].mean())
                difficulty = final["difficulty"].set_index("difficulty").pass_rate
                assert difficulty[["2", "4"]].tolist() == pytest.approx([near, far], rel=1e-9)


class TestEqualRollouts:
    @pytest.mark.parametrize(("total", "counts"), [(16, (2, 4, 16)), (50, (4, 8, 13)), (1600, (4, 16, 64))])
    def test_every_n_draws_the_total_up_to_rounding(self, total, counts):
        settings = dataclasses.replace(SMOKE, equal_total=total, equal_rollouts=counts, equal_estimators=("rloo",))
        sections = [section for section in settings.sections() if section.comparison == "equal rollouts"]
        assert [section.rollouts for section in sections] == [(count,) for count in counts]
        for section, count in zip(sections, counts, strict=True):
            assert total - count < section.steps * count <= total
            assert section.estimators == ("rloo",)
            assert (section.world, section.optimiser, section.rates) == ("gridworld", "adam", settings.adam_rates)

    @pytest.mark.parametrize("name", ["quick", "full"])
    def test_presets_draw_nearly_the_same(self, name):
        settings = navigation.PRESETS[name]
        for section in settings.sections():
            if section.comparison == "equal rollouts":
                (count,) = section.rollouts
                assert 0.95 * settings.equal_total <= section.steps * count <= settings.equal_total
        names = [section.name for section in settings.sections()]
        assert len(set(names)) == len(names)  # of checkpoints

    def test_rows_end_at_the_total(self, tables):
        curves = tables["curves"].query("comparison == 'equal rollouts'")
        final = at_the_end(curves)
        assert (final.total_rollouts == SMOKE.equal_total).all()
        assert final.groupby("rollouts").step.unique().map(list).to_dict() == {4: [4], 8: [2]}
        assert set(curves.estimator) == set(SMOKE.equal_estimators)
        assert set(curves[curves.step == 0].total_rollouts) == {0}

    @pytest.mark.parametrize("changes", [{"equal_estimators": ()}, {"equal_rollouts": ()}])
    def test_none(self, changes):
        sections = dataclasses.replace(SMOKE, **changes).sections()
        assert {section.comparison for section in sections} == {"equal steps"}

    def test_estimators_are_named_as_in_the_settings(self, tables):
        for table in tables.values():
            pkpo = table[table.estimator == "pkpo:k=N/2"]
            assert set(zip(pkpo.method, pkpo.rollouts, strict=True)) == {("pkpo:k=2", 4), ("pkpo:k=4", 8)}
            assert (table.estimator == table.method)[table.estimator != "pkpo:k=N/2"].all()
            assert set(table.estimator) == set(SMOKE.estimators)


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"rollouts": (4, 4)}, "rollouts must be distinct, got 4 4"),
            ({"sgd_rollouts": (4, 4)}, "sgd_rollouts must be distinct, got 4 4"),
            ({"minigrid_rollouts": (4, 8, 4)}, "minigrid_rollouts must be distinct, got 4 8 4"),
            ({"equal_rollouts": (4, 17)}, "equal_rollouts must be at most equal_total = 16, got 17"),
            ({"adam_rates": (0.1, 0.1)}, "adam_rates must be distinct, got 0.1 0.1"),
            ({"sgd_rates": (0.0,)}, "sgd_rates must be positive and finite, got 0.0"),
            ({"coverage_ks": (1, 1)}, "coverage_ks must be distinct, got 1 1"),
            ({"coverage_ks": (0,)}, "coverage_ks must be a whole number >= 1, got 0"),
            ({"estimators": ("rloo", "rloo")}, "estimators must be distinct, got rloo rloo"),
            ({"equal_estimators": ("rloo",) * 2}, "equal_estimators must be distinct, got rloo rloo"),
            (
                {"estimators": ("pkpo:k=2", "pkpo:k=N/2")},  # the same at N = 4
                "estimators must be distinct, got pkpo:k=2 pkpo:k=2",
            ),
            ({"held_out": 0}, "held_out must be a whole number >= 1, got 0"),
            ({"equal_total": 0}, "equal_total must be a whole number >= 1, got 0"),
            ({"rollouts": ()}, "rollouts needs at least one value, got none"),
            ({"distances": (2, 2)}, "distances must be distinct, got 2 2"),
        ],
    )
    def test_settings(self, refuses, changes, message):
        with refuses(message):
            dataclasses.replace(SMOKE, **changes)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [({"minigrid_names": ("Empty",)}, "minigrid_names"), ({"minigrid_policy": "mlp"}, "minigrid_policy")],
    )
    def test_names_of_minigrid(self, changes, message):
        with pytest.raises(ValueError, match=rf"\Aunknown {message} '.*'; choose one of: "):
            dataclasses.replace(SMOKE, **changes)

    def test_worlds_are_made_before_anything_is_trained(self, tmp_path, monkeypatch, refuses):
        settings = dataclasses.replace(SMOKE, minigrid_names=("Empty-5x5",))
        monkeypatch.setattr(navigation, "compare_on", None)  # would be a TypeError
        with refuses("Empty-5x5 has too few distinct levels: expected 2, got 1 in 10 seeds"):
            navigation.run(settings, context_in(tmp_path))
