"""Figures of navigation: variations of what a user may ask for, and that what is drawn is what the rows say."""

import functools
import io
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
import torch

from experiments.navigation import navigation as navigation_experiment
from experiments.navigation import navigation_bias_variance as bias_variance_experiment
from experiments.navigation import navigation_likelihood as likelihood_experiment
from experiments.navigation import trajectories as trajectories_experiment
from figures import style
from figures.navigation import navigation, navigation_bias_variance, navigation_likelihood, trajectories
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context

SMOKE = navigation_experiment.PRESETS["smoke"]
SMALL = replace(
    SMOKE,
    minigrid_names=(),
    sgd_rollouts=(),
    equal_estimators=(),
    estimators=("rloo", "grpo", "maxrl"),
    rollouts=(4,),
    seeds=1,
    steps=2,
    measurements=1,
)


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


def curves_of(figure, title):
    """The number of lines of the one panel with that in its title."""
    (ax,) = [ax for ax in figure.axes if title in ax.get_title()]
    return len(ax.lines)


NINE = (
    *("reinforce", "mean_centred", "rloo", "grpo", "pkpo:k=N/2"),
    *("maxrl_order:order=N/2", "maxrl", "maxrl_no_baseline", "maxrl_leave_one_out"),
)


class TestNavigation:
    @pytest.mark.parametrize(
        ("changes", "curves"),
        [
            ({}, 3),
            ({"estimators": ("rloo", "maxrl")}, 2),  # efficiency is over GRPO
            ({"estimators": NINE}, 9),  # more than there are markers
            ({"estimators": ("pkpo:k=2", "pkpo:k=4"), "rollouts": (8,)}, 2),
            ({"estimators": ("pkpo:k=N/2",), "rollouts": (4, 8)}, 1),  # one estimator, whatever N
            ({"seeds": 2, "sgd_rollouts": (8,)}, 3),  # Adam and SGD share no N
        ],
        ids=["one seed", "without GRPO", "nine", "two k", "one k at two N", "no shared N"],
    )
    def test_variations(self, changes, curves):
        settings = replace(SMALL, **changes)
        tables = tables_of(settings)
        figure = navigation.plot(tables, settings)
        assert len(figure.axes) == 4 * 4  # no row of panels for MiniGrid
        for ax in figure.axes[:8]:
            assert len(ax.lines) == curves
        assert len(figure.axes[0].get_legend_handles_labels()[1]) == curves
        assert len({line.get_label() for line in figure.axes[0].lines}) == curves
        count = max(settings.rollouts) if len(settings.rollouts) == 1 else 8
        assert curves_of(figure, f"by difficulty, N = {count}") == 2 * curves
        shows_efficiency = any("efficiency over GRPO" in ax.get_title() for ax in figure.axes)
        assert shows_efficiency == ("grpo" in settings.estimators)
        title = figure.get_suptitle()
        assert "MiniGrid" not in title
        assert ("one seed, so no interval" in title) == (settings.seeds == 1)
        assert not any("equal rollouts" in ax.get_title() for ax in figure.axes)
        methods = len(settings.estimators) * (len(settings.rollouts) + len(settings.sgd_rollouts))
        assert len(navigation.summarise(tables, settings)) == 2 * methods
        figure.set_layout_engine("none")  # takes long; the smoke run of test_cli.py has it
        figure.savefig(io.BytesIO(), dpi=10)

    def test_markers_cycle(self):
        settings = replace(SMALL, estimators=NINE)
        figure = navigation.plot(tables_of(settings), settings)
        (sweep,) = [ax for ax in figure.axes if ax.get_xlabel() == "learning rate"]
        assert len(sweep.lines) == 9
        assert [line.get_marker() for line in sweep.lines[7:]] == [line.get_marker() for line in sweep.lines[:2]]
        assert sweep.get_title() == "Adam; N = 4"

    def test_equal_rollouts(self):
        settings = replace(SMALL, equal_estimators=("rloo", "maxrl"), equal_rollouts=(2, 4, 16), equal_total=16)
        figure = navigation.plot(tables_of(settings), settings)
        (ax,) = [ax for ax in figure.axes if "equal rollouts" in ax.get_title()]
        labels = [f"{style.label(name)}, N = {count}" for count in (2, 4, 16) for name in ("rloo", "maxrl")]
        assert [line.get_label() for line in ax.lines] == labels
        assert {float(line.get_xdata()[-1]) for line in ax.lines} == {16.0}
        # and do not mix with the others, which end after 2 updates
        assert figure.axes[0].lines[0].get_xdata().tolist() == [0, 2]

    def test_what_is_drawn_is_what_the_rows_say(self):
        settings = replace(SMALL, seeds=2)
        tables = tables_of(settings)
        figure = navigation.plot(tables, settings)
        shown = tables["curves"].query("split == 'held_out' and estimator == 'grpo'")
        line = figure.axes[5].lines[1]
        assert line.get_label() == "GRPO"
        assert line.get_ydata().tolist() == pytest.approx(shown.groupby("step").pass_at_8.mean().tolist())


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
        (ax,) = [ax for ax in figure.axes if "who is nearest" in ax.get_title()]
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
        assert summary.loc["maximum_likelihood"].total_cost.unique().tolist() == ["0.0000 [0.0000, 0.0000]"]

    def test_total_cost_is_the_area_under_the_cost(self):
        # By hand: 4 a level for 2 updates, then from 4 to 8 over 4 updates: 8, and 24 more.
        run = {"method": "maxrl", "rollouts": 4, "seed": 0, "split": "train"}
        curves = pd.DataFrame([{**run, "step": step, "cost": cost} for step, cost in ((6, 8.0), (0, 4.0), (2, 4.0))])
        total = navigation_likelihood.with_total_cost(curves).set_index("step").total_cost
        assert total.to_dict() == {0: 0.0, 2: 8.0, 6: 32.0}


class TestTrajectories:
    SETTINGS = trajectories_experiment.PRESETS["smoke"]

    def test_a_panel_for_each_method_and_level_tells_its_pass_rate(self):
        tables = tables_of(self.SETTINGS, trajectories_experiment)
        figure = trajectories.plot(tables, self.SETTINGS)
        titles = [ax.get_title() for ax in figure.axes if "moves" in ax.get_title()]
        rates = tables["policies"].pass_rate
        assert titles == [f"{distance} moves, p = {rate:.2g}" for distance, rate in zip([2, 4] * 3, rates, strict=True)]
        table = trajectories.summarise(tables, self.SETTINGS)
        assert list(table.columns) == list(self.SETTINGS.estimators)
        assert table["maxrl"].tolist() == tables["policies"].query("method == 'maxrl'").pass_rate.tolist()

    def test_at_most_three_paths_of_a_kind_are_shown(self):
        tables = tables_of(replace(self.SETTINGS, sampled=60, kept=8), trajectories_experiment)
        figure = trajectories.plot(tables, self.SETTINGS)
        for ax in figure.axes[:6]:
            colours = [line.get_color() for line in ax.lines if line.get_linestyle() == "-"]
            assert max(colours.count(colour) for colour in set(colours)) <= 3
