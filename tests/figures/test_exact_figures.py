"""Figures of exact experiments: what is drawn is what the rows say."""

import pandas as pd
import pytest
from panels import drawn, line_called, run_smoke

from experiments.exact import length_bias as length_bias_experiment
from figures import style
from figures.exact import length_bias, likelihood_limit


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


def test_objectives_are_drawn_in_the_order_from_rl_to_likelihood():
    names = ["maximum_likelihood", "pass_at_k:k=4", "truncated_likelihood:order=64", "expected_reward"]
    assert sorted(names, key=likelihood_limit._order) == [names[3], names[1], names[2], names[0]]


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
