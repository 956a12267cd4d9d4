"""Figures of classification: what is shown is what the tables say, diverged runs included."""

import numpy as np
import pytest
from panels import drawn, smoke_tables

from experiments.classification import classification as classification_experiment
from experiments.classification import gradient_norms as gradient_norms_experiment
from figures.classification import classification, gradient_norms


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    return smoke_tables(classification_experiment, tmp_path_factory.mktemp("classification"))


class TestClassification:
    def test_columns_are_n_and_curves_are_means_over_seeds(self, smoke):
        tables, settings = smoke
        figure = classification.plot(tables, settings)
        assert len(drawn(figure)) == 5 * len(settings.rollouts)
        curves = tables["curves"]
        own = curves[(curves.method == "grpo") & (curves.rollouts == 16)]
        (line,) = [line for line in figure.axes[1].lines if line.get_label().startswith("GRPO (lr ")]
        assert line.get_ydata().tolist() == pytest.approx(own.groupby("step").pass_at_1.mean().tolist())
        assert "mean and 95% t interval over 2 seeds" in figure.get_suptitle()
        assert "final pass@1 at N = 16: MaxRL" in figure.get_suptitle()
        assert len(classification.summarise(tables, settings)) == 1 + 3 * len(settings.rollouts)

    @pytest.mark.parametrize(
        "changes", [{"seeds": 1}, {"estimators": ("rloo",), "rollouts": (4,)}], ids=["one seed", "without MaxRL"]
    )
    def test_variations(self, tmp_path, changes):
        tables, settings = smoke_tables(classification_experiment, tmp_path, **changes)
        figure = classification.plot(tables, settings)
        drawn(figure)
        assert ("one seed, so no interval" in figure.get_suptitle()) == (settings.seeds == 1)
        assert ("MaxRL" in figure.get_suptitle()) == ("maxrl" in settings.estimators)
        shown = classification.summarise(tables, settings).to_numpy().flatten()
        assert all(("(one seed)" in text) == (settings.seeds == 1) for text in shown)

    def test_a_run_that_diverged_leaves_a_gap_and_is_named(self, smoke):
        tables, settings = smoke
        tables = {name: rows.copy() for name, rows in tables.items()}
        metrics = ["train_pass_at_1", "pass_at_1", "pass_at_128", "top_1", "coverage"]
        for rows in tables.values():
            lost = (rows.method == "maxrl") & (rows.rollouts == 4) & (rows.seed == 1) & (rows.step > 3)
            rows.loc[lost, rows.columns.intersection(metrics)] = np.nan
        figure = classification.plot(tables, settings)
        drawn(figure)
        (line,) = [line for line in figure.axes[0].lines if line.get_label().startswith("MaxRL")]
        assert line.get_label().endswith(" (1 of 2 seeds diverged)")
        assert np.isnan(line.get_ydata()).tolist() == [False, False, True]
        table = classification.summarise(tables, settings)
        cells = table.xs(("maxrl", 4), level=("method", "rollouts")).to_numpy().flatten()
        assert cells.tolist() == ["nan (1 of 2 seeds diverged)"] * 3

    def test_a_rate_of_the_sweep_at_which_a_run_diverged_has_no_mean(self, smoke):
        tables, settings = smoke
        sweep = tables["sweep"].copy()
        lost = (sweep.method == "maxrl") & (sweep.learning_rate == 1.0) & (sweep.seed == sweep.seed.min())
        sweep.loc[lost, "train_pass_at_1"] = np.nan
        figure = classification.plot({**tables, "sweep": sweep}, settings)
        (line,) = [line for line in figure.axes[-1].lines if line.get_label().startswith("MaxRL")]
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
