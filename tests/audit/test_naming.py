"""What an audit names beside the classic objectives: families with a parameter, limits, estimators, groups of one."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl_lab import audit, estimators, exact, objectives
from maxrl_lab.audit import families, identify
from maxrl_lab.audit.known import known
from maxrl_lab.command import main


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def named(weight, rollouts=16):
    """The name of a weight function on the audit's grid, or None."""
    p = identify.grid(rollouts)
    match = identify.nearest(weight(p), p, rollouts)
    return match.objective if match.residual <= identify.tolerance(rollouts) else None


@pytest.mark.parametrize(
    ("weight", "name"),
    [
        (lambda p: 3 * p**-0.5, "tsallis:q=0.5"),
        (lambda p: p ** (-1 / 3), f"tsallis:q={1 / 3}"),
        (lambda p: p**-1.5 * (1 - p) ** -0.5, "power:s=1.5,t=0.5"),
        (lambda p: p * (1 - p), "power:s=-1.0,t=-1.0"),
        (lambda p: (1 - p) ** 2, "pass_at_k:k=3"),
        (lambda p: (p * (1 - p)) ** -0.5, "grpo_limit"),
        (lambda p: 7 / (1 + 9 * p), "tilted:beta=2.3"),
        (lambda p: 1 / (1 + (torch.e - 1) * p), "tilted:beta=1.0"),
        (lambda p: objectives.make("arcsine_pass_at_k", k=4).weight(p), "arcsine_pass_at_k:k=4"),
    ],
)
def test_members_of_the_families_are_named(weight, name):
    assert named(weight) == (None if name == "tilted:beta=2.3" else name)


@pytest.mark.parametrize(
    "weight",
    [
        lambda p: 1 + 0.01 * p,
        lambda p: 1 - 0.1 * p,
        lambda p: p**-0.503,
        lambda p: p**-0.5 + 0.002 / p,
        lambda p: p**-0.5 * (1 - p) ** -0.004,
        lambda p: 1 / (1 + 1.7 * p),  # e - 1 is 1.718
        lambda p: 1 / (0.02 + p),
        lambda p: (p * (1 - p)) ** -0.5 + 0.01,
        lambda p: torch.where(p > 0.5, p, -p),
    ],
)
def test_near_misses_of_the_families_are_not_named(weight):
    assert named(weight) is None


def test_the_loop_from_an_objective_to_an_estimator_and_back_is_closed():
    for name in ("tilted:beta=1.0", "pass_at_k:k=3", "truncated_likelihood:order=9"):
        made = estimators.from_objective(name, rollouts=32, form="success_only")
        assert audit.audit(made, rollouts=32).objective == name


def test_the_nearest_power_is_found_and_its_deviation_is_that_of_the_curve():
    p = identify.grid(8)
    fit = families.fit_power(5 * p**-0.7 * (1 - p) ** -0.2, p, 0.125)
    assert (fit.s, fit.t, fit.low) == pytest.approx((0.7, 0.2, 0.125))
    assert fit.residual < 1e-12
    bent = families.fit_power(p**-0.7 + 1, p, 0.125)
    inside = (p >= 0.125) & (p <= 0.875)
    ratios = ((p**-0.7 + 1) * p**bent.s * (1 - p) ** bent.t)[inside]
    middle = (ratios.max() + ratios.min()) / 2
    assert bent.residual == pytest.approx(float((ratios / middle - 1).abs().max()))
    assert families.fit_power(p - 0.5, p, 0.125) is None
    assert families.fit_power(p, p, 0.5) is None


def test_grpo_at_eight_rollouts_is_a_fourth_root_in_the_middle():
    """Between its scale at p = 0, sqrt(7), and that at p = 1/2, p^-1/4 (1-p)^-1/4 is right to 1.1%."""
    report = audit.audit("grpo", rollouts=8)
    assert (report.power.s, report.power.t) == pytest.approx((0.25, 0.25), abs=0.005)
    assert report.power.residual == pytest.approx(0.011, abs=0.001)
    assert "p^-0.25 (1-p)^-0.249 is nearest for p from 0.125 to 0.875, off by up to 1.1%" in report.text()
    assert audit.audit("maxrl", rollouts=8).power is None  # it has an objective


