"""Exact mean, bias and variance: golden values, brute-force enumeration, 40-digit sums, and the theory's facts."""

import itertools
import json
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl_lab import bernstein, estimators, exact

CASES = json.loads((Path(__file__).parents[1] / "golden/estimator_moments.json").read_text())["cases"]
GRID = torch.linspace(0, 1, 21, dtype=torch.float64)
ORDER_N = ["maxrl_no_baseline", "maxrl_control_variate", "maxrl_leave_one_out", "maxrl_cross_fitted"]


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def spec(name, argument):
    if isinstance(argument, int):
        argument = f"{'k' if name == 'pkpo' else 'order'}={argument}"
    return name if argument is None else f"{name}:{argument}"


def truncated(order, p):
    """w of order T as the literal sum of (1-p)^(k-1)."""
    return sum((1 - p) ** (k - 1) for k in range(1, order + 1)) + 0 * p


def from_table(success, failure):
    """A callable estimator with these a(0..N) and b(0..N)."""
    success, failure = double(success), double(failure)
    return lambda rewards: torch.where(rewards > 0, success[int(rewards.sum())], failure[int(rewards.sum())])


# Golden values


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{spec(c['estimator'], c['arg'])}-N{c['rollouts']}")
def test_golden_moments(case):
    logits = double(case["logits"])
    probabilities = logits.softmax(0)
    scores = torch.eye(len(logits), dtype=torch.float64) - probabilities
    rewards = double(case["success"])
    assert float(probabilities @ rewards) == pytest.approx(case["p"], abs=1e-10)
    estimator, rollouts = spec(case["estimator"], case["arg"]), case["rollouts"]
    found = exact.moments(estimator, rollouts=rollouts, probabilities=probabilities, scores=scores, rewards=rewards)
    torch.testing.assert_close(found.mean, double(case["mean"]), rtol=0, atol=1e-10)
    torch.testing.assert_close(found.variance, double(case["variance"]), rtol=0, atol=1e-10)
    weight = exact.weight(estimator, rollouts=rollouts, pass_rate=case["p"])
    torch.testing.assert_close(weight, double(case["weight"]), rtol=0, atol=1e-10)


def test_the_golden_file_holds_every_estimator():
    assert {case["estimator"] for case in CASES} == set(estimators.ESTIMATORS)
    assert len(CASES) == 200


# Hand-worked values


def test_variance_by_hand():
    """E|S|^2 1{r=1} = 8, E|S|^2 1{r=0} = 16, |grad p|^2 = 3 at p = 1/4."""

    def variance(estimator, rollouts):
        return exact.variance(
            estimator,
            rollouts=rollouts,
            pass_rate=0.25,
            gradient_norm_squared=3.0,
            success_moment=8.0,
            failure_moment=16.0,
        )

    # one rollout: 8 - 3; the mean of four independent ones: a quarter of that
    torch.testing.assert_close(variance("reinforce", 1), double(5.0))
    torch.testing.assert_close(variance("reinforce", 4), double(5 / 4))
    # +-1/2 only if the other rollout differs: own terms (3/4 8/4 + 1/4 16/4) / 2 = 5/4; the pairs add 1/2 3 1/2 and the
    # squared mean takes (1/2)^2 3 away again. rloo is twice as large in every advantage.
    torch.testing.assert_close(variance("mean_centred", 2), double(5 / 4))
    torch.testing.assert_close(variance("rloo", 2), double(5.0))


def test_weight_and_variance_at_both_ends_by_hand():
    """N = 3 with a(1..3) = 2, 3, 5 and b(0..2) = 7, -1, 4, moments 3 and 6, |grad p|^2 = 9."""
    estimator = from_table([0, 2, 3, 5], [7, -1, 4, 0])
    # p = 0: the others all fail, so 2 - 7; p = 1: they all succeed, so 5 - 4
    weights = exact.weight(estimator, rollouts=3, pass_rate=[0.0, 1.0])
    assert weights.tolist() == [-5, 1]
    variances = exact.variance(
        estimator,
        rollouts=3,
        pass_rate=double([0.0, 1.0]),
        gradient_norm_squared=9,
        success_moment=3,
        failure_moment=6,
    )
    # p = 0: (4 3 + 49 6)/3 = 102; 2/3 9 (3^2 + 7^2 - 2 2 (-1)) = 372; less 25 9 = 225
    # p = 1: (25 3 + 16 6)/3 = 57; 2/3 9 (5^2 + (-1)^2 - 2 3 4) = 12; less 1 9
    torch.testing.assert_close(variances, double([249, 60]))


