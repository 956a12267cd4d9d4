"""From an objective to an estimator: tables by hand, one mean for all forms, least variance, what is refused."""

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl_lab import estimators, exact, objectives
from maxrl_lab.audit import audit
from maxrl_lab.estimators import from_objective, least_variance, weights

FREE = ("success_only", "failure_only", "leave_one_out", "least_variance")
"""The forms that exist for every polynomial of degree N-1."""
GRID = torch.linspace(0.01, 0.99, 33, dtype=torch.float64)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def at(form, pass_rate=0.3):
    """The arguments that a form needs."""
    return {"form": form, **({"pass_rate": pass_rate} if form == "least_variance" else {})}


def columns(estimator, rollouts):
    return [column.tolist() for column in estimator.coefficients(rollouts)]


def polynomial(series):
    """The weight sum_k series[k] p^k as a user would write it."""
    return lambda p: sum(c * p**k for k, c in enumerate(series))


# Tables


@pytest.mark.parametrize(
    ("objective", "form", "named"),
    [
        ("expected_reward", "success_only", "reinforce"),
        ("expected_reward", "failure_only", "nsr"),
        ("expected_reward", "centred", "rloo"),
        ("expected_reward", "leave_one_out", "rloo"),
        ("truncated_likelihood:order=N", "success_only", "maxrl_no_baseline"),
        ("truncated_likelihood:order=N", "leave_one_out", "maxrl_leave_one_out"),
        ("truncated_likelihood:order=N-1", "centred", "maxrl"),
        ("truncated_likelihood:order=3", "success_only", "maxrl_order:order=3"),
        ("truncated_likelihood:order=3", "centred", "maxrl_centred:order=3"),
        ("pass_at_k:k=3", "success_only", "pkpo:k=3"),
        ("pass_at_k:k=3", "centred", "pkpo_centred:k=3"),
    ],
)
@pytest.mark.parametrize("rollouts", [4, 5, 64, 1024])
def test_named_estimators_are_forms_of_their_objective(objective, form, named, rollouts):
    made = from_objective(objective, rollouts, form)
    expected = exact.coefficients(named, rollouts=rollouts)
    for found, column in zip(made.coefficients(rollouts), expected, strict=True):
        torch.testing.assert_close(found, column, rtol=1e-12, atol=1e-13)
    assert made.is_exact


def test_every_form_of_pass_at_2_by_hand():
    """w = 2(1-p): (2, 1, 0) at N = 3, and (2, 0) at degree 1, which RLOO's 1, 1/2 and -1/2, -1 are scaled by."""
    tables = {form: columns(from_objective("pass_at_k:k=2", 3, **at(form)), 3) for form in estimators.FORMS}
    assert tables["success_only"] == [[0, 2, 1, 0], [0, 0, 0, 0]]
    assert tables["failure_only"] == [[0, 0, 0, 0], [-2, -1, 0, 0]]
    assert tables["centred"] == tables["leave_one_out"] == [[0, 2, 0, 0], [0, -1, 0, 0]]
    # scores that are orthogonal and equally long: b = -p beta at p = 0.3
    torch.testing.assert_close(double(tables["least_variance"]), double([[0, 1.4, 0.7, 0], [-0.6, -0.3, 0, 0]]))


def test_leave_one_out_of_pass_at_n_takes_pass_at_n_less_1_of_the_others():
    """N = 3: beta = (3, 0, 0); the others alone would have pass@2, (2, 0), whose mean advantage is 2/2 at J = 1."""
    assert columns(from_objective("pass_at_k:k=3", 3, "leave_one_out"), 3) == [[0, 3, -1, 0], [0, -1, 0, 0]]


