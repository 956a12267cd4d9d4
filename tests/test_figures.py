"""Figures: every estimator has a colour and a name, wrong rows are refused, what is drawn is what the rows say."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from experiments import EXPERIMENTS
from figures import FIGURES, audit, likelihood_limit, style
from maxrl_lab import estimators, objectives
from maxrl_lab.audit import audit as run_audit


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