def test_variance_keeps_the_digits_of_python_numbers():
    # one rollout: 0.3 - 0.1, neither of which is a single-precision number
    found = exact.variance(
        "reinforce", rollouts=1, pass_rate=0.1, gradient_norm_squared=0.1, success_moment=0.3, failure_moment=0.7
    )
    assert float(found) == pytest.approx(0.2, rel=1e-14)


def test_table_weight_and_variance_are_those_of_the_estimator():
    success, failure = exact.coefficients("grpo", rollouts=7)
    sizes = {"gradient_norm_squared": 0.1, "success_moment": 0.3, "failure_moment": 0.7}
    expected = exact.weight("grpo", rollouts=7, pass_rate=GRID)
    assert torch.equal(exact.table_weight(success, failure, GRID), expected)
    expected = exact.variance("grpo", rollouts=7, pass_rate=GRID, **sizes)
    assert torch.equal(exact.table_variance(success, failure, pass_rate=GRID, **sizes), expected)


def test_grpo_weights_by_hand():
    p = GRID
    q = 1 - p

    def weight(text, rollouts):
        return exact.weight(text, rollouts=rollouts, pass_rate=p)

    # N = 2, 3: a(J+1) - b(J) is one number for every J, so grpo is plain RL but for its scale
    torch.testing.assert_close(weight("grpo", 2), torch.ones_like(p))
    torch.testing.assert_close(weight("grpo", 3), torch.full_like(p, math.sqrt(2)))
    torch.testing.assert_close(weight("grpo:ddof=1", 2), torch.full_like(p, 1 / math.sqrt(2)))
    # N = 4: sqrt(3) for J = 0 and 3, 1 + 1/sqrt(3) for J = 1 and 2
    four = math.sqrt(3) * (q**3 + p**3) + (1 + 1 / math.sqrt(3)) * 3 * p * q
    torch.testing.assert_close(weight("grpo", 4), four)
    # with sigma + 1/2 at N = 2: 1/2 instead of 1
    torch.testing.assert_close(weight("grpo:epsilon=0.5", 2), torch.full_like(p, 0.5))


def test_binomial_mean_by_hand():
    # n = 2, p = 1/4: 9/16, 6/16, 1/16
    found = bernstein.binomial_mean(double([16, 32, 64]), double([0.25, 0, 1]))
    torch.testing.assert_close(found, double([9 + 12 + 4, 16, 64]))
    assert bernstein.binomial_mean(double([3.0]), double(0.4)) == 3


# Brute force


rates = st.floats(0.02, 0.98)
coefficient = st.floats(-4, 4)


@st.composite
def tables(draw, largest=5):
    rollouts = draw(st.integers(1, largest))
    columns = st.lists(coefficient, min_size=rollouts + 1, max_size=rollouts + 1)
    return rollouts, draw(columns), draw(columns)


@settings(max_examples=60)
@given(table=tables(), p=rates)
def test_weight_against_all_reward_tuples(table, p):
    """E[(1/N) sum_i A_i S_i] with E[S_i | r_i] = grad p / p or -grad p / (1-p), summed over 2^N reward tuples."""
    rollouts, success, failure = table
    expected = 0.0
    for rewards in itertools.product([0, 1], repeat=rollouts):
        k = sum(rewards)
        chance = p**k * (1 - p) ** (rollouts - k)
        expected += chance * sum(success[k] / p if r else -failure[k] / (1 - p) for r in rewards) / rollouts
    found = exact.weight(from_table(success, failure), rollouts=rollouts, pass_rate=p)
    torch.testing.assert_close(found, double(expected), rtol=1e-11, atol=1e-11)


