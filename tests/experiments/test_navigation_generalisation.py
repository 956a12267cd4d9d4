"""Generalisation: held-out levels, numbers of training levels, coverage, and what is refused."""

import dataclasses

import pytest
from small_navigation import context_in, frames

from experiments.navigation import navigation_generalisation
from maxrl_lab.tabular.study import pass_rates
from maxrl_lab.training.sweep import name_at

SMOKE = navigation_generalisation.PRESETS["smoke"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("navigation_generalisation")


@pytest.fixture(scope="module")
def tables(folder):
    """The smoke preset's tables; the checkpoints stay in `folder`."""
    return frames(navigation_generalisation.run(SMOKE, context_in(folder)))


def test_columns_and_counts(tables):
    run = ["estimator", "method", "rollouts", "learning_rate", "seed", "step"]
    named = ["comparison", "split", *run]
    metrics = ["pass_at_1", "pass_at_8", "pass_at_64", "pass_at_512", "signal"]
    assert {name: sorted(table.columns) for name, table in tables.items()} == {
        "sweep": sorted(["comparison", *run, *metrics]),
        "curves": sorted([*named, "total_rollouts", *metrics]),
        "coverage": sorted([*named, "k", "coverage"]),
        "difficulty": sorted([*named, "difficulty", "pass_rate"]),
    }
    for name, expected in (("sweep", 5 * 2), ("curves", 5 * 2 * 3 * 2), ("coverage", 5 * 2 * 2 * 2)):
        assert tables[name].groupby("comparison").size().to_dict() == {"1 levels": expected, "2 levels": expected}
    assert set(tables["curves"].split) == {"train", "held_out"}


def test_held_out_levels_and_the_start_are_the_same_however_many_are_trained_on(tables):
    start = tables["curves"].query("step == 0 and split == 'held_out'")
    spread = start.groupby("seed").pass_at_1.agg(["min", "max"])
    assert (spread["max"] / spread["min"] - 1 < 1e-4).all()
    assert start.groupby("estimator").pass_at_1.nunique().min() > 1


def test_final_rows_are_recomputed_from_the_saved_policies(tables, folder):
    methods = list(SMOKE.sections()[0].methods)
    for levels in (1, 2):
        world = SMOKE.world(1, levels=levels, held_out=2)
        assert world.train.tables.shape[0] == 2 * levels
        stack = world.stack([1] * len(methods))
        stage = f"navigation_generalisation-{levels}-levels-N-4-report-seed-1-1"
        stack.load_state_dict(context_in(folder).checkpoint.stage(stage).load()["stack"])
        for split, tasks in world.splits.items():
            for method, rates in zip(methods, pass_rates(stack, tasks), strict=True):
                run = f"comparison == '{levels} levels' and method == '{method.name}' and split == '{split}'"
                coverage = tables["coverage"].query(f"{run} and seed == 1").set_index("k").coverage
                for k in (1, 8):
                    assert coverage[k] == pytest.approx(float((1 - (1 - rates) ** k).mean()), rel=1e-9)


def test_rates_are_named_by_the_number_of_levels(tmp_path):
    known = ("1 levels rloo, N = 4: 0.02", "2 levels rloo, N = 4: 0.05")
    settings = dataclasses.replace(SMOKE, estimators=("rloo",), fixed_rates=known)
    tables = frames(navigation_generalisation.run(settings, context_in(tmp_path)))
    assert "sweep" not in tables
    used = tables["curves"].groupby("comparison").learning_rate.unique()
    assert {name: rates.tolist() for name, rates in used.items()} == {"1 levels": [0.02], "2 levels": [0.05]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coverage_ks": (1, 1)}, "coverage_ks must be distinct, got 1 1"),
        ({"coverage_ks": (0,)}, "coverage_ks must be a whole number >= 1, got 0"),
        ({"held_out": 0}, "held_out must be a whole number >= 1, got 0"),
        ({"other_levels": (1, 2)}, "other_levels must be distinct, got 1 2 2"),
    ],
)
def test_settings_that_are_refused(refuses, changes, message):
    with refuses(message):
        dataclasses.replace(SMOKE, **changes)


def test_quick_sweeps_nothing():
    settings = navigation_generalisation.PRESETS["quick"]
    for section in settings.sections():
        assert {name_at(method, section.words) for method in section.methods} <= settings.fixed.keys()
