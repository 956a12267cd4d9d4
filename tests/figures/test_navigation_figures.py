"""Figures of navigation: variations of what a user may ask for, and that what is drawn is what the rows say."""

import functools
import io
import math
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from experiments.navigation import navigation as navigation_experiment
from experiments.navigation import navigation_bias_variance as bias_variance_experiment
from experiments.navigation import navigation_generalisation as generalisation_experiment
from experiments.navigation import navigation_likelihood as likelihood_experiment
from experiments.navigation import navigation_minigrid as minigrid_experiment
from experiments.navigation import navigation_optimisers as optimisers_experiment
from experiments.navigation import trajectories as trajectories_experiment
from figures import style
from figures.navigation import (
    _panels,
    navigation,
    navigation_bias_variance,
    navigation_generalisation,
    navigation_likelihood,
    navigation_minigrid,
    navigation_optimisers,
    trajectories,
)
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context

SHORT = {"seeds": 1, "steps": 2, "measurements": 1}
SMALL = replace(navigation_experiment.PRESETS["smoke"], estimators=("rloo", "grpo", "maxrl"), rollouts=(4,), **SHORT)


def read_back(tables):
    """Tables as a figure reads them from a run's folder."""
    return {
        name: pd.read_csv(io.StringIO(pd.DataFrame(rows).to_csv(index=False)), keep_default_na=False, na_values=[""])
        for name, rows in tables.items()
    }


@functools.cache
def tables_of(settings, experiment=navigation_experiment):
    """What a run would have written; run once for each settings."""
    with TemporaryDirectory() as folder:
        context = Context(torch.device("cpu"), Checkpoint(Path(folder) / "checkpoint"), quiet=True)
        return read_back(experiment.run(settings, context))


def saved(figure):
    """The figure, which can be saved."""
    figure.set_layout_engine("none")  # takes long; the smoke run of test_cli.py has it
    figure.savefig(io.BytesIO(), dpi=10)
    return figure


NINE = (
    *("reinforce", "mean_centred", "rloo", "grpo", "pkpo:k=N/2"),
    *("maxrl_order:order=N/2", "maxrl", "maxrl_no_baseline", "maxrl_leave_one_out"),
)


class TestNavigation:
    @pytest.mark.parametrize(
        ("changes", "curves"),
        [
            ({}, 3),
            ({"estimators": NINE}, 9),  # more than there are markers
            ({"estimators": ("pkpo:k=2", "pkpo:k=4"), "rollouts": (8,)}, 2),
            ({"estimators": ("pkpo:k=N/2",), "rollouts": (4, 8)}, 1),  # one estimator, whatever N
            ({"seeds": 2}, 3),
        ],
        ids=["one seed", "nine", "two k", "one k at two N", "two seeds"],
    )
    def test_variations(self, changes, curves):
        settings = replace(SMALL, **changes)
        tables = tables_of(settings)
        figure = saved(navigation.plot(tables, settings))
        assert len(figure.axes) == 6
        assert [len(ax.lines) for ax in figure.axes] == [curves, curves + 1, curves] + [curves + 1] * 2 + [curves]
        labels = figure.axes[0].get_legend_handles_labels()[1]
        assert len(set(labels)) == curves
        assert all(re.search(r" \(0\.0\d+\)$", label) for label in labels)  # its learning rate
        assert ("one seed, so no interval" in figure.get_suptitle()) == (settings.seeds == 1)
        assert "chosen by final training pass@1 on 1 other seed" in figure.get_suptitle()
        assert len(navigation.summarise(tables, settings)) == len(settings.estimators) * len(settings.rollouts)

    def test_known_rates_are_said_to_be_known(self):
        settings = replace(SMALL, fixed_rates=tuple(f"{name}, N = 4: 0.02" for name in SMALL.estimators))
        figure = navigation.plot(tables_of(settings), settings)
        assert "those that the preset `standard` chose" in figure.get_suptitle()
        assert figure.axes[0].lines[0].get_label() == "RLOO (0.02)"

    def test_what_is_drawn_is_what_the_rows_say(self):
        settings = replace(SMALL, seeds=2)
        tables = tables_of(settings)
        figure = navigation.plot(tables, settings)
        shown = tables["curves"].query("estimator == 'grpo'")
        line = figure.axes[0].lines[1]
        assert line.get_label().startswith("GRPO")
        assert line.get_ydata().tolist() == pytest.approx(shown.groupby("step").pass_at_1.mean().tolist())

    def test_orders_between_have_a_panel_from_rloo_to_algorithm_1(self):
        names = ("rloo", "grpo", "maxrl", "maxrl_centred:order=N/4", "maxrl_centred:order=N/2")
        settings = replace(SMALL, estimators=names, rollouts=(4, 8), seeds=2)
        tables = tables_of(settings)
        figure = saved(navigation.plot(tables, settings))
        assert [len(ax.lines) for ax in figure.axes] == [3, 4, 2, 4, 4, 3]
        few, many = figure.axes[2].lines
        assert few.get_xdata().tolist() == [1, 2, 3]  # order N/4 is RLOO there
        assert many.get_xdata().tolist() == [1, 2, 4, 7]
        final = tables["curves"].query(f"rollouts == 8 and step == {settings.steps}").groupby("estimator").pass_at_1
        wanted = final.mean()[["rloo", "maxrl_centred:order=N/4", "maxrl_centred:order=N/2", "maxrl"]]
        assert many.get_ydata().tolist() == pytest.approx(wanted.tolist())