@pytest.mark.parametrize(
    "objective", ["truncated_likelihood:order=N", "pass_at_k:k=N", "maximum_likelihood", "grpo_limit"]
)
@pytest.mark.parametrize("rollouts", [2, 4, 8, 64])
def test_the_centred_form_sums_to_zero_also_where_it_is_a_fit(objective, rollouts):
    """No zero-sum table has order N, or pass@N: the fit gives up exactness, never the sum."""
    made = from_objective(objective, rollouts, "centred")
    success, failure = made.coefficients(rollouts)
    counts = torch.arange(rollouts + 1, dtype=torch.float64)
    sums = counts * success + (rollouts - counts) * failure
    assert float(sums.abs().max()) < 1e-12 * rollouts * float(success.abs().max())
    assert not made.is_exact


@pytest.mark.parametrize("form", estimators.FORMS)
def test_a_group_of_one(form, refuses):
    if form == "centred":
        with refuses("the centred form needs at least 2 rollouts in a group, got N = 1"):
            from_objective("expected_reward", 1, form)
    else:
        success, failure = columns(from_objective("expected_reward", 1, **at(form)), 1)
        assert success[1] - failure[0] == pytest.approx(1)
        assert (success[0], failure[1]) == (0, 0)
        assert form not in ("success_only", "leave_one_out") or (success, failure) == ([0, 1], [0, 0])


# Means


@settings(max_examples=25)
@given(series=st.lists(st.floats(-2, 2), min_size=1, max_size=9), more=st.integers(0, 40), p=st.floats(0.01, 0.99))
def test_all_forms_of_a_polynomial_have_its_mean(series, more, p):
    rollouts = len(series) + more
    weight = polynomial(series)
    for form in estimators.FORMS:
        if form == "centred" and more == 0:
            continue
        made = from_objective(weight, rollouts, **at(form))
        assert made.is_exact
        found = exact.weight(made, rollouts=rollouts, pass_rate=p)
        torch.testing.assert_close(found, double(float(weight(p))), rtol=1e-9, atol=1e-11)
        assert abs(float(made.bias(p))) < 1e-10


