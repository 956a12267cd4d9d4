"""What the experiments claim, checked on their rows at the smoke preset."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from extra_tests import installed_experiments

from experiments._shared import EVERY_ESTIMATOR
from experiments.catalogue import EXPERIMENTS
from experiments.classification import classification, gradient_norms
from experiments.exact import (
    best_order,
    bias_variance,
    length_bias,
    likelihood_limit,
    pass_at_k_conflict,
    unbiasedness,
    weight_functions,
)
from maxrl_lab import estimators, exact, specs
from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import mlp, seeded
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context


def tables_of(module, settings, context):
    return {name: pd.DataFrame(rows) for name, rows in module.run(settings, context).items()}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(torch.device("cpu"), Checkpoint(tmp_path / "checkpoint"), quiet=True)


@pytest.mark.parametrize("name", installed_experiments())
def test_presets_exist_and_grow(name):
    presets = EXPERIMENTS[name].load().PRESETS
    assert list(presets) == ["smoke", "quick", "standard", "full"]
    assert presets["smoke"] != presets["quick"] != presets["full"]


def test_every_estimator_of_the_paper_and_of_the_lab_is_compared():
    """These come first in the table of all; what others have published follows from `constant_baseline` on."""
    names = list(estimators.ESTIMATORS)
    assert {specs.parse(name, 8)[0] for name in EVERY_ESTIMATOR} == set(names[: names.index("constant_baseline")])


def test_weight_functions_are_the_exact_ones(context):
    rows = tables_of(weight_functions, weight_functions.PRESETS["smoke"], context)["rows"]
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
    rows = tables_of(unbiasedness, settings, context)["rows"].set_index(["estimator", "rollouts"])
    assert rows.loc[("maxrl", 4), "objective"] == "truncated_likelihood:order=3"
    assert rows.loc[("maxrl_leave_one_out", 4), "objective"] == "truncated_likelihood:order=4"
    assert rows.loc[("mean_centred", 4), "scale"] == pytest.approx(0.75)
    assert rows.loc[("grpo", 2), "objective"] == "expected_reward"
    assert pd.isna(rows.loc[("grpo", 4), "objective"])
    assert (rows.z.abs() < settings.threshold).all()
    # 26 cells at a family rate of 1%: z beyond the 1 - 0.01/52 quantile of the normal
    assert settings.threshold == pytest.approx(3.55, abs=0.01)
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
    (row,) = unbiasedness.run(settings, context)["rows"]
    assert row["z"] < -settings.threshold


def test_unbiasedness_of_a_policy_that_never_succeeds_is_no_error(context):
    settings = replace(unbiasedness.PRESETS["smoke"], pass_rate=1e-9, groups=10)
    rows = tables_of(unbiasedness, settings, context)["rows"]
    assert (rows.standard_error == 0).any()


def test_bias_and_variance_add_up_and_match_the_library(context):
    rows = tables_of(bias_variance, bias_variance.PRESETS["smoke"], context)["rows"]
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


def test_least_variance_is_never_above_a_named_form_of_its_order(context):
    tables = tables_of(bias_variance, bias_variance.PRESETS["smoke"], context)
    rows, least = tables["rows"], tables["least"]
    named = {0: ["maxrl_no_baseline", "maxrl_control_variate", "maxrl_leave_one_out", "maxrl_cross_fitted"]}
    named[1] = ["maxrl"]
    for below, names in named.items():
        best = least[least.order == least.rollouts - below].set_index(["rollouts", "pass_rate"]).variance
        for name in names:
            variance = rows[rows.estimator == name].set_index(["rollouts", "pass_rate"]).variance
            assert (best <= variance * (1 + 1e-12)).all(), name
        assert (best < 0.99 * variance).any()


def test_the_dial_of_best_order_runs_from_rloo_to_algorithm_1(context):
    assert best_order.orders(2) == [1]
    assert best_order.orders(4) == [1, 2, 3]
    assert best_order.orders(5) == [1, 2, 4]
    assert best_order.orders(16) == [1, 2, 4, 8, 15]
    rows = tables_of(best_order, best_order.PRESETS["smoke"], context)["rows"]
    by_name = tables_of(bias_variance, replace(bias_variance.PRESETS["smoke"], rollouts=(4, 8)), context)["rows"]
    for name, order in (
        ("rloo", lambda count: 1),
        ("maxrl_centred:order=N/2", lambda count: count // 2),
        ("maxrl", lambda count: count - 1),
    ):
        for count in (4, 8):
            ours = rows[(rows.rollouts == count) & (rows.order == order(count)) & (rows.pass_rate != 0.1)]
            theirs = by_name[(by_name.rollouts == count) & (by_name.estimator == name)]
            assert ours.squared_bias.tolist() == pytest.approx(theirs.squared_bias.tolist(), rel=1e-9)
            assert ours.variance.tolist() == pytest.approx(theirs.variance.tolist(), rel=1e-9)
    # noise climbs with the order on hard tasks, and bias is (1-p)^T
    hard = rows[(rows.rollouts == 8) & (rows.pass_rate == 0.01)].sort_values("order")
    assert hard.variance.is_monotonic_increasing
    assert hard.squared_bias.tolist() == pytest.approx([0.99 ** (2 * order) for order in hard.order])


def test_two_prompts_start_where_the_settings_say_and_the_hard_one_has_the_weight(context):
    """At the start pass@16 weighs the easy prompt 16 0.3^15 and the hard one 16 0.98^15."""
    settings = pass_at_k_conflict.PRESETS["smoke"]
    rows = tables_of(pass_at_k_conflict, settings, context)["rows"]
    first = rows[(rows.objective == "pass_at_k:k=16") & (rows.step == 0)].iloc[0]
    assert (first.easy, first.hard) == pytest.approx((0.7, 0.02))
    assert first.pass_at_1 == pytest.approx(0.36)
    assert first.pass_at_k == pytest.approx(1 - (0.3**16 + 0.98**16) / 2)
    slopes = [0.7 * 0.3, 0.02 * 0.98]  # dp / d logit
    weights = [16 * 0.3**15, 16 * 0.98**15]
    plain = [slopes[0] - slopes[1], 0.1 * sum(slopes)]  # along u and v
    pull = [weights[0] * slopes[0] - weights[1] * slopes[1], 0.1 * (weights[0] * slopes[0] + weights[1] * slopes[1])]
    cosine = sum(a * b for a, b in zip(plain, pull, strict=True)) / math.hypot(*plain) / math.hypot(*pull)
    assert first.cosine == pytest.approx(cosine)
    assert cosine < -0.9
    # every update is of one length, so that after one of them v has grown by its share of it
    second = rows[(rows.objective == "pass_at_k:k=16") & (rows.step == 1)].iloc[0]
    moved = [settings.step * part / math.hypot(*pull) for part in pull]
    logit = math.log(0.7 / 0.3) + moved[0] + 0.1 * moved[1]
    assert second.easy == pytest.approx(1 / (1 + math.exp(-logit)))


def test_likelihood_limit_measures_the_theory_and_follows_objectives(context):
    settings = likelihood_limit.PRESETS["smoke"]
    tables = tables_of(likelihood_limit, settings, context)
    distance, training = tables["distance"], tables["curves"]
    assert distance.distance.tolist() == pytest.approx(((1 - distance.pass_rate) ** distance.order).tolist(), abs=1e-12)
    ends = training[training.step.isin([0, settings.steps])].groupby(["method", "step"]).pass_rate.mean().unstack()
    assert (ends[settings.steps] > ends[0]).all()  # every exact gradient climbs
    assert ends.loc["maximum_likelihood", settings.steps] > ends.loc["expected_reward", settings.steps]
    # the sweep has the end of every run, the curves are those of the rate that ends best on the mean
    sweep = tables["sweep"]
    assert set(sweep.learning_rate) == set(settings.learning_rates)
    assert set(sweep.step) == {settings.steps}
    means = sweep.groupby(["method", "learning_rate"]).pass_rate.mean().unstack()
    assert training.groupby("method").learning_rate.unique().map(list).to_dict() == {
        name: [rate] for name, rate in means.idxmax(axis=1).items()
    }


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
    tables = tables_of(classification, settings, context)
    assert list(tables) == ["sweep", "curves", "coverage"]
    sweep, curves, coverage = tables.values()
    methods = 1 + (len(settings.estimators) + len(settings.expected)) * len(settings.rollouts)
    assert len(sweep) == methods * len(settings.learning_rates) * settings.sweep_seeds
    assert len(coverage) == methods * settings.seeds * len(settings.coverage_ks)
    assert sorted(curves.step.unique()) == [0, 3, 6]
    assert set(sweep.step) == set(coverage.step) == {settings.steps}
    # the sweep's seeds are not reported, and one rate is used for all seeds of a method
    assert not set(sweep.seed) & set(curves.seed)
    keys = ["kind", "method", "rollouts"]
    assert (curves.fillna({"rollouts": 0}).groupby(keys).learning_rate.nunique() == 1).all()
    # untrained policies are right about once in 1000, and all methods of one seed start alike
    start = curves[curves.step == 0]
    assert start.pass_at_1.mean() == pytest.approx(1e-3, rel=0.2)
    assert (start.groupby("seed").pass_at_1.nunique() == 1).all()
    at_128 = coverage[coverage.k == 128].coverage.tolist()
    assert at_128 == pytest.approx(curves[curves.step == settings.steps].pass_at_128.tolist())


def test_classification_chooses_rates_by_fresh_training_images(context):
    settings = classification.PRESETS["smoke"]
    tables = tables_of(classification, settings, context)
    keys = ["kind", "method", "rollouts"]
    sweep = tables["sweep"].fillna({"rollouts": 0}).groupby([*keys, "learning_rate"]).train_pass_at_1
    best = sweep.mean().groupby(keys).idxmax()
    used = tables["curves"].fillna({"rollouts": 0}).groupby(keys).learning_rate.first()
    assert {key: rate for key, (*_, rate) in best.items()} == used.to_dict()


def test_classification_tells_sampled_runs_from_exact_means(context):
    """1024 rollouts an image are counted by class, as N exceeds the 1000 classes."""
    settings = replace(classification.PRESETS["smoke"], expected=("maxrl", "mean_centred"), rollouts=(1024,), steps=3)
    fixed = ("maxrl, N = 1024: 0.5", "expected maxrl, N = 1024: 0.25", "grpo, N = 1024: 1", "maximum_likelihood: 1")
    tables = tables_of(classification, replace(settings, fixed_rates=fixed), context)
    curves = tables["curves"][tables["curves"].step == 3].set_index(["kind", "method"]).sort_index()
    assert [len(curves.loc[kind]) for kind in ("exact", "sampled", "expected")] == [2, 6, 4]
    assert (curves.loc[("sampled", "maxrl"), "learning_rate"] == 0.5).all()
    assert (curves.loc[("expected", "maxrl"), "learning_rate"] == 0.25).all()
    assert set(tables["sweep"].kind) == {"sampled", "expected"}
    assert set(tables["sweep"].method) == {"mean_centred"}  # every other rate was known
    assert curves.pass_at_1.between(0, 1).all()


def test_blocks_of_runs_change_no_result(context, tmp_path):
    settings = classification.PRESETS["smoke"]
    whole = tables_of(classification, settings, context)
    other = replace(context, checkpoint=Checkpoint(tmp_path / "other"))
    blocks = tables_of(classification, replace(settings, runs_at_once=3), other)
    for name, key in (("sweep", []), ("curves", []), ("coverage", ["k"])):
        order = ["kind", "method", "rollouts", "learning_rate", "seed", "step", *key]
        one, many = (tables[name].sort_values(order, ignore_index=True) for tables in (whole, blocks))
        # float32 sums are ordered differently in a batch of another size
        pd.testing.assert_frame_equal(one, many, rtol=1e-4)


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
    rows = tables_of(gradient_norms, gradient_norms.PRESETS["smoke"], context)["rows"]
    wide = rows.assign(rollouts=rows.rollouts.fillna(0)).pivot_table(
        index=["seed", "example", "pass_rate"], columns=["curve", "rollouts"], values="gradient_norm"
    )
    p = wide.index.get_level_values("pass_rate").to_numpy()
    slope = wide["expected_reward", 0]
    assert wide["rloo", 16].tolist() == pytest.approx(slope.tolist())
    weight = exact.weight("grpo", rollouts=16, pass_rate=p)
    assert wide["grpo", 16].tolist() == pytest.approx((slope * weight.numpy()).tolist())


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (weight_functions, {"lowest": 0.5}, "lowest must lie in [1e-12, 0.5), got 0.5"),
        (weight_functions, {"points": 1}, "points must be a whole number >= 2, got 1"),
        (weight_functions, {"objectives": ("maxrl",)}, "unknown objective 'maxrl'; choose one of: expected_reward"),
        (weight_functions, {"rollouts": (2, 3)}, "'N/2' is not a whole number at N = 3"),
        (bias_variance, {"pass_rates": (0.1, 1.0)}, "pass_rates must lie in (0, 1), got 1.0"),
        (bias_variance, {"budget": 100}, "budget must be a multiple of every N, got budget 100 with N = 8"),
        (best_order, {"rollouts": (1, 4)}, "rollouts must be whole numbers >= 2, got 1"),
        (pass_at_k_conflict, {"k": 1}, "k must be a whole number >= 2, got 1"),
        (pass_at_k_conflict, {"easy": 1.0}, "easy must lie in (0, 1), got 1.0"),
        (unbiasedness, {"false_alarm_rate": 0.0}, "false_alarm_rate must lie in (0, 1), got 0.0"),
        (unbiasedness, {"groups": 1}, "groups must be a whole number >= 2, got 1"),
        (unbiasedness, {"estimators": ("grpo", "grpo")}, "estimators must be distinct, got grpo grpo"),
        (length_bias, {"surrogates": ("mean",)}, "unknown surrogate 'mean'; choose one of: sequence_sum"),
        (length_bias, {"rollouts": 1}, "rollouts must be a whole number >= 2, got 1"),
        (likelihood_limit, {"hardest": 0.7}, "hardest must lie in (0, 0.5), got 0.7"),
        (likelihood_limit, {"distance_orders": (0,)}, "distance_orders must be a whole number >= 1, got 0"),
        (likelihood_limit, {"estimators": ("pkpo:k=17",)}, "pkpo with k=17 needs at least 17 rollouts"),
        (classification, {"momentum": 1.0}, "momentum must lie in [0, 1), got 1.0"),
        (classification, {"hidden": (16, 0)}, "hidden must be a whole number >= 1, got 0"),
        (classification, {"learning_rates": ()}, "learning_rates needs at least one value, got none"),
        (gradient_norms, {"learning_rate": float("inf")}, "learning_rate must be positive and finite, got inf"),
    ],
)
def test_settings_that_cannot_be_run_are_refused_by_name(module, changes, message):
    with pytest.raises(InputError, match=re.escape(message)):
        replace(module.PRESETS["smoke"], **changes)


def test_layers_of_one_width_may_be_repeated():
    assert classification.PRESETS["full"].hidden == (256, 256)
