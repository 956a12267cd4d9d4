"""Objectives against a hand-worked table, 50-digit arithmetic and the literal sum, and what they refuse."""

import dataclasses
import doctest
import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maxrl_lab import exact, objectives

NAMES = ["expected_reward", "maximum_likelihood", "truncated_likelihood", "pass_at_k", "grpo_limit"]
NAMES += ["power", "tilted", "tsallis", "arcsine_pass_at_k", "resampled_grpo"]
EVERY = [
    objectives.make("expected_reward"),
    objectives.make("maximum_likelihood"),
    objectives.make("truncated_likelihood", order=1),
    objectives.make("truncated_likelihood", order=9),
    objectives.make("pass_at_k", k=1),
    objectives.make("pass_at_k", k=9),
    objectives.make("grpo_limit"),
    objectives.make("power", s=0.5, t=0),
    objectives.make("power", s=1.5, t=-1),
    objectives.make("tilted", beta=3),
    objectives.make("tsallis", q=0.5),
    objectives.make("arcsine_pass_at_k", k=4),
    objectives.make("resampled_grpo", rollouts=4),
]
PASS_RATES = [1e-12, 1e-9, 3e-5, 0.01, 0.3, 0.5, 0.9, 1 - 1e-6, 1 - 1e-12, 1.0]
ORDERS = [1, 2, 3, 10, 300, 10_000, 1_000_000]


def double(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("text", "value", "weight"),
    # At p = 1/4, so fail@1 = 3/4, fail@2 = 9/16, fail@3 = 27/64.
    [
        ("expected_reward", 1 / 4, 1),
        ("maximum_likelihood", -math.log(4), 4),
        ("truncated_likelihood:order=1", -3 / 4, 1),
        ("truncated_likelihood:order=2", -33 / 32, 7 / 4),  # -(3/4 + 9/32); 1 + 3/4
        ("truncated_likelihood:order=3", -75 / 64, 37 / 16),  # -(3/4 + 9/32 + 9/64); 1 + 3/4 + 9/16
        ("pass_at_k:k=1", 1 / 4, 1),
        ("pass_at_k:k=2", 7 / 16, 3 / 2),  # 1 - 9/16; 2 (3/4)
        ("pass_at_k:k=3", 37 / 64, 27 / 16),  # 1 - 27/64; 3 (9/16)
        ("grpo_limit", math.pi / 3, 4 / math.sqrt(3)),  # 2 arcsin(1/2); 1 / sqrt(1/4 3/4)
        ("power:s=0,t=0", -1 / 4, 1),  # from 1/2 on
        ("power:s=1,t=0", -math.log(2), 4),
        ("power:s=1,t=1", -math.log(3), 16 / 3),  # log(p / (1-p))
        ("power:s=0.5,t=0.5", -math.pi / 6, 4 / math.sqrt(3)),
        ("power:s=2,t=0", -2, 16),  # 1/(1/2) - 1/(1/4)
        ("tilted:beta=1", math.log(1 + (math.e - 1) / 4), (math.e - 1) / (1 + (math.e - 1) / 4)),
        ("tsallis:q=0", -3 / 4, 1),
        ("tsallis:q=0.5", -1, 2),  # 2 (1/2 - 1)
        ("tsallis:q=1", -math.log(4), 4),
        ("tsallis:q=2", -3, 16),  # 1 - 4
        ("arcsine_pass_at_k:k=1", math.pi / 3, 4 / math.sqrt(3)),
        ("arcsine_pass_at_k:k=2", 2 * math.asin(math.sqrt(7) / 4), 8 / math.sqrt(7)),  # 2 / sqrt(7/16)
        ("resampled_grpo:rollouts=2", -math.log(3) / 2, 8 / 3),  # sigma is 1/2 in every mixed pair: 1/2 / (1/4 3/4)
        # N = 3: sigma is sqrt(2)/3 in every mixed group
        ("resampled_grpo:rollouts=3", -math.log(3) * math.sqrt(2) / 3, 16 * math.sqrt(2) / 9),
    ],
)
def test_hand_worked_table_at_one_quarter(text, value, weight):
    objective = objectives.resolve(text)
    torch.testing.assert_close(objective.value(0.25), double(value), rtol=1e-14, atol=0)
    torch.testing.assert_close(objective.weight(0.25), double(weight), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("text", "values", "weights"),
    # At p = 0 and p = 1; H_4 = 1 + 1/2 + 1/3 + 1/4 = 25/12.
    [
        ("expected_reward", [0, 1], [1, 1]),
        ("maximum_likelihood", [-math.inf, 0], [math.inf, 1]),
        ("truncated_likelihood:order=1", [-1, 0], [1, 1]),
        ("truncated_likelihood:order=4", [-25 / 12, 0], [4, 1]),
        ("pass_at_k:k=1", [0, 1], [1, 1]),
        ("pass_at_k:k=4", [0, 1], [4, 0]),
        ("grpo_limit", [0, math.pi], [math.inf, math.inf]),
        ("power:s=0.5,t=0.5", [-math.pi / 2, math.pi / 2], [math.inf, math.inf]),
        ("power:s=1,t=1", [-math.inf, math.inf], [math.inf, math.inf]),
        ("power:s=2.5,t=-1", [-math.inf, 2 / 3 * (2**1.5 - 1) - 2 * (2**0.5 - 1)], [math.inf, 0]),
        ("power:s=-1,t=0", [-1 / 8, 3 / 8], [0, 1]),  # p^2 / 2 - 1/8
        ("tilted:beta=1", [0, 1], [math.e - 1, 1 - 1 / math.e]),
        ("tsallis:q=0.5", [-2, 0], [math.inf, 1]),
        ("tsallis:q=1.5", [-math.inf, 0], [math.inf, 1]),
        ("arcsine_pass_at_k:k=1", [0, math.pi], [math.inf, math.inf]),
        ("arcsine_pass_at_k:k=2", [0, math.pi], [math.inf, 2]),
        ("arcsine_pass_at_k:k=3", [0, math.pi], [math.inf, 0]),
        ("resampled_grpo:rollouts=5", [-math.inf, math.inf], [math.inf, math.inf]),
    ],
)
def test_both_ends(text, values, weights):
    objective = objectives.resolve(text)
    torch.testing.assert_close(objective.value([0.0, 1.0]), double(values), rtol=1e-14, atol=0)
    torch.testing.assert_close(objective.weight([0.0, 1.0]), double(weights), rtol=1e-14, atol=0)
    # and alone, where no other pass rate sets the size of the computation
    for end in (0, 1):
        torch.testing.assert_close(objective.value(float(end)), double(values[end]), rtol=1e-14, atol=0)
        torch.testing.assert_close(objective.weight(float(end)), double(weights[end]), rtol=1e-14, atol=0)