@settings(max_examples=60)
@given(
    table=tables(largest=4),
    logits=st.lists(st.floats(-2, 2), min_size=2, max_size=4),
    right=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_moments_against_all_outcomes(table, logits, right):
    """Mean and variance of the gradient summed over all V^N groups that a softmax policy can draw."""
    rollouts, success, failure = table
    policy = np.exp(logits) / np.exp(logits).sum()
    scores = np.eye(len(logits)) - policy
    rewards = np.array(right[: len(logits)], dtype=float)
    outcomes = np.array(list(itertools.product(range(len(logits)), repeat=rollouts)))
    won = rewards[outcomes]
    k = won.sum(1, keepdims=True).astype(int)
    advantages = np.where(won > 0, np.array(success)[k], np.array(failure)[k])
    gradients = np.einsum("gn,gnd->gd", advantages, scores[outcomes]) / rollouts
    chance = policy[outcomes].prod(1)
    mean = chance @ gradients
    variance = chance @ ((gradients - mean) ** 2).sum(1)
    found = exact.moments(
        from_table(success, failure),
        rollouts=rollouts,
        probabilities=torch.from_numpy(policy),
        scores=torch.from_numpy(scores),
        rewards=torch.from_numpy(rewards),
    )
    torch.testing.assert_close(found.mean, torch.from_numpy(mean), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(found.variance, double(float(variance)), rtol=1e-10, atol=1e-11)


@settings(max_examples=60)
@given(
    table=tables(largest=4),
    logits=st.lists(st.floats(-2, 2), min_size=2, max_size=3),
    right=st.lists(st.booleans(), min_size=3, max_size=3),
    stream=st.integers(0, 2**32 - 1),
)
def test_surrogate_moments_against_all_outcomes(table, logits, right, stream):
    """As above, with the gradients of any surrogate in place of scores, each drawn from two that are equally likely.

    Also the law itself: w_N(p) p(1-p) (s1 - s0) + m E[grad l].
    """
    rollouts, success, failure = table
    policy = np.exp(logits) / np.exp(logits).sum()
    rewards = np.array(right[: len(logits)], dtype=float)
    drawn = np.random.default_rng(stream).normal(size=(2, len(logits), 3))  # half of the draws, rollout, parameter
    policy_twice, rewards_twice = np.tile(policy / 2, 2), np.tile(rewards, 2)
    outcomes = np.array(list(itertools.product(range(2 * len(logits)), repeat=rollouts)))
    won = rewards_twice[outcomes]
    k = won.sum(1, keepdims=True).astype(int)
    advantages = np.where(won > 0, np.array(success)[k], np.array(failure)[k])
    gradients = np.einsum("gn,gnd->gd", advantages, drawn.reshape(-1, 3)[outcomes]) / rollouts
    chance = policy_twice[outcomes].prod(1)
    mean = chance @ gradients
    found = exact.surrogate_moments(
        from_table(success, failure),
        rollouts=rollouts,
        probabilities=torch.from_numpy(policy),
        scores=torch.from_numpy(drawn.mean(0)),
        rewards=torch.from_numpy(rewards),
        squares=torch.from_numpy((drawn**2).sum(2).mean(0)),
    )
    torch.testing.assert_close(found.mean, torch.from_numpy(mean), rtol=1e-10, atol=1e-11)
    variance = chance @ ((gradients - mean) ** 2).sum(1)
    torch.testing.assert_close(found.variance, double(float(variance)), rtol=1e-10, atol=1e-10)
    p = float(policy @ rewards)
    if 0 < p < 1:
        weight = float(exact.weight(from_table(success, failure), rollouts=rollouts, pass_rate=p))
        of_right, of_wrong = (policy * rewards) @ drawn.mean(0), (policy * (1 - rewards)) @ drawn.mean(0)
        advantage = chance @ advantages.mean(1)
        law = weight * ((1 - p) * of_right - p * of_wrong) + advantage * (of_right + of_wrong)
        np.testing.assert_allclose(found.mean.numpy(), law, rtol=1e-9, atol=1e-10)


def test_surrogate_moments_of_scores_are_moments():
    policy = torch.softmax(double([0.3, -1.0, 0.5]), 0)
    scores = torch.eye(3, dtype=torch.float64) - policy
    enumerated = {"probabilities": policy, "scores": scores, "rewards": double([1, 0, 1])}
    for rollouts in (1, 5, {2: 0.25, 5: 0.75}):
        expected = exact.moments("maxrl_no_baseline", rollouts=rollouts, **enumerated)
        found = exact.surrogate_moments("maxrl_no_baseline", rollouts=rollouts, **enumerated)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_squares_that_do_not_fit_are_refused(refuses):
    enumerated = {"probabilities": double([0.5, 0.5]), "scores": double([[1], [-1]]), "rewards": double([1, 0])}
    with refuses("expected squares of the scores (2,), got (3,)"):
        exact.surrogate_moments("rloo", rollouts=2, **enumerated, squares=torch.ones(3))


# High precision


def mpmath_weights(differences, p):
    """sum_J C(N-1, J) p^J (1-p)^(N-1-J) (a(J+1) - b(J)) for several lists of differences, with 40 digits."""
    n = len(differences[0]) - 1
    p = mpmath.mpf(p)
    chance, weights = (1 - p) ** n, [mpmath.mpf(0)] * len(differences)
    if p == 1:
        return [row[n] for row in differences]
    for j in range(n + 1):
        weights = [total + chance * row[j] for total, row in zip(weights, differences, strict=True)]
        chance *= p / (1 - p) * (n - j) / (j + 1)
    return weights


@pytest.mark.parametrize("rollouts", [2, 64, 4096])
def test_weights_against_forty_digits(rollouts):
    n = rollouts
    pass_rates = [1e-9, 1e-4, 0.03, 0.5, 1 - 1e-9, 1.0]
    with mpmath.workdps(40):
        # a(J+1) - b(J): (1 - r)/sigma(r) at r = (J+1)/n, plus r/sigma(r) at r = J/n, where sigma = 0 counts as 0
        inverse = [0, *(n / mpmath.sqrt(k * (n - k)) for k in range(1, n)), 0]
        grpo = [inverse[j + 1] * (n - j - 1) / n + inverse[j] * j / n for j in range(n)]
        maxrl = [mpmath.mpf(n) / (j + 1) - 1 + (j > 0) for j in range(n)]
        no_baseline = [mpmath.mpf(n) / (j + 1) for j in range(n)]
        pkpo_2 = [2 * mpmath.mpf(n - j - 1) / (n - 1) for j in range(n)]
        expected = [mpmath_weights([grpo, maxrl, no_baseline, pkpo_2], p) for p in pass_rates]
    for text, column in zip(
        ["grpo", "maxrl", "maxrl_no_baseline", "pkpo:k=2"], zip(*expected, strict=True), strict=True
    ):
        found = exact.weight(text, rollouts=n, pass_rate=pass_rates)
        torch.testing.assert_close(found, double([float(w) for w in column]), rtol=1e-9, atol=0)


# Shapes and blocks


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (2, 0)])
def test_the_shape_of_the_pass_rate_is_kept(shape):
    p = torch.full(shape, 0.25, dtype=torch.float32)
    bias = exact.bias("grpo", rollouts=5, objective="grpo_limit", pass_rate=p)
    variance = exact.variance(
        "grpo", rollouts=5, pass_rate=p, gradient_norm_squared=1, success_moment=1, failure_moment=1
    )
    for result in (exact.weight("grpo", rollouts=5, pass_rate=p), bias, variance):
        assert result.shape == shape
        assert result.dtype == torch.float64


