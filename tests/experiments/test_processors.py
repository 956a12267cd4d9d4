"""Other processors' runs beside the committed ones: the leads on each, in all runs, and what is refused."""

import argparse
import dataclasses
import json
import math

import pandas as pd
import pytest

from experiments import _processors, _runs
from experiments.catalogue import EXPERIMENTS
from experiments.tokens import maze_baselines, maze_scaling

STEPS, KS = (0, 6), (1, 4)
SETTINGS = {"maze_scaling": maze_scaling.PRESETS["smoke"], "maze_baselines": maze_baselines.PRESETS["smoke"]}


def add(name, rows, processor="slow", **changes):
    settings = dataclasses.replace(SETTINGS.get(name, SETTINGS["maze_scaling"]), **changes)
    run = _runs.Run(EXPERIMENTS[name], settings, argparse.Namespace())
    return _processors.add([(run, {"evaluations": rows})], processor)


def ended(leads, *, other="grpo | entropy_bonus:coefficient=0.1", rollouts=16):
    """Rows of an experiment in which MaxRL ends ahead of another method by a lead a seed, and starts level."""
    return pd.DataFrame(
        [
            {"estimator": name, "rollouts": rollouts, "seed": seed, "step": step, "k": k, "pass_at_k": rate / 2}
            | {"learning_rate": 0.1, "samples": 4}
            for seed, lead in enumerate(leads)
            for step in STEPS
            for k in KS
            for name, rate in (("maxrl", 0.2 * k + 2 * lead * (step > 0)), (other, 0.2 * k))
        ]
    )


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """Committed rows of both experiments, whose runs of MaxRL are the same."""
    monkeypatch.setattr(_runs, "REFERENCE", tmp_path)
    for name, other in (("maze_scaling", "rloo"), ("maze_baselines", "grpo | entropy_bonus:coefficient=0.01")):
        (tmp_path / name).mkdir()
        settings = {"settings": dataclasses.asdict(SETTINGS[name])}
        (tmp_path / name / "settings.json").write_text(json.dumps(settings))
        ended([0.1, 0.11, 0.12], other=other).to_csv(tmp_path / name / "evaluations.csv.gz", index=False)
    return tmp_path


def lines(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]


def test_without_other_processors_nothing_is_compared(committed):
    assert lines(_processors.as_markdown()) == []


def test_numbers_stay_the_same_to_the_last_bit(committed):
    exact = [0.1 + 0.2, 1 / 3, 2**0.5 / 1e5]
    rows = ended(exact)
    add("maze_baselines", rows)
    add("maze_scaling", ended([0.0] * 3, other="rloo"), "another")
    kept = _processors.elsewhere().query("processor == 'slow'")
    final = rows[rows.step == max(STEPS)]
    keys = ["estimator", "seed", "k"]
    pairs = kept.merge(final, on=keys, suffixes=("", "_written"))
    assert len(pairs) == len(kept) == 12
    assert (pairs.pass_at_k == pairs.pass_at_k_written).all()


def test_leads_on_each_processor_and_in_all_runs(committed):
    assert add("maze_baselines", ended([0.2, 0.1, -0.15])) == ["maze_baselines: 12 rows of the slow processor"]
    one, four = lines(_processors.as_markdown())
    assert one[:3] == ["GRPO with an entropy bonus", "16", "1"]
    assert four[:3] == ["GRPO with an entropy bonus", "16", "4"]
    assert one[3] == "0.11 [0.0852, 0.135]"  # 0.11 and 4.303 times 0.01 / sqrt(3)
    assert one[4] == "0.05 [-0.398, 0.498]"
    assert one[5].startswith("0.08 [")
    assert one[6] == "*holds*, *undecided*, *undecided*"


def test_the_same_runs_are_replaced(committed):
    for leads in ([0.2, 0.1, -0.15], [-0.1, -0.11, -0.12]):
        add("maze_baselines", ended(leads))
    assert len(_processors.elsewhere()) == 12
    # so are those with another coefficient, of which a processor has one
    add("maze_baselines", ended([-0.1, -0.11, -0.12], other="grpo | entropy_bonus:coefficient=0.5"))
    assert set(_processors.elsewhere().estimator) == {"maxrl", "grpo | entropy_bonus:coefficient=0.5"}
    assert lines(_processors.as_markdown())[0][6] == "*holds*, *fails*, *undecided*"