def close_to(found, expected, relative=1e-12):
    """Like an assertion, with room for numbers too small for float64 to hold at full precision."""
    torch.testing.assert_close(found, double([float(number) for number in expected]), rtol=relative, atol=1e-300)


@pytest.mark.parametrize("order", ORDERS)
def test_truncated_likelihood_weight_to_fifty_digits(order):
    found = objectives.TruncatedLikelihood(order).weight(PASS_RATES)
    with mpmath.workdps(50):
        close_to(found, [(1 - (1 - mpmath.mpf(p)) ** order) / mpmath.mpf(p) for p in PASS_RATES])


@pytest.mark.parametrize("order", [1, 2, 3, 10, 300])
def test_truncated_likelihood_value_to_fifty_digits(order):
    with mpmath.workdps(50):
        fails = [1 - mpmath.mpf(p) for p in PASS_RATES]
        expected = [-mpmath.fsum(fail**k / k for k in range(1, order + 1)) for fail in fails]
    close_to(objectives.TruncatedLikelihood(order).value(PASS_RATES), expected)


@pytest.mark.parametrize("order", [10_000, 1_000_000])
def test_truncated_likelihood_value_of_a_large_order_is_the_literal_sum(order):
    """The reference: at most 1e6 terms exp(k log(1-p)) / k, added in extended precision."""
    k = np.arange(1, order + 1, dtype=np.longdouble)
    pass_rates = [1e-12, 1e-6, 0.01, 0.9]
    expected = [-np.sum(np.exp(k * np.log1p(-np.longdouble(p))) / k) for p in pass_rates]
    close_to(objectives.TruncatedLikelihood(order).value(pass_rates), expected)


def test_truncated_likelihood_at_zero_is_minus_the_harmonic_number():
    for order in (1, 2, 1_000, 1_000_000):
        objective = objectives.TruncatedLikelihood(order)
        with mpmath.workdps(30):
            close_to(objective.value([0.0]), [-mpmath.harmonic(order)])
        assert objective.weight(0.0) == order
    # order 1e6 hardly tells 1e-20 from 0, and the value must not jump in between
    close_to(objectives.TruncatedLikelihood(10).value([1e-20, 1e-35]), [-7381 / 2520] * 2)  # H_10 = 7381/2520