def test_results_have_no_graph():
    p = double(0.3).requires_grad_()
    assert not exact.weight("grpo", rollouts=4, pass_rate=p).requires_grad
    assert not exact.bias("grpo", rollouts=4, objective="expected_reward", pass_rate=p).requires_grad
    moments = {"gradient_norm_squared": 1.0, "success_moment": 1.0, "failure_moment": 1.0}
    assert not exact.variance("grpo", rollouts=4, pass_rate=p, **moments).requires_grad


def test_many_pass_rates_at_once_are_those_one_by_one():
    def weight(p):
        return exact.weight("grpo", rollouts=9, pass_rate=p)

    def variance(p):
        norm, q1, q0 = p**2, p, 2 - p
        return exact.variance(
            "maxrl", rollouts=9, pass_rate=p, gradient_norm_squared=norm, success_moment=q1, failure_moment=q0
        )

    for function in (weight, variance):
        one_by_one = torch.stack([function(p) for p in GRID])
        torch.testing.assert_close(function(GRID), one_by_one, rtol=1e-13, atol=0)
        torch.testing.assert_close(function(GRID.reshape(7, 3)), one_by_one.reshape(7, 3), rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    ("limit", "blocks"),
    # at N = 4 a pass rate costs 4 elements, and a block holds at least one pass rate
    [(4, [1] * 5), (7, [1] * 5), (8, [2, 2, 1]), (19, [4, 1]), (20, [5]), (1, [1] * 5)],
)
def test_blocks_bound_the_memory_and_change_nothing(monkeypatch, limit, blocks):
    p = GRID[::5]
    expected = exact.weight("grpo", rollouts=4, pass_rate=p)
    monkeypatch.setattr(bernstein, "_CHUNK_ELEMENTS", limit)
    sizes, xlogy = [], torch.special.xlogy
    monkeypatch.setattr(torch.special, "xlogy", lambda j, p: sizes.append(len(p)) or xlogy(j, p))
    torch.testing.assert_close(exact.weight("grpo", rollouts=4, pass_rate=p), expected, rtol=1e-14, atol=0)
    assert sizes == blocks


