"""What the experiments claim, checked on their rows at the smoke preset."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments import EXPERIMENTS
from experiments._shared import EVERY_ESTIMATOR
from experiments.classification import classification, gradient_norms
from experiments.exact import bias_variance, likelihood_limit, unbiasedness, weight_functions
from maxrl_lab import estimators, exact, specs
from maxrl_lab.policies.stack import mlp, seeded
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.training.sweep import choose_learning_rates


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(torch.device("cpu"), Checkpoint(tmp_path / "checkpoint"), quiet=True)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_exist_and_grow(name):
    presets = EXPERIMENTS[name].PRESETS
    assert list(presets) == ["smoke", "quick", "full"]
    assert presets["smoke"] != presets["quick"] != presets["full"]


def test_every_estimator_of_the_lab_is_compared():
    assert {specs.parse(name, 8)[0] for name in EVERY_ESTIMATOR} == set(estimators.ESTIMATORS)


def test_weight_functions_are_the_exact_ones(context):
    rows = pd.DataFrame(weight_functions.run(weight_functions.PRESETS["smoke"], context))
    rloo = rows[(rows["name"] == "rloo") & (rows.rollouts == 4)]
    assert rloo.weight.tolist() == pytest.approx([1.0] * len(rloo))
    likelihood = rows[rows["name"] == "maximum_likelihood"]
    assert (likelihood.weight * likelihood.pass_rate).tolist() == pytest.approx([1.0] * len(likelihood))
    # the pass rates are symmetric about 1/2 and reach the edge that was asked for
    assert rloo.pass_rate.min() == pytest.approx(1e-3)
    assert (rloo.pass_rate + rloo.pass_rate[::-1].to_numpy()).tolist() == pytest.approx([1.0] * len(rloo))


def test_unbiasedness_names_objectives_and_the_sampling_path_agrees(context):
    """A correct table fails with probability 0.01 over seeds (Bonferroni); the seed is fixed."""
    settings = replace(unbiasedness.PRESETS["smoke"], groups=4000, batches=2)
    rows = pd.DataFrame(unbiasedness.run(settings, context)).set_index(["estimator", "rollouts"])
    assert rows.loc[("maxrl", 4), "objective"] == "truncated_likelihood:order=3"
    assert rows.loc[("maxrl_leave_one_out", 4), "objective"] == "truncated_likelihood:order=4"
    assert rows.loc[("mean_centred", 4), "scale"] == pytest.approx(0.75)
    assert rows.loc[("grpo", 2), "objective"] == "expected_reward"
    assert pd.isna(rows.loc[("grpo", 4), "objective"])
    assert (rows.z.abs() < settings.threshold).all()
    # 22 cells at a family rate of 1%: z beyond the 1 - 0.01/44 quantile of the normal
    assert settings.threshold == pytest.approx(3.51, abs=0.01)
    # the check has power: the standard error is small against the differences between objectives
    assert rows.standard_error.max() < 0.1


def test_unbiasedness_would_notice_a_biased_sampling_path(context, monkeypatch):
    """Algorithm 1 sampled where the leave-one-out form is claimed: order N-1 instead of N, off by (1-p)^(N-1)."""
    honest = unbiasedness._sampled_weights
    swapped = replace(unbiasedness.PRESETS["smoke"], estimators=("maxrl",), groups=20_000, rollouts=(4,))
    monkeypatch.setattr(
        unbiasedness, "_sampled_weights", lambda settings, count, device: honest(swapped, count, device)
    )
    settings = replace(swapped, estimators=("maxrl_leave_one_out",))
    (row,) = unbiasedness.run(settings, context)
    assert row["z"] < -settings.threshold


def test_unbiasedness_of_a_policy_that_never_succeeds_is_no_error(context):
    settings = replace(unbiasedness.PRESETS["smoke"], pass_rate=1e-9, groups=10)
    rows = pd.DataFrame(unbiasedness.run(settings, context))
    assert (rows.standard_error == 0).any()


def test_bias_and_variance_add_up_and_match_the_library(context):
    rows = pd.DataFrame(bias_variance.run(bias_variance.PRESETS["smoke"], context))
    assert (rows.squared_bias + rows.variance).tolist() == pytest.approx(rows.mean_squared_error.tolist())
    row = rows[(rows.estimator == "rloo") & (rows.rollouts == 8) & (rows.pass_rate == 0.5)].iloc[0]
    # RL's weight is 1 where likelihood's is 2: half the gradient is missing, a squared bias of 1/4
    assert row.squared_bias == pytest.approx(0.25)
    # at a budget of 256, groups of 8 are averaged 32 times
    assert row.budget_mean_squared_error == pytest.approx(row.squared_bias + row.variance / 32)


def test_policy_of_bias_variance_has_the_pass_rate_asked_for():
    probabilities, scores, rewards = bias_variance.policy(0.03)
    assert float(probabilities.sum()) == pytest.approx(1.0)
    assert float(probabilities @ rewards) == pytest.approx(0.03)
    assert float((probabilities @ scores).abs().max()) < 1e-15


def test_likelihood_limit_measures_the_theory_and_follows_objectives(context):
    settings = likelihood_limit.PRESETS["smoke"]
    rows = pd.DataFrame(likelihood_limit.run(settings, context))
    distance = rows[rows["view"] == "distance"]
    assert distance.distance.tolist() == pytest.approx(((1 - distance.pass_rate) ** distance.order).tolist(), abs=1e-12)
    training = rows[rows["view"] == "training"]
    ends = training[training.step.isin([0, settings.steps])].groupby(["method", "step"]).pass_rate.mean().unstack()
    assert (ends[settings.steps] > ends[0]).all()  # every exact gradient climbs
    assert ends.loc["maximum_likelihood", settings.steps] > ends.loc["expected_reward", settings.steps]
    assert set(training.learning_rate) == set(settings.learning_rates)


def test_tasks_of_likelihood_limit_span_the_difficulties():
    tasks = likelihood_limit.TaskSet(likelihood_limit.PRESETS["quick"], 0, torch.device("cpu"))
    with torch.no_grad():
        p = tasks.policy()(tasks.inputs).softmax(1).gather(1, tasks.answers[:, None])
    assert float(p.min()) < 1e-5
    assert float(p.max()) > 0.3


def test_likelihood_limit_samples_nothing():
    with pytest.raises(ValueError, match="exact gradients only"):
        likelihood_limit.TaskBatch(torch.zeros(2, 3)).rollout([0, 1], 4)


def test_classification_reports_sweep_curves_and_coverage(context):
    settings = classification.PRESETS["smoke"]
    rows = pd.DataFrame(classification.run(settings, context))
    methods = 1 + len(settings.estimators) * len(settings.rollouts)
    counts = rows.stage.value_counts()
    assert counts["sweep"] == methods * len(settings.learning_rates) * settings.sweep_seeds
    assert counts["coverage"] == methods * settings.seeds * len(settings.coverage_ks)
    report = rows[rows.stage == "report"]
    assert sorted(report.step.unique()) == [0, 3, 6]
    # the sweep's seeds are not reported, and one rate is used for all seeds of a method
    assert not set(rows[rows.stage == "sweep"].seed) & set(report.seed)
    assert (report.fillna({"rollouts": 0}).groupby(["method", "rollouts"]).learning_rate.nunique() == 1).all()
    # untrained policies are right about once in 1000, and all methods of one seed start alike
    start = report[report.step == 0]
    assert start.pass_at_1.mean() == pytest.approx(1e-3, rel=0.2)
    assert (start.groupby("seed").pass_at_1.nunique() == 1).all()
    coverage = rows[(rows.stage == "coverage") & (rows.k == 128)].coverage.tolist()
    assert coverage == pytest.approx(report[report.step == settings.steps].pass_at_128.tolist())


def test_blocks_of_runs_change_no_result(context, tmp_path):
    settings = classification.PRESETS["smoke"]
    whole = pd.DataFrame(classification.run(settings, context))
    other = replace(context, checkpoint=Checkpoint(tmp_path / "other"))
    blocks = pd.DataFrame(classification.run(replace(settings, runs_at_once=3), other))
    key = ["stage", "method", "rollouts", "learning_rate", "seed", "step", "k"]
    whole, blocks = (rows.sort_values(key, ignore_index=True) for rows in (whole, blocks))
    # float32 sums are ordered differently in a batch of another size
    pd.testing.assert_frame_equal(whole, blocks, rtol=1e-4)


def test_learning_rates_are_chosen_by_training_pass_rate_and_never_diverged():
    def row(rate, score, method="maxrl", count=4):
        return {"method": method, "rollouts": count, "learning_rate": rate, "train_pass_at_1": score}

    nan = float("nan")
    sweep = [row(0.1, 0.2), row(0.3, 0.5), row(1.0, 0.4), row(0.1, nan, count=8), row(0.3, 0.1, count=8)]
    sweep += [row(0.1, 0.3, "rloo"), row(0.3, nan, "rloo"), row(0.1, 0.3, "rloo"), row(0.3, 0.9, "rloo")]
    # two seeds of grpo: the mean decides (0.25 against 0.3), and the smaller of equal rates
    sweep += [row(rate, score, "grpo") for rate, score in ((1, 0.5), (1, 0.0), (3, 0.3), (3, 0.3), (9, 0.3), (9, 0.3))]
    best = choose_learning_rates(sweep, "train_pass_at_1")
    assert best == {("maxrl", 4): 0.3, ("maxrl", 8): 0.3, ("rloo", 4): 0.1, ("grpo", 4): 3}


def test_gradient_norms_match_autograd_on_one_example():
    network = seeded(lambda: mlp([192, 5, 1000]), 0)
    pixels, labels = torch.randn(3, 192, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 20, 300])
    logs, slopes = gradient_norms.slopes(network, pixels, labels)
    p, norm = logs.exp(), logs.exp() * slopes
    network.zero_grad()
    own = network(pixels[1:2]).softmax(-1)[0, 20]
    own.backward()
    squares = sum(float(parameter.grad.square().sum()) for parameter in network.parameters())
    assert float(p[1]) == pytest.approx(float(own.detach()), rel=1e-5)
    assert float(norm[1]) == pytest.approx(squares**0.5, rel=1e-5)


def test_gradient_norms_of_estimators_are_weight_times_slope(context):
    rows = pd.DataFrame(gradient_norms.run(gradient_norms.PRESETS["smoke"], context))
    wide = rows.assign(rollouts=rows.rollouts.fillna(0)).pivot_table(
        index=["seed", "example", "pass_rate"], columns=["curve", "rollouts"], values="gradient_norm"
    )
    p = wide.index.get_level_values("pass_rate").to_numpy()
    slope = wide["expected_reward", 0]
    assert wide["rloo", 16].tolist() == pytest.approx(slope.tolist())
    weight = exact.weight("grpo", rollouts=16, pass_rate=p)
    assert wide["grpo", 16].tolist() == pytest.approx((slope * weight.numpy()).tolist())
