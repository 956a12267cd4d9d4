"""Figures of the exact experiments: what is shown is what the tables say."""

import pytest
from panels import drawn, line_called, panel, smoke_tables

from experiments.exact import best_order as best_order_experiment
from experiments.exact import bias_variance as bias_variance_experiment
from experiments.exact import length_bias as length_bias_experiment
from experiments.exact import likelihood_limit as likelihood_limit_experiment
from experiments.exact import pass_at_k_conflict as pass_at_k_conflict_experiment
from experiments.exact import unbiasedness as unbiasedness_experiment
from experiments.exact import weight_functions as weight_functions_experiment
from figures import style
from figures.exact import (
    best_order,
    bias_variance,
    length_bias,
    likelihood_limit,
    pass_at_k_conflict,
    unbiasedness,
    weight_functions,
)


class TestWeightFunctions:
    @pytest.mark.parametrize("rollouts", [(2, 4), (16,), (3, 5)], ids=["two panels", "one", "none"])
    def test_a_panel_for_every_n_that_has_one(self, tmp_path, rollouts):
        changes = {} if rollouts != (3, 5) else {"estimators": ("grpo", "maxrl", "maxrl_leave_one_out")}
        tables, settings = smoke_tables(weight_functions_experiment, tmp_path, rollouts=rollouts, **changes)
        figure = weight_functions.plot(tables, settings)
        drawn(figure)
        panels = [ax.get_title() for ax in figure.axes if ax.get_title().startswith("N = ")]
        assert len(panels) == len({2, 4, 16, 64} & set(rollouts))
        likelihood = line_called(figure.axes[0], "maximum likelihood")
        assert (likelihood.get_xdata() * likelihood.get_ydata()).tolist() == pytest.approx([1.0] * settings.points)

    def test_plain_rl_is_named_at_n_2_only(self, tmp_path):
        tables, settings = smoke_tables(weight_functions_experiment, tmp_path)
        titles = [ax.get_title() for ax in weight_functions.plot(tables, settings).axes]
        assert "N = 2: GRPO and Algorithm 1 are plain RL" in titles
        assert "N = 4" in titles

    def test_summary_has_every_curve(self, tmp_path):
        tables, settings = smoke_tables(weight_functions_experiment, tmp_path)
        table = weight_functions.summarise(tables, settings)
        assert len(table) == len(settings.objectives) + len(settings.estimators) * len(settings.rollouts)
        assert table.loc[(2, "rloo")].tolist() == pytest.approx([1.0] * 3)


class TestBiasVariance:
    @pytest.mark.parametrize("changes", [{}, {"estimators": ("rloo", "maxrl_no_baseline"), "budget": 64}])
    def test_curves_and_the_budget_of_the_settings(self, tmp_path, changes):
        tables, settings = smoke_tables(bias_variance_experiment, tmp_path, **changes)
        figure = bias_variance.plot(tables, settings)
        drawn(figure)
        rows = tables["rows"]
        own = rows[(rows.estimator == "rloo") & (rows.pass_rate == 0.01)].sort_values("rollouts")
        line = line_called(panel(figure, "variance against N"), "RLOO")
        assert line.get_ydata().tolist() == own.variance.tolist()
        equal = panel(figure, "error at equal budget")
        assert f"M = {settings.budget}" in equal.get_title()
        assert line_called(equal, "RLOO").get_ydata().tolist() == own.budget_mean_squared_error.tolist()

    def test_summary_names_the_least_noisy_form(self, tmp_path):
        tables, settings = smoke_tables(bias_variance_experiment, tmp_path)
        table = bias_variance.summarise(tables, settings)
        assert len(table) == len(settings.rollouts) * len(settings.pass_rates)
        for _, row in table.iterrows():
            assert row[row.least_noisy] == 1.0 == row.drop("least_noisy").min()

    def test_the_least_variance_stands_against_the_best_named_form(self, tmp_path):
        tables, settings = smoke_tables(bias_variance_experiment, tmp_path)
        line = line_called(
            panel(bias_variance.plot(tables, settings), "variance over the best"), "least variance at this p"
        )
        rows, least = tables["rows"], tables["least"]
        at = least[(least.rollouts == 8) & (least.order == 8)].set_index("pass_rate").variance
        named = rows[(rows.rollouts == 8) & rows.estimator.isin(bias_variance.EXACT_ORDER_N)]
        assert line.get_ydata().tolist() == pytest.approx((at / named.groupby("pass_rate").variance.min()).tolist())


class TestBestOrder:
    def test_a_map_of_the_best_order_for_each_number_of_groups(self, tmp_path):
        tables, settings = smoke_tables(best_order_experiment, tmp_path)
        figure = best_order.plot(tables, settings)
        drawn(figure)
        for groups, title in ((1, "for one group"), (16, "for the mean of 16 groups")):
            ax = panel(figure, f"best order T {title}")
            found = best_order.best(tables["rows"], groups).sort_values(["rollouts", "pass_rate"])
            assert [text.get_text() for text in ax.texts] == [f"{order}" for order in found.order]
        assert len(figure.axes) == 3

    def test_the_best_order_is_the_one_of_least_error(self, tmp_path):
        tables, settings = smoke_tables(best_order_experiment, tmp_path)
        rows = tables["rows"]
        for groups in (1, 16):
            for _, found in best_order.best(rows, groups).iterrows():
                rivals = rows[(rows.rollouts == found.rollouts) & (rows.pass_rate == found.pass_rate)]
                assert found.error == (rivals.squared_bias + rivals.variance / groups).min()
        assert len(best_order.summarise(tables, settings)) == len(settings.rollouts) * len(settings.groups)

    def test_errors_mark_their_least(self, tmp_path):
        tables, settings = smoke_tables(best_order_experiment, tmp_path)
        ax = panel(best_order.plot(tables, settings), "error against the order at N = 8")
        rows = tables["rows"][(tables["rows"].rollouts == 8) & (tables["rows"].pass_rate == 0.01)]
        line = line_called(ax, "B = 16")
        assert line.get_ydata().tolist() == pytest.approx((rows.squared_bias + rows.variance / 16).tolist())
        marks = [mark for mark in ax.lines if mark.get_fillstyle() == "none"]
        assert [float(mark.get_ydata()[0]) for mark in marks] == [
            (rows.squared_bias + rows.variance / groups).min() for groups in settings.groups
        ]


