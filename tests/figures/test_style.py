"""One look: colours and names for all, wrong tables are refused, intervals are those of the rows, nobody's rcParams."""

import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from extra_tests import installed_experiments
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from experiments.catalogue import EXPERIMENTS
from figures import style
from maxrl_lab import estimators, objectives
from maxrl_lab.audit import audit as run_audit
from maxrl_lab.audit import picture as audit
from maxrl_lab.errors import InputError
from maxrl_lab.training import surrogates


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


class TestTables:
    """Every figure says which columns of which tables it reads, and refuses tables without them."""

    @pytest.mark.parametrize("name", installed_experiments())
    def test_tables_without_the_columns_are_refused(self, name):
        figure, settings = EXPERIMENTS[name].figure(), EXPERIMENTS[name].load().PRESETS["smoke"]
        whole = {table: pd.DataFrame({column: [1] for column in columns}) for table, columns in figure.COLUMNS.items()}
        for table, columns in figure.COLUMNS.items():
            without = whole[table].drop(columns=columns[-1])
            with pytest.raises(InputError, match=f"expected {table} with the columns .*; missing: {columns[-1]}"):
                figure.plot({**whole, table: without}, settings)
            with pytest.raises(InputError, match="missing: rows"):
                figure.plot({**whole, table: whole[table][:0]}, settings)
            with pytest.raises(InputError, match=f"expected the tables .*; missing: {table}"):
                figure.plot({other: whole[other] for other in whole if other != table}, settings)


IMPORT_ALL = """
import os
import matplotlib
before = dict(matplotlib.rcParams), dict(os.environ)
from experiments.catalogue import EXPERIMENTS
for entry in EXPERIMENTS.values():
    entry.figure()
assert (dict(matplotlib.rcParams), dict(os.environ)) == before
"""


class TestLook:
    def test_importing_every_figure_changes_no_setting(self):
        subprocess.run([sys.executable, "-c", IMPORT_ALL], check=True, timeout=120)

    def test_a_figure_has_the_look_and_matplotlib_has_the_users_settings_again(self):
        @style.styled
        def plot(fails):
            figure = Figure()
            figure.subplots().set_title("title")
            if fails:
                raise RuntimeError("a fault")
            return figure

        with mpl.rc_context({"axes.spines.top": True, "axes.titlesize": 30}):
            before = dict(mpl.rcParams)
            ax = plot(False).axes[0]
            assert not ax.spines["top"].get_visible()
            assert ax.title.get_fontsize() == style.LOOK["axes.titlesize"]
            with pytest.raises(RuntimeError, match="a fault"):
                plot(True)
            assert dict(mpl.rcParams) == before

    def test_saved_pictures_do_not_depend_on_the_users_settings(self, tmp_path):
        @style.styled
        def plot():
            figure = Figure()
            figure.subplots().plot([1, 2, 3])
            return figure

        style.save(plot(), tmp_path / "one.png")
        with mpl.rc_context({"font.size": 30, "axes.grid": False, "xtick.labelsize": "large"}):
            style.save(plot(), tmp_path / "two.png")
        with mpl.rc_context({"font.size": 30}):
            style.save(plot(), tmp_path / "three.png")
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "three.png").read_bytes()
        assert (tmp_path / "one.png").read_bytes() != (tmp_path / "two.png").read_bytes()  # xtick is not of the look


def test_labels():
    assert style.label("pkpo:k=4") == "PKPO k=4"
    assert style.label("truncated_likelihood:order=8") == "order T=8"
    assert style.label("pass_at_k:k=8") == "pass@8"
    assert style.label("maxrl") == "MaxRL, Algorithm 1"
    assert style.label("grpo:epsilon=1e+20") == "GRPO epsilon=1e+20"
    assert style.colour("grpo:epsilon=1e+20") == style.colour("grpo")


def rows_of(*values, seeds=None):
    """Long rows of y at x = 0, 1, ... for each seed."""
    return pd.DataFrame(
        {"seed": seed, "x": x, "y": y}
        for seed, ys in zip(seeds or range(len(values)), values, strict=True)
        for x, y in enumerate(ys)
    )