@pytest.mark.parametrize(
    ("rates", "bottom"),
    [
        ((0.5, 0.9), 0.6 * -math.log(0.9)),
        ((0.5, 1 - 1e-12), 0.6 * -math.log(0.5)),
        ((math.nan, 0.5), 0.6 * -math.log(0.5)),
    ],
    ids=["finite", "nearly certain", "one diverged"],
)
def test_the_smallest_loss_with_a_place_in_the_panel_is_near_its_bottom(rates, bottom):
    assert against(rates).get_ylim()[0] == pytest.approx(bottom)


@pytest.mark.parametrize("rates", [(1.0, 1.0), (math.nan, math.nan)], ids=["certain", "diverged"])
def test_a_panel_without_losses_has_no_logarithmic_axis(rates, recwarn):
    assert against(rates).get_yscale() == "linear"
    assert not recwarn.list


def against(rates):
    """The panel of -log pass@1 against N, for two estimators with these pass rates at N = 4 and 16."""
    rows = [
        {"estimator": name, "rollouts": count, "seed": 0, "step": step, "pass_at_1": rate}
        for name, rate in zip(("rloo", "maxrl"), rates, strict=True)
        for count in (4, 16)
        for step in (0, 2)
    ]
    ax = Figure().subplots()
    _panels.against_rollouts(ax, pd.DataFrame(rows), 1)
    return ax


def test_rates_are_said_to_be_those_of_one_n():
    swept = {"sweep": pd.DataFrame({"seed": [5, 6]})}
    assert "(in brackets: at N = 16) chosen by final training pass@1 on 2 other seeds" in _panels.rates_text(swept, 16)
    assert "(in brackets) are those" in _panels.rates_text({})


def test_the_peak_is_the_greatest_measured_value_of_each_run():
    rows = [
        {"method": "maxrl", "seed": seed, "step": step, "pass_at_1": value}
        for seed, values in enumerate([(0.1, 0.9, 0.5), (0.1, 0.2, 0.7)])
        for step, value in enumerate(values)
    ]
    (line,) = _panels.final_and_peak(pd.DataFrame(rows), ["method"], ["pass_at_1"]).itertuples()
    assert line[1].startswith("0.6000 [")
    assert line[2].startswith("0.8000 [")


class TestGeneralisation:
    SETTINGS = replace(generalisation_experiment.PRESETS["smoke"], estimators=("rloo", "grpo", "maxrl"), **SHORT)

    @pytest.mark.parametrize("estimators", [("rloo", "grpo", "maxrl"), ("rloo", "maxrl")])
    def test_six_panels_and_efficiency_over_grpo_only_where_it_is(self, estimators):
        settings = replace(self.SETTINGS, estimators=estimators)
        tables = tables_of(settings, generalisation_experiment)
        figure = saved(navigation_generalisation.plot(tables, settings))
        assert len(figure.axes) == 6
        assert any("efficiency over GRPO" in ax.get_title() for ax in figure.axes) == ("grpo" in estimators)
        assert [len(ax.lines) for ax in figure.axes[:3]] == [len(estimators) + 1] * 2 + [len(estimators)]
        assert len(figure.axes[4].lines) == len(figure.axes[5].lines) == 2 * len(estimators)
        assert len(navigation_generalisation.summarise(tables, settings)) == len(estimators) * 2 * 2

    def test_what_is_drawn_is_held_out_and_of_the_most_levels(self):
        tables = tables_of(self.SETTINGS, generalisation_experiment)
        figure = navigation_generalisation.plot(tables, self.SETTINGS)
        shown = tables["curves"].query("split == 'held_out' and comparison == '2 levels' and estimator == 'maxrl'")
        assert figure.axes[0].lines[2].get_ydata().tolist() == pytest.approx(shown.pass_at_1.tolist())