class TestPassAtKConflict:
    def test_paths_and_metrics_are_those_of_the_rows(self, tmp_path):
        tables, settings = smoke_tables(pass_at_k_conflict_experiment, tmp_path)
        figure = pass_at_k_conflict.plot(tables, settings)
        drawn(figure)
        own = tables["rows"][tables["rows"].objective == "pass_at_k:k=16"]
        assert (
            line_called(panel(figure, "pass@1 over training"), "pass@16").get_ydata().tolist() == own.pass_at_1.tolist()
        )
        assert (
            line_called(panel(figure, "pass@16 over training"), "pass@16").get_ydata().tolist()
            == own.pass_at_k.tolist()
        )
        path = line_called(panel(figure, "paths from the square"), "pass@16")
        assert path.get_xdata().tolist() == own.easy.tolist()

    def test_summary_has_the_start_the_lowest_and_the_end(self, tmp_path):
        tables, settings = smoke_tables(pass_at_k_conflict_experiment, tmp_path)
        table = pass_at_k_conflict.summarise(tables, settings)
        assert table.loc["pass_at_k:k=16"].index.tolist() == [0, 40]  # it is still falling
        assert table.loc["expected_reward"].index.tolist() == [0, 40]


class TestUnbiasedness:
    def test_a_cell_for_each_and_only_biased_ones_are_called_so(self, tmp_path):
        tables, settings = smoke_tables(unbiasedness_experiment, tmp_path)
        tables["rows"].loc[0, "z"] = -1.01 * settings.threshold
        figure = unbiasedness.plot(tables, settings)
        cells = len(settings.estimators) * len(settings.rollouts)
        (ax,) = drawn(figure)
        texts = [text.get_text() for text in ax.texts]
        assert len(ax.patches) == cells
        assert [text for text in texts if "BIASED" in text] == [f"z = {tables['rows'].z[0]:+.1f} BIASED"]
        assert f"1 of {cells} cells beyond |z| = {settings.threshold:.2f}" in ax.get_title()
        assert "at p = 0.2 (family false-alarm rate 1%)" in " ".join(ax.get_title().split())

    def test_summary_names_what_is_nearest_where_nothing_fits(self, tmp_path):
        tables, settings = smoke_tables(unbiasedness_experiment, tmp_path)
        table = unbiasedness.summarise(tables, settings)
        assert table.loc[("grpo", 4), "objective"] == "none; nearest expected_reward"
        assert table.loc[("grpo", 2), "objective"] == "expected_reward"


class TestLikelihoodLimit:
    def test_objectives_are_shown_in_the_order_from_rl_to_likelihood(self):
        names = ["maximum_likelihood", "pass_at_k:k=4", "truncated_likelihood:order=64", "expected_reward"]
        assert sorted(names, key=likelihood_limit._order) == [names[3], names[1], names[2], names[0]]

    @pytest.mark.parametrize("changes", [{}, {"seeds": 1, "estimators": ()}], ids=["all", "one task set, no estimator"])
    def test_curves(self, tmp_path, changes):
        tables, settings = smoke_tables(likelihood_limit_experiment, tmp_path, **changes)
        figure = likelihood_limit.plot(tables, settings)
        left, middle, right = drawn(figure)
        assert len(left.lines) == 2 * len(settings.distance_pass_rates)
        assert len(middle.lines) == len(right.lines) == len(settings.methods())
        assert ("one task set, no interval" in middle.get_title()) == (settings.seeds == 1)
        curves = tables["curves"]
        likelihood = curves[curves.method == "maximum_likelihood"]
        shown = likelihood.groupby("step").log_pass_rate.mean()
        (line,) = [line for line in right.lines if line.get_label().startswith("maximum likelihood")]
        assert line.get_ydata().tolist() == pytest.approx(shown.tolist())
        assert len(likelihood_limit.summarise(tables, settings)) == len(settings.methods())


@pytest.mark.parametrize(
    "changes",
    [{}, {"estimators": ("maxrl",), "surrogates": ("token_mean",), "long": (30,), "short": 4}],
    ids=["all", "one of each"],
)
def test_length_bias(tmp_path, changes):
    tables, settings = smoke_tables(length_bias_experiment, tmp_path, **changes)
    figure = length_bias.plot(tables, settings)
    drawn(figure)
    assert [ax.get_title() for ax in figure.axes] == list(map(style.label, settings.estimators))
    rows = tables["rows"]
    own = rows[(rows.estimator == settings.estimators[0]) & (rows.surrogate == "token_mean")]
    line = line_called(figure.axes[0], "mean over the batch's tokens")
    assert line.get_xdata().tolist() == [length / settings.short for length in settings.long]
    assert line.get_ydata().tolist() == own.drift.tolist()
    shape = (len(settings.estimators) * len(settings.surrogates), len(settings.long))
    assert length_bias.summarise(tables, settings).shape == shape