def test_a_block_of_double_precision_numbers_is_at_most_64_mebibytes():
    assert bernstein._CHUNK_ELEMENTS * 8 <= 64 * 2**20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_pass_rates_and_callables_on_a_gpu():
    on_gpu = exact.weight("grpo", rollouts=9, pass_rate=GRID.cuda())
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), exact.weight("grpo", rollouts=9, pass_rate=GRID), rtol=1e-12, atol=0)
    moved, _ = exact.coefficients(lambda rewards: rewards.cuda() - rewards.cuda().mean(), rollouts=4)
    assert moved.tolist() == [0, 3 / 4, 2 / 4, 1 / 4, 0]


# The theory's facts


@pytest.mark.parametrize("rollouts", [1, 2, 3, 8, 100])
def test_every_estimator_has_the_mean_that_the_theory_says(rollouts):
    n = rollouts
    one = torch.ones_like(GRID)
    facts = {
        "reinforce": one,
        "mean_centred": (1 - 1 / n) * one,
        "maxrl": truncated(n - 1, GRID),  # order N-1, not N; nothing at all at N = 1
        "maxrl_no_baseline": truncated(n, GRID),
        "maxrl_control_variate": truncated(n, GRID),
        "maxrl_leave_one_out": truncated(n, GRID),
        "maxrl_order:order=1": one,
        "maxrl_order:order=N": truncated(n, GRID),
        "pkpo:k=1": one,
        "pkpo:k=N": n * (1 - GRID) ** (n - 1),
    }
    if n >= 2:
        facts |= {
            "rloo": one,
            "maxrl_cross_fitted": truncated(n, GRID),
            "maxrl_order:order=2": 2 - GRID,
            "maxrl_order:order=N-1": truncated(n - 1, GRID),
            "pkpo:k=2": 2 * (1 - GRID),
            "pkpo:k=N-1": (n - 1) * (1 - GRID) ** (n - 2),
        }
    for text, expected in facts.items():
        found = exact.weight(text, rollouts=n, pass_rate=GRID)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11, msg=lambda m, text=text: f"{text}: {m}")


def test_identities_between_coefficients():
    def columns(text, rollouts):
        return [column.tolist() for column in exact.coefficients(text, rollouts=rollouts)]

    assert columns("maxrl", 1) == [[0, 0], [0, 0]]
    assert columns("maxrl_leave_one_out", 1) == columns("reinforce", 1) == [[0, 1], [0, 0]]
    assert columns("maxrl", 2) == columns("rloo", 2) == columns("grpo", 2) == [[0, 1, 0], [0, -1, 0]]


def test_grpo_tends_to_its_limit_like_one_over_n():
    p = double([0.2, 0.5, 0.7])
    limit = (p * (1 - p)).rsqrt()
    distance = {n: exact.weight("grpo", rollouts=n, pass_rate=p) / limit - 1 for n in (1024, 4096)}
    assert distance[4096].abs().max() < 1e-3
    # four times the rollouts, a quarter of the distance; the next term is of relative size 10/N = 1%
    torch.testing.assert_close(distance[1024] / distance[4096], torch.full_like(p, 4), rtol=0.02, atol=0)


def test_bias_by_hand():
    p = 0.25

    def bias(estimator, rollouts, objective):
        return float(exact.bias(estimator, rollouts=rollouts, objective=objective, pass_rate=p))

    # Algorithm 1 lacks the last term of the series, (1-p)^(N-1)
    assert bias("maxrl", 2, "truncated_likelihood:order=2") == pytest.approx(-3 / 4, abs=1e-13)
    assert bias("maxrl", 4, "truncated_likelihood:order=N") == pytest.approx(-27 / 64, abs=1e-13)
    assert bias("maxrl", 4, "truncated_likelihood:order=N-1") == pytest.approx(0, abs=1e-13)
    # 1 - 1/2 - 1; 1 - 4; 2 (3/4) - 1
    assert bias("mean_centred", 2, "expected_reward") == pytest.approx(-1 / 2, abs=1e-13)
    assert bias("reinforce", 3, "maximum_likelihood") == pytest.approx(-3, abs=1e-13)
    assert bias("pkpo:k=2", 3, "expected_reward") == pytest.approx(1 / 2, abs=1e-13)