def test_a_value_does_not_depend_on_the_pass_rates_beside_it():
    objective = objectives.TruncatedLikelihood(50)
    alone = torch.stack([objective.value(p) for p in PASS_RATES])
    torch.testing.assert_close(objective.value(PASS_RATES), alone, rtol=1e-13, atol=0)


@pytest.mark.parametrize("k", ORDERS)
def test_pass_at_k_to_fifty_digits(k):
    objective = objectives.PassAtK(k)
    with mpmath.workdps(50):
        fails = [1 - mpmath.mpf(p) for p in PASS_RATES]
        close_to(objective.value(PASS_RATES), [1 - fail**k for fail in fails])
        close_to(objective.weight(PASS_RATES), [k * fail ** (k - 1) for fail in fails])


def test_maximum_likelihood_to_fifty_digits():
    objective = objectives.MaximumLikelihood()
    with mpmath.workdps(50):
        close_to(objective.value(PASS_RATES), [mpmath.log(mpmath.mpf(p)) for p in PASS_RATES], 1e-15)
        close_to(objective.weight(PASS_RATES), [1 / mpmath.mpf(p) for p in PASS_RATES], 1e-15)


def test_grpo_limit_to_fifty_digits_also_near_one():
    objective = objectives.GrpoLimit()
    with mpmath.workdps(50):
        close_to(objective.value(PASS_RATES), [2 * mpmath.asin(mpmath.sqrt(p)) for p in PASS_RATES], 1e-14)
        inside = PASS_RATES[:-1]
        expected = [1 / mpmath.sqrt(mpmath.mpf(p) * (1 - mpmath.mpf(p))) for p in inside]
    close_to(objective.weight(inside), expected, 1e-14)


FIFTY_DIGITS = {
    "power:s=0.5,t=0": lambda p: (2 * (mpmath.sqrt(p) - mpmath.sqrt(0.5)), 1 / mpmath.sqrt(p)),
    "power:s=1.5,t=0.5": lambda p: (2 - 2 * mpmath.sqrt((1 - p) / p), 1 / (p * mpmath.sqrt(p * (1 - p)))),
    "power:s=2,t=2": lambda p: (
        (2 * p - 1) / (p * (1 - p)) + 2 * (mpmath.log(p) - mpmath.log(1 - p)),
        1 / (p * (1 - p)) ** 2,
    ),
    "tilted:beta=0.01": lambda p: (
        mpmath.log(1 + p * mpmath.expm1(mpmath.mpf(0.01))) / mpmath.mpf(0.01),
        mpmath.expm1(mpmath.mpf(0.01)) / mpmath.mpf(0.01) / (1 + p * mpmath.expm1(mpmath.mpf(0.01))),
    ),
    "tilted:beta=300": lambda p: (
        mpmath.log(1 + p * mpmath.expm1(300)) / 300,
        mpmath.expm1(300) / 300 / (1 + p * mpmath.expm1(300)),
    ),
    "tsallis:q=0.25": lambda p: ((p**0.75 - 1) / 0.75, p**-0.25),
    "arcsine_pass_at_k:k=5": lambda p: (
        2 * mpmath.asin(mpmath.sqrt(1 - (1 - p) ** 5)),
        5 * (1 - p) ** 1.5 / mpmath.sqrt(1 - (1 - p) ** 5),
    ),
}


@pytest.mark.parametrize("text", FIFTY_DIGITS)
def test_limits_of_published_estimators_to_fifty_digits(text):
    objective, inside = objectives.resolve(text), PASS_RATES[:-1]
    with mpmath.workdps(50):
        expected = [FIFTY_DIGITS[text](mpmath.mpf(p)) for p in inside]
        close_to(objective.value(inside), [value for value, _ in expected])
        close_to(objective.weight(inside), [weight for _, weight in expected])


