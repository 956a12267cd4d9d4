"""Figures of classification: what is shown is what the tables say, diverged runs included."""

import io

import numpy as np
import pytest
from panels import drawn, line_called, panel, smoke_tables

from experiments.classification import classification as classification_experiment
from experiments.classification import gradient_norms as gradient_norms_experiment
from figures.classification import classification, gradient_norms


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    return smoke_tables(classification_experiment, tmp_path_factory.mktemp("classification"))


class TestClassification:
    def test_curves_are_means_over_seeds_at_the_largest_n(self, smoke):
        tables, settings = smoke
        figure = classification.plot(tables, settings)
        assert len(drawn(figure)) == 6
        curves = tables["curves"]
        runs = curves[(curves.method == "grpo") & (curves.rollouts == 16)]
        line = line_called(panel(figure, "learning at N = 16"), "GRPO")
        assert line.get_ydata().tolist() == pytest.approx(runs.groupby("step").pass_at_1.mean().tolist())
        assert "mean and 95% t interval over 2 seeds" in figure.get_suptitle()
        assert len(classification.summarise(tables, settings)) == 1 + 4 * len(settings.rollouts)

    def test_cross_entropy_is_a_level_line_against_n(self, smoke):
        tables, settings = smoke
        line = line_called(panel(classification.plot(tables, settings), "final pass@1"), "cross-entropy")
        curves = tables["curves"]
        final = curves[(curves.kind == "exact") & (curves.step == settings.steps)].pass_at_1.mean()
        assert line.get_xdata().tolist() == [4, 16]
        assert line.get_ydata().tolist() == pytest.approx([final, final])

    def test_the_distance_of_the_exact_mean_is_bias_alone(self, smoke):
        tables, settings = smoke
        ax = panel(classification.plot(tables, settings), "behind cross-entropy")
        curves = tables["curves"]
        final = curves[curves.step == settings.steps]
        likelihood = final[final.kind == "exact"].set_index("seed").pass_at_1
        for kind, what in (("sampled", "bias and noise"), ("expected", "bias alone")):
            gaps = [
                (likelihood - runs.set_index("seed").pass_at_1).mean()
                for _, runs in final[(final.kind == kind) & (final.method == "maxrl")].groupby("rollouts")
            ]
            line = line_called(ax, f"MaxRL, Algorithm 1: {what}")
            assert line.get_ydata().tolist() == pytest.approx(gaps)

    def test_without_a_sweep_the_rates_are_shown(self, smoke):
        tables, settings = smoke
        known = {name: rows for name, rows in tables.items() if name != "sweep"}
        ax = panel(classification.plot(known, settings), "learning rates, chosen before")
        curves = tables["curves"]
        rates = curves[(curves.method == "grpo")].groupby("rollouts").learning_rate.first()
        assert line_called(ax, "GRPO").get_ydata().tolist() == pytest.approx(rates.tolist())

    def test_the_legend_is_below_the_panels(self, smoke):
        (legend,) = classification.plot(*smoke).legends
        texts = [text.get_text() for text in legend.get_texts()]
        assert texts[0] == "cross-entropy"
        assert len(texts) == len(set(texts)) == 5

    @pytest.mark.parametrize(
        "changes",
        [{"seeds": 1}, {"estimators": ("rloo",), "rollouts": (4,)}, {"expected": ()}],
        ids=["one seed", "one N, and a mean of another estimator", "no exact means"],
    )
    def test_variations(self, tmp_path, changes):
        tables, settings = smoke_tables(classification_experiment, tmp_path, **changes)
        figure = classification.plot(tables, settings)
        assert len(drawn(figure)) == (6 if "seeds" in changes else 5)
        assert ("one seed, so no interval" in figure.get_suptitle()) == (settings.seeds == 1)
        shown = classification.summarise(tables, settings).to_numpy().flatten()
        assert all(("(one seed)" in text) == (settings.seeds == 1) for text in shown)

    def test_a_run_that_diverged_leaves_a_gap_and_is_named(self, smoke):
        tables, settings = smoke
        tables = {name: rows.copy() for name, rows in tables.items()}
        metrics = ["train_pass_at_1", "pass_at_1", "pass_at_128", "top_1", "coverage"]
        for rows in tables.values():
            lost = (rows.kind == "sampled") & (rows.method == "maxrl") & (rows.rollouts == 16) & (rows.seed == 1)
            rows.loc[lost & (rows.step > 3), rows.columns.intersection(metrics)] = np.nan
        figure = classification.plot(tables, settings)
        drawn(figure)
        line = line_called(panel(figure, "learning at"), "MaxRL, Algorithm 1 (1 of 2 seeds diverged)")
        assert np.isnan(line.get_ydata()).tolist() == [False, False, True]
        table = classification.summarise(tables, settings)
        cells = table.xs(("sampled", "maxrl", 16), level=("kind", "method", "rollouts")).to_numpy().flatten()
        assert cells.tolist() == ["nan (1 of 2 seeds diverged)"] * 3

    def test_nothing_but_gaps_where_every_run_diverged(self, smoke):
        tables, settings = smoke
        tables = {name: rows.copy() for name, rows in tables.items()}
        metrics = ["train_pass_at_1", "pass_at_1", "pass_at_128", "coverage"]
        for rows in tables.values():
            rows.loc[rows.step > 0, rows.columns.intersection(metrics)] = np.nan
        figure = classification.plot(tables, settings)
        figure.savefig(io.BytesIO())
        labels = panel(figure, "coverage at").get_legend_handles_labels()[1]
        assert labels
        assert all(label.endswith(" (2 of 2 seeds diverged)") for label in labels)

    def test_a_rate_of_the_sweep_at_which_a_run_diverged_has_no_mean(self, smoke):
        tables, settings = smoke
        sweep = tables["sweep"].copy()
        lost = (sweep.kind == "sampled") & (sweep.method == "maxrl") & (sweep.learning_rate == 1.0)
        sweep.loc[lost & (sweep.seed == sweep.seed.min()), "train_pass_at_1"] = np.nan
        figure = classification.plot({**tables, "sweep": sweep}, settings)
        line = line_called(panel(figure, "sweep at N = 16"), "MaxRL, Algorithm 1")
        assert np.isnan(line.get_ydata()).tolist() == [False, True]


class TestGradientNorms:
    @pytest.mark.parametrize(
        "changes",
        [{"examples": 120}, {"examples": 120, "seeds": 1, "rollouts": (4, 16)}],
        ids=["two networks", "one network"],
    )
    def test_medians_of_bins(self, tmp_path, changes):
        tables, settings = smoke_tables(gradient_norms_experiment, tmp_path, **changes)
        figure = gradient_norms.plot(tables, settings)
        assert len(drawn(figure)) == 1 + len(settings.rollouts)
        assert ("one network" in figure.get_suptitle()) == (settings.seeds == 1)
        assert "120 training images" in figure.get_suptitle()
        rows = tables["rows"]
        own = rows[rows.curve == "expected_reward"]
        edges = gradient_norms._BINS
        (line,) = [line for line in figure.axes[0].lines if line.get_label() == "expected reward (RL)"]
        assert len(line.get_xdata()) > 0
        for at, height in zip(line.get_xdata(), line.get_ydata(), strict=True):
            place = np.searchsorted(edges, at)
            inside = own[(own.pass_rate > edges[place - 1]) & (own.pass_rate <= edges[place])]
            assert height == pytest.approx(inside.groupby("seed").gradient_norm.median().mean())
        table = gradient_norms.summarise(tables, settings)
        assert len(table) == len(settings.objectives) + len(settings.estimators) * len(settings.rollouts)
