"""Whether an order between RLOO's and Algorithm 1's does better than both, on rows whose answer is known."""

import dataclasses

import pandas as pd
import pytest

from experiments.navigation import navigation, navigation_bias_variance, navigation_generalisation
from experiments.navigation.claims import navigation as trained
from experiments.navigation.claims import navigation_bias_variance as measured
from experiments.navigation.claims import navigation_generalisation as carried_over


def learning(**ends):
    """Final rows at N = 16 in three seeds, a hundredth apart, of estimators with these mean pass rates."""
    return pd.DataFrame(
        [
            {"estimator": name.replace("order_", "maxrl_centred:order=N/"), "rollouts": 16, "seed": seed}
            | {"step": step, "pass_at_1": (mean + (seed - 1) / 100) * (step > 0)}
            for name, mean in ends.items()
            for seed in range(3)
            for step in (0, 300)
        ]
    )


def test_the_order_between_is_compared_with_the_better_end():
    rows = learning(rloo=0.3, maxrl=0.6, order_4=0.5, order_2=0.7)
    final = rows[rows.step == 300]
    worse, better = (trained._between(final, f"maxrl_centred:order=N/{part}", 16) for part in (4, 2))
    assert (worse.name, worse.verdict) == ("order_4_beats_both_ends_at_16", "fails")
    assert (better.name, better.verdict) == ("order_8_beats_both_ends_at_16", "holds")
    assert better.estimate == pytest.approx(0.1)
    assert "ends at 0.7, 0.3 and 0.6, a difference from the better end of 0.1 [0.1, 0.1]" in better.sentence


def test_what_leaving_out_the_control_variate_buys():
    """At the smallest N; more rollouts say the opposite here."""
    fewest = learning(maxrl=0.4, maxrl_control_variate=0.1, maxrl_leave_one_out=0.5).assign(rollouts=4)
    rows = pd.concat([fewest, learning(maxrl=0.6, maxrl_control_variate=0.7, maxrl_leave_one_out=0.5)])
    tables = {"curves": rows.assign(pass_at_512=rows.pass_at_1, pass_at_64=rows.pass_at_1)}
    names = ("maxrl", "maxrl_control_variate", "maxrl_leave_one_out")
    settings = dataclasses.replace(navigation.PRESETS["smoke"], estimators=names, rollouts=(16, 4))
    made = {claim.name: claim for claim in trained.claims(tables, settings)}
    wanted = {
        "algorithm_1_beats_control_variate": ("holds", 0.3),
        "algorithm_1_beats_leave_one_out": ("fails", -0.1),
        "silence_at_k_zero_beats_control_variate": ("holds", 0.4),
    }
    for name, (verdict, lead) in wanted.items():
        assert made[name].verdict == verdict
        assert made[name].estimate == pytest.approx(lead)
        assert "at N = 4 pass@1 on training mazes" in made[name].sentence
    fewer = dataclasses.replace(settings, estimators=("maxrl", "maxrl_leave_one_out"))
    assert not [claim for claim in trained.claims(tables, fewer) if "control_variate" in claim.name]


@pytest.mark.parametrize(("count", "orders"), [(4, ["N/2"]), (8, ["N/4", "N/2"]), (64, ["N/4", "N/2"])])
def test_only_orders_between_count(count, orders):
    names = navigation.Settings().estimators
    assert trained.between(names, count) == [f"maxrl_centred:order={order}" for order in orders]
    assert trained.between(("maxrl_centred:order=1", "maxrl_centred:order=N-1", "maxrl"), count) == []


def test_an_error_at_a_pass_rate_is_compared_with_the_smaller_one_of_both_ends():
    errors = {"maxrl_centred:order=4": (0.6, 0.2), "rloo": (0.9, 0.5), "maxrl": (1.2, 0.1)}
    rows = pd.DataFrame(
        [
            {"estimator": name, "rollouts": 16, "seed": seed, "pass_rate": p, "mean_squared_error": error + seed / 1e3}
            for name, by_rate in errors.items()
            for p, error in zip((0.05, 0.3), by_rate, strict=True)
            for seed in range(3)
        ]
    )
    hard, easy = measured._dial(rows, 16)
    assert (hard.name, hard.verdict) == ("order_quarter_has_less_error_than_both_ends_at_16_up_to_p_0_1", "holds")
    assert (easy.name, easy.verdict) == ("order_quarter_has_less_error_than_both_ends_at_16_up_to_p_0_5", "fails")
    assert hard.estimate == pytest.approx(0.6 / 0.9, rel=1e-2)
    assert easy.estimate == pytest.approx(2, rel=1e-2)
    assert {claim.direction for claim in (hard, easy)} == {"below"}


def test_the_least_error_is_compared_with_that_of_another_order():
    """Two forms of order N/2 have nearly the same error; the best of other orders has twice as much."""
    errors = {"maxrl_order:order=8": 0.4, "maxrl_centred:order=8": 0.3, "maxrl": 0.8, "maxrl_centred:order=4": 0.9}
    rows = pd.DataFrame(
        [
            {"estimator": name, "rollouts": 16, "seed": seed, "pass_rate": 0.005, "squared_bias": 0.0}
            | {"mean_squared_error": error, "budget_mean_squared_error": error + seed / 1e3}
            for name, error in errors.items()
            for seed in range(3)
        ]
    )
    settings = dataclasses.replace(
        navigation_bias_variance.PRESETS["smoke"],
        estimators=("maxrl_order:order=N/2", "maxrl"),
        rollouts=(16,),
        budget=16,
    )
    (claim,) = measured.claims({"rows": rows}, settings)
    assert (claim.name, claim.verdict) == ("order_half_has_least_error", "holds")
    assert claim.estimate == pytest.approx(0.5, rel=1e-2)
    assert "that of the best estimate of another order, maxrl at N = 16" in claim.sentence
    only = rows[rows.estimator.str.endswith("=8")]
    assert measured.claims({"rows": only}, settings) == []


def test_coverage_is_compared_with_wider_methods_at_every_number_of_training_mazes():
    ends = {("maxrl", 1): 0.3, ("maxrl", 2): 0.6, ("pkpo:k=N/2", 1): 0.5, ("pkpo:k=N/2", 2): 0.5}
    curves = pd.DataFrame(
        [
            {"estimator": name, "comparison": f"{levels} levels", "split": split, "seed": seed, "step": step}
            | {f"pass_at_{k}": (end + seed / 100) * (step > 0) * (split == "held_out") for k in (1, 64, 512)}
            for (name, levels), end in ends.items()
            for split in ("train", "held_out")
            for seed in range(3)
            for step in (0, 9)
        ]
    )
    settings = dataclasses.replace(navigation_generalisation.PRESETS["smoke"], estimators=("maxrl", "pkpo:k=N/2"))
    made = {claim.name: claim for claim in carried_over.claims({"curves": curves}, settings)}
    few, many = (made[f"covers_more_than_pkpo_with_{levels}"] for levels in (1, 2))
    assert (few.estimate, few.verdict) == (pytest.approx(-0.2), "fails")
    assert (many.estimate, many.verdict) == (pytest.approx(0.1), "holds")