class TestIntervals:
    NAN = float("nan")

    def test_a_band_is_the_mean_over_seeds_and_its_interval(self):
        ax = Figure().subplots()
        style.band(ax, rows_of([1.0, 2.0], [3.0, 2.0]), "x", "y", "maxrl")
        assert ax.lines[0].get_ydata().tolist() == [2.0, 2.0]
        assert ax.lines[0].get_label() == "MaxRL, Algorithm 1"
        corners = ax.collections[0].get_paths()[0].vertices[:, 1]
        # of 1 and 3: s = sqrt(2), so s / sqrt(2) = 1, and t_{0.975}(1) = 12.7062 in every table
        assert (corners.min(), corners.max()) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)

    def test_a_seed_that_is_there_twice_is_refused_and_never_averaged(self):
        rows = rows_of([1.0, 2.0], [3.0, 4.0], seeds=[0, 0])
        with pytest.raises(InputError, match="expected one row for each seed and x, got two with seed 0, x 0"):
            style.over_seeds(rows, "x", "y")
        with pytest.raises(InputError, match="expected one row for each seed and x, got two with seed 0, x 0"):
            style.final_table(rows, ["x"], ["y"])

    def test_a_seed_without_a_row_at_some_x_is_refused(self):
        with pytest.raises(InputError, match="expected a row for each seed at every x, got 3 rows for 4"):
            style.over_seeds(rows_of([1.0, 2.0], [3.0]), "x", "y")

    def test_one_seed_has_a_line_and_no_band(self):
        ax = Figure().subplots()
        style.band(ax, rows_of([1.0, 2.0]), "x", "y", "maxrl")
        assert ax.lines[0].get_ydata().tolist() == [1.0, 2.0]
        assert all(len(path.vertices) == 0 for path in ax.collections[0].get_paths())
        assert style.interval_text(np.array([0.25])) == "0.2500 (one seed)"

    def test_a_seed_that_diverged_leaves_a_gap_and_is_counted_in_the_legend(self):
        ax = Figure().subplots()
        style.band(ax, rows_of([1.0, 2.0, 3.0], [3.0, self.NAN, self.NAN], [2.0, 2.0, 3.0]), "x", "y", "rloo")
        assert ax.lines[0].get_label() == "RLOO (1 of 3 seeds diverged)"
        assert ax.lines[0].get_ydata()[0] == 2.0
        assert np.isnan(ax.lines[0].get_ydata()).tolist() == [False, True, True]
        assert style.interval_text(np.array([1.0, self.NAN, self.NAN])) == "nan (2 of 3 seeds diverged)"

    def test_a_gap_at_one_x_leaves_the_intervals_at_the_others(self):
        whole = style.over_seeds(rows_of([1.0, 2.0], [3.0, 4.0], [0.0, 7.0]), "x", "y")[1]
        gap = style.over_seeds(rows_of([1.0, self.NAN], [3.0, 4.0], [0.0, 7.0]), "x", "y")[1]
        assert [part[0] for part in gap] == [part[0] for part in whole]
        assert all(np.isnan(part[1]) for part in gap)

    def test_means_are_nan_where_a_run_diverged(self):
        assert style.means(rows_of([1.0, 2.0], [3.0, 4.0]), "x", "y").tolist() == [2.0, 3.0]
        assert np.isnan(style.means(rows_of([1.0, self.NAN], [3.0, 4.0]), "x", "y")).tolist() == [False, True]

    def test_a_table_has_a_line_for_each_combination(self):
        rows = pd.concat([rows_of([1.0], [3.0]).assign(method="a"), rows_of([2.0], [2.0]).assign(method="b")])
        table = style.final_table(rows, ["method", "x"], ["y"])
        assert table.y.to_dict() == {("a", 0): "2.0000 [-10.7062, 14.7062]", ("b", 0): "2.0000 [2.0000, 2.0000]"}


def test_saved_pictures_are_reproducible(tmp_path):
    for name in ("one.png", "two.png"):
        style.save(audit.plot(run_audit("grpo", rollouts=4)), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_plain_x_writes_the_values_that_are_there():
    ax = Figure().subplots()
    ax.set_xscale("log")
    style.plain_x(ax, [128, 4, 16, 4])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "16", "128"]
    assert ax.get_xticks(minor=True).tolist() == []


def test_of_many_values_every_second_one_is_written():
    ax = Figure().subplots()
    ax.set_xscale("log")
    style.plain_x(ax, [2**power for power in range(9)])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "", "4", "", "16", "", "64", "", "256"]
    style.plain_x(ax, [2**power for power in range(8)])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["", "2", "", "8", "", "32", "", "128"]


