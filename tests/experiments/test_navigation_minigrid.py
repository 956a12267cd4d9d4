"""MiniGrid: the tables, levels of every seed, and what is refused."""

import dataclasses

import pytest
from small_navigation import context_in, frames

from experiments.navigation import navigation_minigrid
from maxrl_lab.tabular import study

SMOKE = navigation_minigrid.PRESETS["smoke"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXRL_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_counts_of_rows(tmp_path):
    tables = frames(navigation_minigrid.run(SMOKE, context_in(tmp_path)))
    # 7 methods; 2 rates and 1 seed are swept, 2 seeds reported at steps 0 2 4, on 2 splits and 1 name
    assert {name: len(table) for name, table in tables.items()} == {
        "sweep": 7 * 2,
        "curves": 7 * 2 * 3 * 2,
        "difficulty": 7 * 2 * 2,
    }
    assert set(tables["difficulty"].difficulty) == {"Fetch-5x5-N2"}
    start = tables["curves"].query("step == 0")
    assert start.groupby(["seed", "split"]).pass_at_1.agg(lambda rates: rates.max() / rates.min()).max() < 1 + 1e-4
    assert start.groupby("split").pass_at_1.nunique().min() > 1


@pytest.mark.parametrize(("changes", "message"), [({"names": ("Empty",)}, "names"), ({"policy": "mlp"}, "policy")])
def test_names_that_are_unknown(changes, message):
    with pytest.raises(ValueError, match=rf"\Aunknown {message} '.*'; choose one of: "):
        dataclasses.replace(SMOKE, **changes)


def test_levels_that_are_too_few_are_refused_before_anything_is_trained(tmp_path, monkeypatch, refuses):
    settings = dataclasses.replace(SMOKE, names=("Empty-5x5",))
    monkeypatch.setattr(study, "train", None)  # would be a TypeError
    with refuses("Empty-5x5 has too few distinct levels: expected 2, got 1 in 10 seeds"):
        navigation_minigrid.run(settings, context_in(tmp_path))


def test_no_names_are_refused(refuses):
    with refuses("names needs at least one value, got none"):
        dataclasses.replace(SMOKE, names=())