@pytest.mark.parametrize("rollouts", [1, 2, 5, 8, 80])
@pytest.mark.parametrize(
    ("spec", "limit"),
    [
        ("reinforce", "expected_reward"),
        ("mean_centred", "expected_reward"),
        ("grpo", "grpo_limit"),
        ("maxrl", "maximum_likelihood"),
        ("maxrl_leave_one_out", "maximum_likelihood"),
        ("power:s=1.5,t=0.5", "power:s=1.5,t=0.5"),
        ("tsallis:q=0.5", "tsallis:q=0.5"),
        ("rs_grpo:beta=2", "tilted:beta=2.0"),
        ("f_grpo", "power:s=0.5,t=-0.5"),
        ("mapo", None),
        ("maxrl_centred:order=1", "expected_reward"),
    ],
)
def test_limits_are_read_at_two_sizes(spec, limit, rollouts):
    if rollouts == 1 and spec in ("maxrl_centred:order=1",):
        return
    report = audit.audit(spec, rollouts=rollouts)
    if report.nearest is None or limit is None:  # the mean gradient is 0 at N = 1
        assert report.limit is None
    else:
        assert report.limit.objective == limit
        assert report.limit.rollouts != rollouts


def test_an_order_that_stays_is_its_own_limit():
    assert audit.audit("maxrl_order:order=3", rollouts=8).limit.objective == "truncated_likelihood:order=3"
    assert audit.audit("pkpo:k=4", rollouts=8).limit.objective == "pass_at_k:k=4"


def test_no_limit_is_read_where_the_form_changes_with_the_size():
    def by_size(rewards):
        count = rewards.shape[-1]
        mean = rewards.mean(-1, keepdim=True)
        return (rewards - mean) / mean.clamp(min=1e-12) ** (0.5 if count <= 8 else 0.6)

    def only_eight(rewards):
        if rewards.shape[-1] != 8:
            raise ValueError("groups of 8")
        return rewards - rewards.mean(-1, keepdim=True)

    def growing(rewards):
        """A baseline of the own reward that grows with N: a(K) - b(K) = 1, but w tends to 2 N p."""
        count, mean = rewards.shape[-1], rewards.mean(-1, keepdim=True)
        return rewards + (count * mean) ** 2

    def falling(rewards):  # exact at both sizes, of a lower order at the larger one
        return estimators.make("maxrl_order", order=6 if rewards.shape[-1] <= 8 else 4)(rewards)

    for function in (by_size, only_eight, growing, falling):
        assert audit.audit(function, rollouts=8).limit is None
    assert audit.audit(only_eight, rollouts=8).objective == "expected_reward"


@pytest.mark.parametrize("rollouts", [4, 8, 64, 100])
def test_every_estimator_is_known_by_its_table(rollouts):
    specs = [
        *(name for name in estimators.ESTIMATORS if name in ("mean_centred", "rloo", "maxrl", "nsr", "mapo", "qae")),
        *("grpo:epsilon=1e-05", "grpo:ddof=1,epsilon=0.0001", "grpo:ddof=1", "f_grpo", "grpo_leave_one_out"),
        *("pkpo:k=2", "pkpo_centred:k=2", "maxrl_order:order=2", "maxrl_centred:order=2", "passk_training:k=2"),
    ]
    for spec in specs:
        success, failure = estimators.resolve(spec, rollouts).coefficients(rollouts)
        report = audit.audit(spec, rollouts=rollouts)
        assert report.known.names == (spec,)
        assert report.known.scale == pytest.approx(1.0, abs=1e-12)
        scaled = known(3 * success, 3 * failure, objective=report.objective)
        again = estimators.resolve(scaled.names[0], rollouts).coefficients(rollouts)
        torch.testing.assert_close(scaled.scale * again[0], 3 * success)
        assert known(-success, -failure) is None


def test_a_large_order_is_known_where_the_objective_says_it():
    success, failure = estimators.make("maxrl_order", order=77).coefficients(128)
    assert known(success, failure) is None
    assert known(success, failure, objective="truncated_likelihood:order=77").names == ("maxrl_order:order=77",)