def test_only_the_end_of_a_run_counts(committed):
    add("maze_scaling", ended([0.3, 0.3, 0.31], other="rloo"))
    rows = _processors.elsewhere()
    assert set(rows[rows.estimator == "maxrl"].query("k == 1").pass_at_k.round(3)) == {0.4, 0.41}


def test_a_block_on_a_page(committed):
    add("maze_scaling", ended([0.3, 0.3, 0.31], other="rloo"))
    page = "Text.\n<!-- processors -->\nstale\n<!-- /processors -->\nMore.\n"
    rendered = _processors.rendered(page)
    assert "| RLOO | 16 | 1 |" in rendered
    assert "stale" not in rendered
    assert _processors.rendered(rendered) == rendered
    assert _processors.rendered("Text.\n") == "Text.\n"


def test_what_is_not_compared_is_refused(committed, refuses):
    rows = ended([0.1, 0.2, 0.3])
    with refuses("--processor takes in maze_scaling and maze_baselines, got data_scarce"):
        add("data_scarce", rows)
    with refuses("--processor takes in runs like the committed ones, with steps 4, got 5"):
        add("maze_scaling", rows, steps=5)
    two = pd.concat([rows, ended([0.1, 0.2, 0.3], other="grpo | entropy_bonus:coefficient=0.5")])
    with refuses("--processor takes in one option of a method, got two of maxrl"):
        add("maze_baselines", two)
    for name in ("", "a|b", "committed rows"):
        with refuses(f"expected a processor's name of letters, digits, dots and spaces, got {name!r}"):
            add("maze_scaling", rows, name)
    assert not (committed / _processors.FILE).exists()
    other_runs = {"seeds": 1, "learning_rates": (0.1, 0.2), "rollouts": (8,), "fixed_rates": ("maxrl, N = 8: 0.1",)}
    assert len(add("maze_scaling", rows, **other_runs)) == 1


def test_seeds_that_both_have_are_compared(committed):
    rows = ended([0.2, 0.1, -0.15])
    add("maze_baselines", rows[(rows.estimator == "maxrl") | (rows.seed < 2)], "two seeds")
    add("maze_baselines", rows[(rows.estimator == "maxrl") ^ (rows.seed < 2)], "without a seed")
    one, _ = lines(_processors.as_markdown())
    assert one[4].startswith("0.15 [")
    assert one[5] == "-"
    assert one[7] == "*holds*, *undecided*, -, *holds*"


def test_a_diverged_run_is_not_left_out(committed):
    rows = ended([0.2, 0.1, -0.15])
    rows.loc[(rows.estimator == "maxrl") & (rows.seed == 2), "pass_at_k"] = math.nan
    add("maze_baselines", rows)
    assert "nan" in lines(_processors.as_markdown())[0][4]


class TestCommitted:
    """The committed rows, and those of other processors."""

    def test_rows_of_other_processors_are_of_runs_that_are_compared(self):
        rows = _processors.elsewhere()
        assert list(rows.columns) == _processors.COLUMNS
        assert not rows.duplicated(_processors.COLUMNS[:-1]).any()
        assert rows.pass_at_k.between(0, 1).all()
        assert len(lines(_processors.as_markdown())) > 10

    def test_both_experiments_are_of_one_processor(self):
        """What both have run, they have the same rows of."""
        scaling, baselines = (
            _processors._ends(_processors._committed(name), "").set_index(_processors.COLUMNS[:-1]).pass_at_k
            for name in _processors.COMMITTED
        )
        both = scaling.index.intersection(baselines.index)
        assert len(both) >= 3 * 5
        assert scaling[both].equals(baselines[both])

    def test_no_verdict_is_the_opposite_of_another_processor(self):
        assert not [
            row for row in lines(_processors.as_markdown()) if {"*holds*", "*fails*"} <= set(row[-1].split(", "))
        ]
