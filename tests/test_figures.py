"""Figures: every estimator has a colour and a name, wrong rows are refused, what is drawn is what the rows say."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from experiments import EXPERIMENTS
from experiments import navigation as navigation_experiment
from experiments.context import Context
from figures import FIGURES, audit, likelihood_limit, navigation, navigation_bias_variance, style
from maxrl_lab import estimators, objectives
from maxrl_lab.audit import audit as run_audit
from maxrl_lab.runs import Checkpoint


def test_every_experiment_has_a_figure():
    assert list(FIGURES) == list(EXPERIMENTS)


@pytest.mark.parametrize("name", [*estimators.ESTIMATORS, *objectives.OBJECTIVES])
def test_every_estimator_and_objective_has_a_colour_and_a_name(name):
    assert name in style.COLOURS
    assert name in style.NAMES


def test_estimators_have_distinct_colours():
    colours = [style.COLOURS[name] for name in estimators.ESTIMATORS]
    assert len(set(colours)) == len(colours)
    distances = [
        np.linalg.norm(np.subtract(to_rgb(a), to_rgb(b))) for place, a in enumerate(colours) for b in colours[:place]
    ]
    assert min(distances) > 0.15


@pytest.mark.parametrize("name", FIGURES)
def test_rows_without_the_columns_are_refused(name):
    columns = FIGURES[name].COLUMNS
    with pytest.raises(ValueError, match=f"missing: {columns[-1]}"):
        FIGURES[name].draw(pd.DataFrame({column: [1] for column in columns[:-1]}))
    with pytest.raises(ValueError, match="missing: rows"):
        FIGURES[name].draw(pd.DataFrame(columns=list(columns)))


def test_labels():
    assert style.label("pkpo:k=4") == "PKPO k=4"
    assert style.label("truncated_likelihood:order=8") == "order T=8"
    assert style.label("pass_at_k:k=8") == "pass@8"
    assert style.label("maxrl") == "MaxRL, Algorithm 1"


def test_band_draws_the_mean_over_seeds_and_its_interval():
    rows = pd.DataFrame({"seed": [0, 1, 0, 1], "step": [0, 0, 1, 1], "value": [1.0, 3.0, 2.0, 2.0]})
    ax = Figure().subplots()
    style.band(ax, rows, "step", "value", "maxrl")
    assert ax.lines[0].get_ydata().tolist() == [2.0, 2.0]
    corners = ax.collections[0].get_paths()[0].vertices[:, 1]
    # with two seeds the interval is their range
    assert (corners.min(), corners.max()) == (1.0, 3.0)


def test_best_learning_rate_is_the_highest_final_mean():
    rows = pd.DataFrame(
        {
            "method": ["a"] * 8,
            "learning_rate": [1.0] * 4 + [2.0] * 4,
            "seed": [0, 1] * 4,
            "step": [0, 0, 9, 9] * 2,
            "pass_rate": [0.9, 0.9, 0.1, 0.2, 0.0, 0.0, 0.3, 0.2],
        }
    )
    assert set(likelihood_limit.best_learning_rate(rows).learning_rate) == {2.0}


def test_audit_figure_draws_found_and_nearest_curve():
    figure = audit.draw(run_audit("maxrl", rollouts=4))
    found, nearest = figure.axes[0].lines
    np.testing.assert_allclose(found.get_ydata(), nearest.get_ydata(), rtol=1e-9)
    with pytest.raises(ValueError, match="has no weight curve to plot"):
        audit.draw(run_audit(lambda rewards: rewards * torch.arange(4), rollouts=4))


def test_saved_pictures_are_reproducible(tmp_path):
    for name in ("one.png", "two.png"):
        style.save(audit.draw(run_audit("grpo", rollouts=4)), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_objectives_are_drawn_in_the_order_from_rl_to_likelihood():
    names = ["maximum_likelihood", "pass_at_k:k=4", "truncated_likelihood:order=64", "expected_reward"]
    assert sorted(names, key=likelihood_limit._order) == [names[3], names[1], names[2], names[0]]


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


def rows_of(settings, folder):
    """What a run would have written, read back as the figure reads it."""
    context = Context(torch.device("cpu"), Checkpoint(folder / "checkpoint"), quiet=True)
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
    def test_variations(self, tmp_path, changes, curves):
        settings = replace(SMALL, **changes)
        rows = rows_of(settings, tmp_path)
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
        figure.savefig(tmp_path / "figure.png", dpi=10)

    def test_markers_cycle(self, tmp_path):
        figure = navigation.draw(rows_of(replace(SMALL, estimators=NINE), tmp_path))
        (sweep,) = [ax for ax in figure.axes if ax.get_xlabel() == "learning rate"]
        assert len(sweep.lines) == 9
        assert [line.get_marker() for line in sweep.lines[7:]] == [line.get_marker() for line in sweep.lines[:2]]
        assert sweep.get_title() == "Adam; N = 4"

    def test_equal_rollouts(self, tmp_path):
        settings = replace(SMALL, equal_estimators=("rloo", "maxrl"), equal_rollouts=(2, 4, 16), equal_total=16)
        figure = navigation.draw(rows_of(settings, tmp_path))
        (ax,) = [ax for ax in figure.axes if "equal rollouts" in ax.get_title()]
        labels = [f"{style.label(name)}, N = {count}" for count in (2, 4, 16) for name in ("rloo", "maxrl")]
        assert [line.get_label() for line in ax.lines] == labels
        assert {float(line.get_xdata()[-1]) for line in ax.lines} == {16.0}
        # and do not mix with the others, which end after 2 updates
        assert figure.axes[0].lines[0].get_xdata().tolist() == [0, 2]

    def test_what_is_drawn_is_what_the_rows_say(self, tmp_path):
        rows = rows_of(replace(SMALL, seeds=2), tmp_path)
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


def test_plain_x_writes_the_values_that_are_there():
    ax = Figure().subplots()
    ax.set_xscale("log")
    style.plain_x(ax, [128, 4, 16, 4])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "16", "128"]
    assert ax.get_xticks(minor=True).tolist() == []


def test_seeds_text():
    assert style.seeds_text(5) == "mean and 95% bootstrap interval over 5 seeds"
    assert style.seeds_text(1) == "one seed, so no interval"
