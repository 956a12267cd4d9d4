"""Figures: every estimator has a colour and a name, wrong rows are refused, what is drawn is what the rows say."""

import functools
import io
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from experiments import EXPERIMENTS
from experiments.exact import length_bias as length_bias_experiment
from experiments.navigation import navigation as navigation_experiment
from experiments.tokens import coverage as coverage_experiment
from experiments.tokens import data_scarce as data_scarce_experiment
from experiments.tokens import gradient_signal as gradient_signal_experiment
from experiments.tokens import maze_baselines as maze_baselines_experiment
from experiments.tokens import maze_scaling as maze_scaling_experiment
from experiments.tokens import maze_trajectories as maze_trajectories_experiment
from figures import FIGURES, style
from figures.exact import length_bias, likelihood_limit
from figures.navigation import navigation, navigation_bias_variance
from figures.tokens import coverage, data_scarce, gradient_signal, maze_baselines, maze_scaling, maze_trajectories
from maxrl_lab import estimators, objectives
from maxrl_lab.audit import audit as run_audit
from maxrl_lab.audit import picture as audit
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.runs.tables import TIMING_COLUMNS
from maxrl_lab.training import surrogates


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


def test_plain_x_writes_the_values_that_are_there():
    ax = Figure().subplots()
    ax.set_xscale("log")
    style.plain_x(ax, [128, 4, 16, 4])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "16", "128"]
    assert ax.get_xticks(minor=True).tolist() == []


def test_seeds_text():
    assert style.seeds_text(5) == "mean and 95% bootstrap interval over 5 seeds"
    assert style.seeds_text(1) == "one seed, so no interval"


class TestSurrogates:
    @pytest.mark.parametrize("name", surrogates.SURROGATES)
    def test_every_one_has_a_colour_and_a_name(self, name):
        assert name in style.COLOURS
        assert name in style.NAMES

    @pytest.mark.parametrize(
        ("spec", "base", "label"),
        [
            ("maxrl", "maxrl", "MaxRL, Algorithm 1"),
            ("pkpo:k=4", "pkpo", "PKPO k=4"),
            ("grpo + greedy_gate", "greedy_gate", "GRPO + SELF"),
            ("grpo+greedy_gate", "greedy_gate", "GRPO + SELF"),
            ("pkpo:k=N/2 + token_mean", "token_mean", "PKPO k=N/2 + mean over the batch's tokens"),
            (
                "grpo + entropy_bonus:coefficient=0.01",
                "entropy_bonus",
                "GRPO + entropy bonus coefficient=0.01",
            ),
            ("base", "base", "base (not trained)"),
        ],
    )
    def test_labels_and_bases(self, spec, base, label):
        assert style.base(spec) == base
        assert style.label(spec) == label

    def test_one_estimator_with_different_surrogates_looks_different(self):
        specs = ["grpo", *(f"grpo + {name}" for name in surrogates.SURROGATES)]
        assert len({style.label(each) for each in specs}) == len(specs)
        colours = [style.colour(each) for each in specs]
        for place, a in enumerate(specs):
            for b in specs[:place]:
                distance = np.linalg.norm(np.subtract(*(to_rgb(style.colour(each)) for each in (a, b))))
                assert distance > (0.15 if style.dashes(a) == style.dashes(b) else 0.1)
        assert len(set(colours)) == len(specs)


def run_smoke(module, folder, **changes):
    """Rows of an experiment near its smoke preset, read back as the figure reads them; without the timings.

    A policy that learnt for a second is right about never, so its values are replaced by ones that can be told apart.
    """
    context = Context(torch.device("cpu"), Checkpoint(folder / "checkpoint" / "run"), quiet=True)
    rows = pd.DataFrame(module.run(replace(module.PRESETS["smoke"], **changes), context))
    rows = rows.drop(columns=[name for name in TIMING_COLUMNS if name in rows])
    random = np.random.default_rng(0)
    for column in {"pass_at_k", "pass_rate", "gradient_norm"} & set(rows):
        rows[column] = rows[column].where(rows[column].isna(), random.random(len(rows)))
    return pd.read_csv(io.StringIO(rows.to_csv(index=False)), keep_default_na=False, na_values=[""])