@pytest.mark.parametrize("rollouts", [2, 4, 7, 64])
def test_resampled_grpo_is_grpo_divided_by_the_chance_of_a_mixed_group(rollouts):
    p = double([1e-3, 0.1, 0.5, 0.9])
    mixed = 1 - p**rollouts - (1 - p) ** rollouts
    objective = objectives.ResampledGrpo(rollouts)
    expected = exact.weight("grpo", rollouts=rollouts, pass_rate=p) / mixed
    torch.testing.assert_close(objective.weight(p), expected, rtol=1e-12, atol=0)
    # at both ends nearly every mixed group has one that differs: sigma = sqrt(N-1) / N
    ends = double([1e-12, 1 - 1e-12])
    near = math.sqrt(rollouts - 1) / rollouts / (ends * (1 - ends))
    torch.testing.assert_close(objective.weight(ends), near, rtol=1e-9, atol=0)


def test_resampled_grpo_has_the_value_of_a_sum_of_small_steps():
    """The trapezoid rule in logit(p), on 200,000 steps from p = 1/2, errs by 1e-9."""
    logits = torch.linspace(0, 12, 200_001, dtype=torch.float64)
    p = logits.sigmoid()
    objective = objectives.ResampledGrpo(9)
    expected = torch.trapezoid(objective.weight(p) * p * (1 - p), logits)
    torch.testing.assert_close(objective.value(p[-1:]), expected[None], rtol=1e-8, atol=0)
    torch.testing.assert_close(objective.value(1 - p[-1:]), -expected[None], rtol=1e-8, atol=0)


@pytest.mark.parametrize("order", [1, 2, 7, 64])
def test_the_relative_distance_to_the_likelihood_weight_is_the_chance_of_failing_order_times(order):
    p = torch.linspace(0.05, 1, 20, dtype=torch.float64)
    likelihood = objectives.MaximumLikelihood().weight(p)
    distance = (likelihood - objectives.TruncatedLikelihood(order).weight(p)) / likelihood
    torch.testing.assert_close(distance, (1 - p) ** order, rtol=1e-12, atol=1e-15)


def test_order_one_is_the_expected_reward_and_order_t_adds_up_pass_at_k():
    p = torch.linspace(0, 1, 11, dtype=torch.float64)
    expected_reward = objectives.ExpectedReward()
    first = objectives.TruncatedLikelihood(1)
    torch.testing.assert_close(first.value(p), expected_reward.value(p) - 1, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(first.weight(p), expected_reward.weight(p), rtol=1e-14, atol=0)
    added = sum(objectives.PassAtK(k).weight(p) / k for k in range(1, 7))
    torch.testing.assert_close(objectives.TruncatedLikelihood(6).weight(p), added, rtol=1e-13, atol=0)


@pytest.mark.parametrize("objective", EVERY, ids=str)
def test_the_gradient_of_the_value_is_the_weight(objective):
    p = double([[1e-9, 0.2], [0.5, 0.999]]).requires_grad_()
    value = objective.value(p)
    assert torch.equal(value.detach(), objective.value(p.detach()))
    value.sum().backward()
    assert torch.equal(p.grad, objective.weight(p.detach()))


@pytest.mark.parametrize("objective", EVERY, ids=str)
def test_the_weight_is_the_slope_of_the_value(objective):
    """Central difference with step h: off by h^2 J'''/6 and 1e-16 J/h; 1e-7 leaves a factor 10 for every objective."""
    p, step = double([0.2, 0.5, 0.8]), 1e-5
    slope = (objective.value(p + step) - objective.value(p - step)) / (2 * step)
    torch.testing.assert_close(objective.weight(p), slope, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("objective", EVERY, ids=str)
def test_a_weight_has_no_graph_and_a_value_only_if_asked(objective):
    p = double(0.3).requires_grad_()
    assert objective.value(p).requires_grad
    assert not objective.weight(p).requires_grad
    assert not objective.value(0.3).requires_grad


@pytest.mark.parametrize("objective", EVERY, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,)])
def test_shape_in_shape_out_in_double_precision(objective, shape):
    p = torch.full(shape, 0.25, dtype=torch.float32)
    for result in (objective.value(p), objective.weight(p), objective.value(p.numpy())):
        assert result.shape == shape
        assert result.dtype == torch.float64


@pytest.mark.filterwarnings("error")
def test_pass_rates_may_be_an_array_that_must_not_be_written():
    p = np.array([0.25, 0.5])
    p.setflags(write=False)
    assert objectives.PassAtK(2).weight(p).tolist() == [3 / 2, 1]
    objectives.ExpectedReward().value(p).zero_()
    assert p.tolist() == [0.25, 0.5]


def test_a_value_does_not_share_memory_with_its_pass_rates():
    p = double([0.1, 0.2])
    objectives.ExpectedReward().value(p).zero_()
    assert p.tolist() == [0.1, 0.2]


