"""What `diffusion_likelihood` promises beside its claims: exact rows at smoke size, equal passes, and bad settings."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments.catalogue import EXPERIMENTS
from experiments.denoising import diffusion_likelihood
from figures.denoising import diffusion_likelihood as figure
from maxrl_lab.errors import InputError
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context

SMOKE = replace(diffusion_likelihood.PRESETS["smoke"], processes=1)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    context = Context(torch.device("cpu"), Checkpoint(Path(tmp_path_factory.mktemp("run")) / "run"), quiet=True)
    made = diffusion_likelihood.run(SMOKE, context)
    return {name: pd.DataFrame(rows) for name, rows in made.items()}


def test_what_is_exact_is_exact(tables):
    moments = tables["moments"]
    assert len(moments) == SMOKE.seeds * SMOKE.measured_prompts * len(SMOKE.estimators) * len(SMOKE.surrogates)
    assert moments[moments.surrogate == "path"].relative_bias.max() < 1e-12
    assert moments.residual.max() < 1e-12
    centred = moments[moments.estimator.isin(["rloo", "maxrl"])]
    assert centred.drift.max() < 1e-12
    assert moments[(moments.estimator == "maxrl_no_baseline") & (moments.surrogate == "elbo")].drift.min() > 0
    few, many = (moments[moments.surrogate == name].relative_bias.tolist() for name in ("elbo", "elbo:samples=4"))
    assert few == pytest.approx(many, abs=1e-12)  # masks buy noise only
    gaps = tables["gaps"]
    assert gaps[gaps.block == 1].gap.abs().max() < 1e-12
    assert gaps[gaps.block.notna()].above.max() == 0
    assert gaps[gaps.block == 4].gap.min() > 0


def test_the_bias_is_the_same_for_all_centred_tables(tables):
    moments = tables["moments"].set_index(["seed", "prompt", "surrogate"])
    biases = [moments[moments.estimator == name].relative_bias for name in ("rloo", "maxrl")]
    assert (biases[0] - biases[1]).abs().max() < 1e-12


def test_every_objective_starts_where_no_policy_has_moved(tables):
    start = tables["off_policy"][tables["off_policy"].steps == 0]
    assert start.groupby("seed").value.agg(lambda values: values.max() - values.min()).max() < 1e-12
    assert start.spread.max() < 1e-6
    assert set(start.objective) == {"true", "bound", "vrpo:samples=1", "vrpo:samples=2", "bgpo"}


def test_equal_passes_in_training_and_rates_from_the_sweep(tables):
    last = tables["training"][tables["training"].share == 1].set_index(["method", "rollouts", "seed"])
    assert set(last.loc["path"].updates) == {2}
    assert set(last.loc["elbo"].updates) == set(last.loc["mean_field"].updates) == {8}
    best = tables["sweep"].groupby(["method", "learning_rate"]).pass_rate.mean().groupby("method").idxmax()
    for name, (_, rate) in best.items():
        assert set(last.loc[name].learning_rate) == {rate}


def test_claims_of_identities_hold_at_any_size(tables):
    claims = {item.name: item for item in EXPERIMENTS["diffusion_likelihood"].claims(tables, SMOKE)}
    exact = ["the_weight_outlives_a_surrogate", "centred_tables_do_not_drift", "mean_field_sees_no_sum"]
    exact += ["bgpo_keeps_one_graph", "no_gap_at_blocks_of_one"]
    assert {claims[name].verdict for name in exact} == {"holds"}
    assert {"bias_of_mean_field_above_two_times", "mean_field_trains_better_than_the_path_at_4"} <= set(claims)


def test_the_figure_has_a_panel_for_each_question(tables):
    panels = figure.plot(tables, SMOKE).axes
    assert len(panels) == 6
    assert all(panel.get_title() and panel.get_ylabel() for panel in panels)
    summary = figure.summarise(tables, SMOKE)
    assert ("elbo", "maxrl") in summary.index
    with pytest.raises(InputError, match="missing: gaps"):
        figure.plot({name: table for name, table in tables.items() if name != "gaps"}, SMOKE)


def test_known_rates_need_no_sweep():
    names = [f"{name}, N = {count}: 0.01" for name in SMOKE.trained for count in SMOKE.rollouts]
    assert diffusion_likelihood._swept(replace(SMOKE, fixed_rates=tuple(names))) == []
    some = diffusion_likelihood._swept(replace(SMOKE, fixed_rates=tuple(names[2:])))
    assert {trial.surrogate for trial in some} == {SMOKE.trained[0]}
    assert {(trial.rollouts, trial.seed) for trial in some} == {(4, SMOKE.seeds)}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"length": 3}, "needs an even length, got 3"),
        ({"length": 6, "base": 6}, r"at most 50000 states \(base \+ 1\)\^length, got 7\^6 = 117649"),
        ({"group": 1}, "group must be a whole number >= 2, got 1"),
        ({"noise": -0.1}, r"noise must lie in \[0, 1\]"),
        ({"surrogates": ("path", "likelihood")}, "unknown surrogate 'likelihood'"),
        ({"surrogates": ("path", "anchors:count=9")}, "1 to 4 anchors for 4 places"),
        ({"estimators": ("pkpo:k=8",)}, "k"),
        ({"rollouts": (4, 0)}, "rollouts must be a whole number >= 1, got 0"),
        ({"trained": ("elbo:samples=64",)}, "pay for none of elbo:samples=64"),
        ({"measured_prompts": 4}, "at most the 3 prompts, got 4"),
        ({"prompts": 1000, "measured_prompts": 1}, "got a request for 1000"),
    ],
)
def test_bad_settings_are_named_in_one_line(changed, words):
    with pytest.raises(InputError, match=words) as caught:
        replace(SMOKE, **changed)
    assert "\n" not in str(caught.value)
