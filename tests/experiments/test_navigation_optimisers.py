"""Optimisers: the comparisons, equal rollouts, and what is refused."""

import dataclasses

import pytest
from small_navigation import context_in, frames

from experiments.navigation import navigation_optimisers

SMOKE = navigation_optimisers.PRESETS["smoke"]
SECTION = ["comparison", "optimiser"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return frames(navigation_optimisers.run(SMOKE, context_in(tmp_path_factory.mktemp("navigation_optimisers"))))


def test_counts_of_rows(tables):
    counts = {name: table.groupby(SECTION).size() for name, table in tables.items()}
    for *section, numbers in (("equal steps", "adam", 1), ("equal steps", "sgd", 1), ("equal rollouts", "adam", 2)):
        assert counts["sweep"][tuple(section)] == 3 * numbers * 2
        assert counts["curves"][tuple(section)] == 3 * numbers * 2 * 3
        assert counts["difficulty"][tuple(section)] == 3 * numbers * 2 * 2


@pytest.mark.parametrize(("total", "counts"), [(16, (2, 4, 16)), (50, (4, 8, 13)), (1600, (4, 16, 64))])
def test_every_n_draws_the_total_up_to_rounding(total, counts):
    settings = dataclasses.replace(SMOKE, equal_total=total, equal_rollouts=counts, estimators=("rloo",))
    sections = [section for section in settings.sections() if section.columns["comparison"] == "equal rollouts"]
    assert [section.rollouts for section in sections] == [(count,) for count in counts]
    for section, count in zip(sections, counts, strict=True):
        assert total - count < section.steps * count <= total
        assert (section.estimators, section.optimiser, section.rates) == (("rloo",), "adam", settings.adam_rates)


@pytest.mark.parametrize("name", ["quick", "standard", "full"])
def test_presets_draw_nearly_the_same(name):
    settings = navigation_optimisers.PRESETS[name]
    for section in settings.sections():
        if section.columns["comparison"] == "equal rollouts":
            (count,) = section.rollouts
            assert 0.95 * settings.equal_total <= section.steps * count <= settings.equal_total
    names = [section.name for section in settings.sections()]
    assert len(set(names)) == len(names)  # of checkpoints


def test_rows_end_at_the_total(tables):
    curves = tables["curves"].query("comparison == 'equal rollouts'")
    final = curves[curves.step == curves.groupby("rollouts").step.transform("max")]
    assert (final.total_rollouts == SMOKE.equal_total).all()
    assert final.groupby("rollouts").step.unique().map(list).to_dict() == {4: [4], 8: [2]}
    assert set(curves[curves.step == 0].total_rollouts) == {0}


def test_equal_rollouts_can_be_left_out():
    sections = dataclasses.replace(SMOKE, equal_rollouts=()).sections()
    assert [section.columns["optimiser"] for section in sections] == ["adam", "sgd"]


def test_a_rate_of_one_section_is_not_that_of_another(tmp_path):
    known = (
        "equal steps adam rloo, N = 4: 0.02",
        "equal rollouts adam rloo, N = 4: 0.03",
        "equal steps sgd rloo, N = 4: 0.7",
    )
    settings = dataclasses.replace(SMOKE, estimators=("rloo",), equal_rollouts=(4,), fixed_rates=known)
    tables = frames(navigation_optimisers.run(settings, context_in(tmp_path)))
    assert "sweep" not in tables
    used = tables["curves"].groupby(SECTION).learning_rate.unique()
    assert {name: rates.tolist() for name, rates in used.items()} == {
        ("equal steps", "adam"): [0.02],
        ("equal rollouts", "adam"): [0.03],
        ("equal steps", "sgd"): [0.7],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"equal_rollouts": (4, 17)}, "equal_rollouts must be at most equal_total = 16, got 17"),
        ({"equal_total": 0}, "equal_total must be a whole number >= 1, got 0"),
        ({"adam_rates": (0.1, 0.1)}, "adam_rates must be distinct, got 0.1 0.1"),
        ({"sgd_rates": (0.0,)}, "sgd_rates must be positive and finite, got 0.0"),
    ],
)
def test_settings_that_are_refused(refuses, changes, message):
    with refuses(message):
        dataclasses.replace(SMOKE, **changes)