def test_seeds_text():
    assert style.seeds_text(5) == "mean and 95% t interval over 5 seeds"
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
            ("grpo | greedy_gate", "greedy_gate", "GRPO + SELF"),
            ("grpo|greedy_gate", "greedy_gate", "GRPO + SELF"),
            ("pkpo:k=N/2 | token_mean", "token_mean", "PKPO k=N/2 + mean over the batch's tokens"),
            (
                "grpo | entropy_bonus:coefficient=0.01",
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
        specs = ["grpo", *(f"grpo | {name}" for name in surrogates.SURROGATES)]
        assert len({style.label(each) for each in specs}) == len(specs)
        colours = [style.colour(each) for each in specs]
        for place, a in enumerate(specs):
            for b in specs[:place]:
                distance = np.linalg.norm(np.subtract(*(to_rgb(style.colour(each)) for each in (a, b))))
                assert distance > (0.15 if style.dashes(a) == style.dashes(b) else 0.1)
        assert len(set(colours)) == len(specs)


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("curves", [2, 9])
def test_a_legend_above_curves_covers_none(scale, curves):
    figure = Figure(figsize=(5, 3.5))
    ax = figure.subplots()
    for curve in range(curves):
        ax.plot([0, 1], [0.01 * (curve + 1), 1.0], label=f"curve {curve}")
    ax.set_yscale(scale)
    style.legend_above_curves(ax)
    figure.canvas.draw()
    bottom = ax.get_legend().get_window_extent().y0
    highest = ax.transData.transform((1, 1.0))[1]
    assert bottom > highest
    assert ax.get_legend().get_window_extent().y1 <= ax.bbox.y1
    assert highest > ax.bbox.y0 + 0.4 * ax.bbox.height


class TestPanelsWithoutAFiniteValue:
    """Every run has diverged: the panel is empty, and the picture is made."""

    @pytest.mark.filterwarnings("error:Attempt to set non-positive")
    @pytest.mark.parametrize("legend", [False, True])
    @pytest.mark.parametrize("scales", [("log", "log"), ("log", "linear"), ("linear", "log")])
    def test_the_picture_is_made(self, scales, legend):
        @style.styled
        def plot():
            figure = Figure()
            ax = figure.subplots()
            ax.plot([4.0, 16.0], [np.nan, np.nan], label="RLOO (2 of 2 seeds diverged)")
            ax.set(xscale=scales[0], yscale=scales[1])
            if legend:
                style.legend_above_curves(ax)
            if scales[0] == "log":
                style.plain_x(ax, [4.0, 16.0])
            return figure

        figure = plot()
        figure.savefig(io.BytesIO())
        limits = dict(zip(("x", "y"), (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()), strict=True))
        assert all(low > 0 for axis, (low, _) in limits.items() if scales["xy".index(axis)] == "log")

    def test_other_limits_stay(self):
        figure = Figure()
        log, linear = figure.subplots(1, 2)
        log.plot([1.0, 2.0], [np.nan, 0.5])
        log.set(yscale="log", ylim=(0.01, 1.0))
        linear.plot([1.0], [np.nan])
        before = log.get_ylim(), linear.get_ylim()
        style.keep_limits_positive(log)
        style.keep_limits_positive(linear)
        assert (log.get_ylim(), linear.get_ylim()) == before


def test_a_picture_in_256_colours_keeps_areas_exactly_and_thin_lines_nearly():
    pixels = np.random.default_rng(0).integers(150, 256, (200, 300, 3), dtype=np.uint8)  # thousands of pale colours
    pixels[:80], pixels[80:160] = (247, 223, 204), (250, 236, 204)  # bands of MaxRL and of GRPO
    pixels[190, :20], pixels[192, :20] = (0, 114, 178), (51, 34, 136)  # RLOO and leave-one-out
    reduced = np.asarray(style.in_256_colours(Image.fromarray(pixels)).convert("RGB"))
    assert (reduced[:160] == pixels[:160]).all()
    for line in (190, 192):
        assert np.abs(reduced[line, :20].astype(int) - pixels[line, :20]).max() <= 8


class TestTitles:
    """Titles fit into their picture, which is as wide as it has panels."""

    LONG = "every point is exact, no evaluation noise; " * 4

    def drawn(self, columns=1, **titles):
        @style.styled
        def plot():
            figure = Figure(figsize=(4 * columns, 3))
            axes = figure.subplots(1, columns, squeeze=False)
            figure.suptitle(titles.get("figure", ""), fontsize=13)
            axes[0, -1].set_title(titles.get("panel", ""))
            return figure

        figure = plot()
        figure.draw_without_rendering()
        return figure

    def test_a_long_one_is_broken_between_words(self):
        figure = self.drawn(figure=f"Short\n{self.LONG}", panel=self.LONG)
        for title in (figure._suptitle, figure.axes[0].title):
            box = title.get_window_extent()
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.width
            assert title.get_text().replace("\n", " ").split() == title.get_text().split()
        assert figure.get_suptitle().startswith("Short\n")
        assert " ".join(figure.get_suptitle().split()) == f"Short {self.LONG.strip()}"

    def test_a_panel_has_its_column_for_its_title(self):
        figure = self.drawn(columns=3, panel=self.LONG)
        box = figure.axes[-1].title.get_window_extent()
        assert box.width <= figure.bbox.width / 3
        assert box.x1 <= figure.bbox.width

    def test_what_fits_and_formulas_stay(self):
        short, formula = "pass@1 and\npass@64", "$w_N(p)$ " * 20 + "and $a (K)$"
        figure = self.drawn(figure=short, panel=formula)
        assert figure.get_suptitle() == short
        assert figure.axes[0].get_title() == formula

    def test_one_word_that_is_too_long_stays_whole(self):
        assert self.drawn(figure="pass" * 60).get_suptitle() == "pass" * 60