def test_minigrid(tmp_path, monkeypatch):
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path))
    settings = replace(minigrid_experiment.PRESETS["smoke"], estimators=("rloo", "maxrl"), **SHORT)
    tables = tables_of(settings, minigrid_experiment)
    figure = saved(navigation_minigrid.plot(tables, settings))
    assert [len(ax.lines) for ax in figure.axes] == [2, 2, 2, 3, 3, 2]
    assert len(navigation_minigrid.summarise(tables, settings)) == 2 * 2


class TestOptimisers:
    SETTINGS = replace(optimisers_experiment.PRESETS["smoke"], estimators=("rloo", "maxrl"), **SHORT)

    def test_sweeps_and_equal_rollouts(self):
        tables = tables_of(self.SETTINGS, optimisers_experiment)
        figure = saved(navigation_optimisers.plot(tables, self.SETTINGS))
        titles = [ax.get_title() for ax in figure.axes]
        assert len(titles) == 6
        assert titles[0].startswith("Adam")
        assert titles[1].startswith("SGD")
        assert [ax.get_xlabel() for ax in figure.axes].count("learning rate") == 2
        labels = [f"{style.label(name)}, N = {count}" for count in (4, 8) for name in ("rloo", "maxrl")]
        assert [line.get_label() for line in figure.axes[2].lines] == labels
        assert {float(line.get_xdata()[-1]) for line in figure.axes[2].lines} == {16.0}
        assert len(navigation_optimisers.summarise(tables, self.SETTINGS)) == 2 * 2 + 2 * 2

    @pytest.mark.parametrize("equal", [(), (4, 8)])
    def test_without_a_sweep(self, equal):
        settings = replace(self.SETTINGS, equal_rollouts=equal)
        tables = {**tables_of(settings, optimisers_experiment)}
        del tables["sweep"]
        figure = saved(navigation_optimisers.plot(tables, settings))
        assert [ax.get_xlabel() for ax in figure.axes].count("learning rate") == 0
        assert len([ax for ax in figure.axes if ax.axison]) == 2 + 2 * bool(equal)


def levels_and_errors(errors):
    """Tables of `navigation_bias_variance`: per level the errors of two estimators and of inverse sampling."""
    kinds = [("rloo", 4.0), ("maxrl", 16.0), ("inverse_sampling:successes=1", float("nan"))]
    rows = [
        {"seed": 0, "step": step, "estimator": name, "rollouts": count, "level": level, "distance": 2 * level + 2}
        | {"pass_rate": 10.0 ** -(level + 1), "squared_bias": 0.1, "variance": error}
        | {"mean_squared_error": error + 0.1, "budget_mean_squared_error": error}
        for step in (0, 5)
        for level, at_level in enumerate(errors)
        for (name, count), error in zip(kinds, at_level, strict=True)
    ]
    return {"rows": pd.DataFrame(rows)}


class TestNearest:
    NOBODY = "none: no nearer than a zero gradient"
    SETTINGS = bias_variance_experiment.Settings(rollouts=(4, 16), budget=16, seeds=1)

    def test_nobody_where_a_zero_gradient_is_as_near(self):
        tables = levels_and_errors(
            [(0.2, 0.5, 0.4), (1.3, 1.0, 2.0), (1.3, 1.01, 0.98), (0.995, 3.0, 3.0), (2.0, 0.9, 1)]
        )
        nearest = navigation_bias_variance.nearest(tables["rows"])
        names = ["RLOO, N = 4", self.NOBODY, "inverse sampling", self.NOBODY, "MaxRL, Algorithm 1, N = 16"]
        assert nearest["name"].tolist() == 2 * names
        table = navigation_bias_variance.summarise(tables, self.SETTINGS)
        assert table.loc[self.NOBODY].sum() == 4
        navigation_bias_variance.plot(tables, self.SETTINGS)

    def test_nobody_anywhere(self):
        tables = levels_and_errors([(1.0, 1.0, 1.0), (7.0, 2.0, 1.5)])
        assert set(navigation_bias_variance.nearest(tables["rows"])["name"]) == {self.NOBODY}
        figure = navigation_bias_variance.plot(tables, self.SETTINGS)
        (ax,) = [ax for ax in figure.axes if "who has the least error" in ax.get_title()]
        assert ax.get_legend_handles_labels()[1] == [self.NOBODY]