def test_gradients_reach_pass_rates_of_lower_precision():
    p = torch.tensor([0.25, 0.5], requires_grad=True)
    objectives.PassAtK(2).value(p).sum().backward()
    assert p.grad.dtype == torch.float32
    assert p.grad.tolist() == [1.5, 1.0]  # 2 (1-p)


@given(p=st.floats(1e-12, 1), order=st.integers(1, 10**6))
def test_truncated_likelihood_lies_between_expected_reward_and_likelihood(p, order):
    objective = objectives.TruncatedLikelihood(order)
    slack = 1 + 1e-12
    assert math.log(p) * slack - 1e-15 <= float(objective.value(p)) <= (p - 1) / slack + 1e-15
    assert 1 / slack <= float(objective.weight(p)) <= min(1 / p, order) * slack


@pytest.mark.parametrize("method", ["value", "weight"])
@pytest.mark.parametrize(
    ("pass_rate", "named"),
    [(1.5, "1.5"), (-0.25, "-0.25"), (math.nan, "nan"), ([0.5, 2.0, -1.0], "2.0"), ([[-1e-9]], "-1e-09")],
)
def test_a_pass_rate_outside_its_range_is_named(refuses, method, pass_rate, named):
    for objective in EVERY:
        with refuses(f"a pass rate must lie in [0, 1], got {named}"):
            getattr(objective, method)(pass_rate)


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "3", None])
def test_order_and_k_are_whole_numbers_from_one_on(refuses, wrong):
    with refuses(f"order must be a whole number >= 1, got {wrong!r}"):
        objectives.TruncatedLikelihood(wrong)
    with refuses(f"k must be a whole number >= 1, got {wrong!r}"):
        objectives.make("pass_at_k", k=wrong)


def test_make_and_resolve():
    assert list(objectives.OBJECTIVES) == NAMES
    assert objectives.make("pass_at_k", k=4) == objectives.PassAtK(4)
    assert objectives.resolve("truncated_likelihood:order=8") == objectives.TruncatedLikelihood(8)
    assert objectives.resolve("truncated_likelihood:order=N-1", rollouts=8) == objectives.TruncatedLikelihood(7)
    made = objectives.GrpoLimit()
    assert objectives.resolve(made) is made


def test_unknown_names_and_options_are_refused(refuses):
    with refuses(f"unknown objective 'likelihood'; choose one of: {', '.join(NAMES)}"):
        objectives.make("likelihood")
    with pytest.raises(ValueError, match=r"\Aobjective 'pass_at_k' takes the options: k; got: k, order\Z"):
        objectives.make("pass_at_k", k=2, order=3)
    with pytest.raises(ValueError, match=r"\Aobjective 'truncated_likelihood' takes .*order; got: none\Z"):
        objectives.make("truncated_likelihood")
    with refuses("expected an objective's name or a made objective, got int"):
        objectives.resolve(3)
    with refuses("expected a number or an expression in N such as 'N-1', got 'N'"):
        objectives.resolve("pass_at_k:k=N")


def test_the_text_form_makes_the_same_objective_again():
    assert [objective.spec for objective in EVERY] == [
        "expected_reward",
        "maximum_likelihood",
        "truncated_likelihood:order=1",
        "truncated_likelihood:order=9",
        "pass_at_k:k=1",
        "pass_at_k:k=9",
        "grpo_limit",
        "power:s=0.5,t=0",
        "power:s=1.5,t=-1",
        "tilted:beta=3",
        "tsallis:q=0.5",
        "arcsine_pass_at_k:k=4",
        "resampled_grpo:rollouts=4",
    ]
    for objective in EVERY:
        assert str(objective) == objective.spec
        assert objectives.resolve(objective.spec) == objective