def test_bias_of_an_exact_estimator_for_the_likelihood_is_the_tail_of_the_series():
    bias = exact.bias("maxrl_no_baseline", rollouts=8, objective="maximum_likelihood", pass_rate=GRID[1:])
    torch.testing.assert_close(bias, -((1 - GRID[1:]) ** 8) / GRID[1:], rtol=1e-10, atol=1e-12)


# Traps


def test_trap_a_baseline_with_the_own_reward_biases_pass_at_k():
    """Advantage s_i minus the mean of the others' s_j, where s = pkpo depends on K and so on rollout i itself.

    At p = 1/4, N = 4, k = 2 the right weight is k (3/4). With s(1..4) = 2, 4/3, 2/3, 0 the baseline of a failure is
    K s(K) / 3 and of a success (K-1) s(K) / 3, so a - b = 2, 14/9, 10/9, 2/3 for J = 0..3; averaged over
    Bin(3, 1/4) = (27, 27, 9, 1)/64 this is 5/3 = k 0.8333.
    """
    pkpo = estimators.make("pkpo", k=2)

    def with_own_reward(rewards):
        s = pkpo(rewards)
        return s - (s.sum() - s) / (len(s) - 1)

    def weight(estimator):
        return float(exact.weight(estimator, rollouts=4, pass_rate=0.25))

    assert weight(pkpo) == pytest.approx(2 * 0.75, abs=1e-12)
    assert weight(with_own_reward) == pytest.approx(2 * 0.8333333333333333, abs=1e-12)


def test_trap_pooling_the_successes_of_two_tasks_changes_the_objective():
    """Mean gradient of the first of two tasks with N = 2, over all 16 reward tuples; pass rates 1/5 and 9/10."""
    estimator = estimators.make("maxrl_no_baseline")
    pass_rates = double([0.2, 0.9])[:, None]

    def weights(advantages_of):
        total = torch.zeros(2, dtype=torch.float64)
        for rewards in itertools.product([0.0, 1.0], repeat=4):
            rewards = double(rewards).reshape(2, 2)
            chance = torch.where(rewards > 0, pass_rates, 1 - pass_rates)
            slope = torch.where(rewards > 0, 1 / pass_rates, -1 / (1 - pass_rates))  # E[S | r] / grad p
            total += chance.prod() * (advantages_of(rewards) * slope).mean(1)
        return total

    # order 2 for each task on its own: 1 + (1-p)
    torch.testing.assert_close(weights(estimator), double([1.8, 1.1]))
    pooled = weights(lambda rewards: estimator(rewards.flatten()).reshape(2, 2))
    assert (pooled - double([1.8, 1.1])).abs().min() > 0.2


# What callables may be, and what is refused


def test_any_form_of_one_estimator_gives_the_same_coefficients():
    expected = [[0, 3, 1, 1 / 3, 0], [0, -1, -1, -1, 0]]

    def algorithm_1(rewards):
        assert isinstance(rewards, np.ndarray)
        mean = rewards.mean(axis=1, keepdims=True)
        return np.where(mean > 0, (rewards - mean) / np.maximum(mean, 0.01), 0)

    for estimator in ("maxrl", estimators.make("maxrl"), estimators.make("maxrl").__call__, algorithm_1):
        for column, values in zip(exact.coefficients(estimator, rollouts=4), expected, strict=True):
            torch.testing.assert_close(column, double(values), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("success", "failure", "place"),
    # where the wrong number stands: in a(2), in b(0), in both a(3) and b(2)
    [([0, 1, None, 1], [0, 0, 0, 0], 2), ([0, 1, 1, 1], [None, 0, 0, 0], 0), ([0, 1, 1, None], [0, 0, None, 0], 2)],
)
def test_an_advantage_that_is_not_finite_is_refused(refuses, wrong, success, failure, place):
    def filled(column):
        return [wrong if value is None else value for value in column]

    table = from_table(filled(success), filled(failure))
    with refuses(f"<lambda> returns an advantage that is not finite at K = {place}"):
        exact.coefficients(table, rollouts=3)
    with refuses(f"<lambda> returns an advantage that is not finite at K = {place}"):
        exact.weight(table, rollouts=3, pass_rate=0.5)