@settings(max_examples=40)
@given(rollouts=st.integers(2, 9), data=st.data())
def test_the_centred_form_sums_to_zero_and_is_the_table_of_the_recursion(rollouts, data):
    gamma = data.draw(st.lists(st.integers(-5, 5).map(Fraction), min_size=rollouts - 1, max_size=rollouts - 1))
    beta = [
        (Fraction(j, rollouts - 1) * gamma[j - 1] if j else 0)
        + (Fraction(rollouts - 1 - j, rollouts - 1) * gamma[j] if j < rollouts - 1 else 0)
        for j in range(rollouts)
    ]
    success, failure, gap = estimators.zero_sum(beta)
    assert gap == 0

    def weight(p):
        j = torch.arange(rollouts, dtype=torch.float64)
        chance = torch.tensor([math.comb(rollouts - 1, int(k)) for k in j]).double()
        chance = chance * p[:, None] ** j * (1 - p[:, None]) ** (rollouts - 1 - j)
        return chance @ double([float(b) for b in beta])

    found = from_objective(weight, rollouts, "centred").coefficients(rollouts)
    torch.testing.assert_close(found[0], double([float(a) for a in success]), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found[1], double([float(b) for b in failure]), rtol=1e-8, atol=1e-8)
    counts = torch.arange(rollouts + 1, dtype=torch.float64)
    torch.testing.assert_close(
        counts * found[0] + (rollouts - counts) * found[1], torch.zeros(rollouts + 1).double(), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("form", estimators.FORMS)
@pytest.mark.parametrize("rollouts", [2, 8, 64, 1024])
def test_a_smooth_weight_is_exact_to_rounding_once_n_is_large(form, rollouts):
    """exp(2p) is no polynomial, but a polynomial of degree 20 equals it to rounding."""
    made = from_objective(lambda p: (2 * p).exp(), rollouts, **at(form))
    assert made.is_exact == (rollouts >= 64)
    if made.is_exact:
        torch.testing.assert_close(made.weight(GRID), (2 * GRID).exp(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("k", "rollouts"), [(32, 32), (50, 64), (200, 201), (64, 1024)])
def test_a_polynomial_of_high_degree_in_plain_arithmetic_has_exact_coefficients(k, rollouts):
    made = from_objective(lambda p: k * (1 - p) ** (k - 1), rollouts)
    assert made.is_exact
    expected = exact.coefficients(f"pkpo:k={k}", rollouts=rollouts)
    torch.testing.assert_close(made.coefficients(rollouts)[0], expected[0], rtol=1e-10, atol=1e-12)


def test_a_rational_function_is_no_polynomial_of_the_degree_at_hand():
    """1/(1+p) computes in fractions; so does a polynomial of degree N, which N rollouts cannot have."""
    for weight in (lambda p: 1 / (1 + p), lambda p: p**4):
        assert not from_objective(weight, 4).is_exact
    assert from_objective(lambda p: p**4, 5).is_exact
    assert not from_objective(lambda p: p**4, 5, "centred").is_exact


def test_the_bias_is_the_exact_one():
    made = from_objective("maximum_likelihood", 8)
    assert not made.is_exact
    expected = exact.weight(made, rollouts=8, pass_rate=GRID) - 1 / GRID
    torch.testing.assert_close(made.bias(GRID), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(made.bias(GRID.reshape(3, 11)), expected.reshape(3, 11), rtol=1e-12, atol=1e-12)
    assert torch.equal(exact.bias(made, rollouts=8, objective="maximum_likelihood", pass_rate=GRID), expected)


# Weights that are no polynomials


def penalised(beta, weight, degree, groups, nodes):
    """The criterion of `least_squares`, in loops: the mean over equal masses of Jeffreys' prior."""
    p = [math.cos((i + 0.5) / nodes * math.pi / 2) ** 2 for i in range(nodes)]
    median = sorted(abs(weight(q)) for q in p)[(nodes - 1) // 2]
    total = 0.0
    for q in p:
        chance = [math.comb(degree, j) * q**j * (1 - q) ** (degree - j) for j in range(degree + 1)]
        mean = sum(c * b for c, b in zip(chance, beta, strict=True))
        spread = sum(c * (b - mean) ** 2 for c, b in zip(chance, beta, strict=True))
        total += ((mean - weight(q)) ** 2 + spread / groups) / (weight(q) ** 2 + median**2)
    return total / nodes


@pytest.mark.parametrize("weight", [lambda p: 1 / p, lambda p: (p * (1 - p)) ** -0.5, lambda p: p**-1.5])
@pytest.mark.parametrize("groups", [1, 16])
def test_the_fit_minimises_its_criterion(weight, groups):
    degree = 3
    beta = weights.least_squares(weight, degree, groups).tolist()
    best = penalised(beta, weight, degree, groups, weights.FEWEST_NODES)
    for j, step in itertools.product(range(degree + 1), (-0.05, 0.05)):
        moved = [b + step * (i == j) for i, b in enumerate(beta)]
        assert penalised(moved, weight, degree, groups, weights.FEWEST_NODES) > best


def test_with_one_group_the_fit_is_a_mean_of_w_over_the_pass_rates_that_explain_j():
    """Bias and noise then add up to E(beta_J - w)^2: beta_J = E[w share | J] / E[share | J]."""
    p = weights._nodes(weights.FEWEST_NODES)
    target = 1 / p
    share = 1 / (target**2 + target.median() ** 2)
    expected = [
        float((share * target * p**j * (1 - p) ** (2 - j)).sum() / (share * p**j * (1 - p) ** (2 - j)).sum())
        for j in range(3)
    ]
    torch.testing.assert_close(weights.least_squares(lambda p: 1 / p, 2, 1), double(expected))


def test_more_groups_bring_less_bias_and_larger_advantages():
    made = [from_objective("maximum_likelihood", 16, groups=groups) for groups in (1, 16, 256)]
    bias = [float((estimator.bias(GRID) * GRID).square().mean()) for estimator in made]
    size = [float(estimator.coefficients(16)[0].abs().max()) for estimator in made]
    assert bias == sorted(bias, reverse=True)
    assert size == sorted(size)


def test_the_fit_has_less_bias_for_the_likelihood_than_its_truncation():
    """At N = 8 the truncated series is off by (1-p)^8, relative to 1/p."""
    made, p = from_objective("maximum_likelihood", 8), double([0.03, 0.1, 0.2])
    assert bool(((made.bias(p) * p).abs() < (1 - p) ** 8).all())


def test_a_table_of_a_thousand_rollouts_is_made_and_evaluated_within_seconds():
    start = time.perf_counter()
    made = from_objective(lambda p: p**-0.5, 1024)
    rates = torch.linspace(0, 1, 1000, dtype=torch.float64)
    weight = made.weight(rates)
    assert time.perf_counter() - start < 20
    assert bool(weight.isfinite().all())
    assert float(made.coefficients(1024)[0].abs().max()) < 100
    assert float((made.weight(double([0.01, 0.1, 0.5])) * double([0.01, 0.1, 0.5]).sqrt() - 1).abs().max()) < 0.005


# Least variance


def spread_of(estimator, rollouts, over):
    """The mean over a prior of the estimator's exact variance."""
    moments = [double(column) for column in (over.gradient_norm_squared, over.success_moment, over.failure_moment)]
    variance = exact.variance(
        estimator,
        rollouts=rollouts,
        pass_rate=double(over.pass_rate),
        gradient_norm_squared=moments[0],
        success_moment=moments[1],
        failure_moment=moments[2],
    )
    return float(variance @ double(over.mass))


rates = st.floats(0.02, 0.98)


@st.composite
def priors(draw):
    """Pass rates with scores that a policy could have: E|S|^2 given an outcome is at least the squared mean."""
    count = draw(st.integers(1, 4))
    p = double(draw(st.lists(rates, min_size=count, max_size=count)))
    norm = double(draw(st.lists(st.floats(0, 2), min_size=count, max_size=count)))
    more = double(draw(st.lists(st.floats(0.05, 4), min_size=2 * count, max_size=2 * count))).reshape(2, count)
    mass = double(draw(st.lists(st.floats(0.1, 2), min_size=count, max_size=count)))
    return least_variance.prior(
        p, mass, gradient_norm_squared=norm, success_moment=norm / p + more[0], failure_moment=norm / (1 - p) + more[1]
    )


def arguments(over):
    return {
        "pass_rate": over.pass_rate,
        "mass": over.mass,
        "gradient_norm_squared": over.gradient_norm_squared,
        "success_moment": over.success_moment,
        "failure_moment": over.failure_moment,
    }


@settings(max_examples=40)
@given(over=priors(), rollouts=st.integers(2, 12), order=st.integers(1, 12))
def test_least_variance_is_never_above_the_named_forms(over, rollouts, order):
    order = min(order, rollouts)
    objective = objectives.TruncatedLikelihood(order)
    best = spread_of(from_objective(objective, rollouts, "least_variance", **arguments(over)), rollouts, over)
    others = ["success_only", "failure_only", "leave_one_out"] + ["centred"] * (order < rollouts)
    named = [f"maxrl_order:order={order}"] + [f"maxrl_centred:order={order}"] * (order < rollouts)
    named += ["maxrl_leave_one_out", "maxrl_cross_fitted", "maxrl_control_variate"] * (order == rollouts)
    for other in [*(from_objective(objective, rollouts, form) for form in others), *named]:
        spread = spread_of(other, rollouts, over)
        assert best <= spread + 1e-12 * max(1.0, spread)


@settings(max_examples=60)
@given(over=priors(), beta=st.lists(st.floats(-3, 3), min_size=1, max_size=7), data=st.data())
def test_no_other_baseline_has_less_variance(over, beta, data):
    rollouts = len(beta)
    best = least_variance.best_baseline(double(beta), over)
    moved = best + double(data.draw(st.lists(st.floats(-0.5, 0.5), min_size=rollouts, max_size=rollouts)))

    def table(baseline):
        zero = baseline.new_zeros(1)
        success, failure = torch.cat([zero, double(beta) + baseline]), torch.cat([baseline, zero])
        return lambda rewards: torch.where(rewards > 0, success[int(rewards.sum())], failure[int(rewards.sum())])

    least = spread_of(table(best), rollouts, over)
    assert least <= spread_of(table(moved), rollouts, over) + 1e-10 * max(1.0, least)


@pytest.mark.parametrize("rollouts", [1, 2, 5, 40])
def test_the_solution_is_that_of_the_dense_system(rollouts):
    """The quadratic form of the module's docstring, assembled in loops and solved by numpy."""
    over = least_variance.prior([0.1, 0.4], [1.0, 3.0], gradient_norm_squared=[0.05, 0.2], success_moment=[0.9, 1.1])
    beta = np.linspace(2, -1, rollouts)

    def mean(function):
        rows = zip(*arguments(over).values(), strict=True)
        return sum(m * function(p, g, q1, q0) for p, m, g, q1, q0 in rows)

    def chance(j, n, p):
        return math.comb(n, j) * p**j * (1 - p) ** (n - j)

    matrix, right = np.zeros((rollouts, rollouts)), np.zeros(rollouts)
    for j in range(rollouts):
        q1 = mean(lambda p, g, q1, q0, j=j: chance(j, rollouts - 1, p) * q1)
        q0 = mean(lambda p, g, q1, q0, j=j: chance(j, rollouts - 1, p) * q0)
        matrix[j, j] += q1 + q0
        right[j] -= q1 * beta[j]
        if j < rollouts - 1:
            c = mean(lambda p, g, q1, q0, j=j: (rollouts - 1) * chance(j, rollouts - 2, p) * g)
            matrix[j, j] += c
            matrix[j + 1, j + 1] += c
            matrix[j, j + 1] -= c
            matrix[j + 1, j] -= c
            right[j + 1] -= c * (beta[j + 1] - beta[j])
    expected = np.linalg.solve(matrix, right)
    found = least_variance.best_baseline(torch.from_numpy(beta), over)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_least_variance_on_a_policy_of_one_parameter_has_none():
    """p = sigmoid(logit), S = r - p: with the best baseline every group gives the mean itself, p(1-p) for RL."""
    p = 0.2
    moments = {"gradient_norm_squared": (p * (1 - p)) ** 2, "success_moment": p * (1 - p) ** 2}
    moments["failure_moment"] = (1 - p) * p**2
    made = from_objective("expected_reward", 6, "least_variance", pass_rate=p, **moments)
    torch.testing.assert_close(made.coefficients(6)[0][1:], torch.full((6,), p, dtype=torch.float64))
    assert float(exact.variance(made, rollouts=6, pass_rate=p, **moments)) < 1e-15


@pytest.mark.parametrize("rollouts", [1024, 4096])
def test_least_variance_of_large_groups_is_finite_and_still_exact(rollouts):
    """The chance of one success among 4096 rollouts at p = 0.5 underflows; its row of the system must not."""
    moments = {"gradient_norm_squared": 0.2, "success_moment": 1.0, "failure_moment": 1.0}
    made = from_objective("truncated_likelihood:order=N/4", rollouts, "least_variance", pass_rate=0.5, **moments)
    success, failure = made.coefficients(rollouts)
    assert bool(success.isfinite().all() and failure.isfinite().all())
    p = double([1e-6, 0.01, 0.5, 0.9])
    torch.testing.assert_close(
        made.weight(p), objectives.TruncatedLikelihood(rollouts // 4).weight(p), rtol=1e-9, atol=0
    )


# Audit and training


@pytest.mark.parametrize("text", ["maxrl", "maxrl_leave_one_out", "rloo", "pkpo:k=4", "maxrl_order:order=5"])
@pytest.mark.parametrize("form", FREE)
def test_the_audit_and_its_inverse_close_the_loop(text, form):
    objective = audit(text, rollouts=8).objective
    made = from_objective(objective, 8, **at(form))
    again = audit(made, rollouts=8)
    assert again.objective == objective
    assert again.nearest.scale == pytest.approx(1)
    assert again.name == f"{form} of {objective}"


def test_a_made_estimator_is_a_hashable_value_that_works_at_any_n():
    first, again = (from_objective("pass_at_k:k=2", 4, "centred") for _ in range(2))
    assert first == again
    assert hash(first) == hash(again)
    assert first != from_objective("pass_at_k:k=2", 4)
    rewards = torch.tensor([[1, 0, 0, 1], [1, 0, 0, 0]])
    torch.testing.assert_close(first(rewards), estimators.make("pkpo_centred", k=2)(rewards))
    torch.testing.assert_close(first(rewards[:, :3]), estimators.make("pkpo_centred", k=2)(rewards[:, :3]))


def test_nobody_can_spoil_a_table_for_the_next_caller():
    made = from_objective("expected_reward", 3)
    made.coefficients(3)[0].zero_()
    assert columns(made, 3)[0] == [0, 1, 1, 1]


# Bad input


def test_what_is_refused(refuses):
    with refuses(
        "unknown form 'loo'; choose one of: success_only, failure_only, centred, leave_one_out, least_variance"
    ):
        from_objective("expected_reward", 4, "loo")
    with refuses("expected an objective or a function of the pass rate, got NoneType"):
        from_objective(None, 4)
    needs = "the form least_variance needs a pass rate or several, as in pass_rate=0.1"
    with refuses(needs):
        from_objective("expected_reward", 4, "least_variance")
    with refuses(needs.replace("needs", "alone takes", 1)):
        from_objective("expected_reward", 4, "centred", pass_rate=0.1)
    with refuses("groups must be a whole number >= 1, got 0"):
        from_objective("expected_reward", 4, groups=0)
    with refuses("rollouts must be a whole number >= 1, got 0"):
        from_objective("expected_reward", 0)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (lambda p: p * math.nan, "the weight must be finite inside (0, 1), got nan at p = 0.96194"),
        (
            lambda p: torch.where(p > 0.5, 1 / (p * 0), p),
            "the weight must be finite inside (0, 1), got inf at p = 0.96194",
        ),
        (lambda p: "x", "expected weights w(p) as numbers, got str"),
        (lambda p: p[:2], "expected weights of the pass rates' shape (4,), got (2,)"),
    ],
)
def test_weights_that_are_refused(refuses, weight, message):
    with refuses(message):
        from_objective(weight, 4)


def test_a_constant_weight_may_be_a_number():
    assert columns(from_objective(lambda p: 3, 2), 2) == [[0, 3, 3], [0, 0, 0]]
    assert columns(from_objective(lambda p: 0.0, 2), 2) == [[0, 0, 0], [0, 0, 0]]


def test_priors_that_are_refused(refuses):
    with refuses("least_variance needs pass rates inside (0, 1), got 1.0"):
        least_variance.prior([0.5, 1.0])
    with refuses("mass must be finite and not negative, got -1.0"):
        least_variance.prior([0.5, 0.5], [1.0, -1.0])
    with refuses("success_moment must be finite and not negative, got nan"):
        least_variance.prior(0.5, success_moment=math.nan)
    with refuses("mass and moments must broadcast against 2 pass rates, got other lengths"):
        least_variance.prior([0.5, 0.6], [1.0, 1.0, 1.0])
    for nothing in ([], 0.5):
        with refuses("least_variance needs a pass rate with mass at which scores are not 0, got none"):
            least_variance.prior(nothing, 0.0)