def test_objectives_are_values():
    assert len({objectives.PassAtK(2), objectives.PassAtK(2), objectives.PassAtK(3)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        objectives.PassAtK(2).k = 3


def test_the_example_in_the_docstring_holds():
    found = doctest.testmod(objectives)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize(
    ("text", "p", "value"),
    [("maximum_likelihood", 0.0, -math.inf), ("grpo_limit", 0.0, 0.0), ("grpo_limit", 1.0, math.pi)],
)
def test_a_differentiable_value_is_the_value_where_the_weight_is_infinite(text, p, value):
    pass_rate = torch.tensor(p, dtype=torch.float64, requires_grad=True)
    assert objectives.resolve(text).value(pass_rate).item() == value


def test_an_objective_without_options_says_so():
    with pytest.raises(ValueError, match=r"\Aobjective 'grpo_limit' takes the options: none; got: k\Z"):
        objectives.make("grpo_limit", k=1)


def test_the_weight_at_a_subnormal_pass_rate_is_the_order():
    assert objectives.TruncatedLikelihood(4).weight(5e-324) == 4


def test_arrays_of_any_memory_layout_are_pass_rates():
    reverse = np.linspace(0, 1, 3)[::-1]
    assert objectives.PassAtK(1).value(reverse).tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    "name",
    [
        *("expected_reward", "pass_at_k:k=3", "truncated_likelihood:order=5", "grpo_limit", "power:s=0.5,t=0.7"),
        *("tilted:beta=2", "tsallis:q=0.5", "arcsine_pass_at_k:k=3", "resampled_grpo:rollouts=5"),
    ],
)
def test_log_slope_is_weight_times_pass_rate(name):
    p = torch.tensor([1e-9, 0.1, 0.5, 0.9], dtype=torch.float64)
    objective = objectives.resolve(name)
    torch.testing.assert_close(objective.log_slope(p.log()), objective.weight(p) * p, rtol=1e-12, atol=0)


def test_log_slope_at_the_ends():
    # likelihood: d log p / d log p = 1 even where p underflows; GRPO's limit at 1 - 1e-20: sqrt(p / (1-p)) = 1e10
    assert objectives.MaximumLikelihood().log_slope(torch.tensor(-800.0)) == 1
    assert objectives.GrpoLimit().log_slope(torch.tensor(-1e-20, dtype=torch.float64)).item() == pytest.approx(1e10)
    assert objectives.GrpoLimit().log_slope(torch.tensor(0.0)) == 0
    tiny, certain = torch.tensor(-800.0, dtype=torch.float64), torch.tensor(0.0)
    assert objectives.Power(1, 0.5).log_slope(tiny) == 1
    assert objectives.Power(1, 0.5).log_slope(certain) == 0
    assert objectives.Power(0.5, 0).log_slope(certain) == 1
    assert objectives.Power(0.5, -1).log_slope(certain) == 0
    assert objectives.Tsallis(1).log_slope(tiny) == 1
    # two mixed groups of three have the same deviation, sqrt(2) / 3
    assert objectives.ResampledGrpo(3).log_slope(tiny).item() == pytest.approx(math.sqrt(2) / 3, rel=1e-14)
    assert objectives.ResampledGrpo(3).log_slope(certain) == 0
    # sqrt(k p)
    assert objectives.ArcsinePassAtK(4).log_slope(torch.tensor(-600.0, dtype=torch.float64)).item() == pytest.approx(
        2 * math.exp(-300), rel=1e-13
    )
    assert 0 < objectives.ArcsinePassAtK(4).log_slope(tiny) < 1e-100
    assert objectives.ArcsinePassAtK(1).log_slope(certain) == 0
    assert objectives.ArcsinePassAtK(2).log_slope(certain) == 2
    near = torch.tensor(-1e-20, dtype=torch.float64)
    assert objectives.ArcsinePassAtK(1).log_slope(near).item() == pytest.approx(1e10)


def test_log_slope_is_in_double_precision_and_takes_a_rounded_log_as_certain():
    above = torch.tensor(1e-7)  # float32 log_softmax may round to just above 0
    for name in ("expected_reward", "maximum_likelihood", "pass_at_k:k=1"):
        slope = objectives.resolve(name).log_slope(above)
        assert slope.dtype == torch.float64
        assert slope.item() == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("power:s=nan,t=0", "s must be finite, got nan"),
        ("power:s=0,t=inf", "t must be finite, got inf"),
        ("tilted:beta=0", "beta must lie in (0, 700], got 0"),
        ("tilted:beta=701", "beta must lie in (0, 700], got 701"),
        ("tsallis:q=inf", "q must be finite, got inf"),
        ("arcsine_pass_at_k:k=0", "k must be a whole number >= 1, got 0"),
        ("resampled_grpo:rollouts=1", "rollouts must be a whole number >= 2, got 1"),
    ],
)
def test_parameters_out_of_range_are_refused(refuses, text, message):
    with refuses(message):
        objectives.resolve(text)
    with refuses("q must be finite, got True"):
        objectives.Tsallis(True)
    with refuses("beta must lie in (0, 700], got '2'"):
        objectives.Tilted("2")