def test_callables_that_do_not_fit_are_refused(refuses):
    def scalar(rewards):
        return rewards.mean()

    def broken(rewards):
        raise ZeroDivisionError(f"no rollouts in {rewards.tolist()}")

    def ordered(rewards):
        return rewards * torch.tensor([1.0, 2.0])

    with refuses(
        "scalar does not turn rewards (N,) or (B, N) at N = 2 into as many advantages: "
        "expected advantages of shape (2,), got ()"
    ):
        exact.weight(scalar, rollouts=2, pass_rate=0.5)
    with refuses(
        "broken does not turn rewards (N,) or (B, N) at N = 2 into as many advantages: no rollouts in [1.0, 0.0]"
    ):
        exact.weight(broken, rollouts=2, pass_rate=0.5)
    with refuses(
        "ordered depends on the order of rollouts: rewards [1, 0] -> advantages [1, 0], "
        "but rewards [0, 1] -> [0, 2] (rollout 1: expected 1, got 2)"
    ):
        exact.coefficients(ordered, rollouts=2)
    with refuses("expected an estimator's name or a callable, got float"):
        exact.weight(0.5, rollouts=2, pass_rate=0.5)


@pytest.mark.parametrize("rollouts", [0, -1, 2.0, True])
def test_the_number_of_rollouts_is_a_whole_number(refuses, rollouts):
    for estimator in ("reinforce", lambda rewards: rewards):
        with refuses(f"rollouts must be a whole number >= 1, got {rollouts!r}"):
            exact.coefficients(estimator, rollouts=rollouts)


@pytest.mark.parametrize("function", [exact.weight, exact.variance])
def test_a_group_without_rollouts_has_no_weight(refuses, function):
    moments = (
        {"gradient_norm_squared": 1, "success_moment": 1, "failure_moment": 1} if function is exact.variance else {}
    )
    with refuses("rollouts must be a whole number >= 1, got 0"):
        function("maxrl", rollouts=0, pass_rate=0.5, **moments)


def test_too_few_rollouts_and_unknown_names_are_refused(refuses):
    with refuses("rloo needs at least 2 rollouts in a group, got N = 1"):
        exact.weight("rloo", rollouts=1, pass_rate=0.5)
    with refuses("pkpo with k=5 needs at least 5 rollouts in a group, got N = 4"):
        exact.weight("pkpo:k=N+1", rollouts=4, pass_rate=0.5)
    with refuses(f"unknown estimator 'ppo'; choose one of: {', '.join(estimators.ESTIMATORS)}"):
        exact.weight("ppo", rollouts=4, pass_rate=0.5)
    with pytest.raises(ValueError, match=r"\Aunknown objective 'reward'; choose one of: expected_reward, "):
        exact.bias("maxrl", rollouts=4, objective="reward", pass_rate=0.5)


@pytest.mark.parametrize("pass_rate", [1.5, -0.5, math.nan])
def test_a_pass_rate_outside_its_range_is_named(refuses, pass_rate):
    with refuses(f"a pass rate must lie in [0, 1], got {pass_rate}"):
        exact.weight("maxrl", rollouts=4, pass_rate=pass_rate)
    with refuses(f"a pass rate must lie in [0, 1], got {pass_rate}"):
        exact.variance(
            "maxrl", rollouts=4, pass_rate=pass_rate, gradient_norm_squared=1, success_moment=1, failure_moment=1
        )


def moments(probabilities=(0.5, 0.25, 0.25), scores=None, rewards=(1.0, 0.0, 0.0), estimator="reinforce", rollouts=2):
    """A policy of three outcomes whose default scores have mean zero."""
    if scores is None:
        scores = [[1.0, 0.0], [-2.0, 1.0], [0.0, -1.0]]
    return exact.moments(
        estimator,
        rollouts=rollouts,
        probabilities=torch.as_tensor(probabilities),
        scores=torch.as_tensor(scores),
        rewards=torch.as_tensor(rewards),
    )


def test_moments_by_hand():
    # grad p = 1/2 (1, 0); E|S|^2 1{r=1} = 1/2; the mean of two: (1/2 - 1/4) / 2
    mean, variance = moments()
    assert mean.dtype == variance.dtype == torch.float64
    assert mean.tolist() == [0.5, 0.0]
    assert variance.shape == ()
    assert float(variance) == pytest.approx(1 / 8, abs=1e-15)
    # b = -1 at K = 0 on one rollout: E|S|^2 1{r=0} = (4 + 1)/4 + 1/4 = 3/2, grad p the same as from the successes
    mean, variance = moments(estimator="maxrl_control_variate", rollouts=1)
    assert mean.tolist() == [0.5, 0.0]
    assert float(variance) == pytest.approx(3 / 2 - 1 / 4, abs=1e-15)


