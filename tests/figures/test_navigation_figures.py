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
from figures import style
from figures.navigation import navigation, navigation_bias_variance
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


@functools.cache
def rows_of(settings):
    """What a run would have written, read back as the figure reads it; run once for each settings."""
    with TemporaryDirectory() as folder:
        context = Context(torch.device("cpu"), Checkpoint(Path(folder) / "checkpoint"), quiet=True)
        rows = pd.DataFrame(navigation_experiment.run(settings, context))
    return pd.read_csv(io.StringIO(rows.to_csv(index=False)))


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
        rows = rows_of(settings)
        figure = navigation.draw(rows)
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
        assert len(navigation.summarise(rows)) == 2 * methods
        figure.set_layout_engine("none")  # takes long; the smoke run of test_cli.py has it
        figure.savefig(io.BytesIO(), dpi=10)

    def test_markers_cycle(self):
        figure = navigation.draw(rows_of(replace(SMALL, estimators=NINE)))
        (sweep,) = [ax for ax in figure.axes if ax.get_xlabel() == "learning rate"]
        assert len(sweep.lines) == 9
        assert [line.get_marker() for line in sweep.lines[7:]] == [line.get_marker() for line in sweep.lines[:2]]
        assert sweep.get_title() == "Adam; N = 4"

    def test_equal_rollouts(self):
        settings = replace(SMALL, equal_estimators=("rloo", "maxrl"), equal_rollouts=(2, 4, 16), equal_total=16)
        figure = navigation.draw(rows_of(settings))
        (ax,) = [ax for ax in figure.axes if "equal rollouts" in ax.get_title()]
        labels = [f"{style.label(name)}, N = {count}" for count in (2, 4, 16) for name in ("rloo", "maxrl")]
        assert [line.get_label() for line in ax.lines] == labels
        assert {float(line.get_xdata()[-1]) for line in ax.lines} == {16.0}
        # and do not mix with the others, which end after 2 updates
        assert figure.axes[0].lines[0].get_xdata().tolist() == [0, 2]

    def test_what_is_drawn_is_what_the_rows_say(self):
        rows = rows_of(replace(SMALL, seeds=2))
        figure = navigation.draw(rows)
        shown = rows.query("stage == 'report' and split == 'held_out' and estimator == 'grpo'")
        line = figure.axes[5].lines[1]
        assert line.get_label() == "GRPO"
        assert line.get_ydata().tolist() == pytest.approx(shown.groupby("step").pass_at_8.mean().tolist())


def levels_and_errors(errors):
    """Rows of `navigation_bias_variance`: per level the errors of two estimators and of inverse sampling."""
    kinds = [("rloo", 4.0), ("maxrl", 16.0), ("inverse_sampling:successes=1", float("nan"))]
    rows = [
        {"seed": 0, "step": step, "estimator": name, "rollouts": count, "level": level, "distance": 2 * level + 2}
        | {"budget": 16, "pass_rate": 10.0 ** -(level + 1), "squared_bias": 0.1, "variance": error}
        | {"mean_squared_error": error + 0.1, "budget_mean_squared_error": error}
        for step in (0, 5)
        for level, own in enumerate(errors)
        for (name, count), error in zip(kinds, own, strict=True)
    ]
    return pd.DataFrame(rows)


class TestNearest:
    NOBODY = "none: no nearer than a zero gradient"

    def test_nobody_where_a_zero_gradient_is_as_near(self):
        rows = levels_and_errors(
            [(0.2, 0.5, 0.4), (1.3, 1.0, 2.0), (1.3, 1.01, 0.98), (0.995, 3.0, 3.0), (2.0, 0.9, 1)]
        )
        found = navigation_bias_variance.nearest(rows)
        names = ["RLOO, N = 4", self.NOBODY, "inverse sampling", self.NOBODY, "MaxRL, Algorithm 1, N = 16"]
        assert found["name"].tolist() == 2 * names
        table = navigation_bias_variance.summarise(rows)
        assert table.loc[self.NOBODY].sum() == 4
        navigation_bias_variance.draw(rows)

    def test_nobody_anywhere(self):
        rows = levels_and_errors([(1.0, 1.0, 1.0), (7.0, 2.0, 1.5)])
        assert set(navigation_bias_variance.nearest(rows)["name"]) == {self.NOBODY}
        figure = navigation_bias_variance.draw(rows)
        (ax,) = [ax for ax in figure.axes if "who is nearest" in ax.get_title()]
        assert ax.get_legend_handles_labels()[1] == [self.NOBODY]