def test_estimators_that_are_one_table_are_named_together():
    report = audit.audit("rloo", rollouts=2)
    assert {"rloo", "maxrl", "grpo"} <= set(report.known.names)
    assert "those of rloo and maxrl and " in report.text()


def test_a_small_coefficient_counts_as_much_as_a_large_one():
    """At N = 64 Algorithm 1 has a(1) = 63 and a(63) = 1/63: a tenth of the latter is far from equal."""
    success, failure = estimators.make("maxrl").coefficients(64)
    success[63] *= 1.1
    assert known(success, failure) is None
    success[63] *= 1 / 1.1
    assert known(success, failure).names == ("maxrl",)


def test_an_estimator_may_be_expected(capsys):
    assert main(["audit", "grpo:epsilon=1e-5", "--expect-estimator", "grpo:epsilon=1e-5", "--scale", "1"]) == 0
    assert "expected the coefficients of grpo:epsilon=1e-05: holds (residual 0.0e+00)" in capsys.readouterr().out
    assert main(["audit", "grpo:epsilon=1e-3", "--expect-estimator", "grpo"]) == 1
    assert main(["audit", "mean_centred", "--expect-estimator", "rloo", "--expect", "expected_reward"]) == 0
    assert main(["audit", "mean_centred", "--expect-estimator", "rloo", "--scale", "1"]) == 1
    assert "DOES NOT HOLD" in capsys.readouterr().out
    assert main(["audit", "mean_centred", "--expect-estimator", "nothing"]) == 2
    assert "unknown estimator 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("function", "convention", "shown"),
    [
        (lambda r: r, "reward", "the reward itself is the advantage, 1 or 0 (REINFORCE)"),
        (lambda r: r - r.mean(), "nothing", "nothing is learnt: both advantages are 0"),
        (lambda r: r - 0.5, "other", "a success gets 0.5 and a failure -0.5"),
        (lambda r: r * (1e6 if len(r) == 1 else 1), "explodes", "a success gets 1e+06 and a failure 0 (a denomin"),
        (lambda r: (r - r.mean()) / r.std() if len(r) == 1 else r, "explodes", "a success gets nan and a failure nan"),
        (lambda r: r if len(r) > 1 else (r - 1) / r, "explodes", "a success gets 0 and a failure -inf"),
        (lambda r: r if len(r) > 1 else 1 / 0, "refuses", "the function raises: division by zero"),
    ],
)
def test_the_convention_at_one_rollout_is_stated(function, convention, shown):
    report = audit.audit(function, rollouts=4, batched=False)
    assert report.singleton.convention == convention
    assert str(report.singleton).startswith(shown)
    assert re.search(f"at N = 1 +{re.escape(shown)}", report.text())
    assert report.to_json()["singleton"]["convention"] == convention


def test_the_weight_that_a_limit_names_is_approached():
    """What `limit` says of power tables is true: the deviation from it halves, about, as N doubles."""
    p = double([0.3, 0.5, 0.7])
    target = objectives.make("power", s=1.5, t=0.5).weight(p)
    deviations = [
        float((exact.weight("power:s=1.5,t=0.5", rollouts=rollouts, pass_rate=p) / target - 1).abs().max())
        for rollouts in (64, 128, 256)
    ]
    assert deviations[2] < 0.6 * deviations[1] < 0.4 * deviations[0]


@given(
    st.sampled_from(["rloo", "grpo", "maxrl", "maxrl_leave_one_out", "pkpo:k=2", "rs_grpo:beta=2"]), st.integers(0, 99)
)
@settings(max_examples=60)
def test_a_table_that_is_half_a_percent_off_has_no_name(spec, seed):
    """1,410 such tables and smooth random weights at N = 4, 8 and 16 were tried once: none was named."""
    chance = torch.Generator().manual_seed(seed)
    columns = [
        column * (1 + 0.005 * torch.randn(9, generator=chance, dtype=torch.float64))
        for column in estimators.resolve(spec, 8).coefficients(8)
    ]
    p = identify.grid(8)
    match = identify.nearest(exact.table_weight(*columns, p), p, 8)
    assert match.residual > identify.tolerance(8)
    assert known(*columns, objective=match.objective) is None
