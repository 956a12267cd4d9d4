"""The picture and the table of a language model before and after training, by hand; they need no extra."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from figures import style
from figures.llm import llm as figure_module
from maxrl_lab import intervals
from maxrl_lab.errors import InputError

SUMS = "reasoning_gym/chain_sum"


def problem_rows(name, correct, *, seed=0, source=SUMS):
    """Of 4 samples, of which so many are right."""
    return [
        {"estimator": name, "seed": seed, "source": source, "problem": index, "correct": count}
        | {"vote_right": count > 2, "distinct": count + 1, "cut_off": 0.25}
        for index, count in enumerate(correct)
    ]


def training_rows(name, pass_rates, *, seed=0):
    return [
        {
            "estimator": name,
            "seed": seed,
            "step": step,
            "pass_rate": rate,
            "with_success": rate / 2,
            "entropy": 1 + rate,
        }
        for step, rate in enumerate(pass_rates, 1)
    ]


def tables(problems, training=()):
    return {name: pd.DataFrame(rows) for name, rows in (("problems", problems), ("training", training)) if rows}


def settings(samples=4):
    return SimpleNamespace(samples=samples, rollouts=8)


def text(values):
    low, high = intervals.bootstrap_interval(np.array(values)[:, None])[1:]
    return f"{np.mean(values):.3f} [{float(low[0]):.3f}, {float(high[0]):.3f}]"


ONE = tables(
    problem_rows("base", (0, 2, 4)) + problem_rows("grpo", (1, 4, 2)),
    training_rows("grpo", (0.1, 0.3, 0.2, 0.4, 0.5, 0.6)),
)
TWO = tables(
    problem_rows("base", (0, 2, 4))
    + problem_rows("maxrl", (1, 4, 2), seed=0)
    + problem_rows("maxrl", (3, 2, 2), seed=3),
    training_rows("maxrl", (0.1, 0.3), seed=0) + training_rows("maxrl", (0.3, 0.5), seed=3),
)


def test_the_table_by_hand():
    # pass@1 is the share right; pass@4 of 4 samples is whether any is
    table = figure_module.summarise(ONE, settings())
    assert list(table.index) == [(SUMS, "base"), (SUMS, "grpo"), (SUMS, "grpo - base")]
    assert list(table.columns) == [
        "pass@1",
        "pass@4",
        "base needs @1",
        "base needs @4",
        "majority",
        "distinct answers",
        "cut off",
    ]
    base, grpo, gained = (table.loc[SUMS, name] for name in ("base", "grpo", "grpo - base"))
    assert base["pass@1"] == text([0, 0.5, 1])
    assert base["pass@4"] == text([0, 1, 1])
    assert grpo["pass@1"] == text([0.25, 1, 0.5])
    assert grpo["pass@4"] == "1.000 [1.000, 1.000]"
    # the base has 1/2 at k = 1 and 2/3 at 4: 7/12 is half-way, at 2 on the logarithmic axis; it never has 1
    assert (base["base needs @1"], base["base needs @4"]) == ("1x", "1x")
    assert (grpo["base needs @1"], grpo["base needs @4"]) == ("2x", "not reached")
    assert (base.majority, grpo.majority) == ("0.333", "0.333")
    # paired: by problem, not between means
    assert gained["pass@1"] == text([0.25, 0.5, -0.5])
    assert gained["pass@4"] == text([1, 0, 0])
    assert set(gained.iloc[2:]) == {""}


def test_each_policy_is_compared_with_the_one_before_it():
    policies = {"a": (0, 4), "b": (1, 4), "c": (4, 4)}
    table = figure_module.summarise(
        tables([row for name, correct in policies.items() for row in problem_rows(name, correct)]), settings()
    )
    assert [name for _, name in table.index] == ["a", "b", "c", "b - a", "c - b"]
    assert table.loc[SUMS, "b - a"]["pass@1"] == text([0.25, 0])
    assert table.loc[SUMS, "c - b"]["pass@1"] == text([0.75, 0])
    assert table.loc[SUMS, "c - b"]["pass@4"] == "0.000 [0.000, 0.000]"


def test_seeds_are_averaged_within_a_problem():
    table = figure_module.summarise(TWO, settings())
    found = table.loc[SUMS, "maxrl"]
    assert found["pass@1"] == text([0.5, 0.75, 0.5])
    assert table.loc[SUMS, "maxrl - base"]["pass@1"] == text([0.5, 0.25, -0.5])
    # of one right in 4, all four samples hold it
    assert found["pass@4"] == "1.000 [1.000, 1.000]"
    assert found["cut off"] == "25.0%"
    assert found["majority"] == "0.333"  # the second problem for one seed, the first for the other: 2 of 6


def test_each_collection_has_its_own_rows_in_the_table():
    other = problem_rows("base", (0, 2), source="gsm8k") + problem_rows("grpo", (4, 2), source="gsm8k")
    both = tables(ONE["problems"].to_dict("records") + other)
    table = figure_module.summarise(both, settings())
    names = ("base", "grpo", "grpo - base")
    assert list(table.index) == [(source, name) for source in (SUMS, "gsm8k") for name in names]
    assert table.loc["gsm8k", "grpo - base"]["pass@1"] == text([1, 0])
    assert table.loc[SUMS, "grpo - base"]["pass@1"] == text([0.25, 0.5, -0.5])


@pytest.mark.parametrize(("samples", "ks"), [(1, [1]), (4, [1, 4]), (6, [1, 4, 6]), (64, [1, 4, 16, 64])])
def test_ks_are_powers_of_four_and_all_samples(samples, ks):
    table = figure_module.summarise(tables(problem_rows("base", (0, 1))), settings(samples))
    assert list(table.columns) == [
        *(f"pass@{k}" for k in ks),
        *(f"base needs @{k}" for k in ks),
        "majority",
        "distinct answers",
        "cut off",
    ]


def test_what_is_plotted_is_what_the_rows_say(tmp_path):
    figure = figure_module.plot(ONE, settings())
    coverage, rate, success, entropy = figure.axes
    lines = {line.get_label(): line for line in coverage.lines}
    assert list(lines) == [style.label("base"), style.label("grpo")] == ["base (not trained)", "GRPO"]
    assert lines["GRPO"].get_xdata().tolist() == [1, 4]
    assert lines["GRPO"].get_ydata().tolist() == pytest.approx([1.75 / 3, 1])
    assert lines["base (not trained)"].get_ydata().tolist() == pytest.approx([0.5, 2 / 3])
    # bands over problems, which reach from the interval's low to its high end
    band = coverage.collections[0].get_paths()[0].vertices
    interval = intervals.bootstrap_interval(np.array([[0.0], [0.5], [1.0]]))
    at_one = band[band[:, 0] == 1, 1]
    assert (at_one.min(), at_one.max()) == pytest.approx((float(interval.low[0]), float(interval.high[0])))
    assert "3 held-out problems" in coverage.get_title()
    # the mean of up to five updates
    means = pd.Series([0.1, 0.3, 0.2, 0.4, 0.5, 0.6]).rolling(5, min_periods=1).mean()
    assert rate.lines[0].get_ydata().tolist() == pytest.approx(means.tolist())
    assert rate.lines[0].get_ydata()[-1] == pytest.approx(0.4)
    assert rate.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert success.lines[0].get_ydata().tolist() == pytest.approx((means / 2).tolist())
    assert entropy.lines[0].get_ydata().tolist() == pytest.approx((1 + means).tolist())
    assert [ax.get_xlabel() for ax in figure.axes] == ["k", "update", "update", "update"]
    assert all(ax.get_ylabel() for ax in figure.axes)
    assert [each.get_text() for each in figure.legends[0].get_texts()] == ["base (not trained)", "GRPO"]
    colours = {line.get_color() for line in coverage.lines}
    assert len(colours) == 2
    assert rate.lines[0].get_color() == lines["GRPO"].get_color() == style.colour("grpo")
    assert figure.get_suptitle() == (
        "A language model, trained with N = 8 rollouts a prompt; in training: one seed, so no interval"
    )
    style.save(figure, tmp_path / "figure.png")


def test_several_seeds_are_plotted_as_their_mean():
    figure = figure_module.plot(TWO, settings())
    assert figure.get_suptitle().endswith("; in training: mean and 95% t interval over 2 seeds")
    assert [line.get_label() for line in figure.axes[0].lines] == ["base (not trained)", style.label("maxrl")]
    assert figure.axes[0].lines[1].get_ydata().tolist() == pytest.approx([1.75 / 3, 1])
    assert figure.axes[1].lines[0].get_ydata().tolist() == pytest.approx([0.2, 0.3])  # 0.2 and 0.4, and their mean
    # smoothed each on its own; s / sqrt(2) = 0.1 and t_{0.975}(1) = 12.7062
    band = figure.axes[1].collections[0].get_paths()[0].vertices
    assert {round(y, 4) for x, y in band if x == 2} == {round(0.3 - 1.27062, 4), round(0.3 + 1.27062, 4)}


def test_one_problem_has_no_interval():
    table = figure_module.summarise(tables(problem_rows("base", (2,))), settings())
    assert table.loc[SUMS, "base"]["pass@1"] == "0.500 (one problem)"


def test_wrong_tables_are_refused():
    for name, columns in figure_module.COLUMNS.items():
        with pytest.raises(InputError, match=f"missing: {name}"):
            figure_module.plot({other: rows for other, rows in ONE.items() if other != name}, settings())
        for column in columns:
            with pytest.raises(InputError, match=f"missing: {column}"):
                figure_module.plot(ONE | {name: ONE[name].drop(columns=column)}, settings())
