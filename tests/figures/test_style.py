"""One look: every estimator has a colour and a name, wrong rows are refused, bands and intervals are those of the rows."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from experiments.catalogue import EXPERIMENTS
from figures import style
from maxrl_lab import estimators, objectives
from maxrl_lab.audit import audit as run_audit
from maxrl_lab.audit import picture as audit
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


def test_saved_pictures_are_reproducible(tmp_path):
    for name in ("one.png", "two.png"):
        style.save(audit.draw(run_audit("grpo", rollouts=4)), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


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
            ("grpo | greedy_gate", "greedy_gate", "GRPO + SELF"),
            ("grpo+greedy_gate", "greedy_gate", "GRPO + SELF"),
            ("pkpo:k=N/2 + token_mean", "token_mean", "PKPO k=N/2 + mean over the batch's tokens"),
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
        specs = ["grpo", *(f"grpo + {name}" for name in surrogates.SURROGATES)]
        assert len({style.label(each) for each in specs}) == len(specs)
        colours = [style.colour(each) for each in specs]
        for place, a in enumerate(specs):
            for b in specs[:place]:
                distance = np.linalg.norm(np.subtract(*(to_rgb(style.colour(each)) for each in (a, b))))
                assert distance > (0.15 if style.dashes(a) == style.dashes(b) else 0.1)
        assert len(set(colours)) == len(specs)