def line_called(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line


def panel(figure, word):
    """The first panel whose title or y-label has that word."""
    return next(ax for ax in figure.axes if word in ax.get_title() + ax.get_ylabel())


def drawn(figure):
    """The panels that a reader sees; none of them is empty, and the picture can be saved."""
    figure.set_layout_engine("none")  # where things go is not looked at here, and takes long
    figure.savefig(io.BytesIO(), dpi=10)
    seen = [ax for ax in figure.axes if ax.get_visible()]
    assert all(ax.has_data() for ax in seen)
    return seen


class TestTokenFigures:
    """Variations of what a user may ask for, and that what is drawn is what the rows say."""

    def test_maze_scaling(self, tmp_path):
        rows = run_smoke(maze_scaling_experiment, tmp_path, estimators=("rloo", "grpo"))
        figure = maze_scaling.draw(rows)
        drawn(figure)
        final = rows.query("view == 'evaluation' and stage == 'report' and step == 4 and k == 16")
        own = final[final.estimator == "grpo"].assign(loss=lambda each: -np.log(each.pass_at_k.clip(lower=1e-4)))
        line = line_called(panel(figure, "k = 16"), "GRPO")
        assert line.get_xdata().tolist() == [4, 8]
        assert line.get_ydata().tolist() == pytest.approx(own.groupby("rollouts").loss.mean().tolist())
        table = maze_scaling.summarise(rows)
        assert len(table) == 2 * 2 + 1
        assert table.index[-1][0] == "base"

    @pytest.mark.parametrize(
        "changes",
        [
            {"rollouts": (4,)},
            {"seeds": 1},
            {"estimators": ("rloo",), "rollouts": (4,)},
            {"estimators": ("pkpo:k=2", "pkpo:k=N/2"), "rollouts": (8,)},
            {"samples": 4, "rollouts": (4, 8, 16, 2), "estimators": ("grpo", "maxrl"), "seeds": 1},
        ],
        ids=["one N", "one seed", "one method", "two k", "four N, few samples"],
    )
    def test_maze_scaling_variations(self, tmp_path, changes):
        rows = run_smoke(maze_scaling_experiment, tmp_path, **{"steps": 2, "sweep_rollouts": 8, **changes})
        figure = maze_scaling.draw(rows)
        drawn(figure)
        names = changes.get("estimators", ("rloo", "grpo", "maxrl"))
        labels = [line.get_label() for line in figure.axes[0].lines]
        assert labels == [*(style.label(name) for name in names), "base"]
        assert ("one seed, so no interval" in figure.get_suptitle()) == (changes.get("seeds") == 1)
        counts = changes.get("rollouts", (4, 8))
        assert len(maze_scaling.summarise(rows)) == len(names) * len(counts) + 1

    def test_maze_baselines(self, tmp_path):
        methods = ("maxrl", "grpo", "grpo + greedy_gate", "grpo + entropy_bonus:coefficient=0.01")
        rows = run_smoke(maze_baselines_experiment, tmp_path, methods=methods, steps=2)
        figure = maze_baselines.draw(rows)
        drawn(figure)
        lines = figure.axes[0].lines
        assert [line.get_label() for line in lines] == [*map(style.label, methods), "base"]
        assert len({line.get_color() for line in lines}) == 5
        found = rows.query("view == 'evaluation' and stage == 'report' and k == 1")
        own = found[found.estimator == "grpo + greedy_gate"].groupby("step").pass_at_k.mean()
        assert lines[2].get_xdata().tolist() == own.index.tolist() == [0, 2]
        assert lines[2].get_ydata().tolist() == pytest.approx(own.tolist())
        finals = panel(figure, "ours")
        assert [label.get_text() for label in finals.get_yticklabels()][2] == "GRPO + SELF"
        table = maze_baselines.summarise(rows)
        assert sorted(label[0] for label in table.index[:-1]) == sorted(methods)
        assert table.index[-1][0] == "base"

    def test_maze_baselines_of_one_method_and_one_seed(self, tmp_path):
        rows = run_smoke(maze_baselines_experiment, tmp_path, methods=("grpo + token_mean",), seeds=1, samples=4)
        drawn(maze_baselines.draw(rows))
        assert len(maze_baselines.summarise(rows)) == 2

    @pytest.mark.parametrize(
        "changes",
        [{}, {"estimators": ("rloo", "grpo")}, {"estimators": ("maxrl",), "seeds": 1}, {"coverage_samples": 1}],
        ids=["all", "without maxrl", "one method and seed", "one sample"],
    )
    def test_coverage(self, tmp_path, changes):
        rows = run_smoke(coverage_experiment, tmp_path, **changes)
        figure = coverage.draw(rows)
        seen = drawn(figure)
        names = ["base", *changes.get("estimators", ("rloo", "grpo", "maxrl"))]
        assert [line.get_label() for line in figure.axes[0].lines] == list(map(style.label, names))
        assert any("efficiency" in ax.get_title() for ax in seen) == ("maxrl" in names)
        for line, name in zip(figure.axes[0].lines, names, strict=True):
            mean = rows[rows.estimator == name].groupby("k").pass_at_k.mean()
            assert line.get_xdata().tolist() == mean.index.tolist()
            assert line.get_ydata().tolist() == pytest.approx(mean.tolist())
        assert list(coverage.summarise(rows).index) == names

    def test_efficiency_of_maxrl_by_hand(self):
        # at k = 1 MaxRL has what the other has with 4; at k = 4 more than the other ever gets
        curves = {"maxrl": (0.5, 0.9), "grpo": (0.2, 0.5)}
        rows = pd.DataFrame(
            {"estimator": name, "seed": 0, "samples": 4, "majority": 0.3, "k": k, "pass_at_k": value}
            | {"method": name, "rollouts": 8, "learning_rate": 0.1, "temperature": 1.0, "top_p": 1.0}
            for name, values in curves.items()
            for k, value in zip((1, 4), values, strict=True)
        )
        ax = panel(coverage.draw(rows), "efficiency")
        line = line_called(ax, "GRPO")
        assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([1], [4.0])
        (never,) = [each for each in ax.lines if each.get_linestyle() == "None"]
        assert len(never.get_xdata()) == 1

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"estimators": ("maxrl",), "seeds": 1, "examples": 1},
            {"rollouts": 8, "estimators": ("rloo", "pkpo:k=N/2")},
        ],
        ids=["all", "one of each", "without maxrl"],
    )
    def test_gradient_signal(self, tmp_path, changes):
        rows = run_smoke(gradient_signal_experiment, tmp_path, **changes)
        figure = gradient_signal.draw(rows)
        drawn(figure)
        names = changes.get("estimators", ("rloo", "grpo", "maxrl"))
        # points and the median line of each for mazes, points only for sums
        assert [len(ax.lines) for ax in figure.axes[:3]] == [2 * len(names), len(names), len(names)]
        sums = rows[(rows["view"] == "sum") & (rows.estimator == names[-1])]
        line = line_called(figure.axes[1], style.label(names[-1]))
        assert line.get_xdata().tolist() == pytest.approx(sums.pass_rate.tolist())
        assert line.get_ydata().tolist() == pytest.approx(sums.gradient_norm.tolist())
        # curves of training are means of up to five updates, then over seeds
        training = rows[(rows["view"] == "dynamics") & (rows.estimator == names[0])]
        expected = training.groupby("step").length.mean().expanding().mean()
        line = line_called(panel(figure, "length"), style.label(names[0]))
        assert line.get_ydata().tolist() == pytest.approx(expected.tolist())
        table = gradient_signal.summarise(rows)
        assert list(table.columns) == list(names)

    @pytest.mark.parametrize("changes", [{}, {"mazes": 1, "estimators": ("rloo",), "kept": 1}], ids=["all", "one"])
    def test_maze_trajectories(self, tmp_path, changes):
        rows = run_smoke(maze_trajectories_experiment, tmp_path, **changes)
        figure = maze_trajectories.draw(rows)
        drawn(figure)
        names = ["base", *changes.get("estimators", ("rloo", "grpo", "maxrl"))]
        mazes = rows[rows["view"] == "maze"].maze.tolist()
        assert len(figure.axes) == len(names) * len(mazes)
        first = rows[(rows["view"] == "path") & (rows.maze == mazes[0]) & (rows.estimator == "base")]
        assert len(figure.axes[0].lines) >= min(1, first.path.nunique())
        ends = {tuple(line.get_xydata().shape) for line in figure.axes[0].lines}
        assert ends <= {(len(each), 2) for _, each in first.groupby(["path", "success"])} | {(1, 2)}
        table = maze_trajectories.summarise(rows)
        assert (list(table.index), list(table.columns)) == (sorted(mazes), names)

    @pytest.mark.parametrize(
        "changes",
        [{}, {"tasks": ("countdown",), "seeds": 1}, {"estimators": ("rloo",), "samples": 4}],
        ids=["all", "one task and seed", "one method, few samples"],
    )
    def test_data_scarce(self, tmp_path, changes):
        rows = run_smoke(data_scarce_experiment, tmp_path, **changes)
        figure = data_scarce.draw(rows)
        drawn(figure)
        tasks = changes.get("tasks", ("modular_sum", "countdown"))
        names = changes.get("estimators", ("rloo", "grpo", "maxrl"))
        assert len(figure.axes) == 4 * len(tasks)
        for place, task in enumerate(tasks):
            own = rows[(rows.task == task) & (rows.estimator == names[0])]
            line = figure.axes[4 * place + 1].lines[0]
            found = own[(own["view"] == "evaluation") & (own.k == 1)].groupby("epoch").pass_at_k.mean()
            assert line.get_xdata().tolist() == found.index.tolist() == [0, 2]
            assert line.get_ydata().tolist() == pytest.approx(found.tolist())
            # two updates an epoch
            dynamics = own[own["view"] == "dynamics"]
            means = dynamics.groupby(((dynamics.step - 1) // 2) + 1).pass_rate.mean()
            line = figure.axes[4 * place].lines[0]
            assert line.get_xdata().tolist() == means.index.tolist() == [1, 2]
            assert line.get_ydata().tolist() == pytest.approx(means.tolist())
        assert len(data_scarce.summarise(rows)) == len(tasks) * (len(names) + 1)

    @pytest.mark.parametrize(
        "changes",
        [{}, {"estimators": ("maxrl",), "surrogates": ("token_mean",), "long": (30,)}],
        ids=["all", "one of each"],
    )
    def test_length_bias(self, tmp_path, changes):
        rows = run_smoke(length_bias_experiment, tmp_path, **changes)
        figure = length_bias.draw(rows)
        drawn(figure)
        names = changes.get("estimators", ("rloo", "grpo", "maxrl"))
        assert [ax.get_title() for ax in figure.axes] == list(map(style.label, names))
        own = rows[(rows.estimator == names[0]) & (rows.surrogate == "token_mean")]
        line = line_called(figure.axes[0], "mean over the batch's tokens")
        assert line.get_xdata().tolist() == (own.long / own.short).tolist()
        assert line.get_ydata().tolist() == own.drift.tolist()
        assert length_bias.summarise(rows).shape == (
            len(names) * len(changes.get("surrogates", (0, 0, 0))),
            len(changes.get("long", (0, 0))),
        )