def test_moments_of_shapes_that_do_not_fit_are_refused(refuses):
    def shapes(probabilities, scores, rewards):
        return refuses(
            "expected probabilities (V,), scores (V, d) and rewards (V,), "
            f"got {tuple(probabilities.shape)}, {tuple(scores.shape)}, {tuple(rewards.shape)}"
        )

    p, s, r = double([0.5, 0.5]), double([[1.0], [-1.0]]), double([1.0, 0.0])
    fitting = {"probabilities": p, "scores": s, "rewards": r}
    moments(**fitting)
    third = double([[0.0]])
    for changed in (
        {"probabilities": p[:, None]},
        {"scores": s[:, 0]},
        {"scores": s[..., None]},
        {"rewards": r[:, None]},
        {"probabilities": torch.cat([p, third[0]])},
        {"scores": torch.cat([s, third])},
        {"rewards": torch.cat([r, third[0]])},
    ):
        arguments = fitting | changed
        with shapes(**arguments):
            moments(**arguments)


def test_moments_of_what_is_no_distribution_are_refused(refuses):
    with refuses("probabilities must be >= 0 and sum to 1, got the sum 0.75 and the smallest 0.0"):
        moments(probabilities=double([0.5, 0.25, 0.0]))
    with refuses("probabilities must be >= 0 and sum to 1, got the sum 1.25 and the smallest 0.25"):
        moments(probabilities=double([0.5, 0.5, 0.25]))
    with refuses("probabilities must be >= 0 and sum to 1, got the sum 1.0 and the smallest -0.5"):
        moments(probabilities=double([1.25, 0.25, -0.5]))
    with refuses("probabilities must be >= 0 and sum to 1, got the sum nan and the smallest nan"):
        moments(probabilities=double([0.5, 0.5, math.nan]))


def test_probabilities_may_be_rounded_to_single_precision():
    scores = torch.zeros(3, 1)
    for sign in (-1, 1):
        moments(probabilities=double([0.5, 0.25, 0.25 + sign * 9e-7]), scores=scores)
        with pytest.raises(
            ValueError, match=r"\Aprobabilities must be >= 0 and sum to 1, got the sum (1\.000001|0\.999998)"
        ):
            moments(probabilities=double([0.5, 0.25, 0.25 + sign * 1.1e-6]), scores=scores)
    # an outcome that never happens is fine
    moments(probabilities=double([0.5, 0.5, 0.0]), scores=scores)
    # all right: a sum a little above 1 still is a pass rate
    found = moments(probabilities=double([0.5, 0.25, 0.25 + 9e-7]), scores=scores, rewards=(1, 1, 1))
    assert found.variance == 0


def test_moments_of_scores_with_a_mean_are_refused(refuses):
    with refuses("the mean score must be 0 under the policy, got a relative norm of 1"):
        moments(scores=torch.ones(3, 2))
    with refuses("the mean score must be 0 under the policy, got a relative norm of 1"):
        moments(scores=1e-12 * torch.ones(3, 2))
    # (1/2, 0) against (1/2) 1 + (1/4) 1
    with refuses("the mean score must be 0 under the policy, got a relative norm of 0.333"):
        moments(scores=[[1.0], [-1.0], [0.0]])
    with refuses("the mean score must be 0 under the policy, got a relative norm of nan"):
        moments(scores=[[math.nan], [-1.0], [0.0]])
    # relative to the size of the scores, and as fine as single precision allows
    for scale in (1e-6, 1.0, 1e6):
        moments(scores=scale * double([[1.0 + 9e-7], [-1.0], [-1.0]]))
        with refuses("the mean score must be 0 under the policy, got a relative norm of 1.2e-06"):
            moments(scores=scale * double([[1.0 + 2.4e-6], [-1.0], [-1.0]]))


def test_scores_of_a_policy_that_cannot_change_give_nothing():
    mean, variance = moments(scores=torch.zeros(3, 2))
    assert mean.tolist() == [0, 0]
    assert variance == 0


def test_moments_of_rewards_that_are_not_right_or_wrong_are_refused(refuses):
    with refuses("rewards must be 0 or 1 (right or wrong), got 0.5"):
        moments(rewards=[1.0, 0.5, 0.0])


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_moments_accept_any_kind_of_right_or_wrong_rewards(dtype):
    expected = moments()
    found = moments(rewards=torch.tensor([1, 0, 0]).to(dtype))
    assert torch.equal(found.mean, expected.mean)
    assert torch.equal(found.variance, expected.variance)