class TestLikelihood:
    SETTINGS = likelihood_experiment.PRESETS["smoke"]

    def test_what_is_plotted_is_what_the_rows_say(self):
        tables = tables_of(self.SETTINGS, likelihood_experiment)
        figure = navigation_likelihood.plot(tables, self.SETTINGS)
        curves = tables["curves"].query("split == 'train' and method == 'maxrl_leave_one_out'")
        (line,) = [line for line in figure.axes[0].lines if "leave-one-out" in line.get_label()]
        assert line.get_ydata().tolist() == pytest.approx((-curves.groupby("step").log_pass_rate.mean()).tolist())
        summary = navigation_likelihood.summarise(tables, self.SETTINGS)
        assert len(summary) == 3 * 2
        assert not any("diverged" in text for text in summary.to_numpy().flatten())
        assert summary.xs("exact", level="rollouts").total_cost.unique().tolist() == ["0.0000 [0.0000, 0.0000]"]

    def test_the_peak_is_beside_the_end(self):
        tables = tables_of(self.SETTINGS, likelihood_experiment)
        line = navigation_likelihood.summarise(tables, self.SETTINGS).loc["maximum_likelihood"].iloc[0]
        runs = tables["curves"].query("split == 'train' and method == 'maximum_likelihood'")
        assert line["pass_at_1 (peak)"].startswith(f"{runs.groupby('seed').pass_at_1.max().mean():.4f} [")
        assert line.pass_at_1.startswith(f"{runs[runs.step == runs.step.max()].pass_at_1.mean():.4f} [")

    def test_total_cost_is_the_area_under_the_cost(self):
        # By hand: 4 a level for 2 updates, then from 4 to 8 over 4 updates: 8, and 24 more.
        run = {"method": "maxrl", "rollouts": 4, "seed": 0, "split": "train"}
        curves = pd.DataFrame([{**run, "step": step, "cost": cost} for step, cost in ((6, 8.0), (0, 4.0), (2, 4.0))])
        total = navigation_likelihood.with_total_cost(curves).set_index("step").total_cost
        assert total.to_dict() == {0: 0.0, 2: 8.0, 6: 32.0}


class TestTrajectories:
    SETTINGS = trajectories_experiment.PRESETS["smoke"]

    def test_a_panel_for_two_methods_and_each_level_tells_its_pass_rate(self):
        tables = tables_of(self.SETTINGS, trajectories_experiment)
        figure = trajectories.plot(tables, self.SETTINGS)
        titles = [ax.get_title() for ax in figure.axes if re.search("p = ", ax.get_title())]
        shown = tables["policies"].query("seed == 0").set_index(["level", "method"])
        wanted = [
            f"{style.label(method)} ({shown.learning_rate[level, method]:g})\np = {shown.pass_rate[level, method]:.2g}"
            for level in (0, 1)
            for method in (self.SETTINGS.estimators[0], self.SETTINGS.estimators[-1])
        ]
        assert titles == wanted
        (before_and_after,) = [ax for ax in figure.axes if "all training mazes of 2 seeds" in ax.get_title()]
        assert [len(line.get_xdata()) for line in before_and_after.lines[:3]] == [2 * 2] * 3
        table = trajectories.summarise(tables, self.SETTINGS)
        assert len(table) == 3 * 2
        rows = tables["policies"].query("method == 'maxrl' and distance == 4")
        share = (rows.pass_rate < rows.untrained).mean()
        text = table.pushed_down.xs(("maxrl", 4), level=("method", "distance")).item()
        assert text.startswith(f"{share:.4f} [")

    def test_at_most_three_paths_of_a_kind_are_shown(self):
        tables = tables_of(replace(self.SETTINGS, sampled=60, kept=8), trajectories_experiment)
        figure = trajectories.plot(tables, self.SETTINGS)
        for ax in figure.axes[:4]:
            colours = [line.get_color() for line in ax.lines if line.get_linestyle() == "-"]
            assert max(colours.count(colour) for colour in set(colours)) <= 3
