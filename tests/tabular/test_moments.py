"""Exact score moments of tabular tasks, against every path and every group."""

import math
from itertools import product

import mpmath
import pytest
import torch
from small_worlds import (
    WORLDS,
    all_groups,
    corridor,
    every_path,
    graphs,
    random_policy,
    scores_of_logits,
    slippery,
)

from maxrl_lab import estimators, exact
from maxrl_lab.tabular import moments
from maxrl_lab.tabular.tasks import TabularTasks

KINDS = [(name, when) for name in WORLDS for when in ("stationary", "in time")]


ESTIMATORS = ["reinforce", "rloo", "grpo", "maxrl", "maxrl_control_variate", "maxrl_cross_fitted", "pkpo:k=2"]


def world(name, when, seed=0):
    """(tasks, a random policy for them)"""
    tasks = WORLDS[name]
    return tasks, random_policy(tasks, 1 if when == "stationary" else tasks.horizon, seed=seed)


def enumerated_moments(probabilities, rewards, scores):
    """(p, |grad p|^2, E[|S|^2 1{success}], E[|S|^2 1{failure}]) of V paths with scores (V, d)."""
    squares, right = scores.square().sum(1), rewards.double()
    gradient = (probabilities * right) @ scores
    second = [(probabilities * each) @ squares for each in (right, 1 - right)]
    return [probabilities @ right, gradient @ gradient, *second]


def assert_moments(found, task, wanted):
    for name, value, expected in zip(found._fields, found, wanted, strict=True):
        assert float(value[task]) == pytest.approx(float(expected), rel=1e-10, abs=1e-12), name


class TestMoments:
    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_are_those_of_all_paths(self, name, when):
        for seed in range(3):
            tasks, log_policy = world(name, when, seed)
            found = tasks.moments(log_policy)
            for task in range(tasks.shape[0]):
                paths = every_path(tasks, task, len(log_policy))
                policy = log_policy[:, task]
                scores = scores_of_logits(paths, policy)
                assert_moments(found, task, enumerated_moments(paths.probabilities(policy), paths.rewards, scores))

    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_agree_with_the_pass_rate_and_its_gradient(self, name, when):
        tasks, log_policy = world(name, when)
        logits = log_policy.clone().requires_grad_()
        rates = tasks.pass_rate(logits.log_softmax(-1))
        rates.sum().backward()
        found = tasks.moments(log_policy)
        assert torch.allclose(found.pass_rate, rates, rtol=1e-12)
        assert torch.allclose(found.gradient_norm_squared, logits.grad.square().sum((0, 2, 3)), rtol=1e-10)

    @pytest.mark.parametrize("name", list(WORLDS))
    def test_the_gram_matrix_of_the_logits_is_the_default(self, name):
        tasks, log_policy = world(name, "stationary")
        count, states, actions = tasks.shape
        gram = torch.zeros(count, states, actions, states, actions, dtype=torch.float64)
        for task, state in product(range(count), range(states)):
            # the gradient of log pi(a) for the logits: row a of 1 - (a copy of pi in each row)
            rows = torch.eye(actions, dtype=torch.float64) - log_policy[0, task, state].exp()
            gram[task, state, :, state] = rows @ rows.T
        gram = gram.view(count, states * actions, states * actions)
        for mine, default in zip(tasks.moments(log_policy, gram), tasks.moments(log_policy), strict=True):
            assert torch.allclose(mine, default, rtol=1e-12)

    def test_an_impossible_action_is_as_if_it_did_not_exist(self):
        tasks = slippery().select([0])
        policy = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.3, 0.7], [0.5, 0.5], [0.5, 0.5]]], dtype=torch.float64)
        # so that every path can be followed, 1e-300 in its place
        nearly = policy.clamp(min=1e-300).log()
        paths = every_path(tasks, 0)
        wanted = enumerated_moments(paths.probabilities(nearly), paths.rewards, scores_of_logits(paths, nearly))
        assert_moments(tasks.moments(policy.log()), 0, wanted)

    def test_one_step_is_a_bandit(self):
        # 3 actions, the last is right: p = pi_2, E[|S|^2; right] = pi_2 |e_2 - pi|^2, and so on.
        tasks = TabularTasks(
            successors=torch.tensor([[[1, 1, 2], [0, 0, 0], [0, 0, 0]]]),
            start=torch.tensor([[1.0, 0.0, 0.0]]),
            success=torch.tensor([[False, False, True]]),
            failure=torch.tensor([[False, True, False]]),
            horizon=1,
        )
        pi = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
        found = tasks.moments(pi.log().expand(1, 3, 3))
        # |e_2 - pi|^2 = .25 + .09 + .64, |e_0 - pi|^2 = .25 + .09 + .04, |e_1 - pi|^2 = .25 + .49 + .04
        assert [float(value) for value in found] == pytest.approx(
            [0.2, 0.2**2 * 0.98, 0.2 * 0.98, 0.5 * 0.38 + 0.3 * 0.78], rel=1e-12
        )


class SharedNetwork:
    """The second slippery task seen through 3 observations, two states alike, by a two-layer network of 24 numbers.

    States 0 and 2, both of which act, look the same; so does state 1 and the pit.
    """

    FEATURES = torch.tensor([[0.2, -1.0, 0.4], [0.9, 0.3, -0.5], [0.1, 0.1, 0.1]], dtype=torch.float64)
    SEEN = torch.tensor([0, 1, 0, 1, 2])

    def __init__(self):
        self.tasks = slippery().select([1])
        self.theta = torch.randn(24, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def log_policy(self, theta):
        """(1, S, A)"""
        hidden = (self.FEATURES @ theta[:12].view(3, 4) + theta[12:16]).tanh()
        return (hidden @ theta[16:].view(4, 2))[self.SEEN].log_softmax(-1)[None]

    def jacobian(self):
        """(S A, d)"""
        return torch.autograd.functional.jacobian(lambda theta: self.log_policy(theta).flatten(), self.theta)

    def paths(self):
        """(probabilities (V,), rewards (V,), scores (V, d) for the network's own numbers)"""
        found = every_path(self.tasks, 0)
        probabilities = found.probabilities(self.log_policy(self.theta))
        return probabilities, found.rewards, found.counts.flatten(1) @ self.jacobian()


class TestGramOfANetwork:
    def test_moments_are_those_of_the_networks_own_scores(self):
        network = SharedNetwork()
        rows = network.jacobian()
        found = network.tasks.moments(network.log_policy(network.theta), (rows @ rows.T)[None])
        assert_moments(found, 0, enumerated_moments(*network.paths()))
        # and the gradient is really the network's: by backward through the recursion
        theta = network.theta.clone().requires_grad_()
        network.tasks.pass_rate(network.log_policy(theta)).sum().backward()
        assert float(found.gradient_norm_squared) == pytest.approx(float(theta.grad.square().sum()), rel=1e-10)

    def test_states_that_look_alike_have_products(self):
        # Without these the test above could pass with a block-diagonal matrix.
        network = SharedNetwork()
        rows = network.jacobian()
        gram = rows @ rows.T
        blocks = torch.block_diag(*(gram[2 * s : 2 * s + 2, 2 * s : 2 * s + 2] for s in range(5)))
        policy = network.log_policy(network.theta)
        right, wrong = (network.tasks.moments(policy, each[None]) for each in (gram, blocks))
        assert abs(float(right.gradient_norm_squared / wrong.gradient_norm_squared) - 1) > 0.01
        assert abs(float(right.success_moment / wrong.success_moment) - 1) > 0.01

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_variance_is_that_of_all_pairs_of_rollouts(self, estimator):
        network = SharedNetwork()
        rows = network.jacobian()
        found = network.tasks.moments(network.log_policy(network.theta), (rows @ rows.T)[None])
        _, variance = all_groups(*network.paths(), 2, estimators.resolve(estimator))
        assert float(exact.variance(estimator, rollouts=2, **found._asdict())) == pytest.approx(
            float(variance), rel=1e-10, abs=1e-12
        )


class TestVariance:
    """The variance of a whole group's estimate from the moments, against every group of N paths."""

    @pytest.mark.parametrize("estimator", [*ESTIMATORS, "maxrl_leave_one_out", "mean_centred", "maxrl_order:order=2"])
    @pytest.mark.parametrize(
        ("tasks", "rollouts"),
        [(corridor(), 2), (corridor(4), 3), (graphs(3, (4,), 2), 3), (slippery(2).select([0]), 2)],
        ids=["corridor, pairs", "corridor, triples", "graph, triples", "slippery, pairs"],
    )
    @pytest.mark.parametrize("when", ["stationary", "in time"])
    def test_mean_and_variance_are_those_of_all_groups(self, estimator, tasks, rollouts, when):
        log_policy = random_policy(tasks, 1 if when == "stationary" else tasks.horizon, seed=1)
        found = tasks.moments(log_policy)
        paths = every_path(tasks, 0, len(log_policy))
        policy = log_policy[:, 0]
        mean, variance = all_groups(
            paths.probabilities(policy),
            paths.rewards,
            scores_of_logits(paths, policy),
            rollouts,
            estimators.resolve(estimator),
        )
        logits = log_policy.clone().requires_grad_()
        tasks.pass_rate(logits.log_softmax(-1)).sum().backward()
        weight = exact.weight(estimator, rollouts=rollouts, pass_rate=found.pass_rate)
        assert torch.allclose(mean, (weight * logits.grad).flatten(), rtol=0, atol=1e-10)
        assert float(variance) > 1e-4
        exact_variance = exact.variance(estimator, rollouts=rollouts, **found._asdict())
        assert float(exact_variance) == pytest.approx(float(variance), rel=0, abs=1e-10)


def failing(eps, length, horizon, in_time):
    """A corridor that is walked ahead but with probability eps a step, and its exact failure, by hand.

    Return (tasks, log_policy, u, |grad u|^2, E[|S|^2 1{failure}]), the last three in 60 digits.
    """
    tasks = corridor(horizon, length)
    back = torch.tensor(eps, dtype=torch.float64)
    log_policy = torch.stack([back.log(), (-back).log1p()]).expand(horizon if in_time else 1, 1, length + 1, 2)
    with mpmath.workdps(60):
        left = mpmath.exp(mpmath.mpf(float(log_policy[0, 0, 0, 0])))
        ahead = 1 - left
        # every path that fails, as counts of (back, ahead) in each state: at most 2^5
        total, slopes, second = mpmath.mpf(0), {}, mpmath.mpf(0)
        for moves in product((0, 1), repeat=horizon):
            place, score, chance = 0, {}, mpmath.mpf(1)
            for step, move in enumerate(moves):
                cell = (place, step if in_time else 0)
                # d log pi / d (logit of ahead, minus logit of back) in that cell
                score[cell] = score.get(cell, 0) + (left if move else -ahead)
                chance *= ahead if move else left
                place = place + 1 if move else max(0, place - 1)
                if place == length:
                    break
            if place == length:
                continue
            total += chance
            for cell, value in score.items():
                slopes[cell] = slopes.get(cell, 0) + chance * value
            second += chance * 2 * sum(value**2 for value in score.values())
        norm = 2 * sum(value**2 for value in slopes.values())
    return tasks, log_policy, total, norm, second


class TestNearCertainty:
    """Where almost every rollout succeeds nothing is lost to 1 - p."""

    OF_SUCCESSES = frozenset({"reinforce", "pkpo:k=2", "maxrl_no_baseline", "maxrl_order:order=2"})
    """Estimators in which wrong rollouts have weight 0."""

    @pytest.mark.parametrize("eps", [1e-10, 1e-12, 1e-16, 1e-30])
    @pytest.mark.parametrize(("length", "horizon"), [(1, 1), (3, 3), (2, 4), (3, 5)])
    @pytest.mark.parametrize("in_time", [False, True], ids=["stationary", "in time"])
    def test_moments_have_the_digits_of_the_failure(self, eps, length, horizon, in_time):
        tasks, log_policy, _, norm, second = failing(eps, length, horizon, in_time)
        found = tasks.moments(log_policy)
        assert float(found.gradient_norm_squared / float(norm)) == pytest.approx(1, rel=1e-6)
        assert float(found.failure_moment / float(second)) == pytest.approx(1, rel=1e-6)
        assert float(found.failure_moment) > 0
        assert float(found.success_moment) >= 0
        assert float(found.pass_rate) <= 1
        # where a single step back is a failure, these are in the test below
        for name in set(ESTIMATORS) - (self.OF_SUCCESSES if length == horizon else frozenset()):
            for rollouts in (2, 4, 16):
                assert float(exact.variance(name, rollouts=rollouts, **found._asdict())) >= 0

    @pytest.mark.parametrize("eps", [1e-6, 1e-10, 1e-12])
    @pytest.mark.parametrize("length", [1, 3])
    @pytest.mark.parametrize("in_time", [False, True], ids=["stationary", "in time"])
    def test_success_moment_has_the_digits_of_the_failure(self, eps, length, in_time):
        # One path succeeds, ahead at once; its score is eps for the logits of each of its cells, up to sign.
        tasks, log_policy, *_ = failing(eps, length, length, in_time)
        found = tasks.moments(log_policy)
        wanted = (1 - eps) ** length * 2 * length * eps**2
        assert float(found.success_moment / wanted) == pytest.approx(1, rel=1e-6)
        # the variance is p (1 - p) of it or so, the difference of two numbers of that size
        for name in self.OF_SUCCESSES:
            for rollouts in (2, 4, 16):
                assert float(exact.variance(name, rollouts=rollouts, **found._asdict())) >= -1e-12 * wanted

    def test_a_policy_that_fails_once_in_a_trillion(self):
        # two steps ahead in two: one step back is one too many
        tasks, log_policy, failure, _, _ = failing(5e-13, 2, 2, in_time=False)
        assert float(failure) == pytest.approx(1e-12, rel=1e-9)
        assert 1 - float(tasks.moments(log_policy).pass_rate) == pytest.approx(1e-12, rel=1e-3)
        # backward through the failure itself, by plain recursion
        logits = log_policy[0, 0].clone().requires_grad_()
        back, ahead = logits.log_softmax(-1).exp().unbind(-1)
        values = [torch.ones((), dtype=torch.float64)] * 2 + [torch.zeros((), dtype=torch.float64)]
        for _ in range(2):
            values = [back[s] * values[max(0, s - 1)] + ahead[s] * values[s + 1] for s in range(2)] + [values[2]]
        values[0].backward()
        found = tasks.moments(log_policy)
        assert float(found.gradient_norm_squared) == pytest.approx(float(logits.grad.square().sum()), rel=1e-6, abs=0)

    def test_a_network_near_certainty(self):
        # The same through a Gram matrix: one logit for all states, so that scores of different states have products.
        eps, length, horizon = 1e-12, 3, 4
        tasks = corridor(horizon, length)
        logit = torch.tensor(math.log(eps), dtype=torch.float64, requires_grad=True)
        back, ahead = logit.sigmoid(), (-logit).sigmoid()
        slopes = torch.stack([ahead, -back]).detach().repeat(length + 1)
        log_policy = torch.stack([back.log(), ahead.log()]).detach().expand(1, length + 1, 2)
        found = tasks.moments(log_policy, (slopes[:, None] * slopes)[None])
        one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        values = [one] * length + [zero]
        for _ in range(horizon):
            values = [back * values[max(0, s - 1)] + ahead * values[s + 1] for s in range(length)] + [zero]
        (slope,) = torch.autograd.grad(values[0], logit)
        assert float(slope) == pytest.approx(2e-12, rel=1e-6)  # a step back from 1 or 2
        assert float(found.gradient_norm_squared) == pytest.approx(float(slope) ** 2, rel=1e-6, abs=0)
        assert float(found.failure_moment) > 0
        assert float(exact.variance("maxrl", rollouts=4, **found._asdict())) >= 0


class TestErrors:
    def test_too_many_cells(self, refuses, monkeypatch):
        tasks, log_policy = world("graphs", "stationary")
        monkeypatch.setattr(moments, "MAX_NUMBERS", 225)
        tasks.moments(log_policy)
        monkeypatch.setattr(moments, "MAX_NUMBERS", 224)
        with refuses("moments take (S A)^2 C numbers, at most 224, got S = 5, A = 3, C = 1"):
            tasks.moments(log_policy)

    def test_successors_count_as_well(self, refuses, monkeypatch):
        tasks, log_policy = world("slippery", "in time")
        monkeypatch.setattr(moments, "MAX_NUMBERS", 10**2 * 3)
        tasks.moments(log_policy)
        monkeypatch.setattr(moments, "MAX_NUMBERS", 10**2 * 3 - 1)
        with refuses("moments take (S A)^2 C numbers, at most 299, got S = 5, A = 2, C = 3"):
            tasks.moments(log_policy)

    def test_a_gram_matrix_for_a_policy_in_time(self, refuses):
        tasks, log_policy = world("corridor", "in time")
        with refuses("moments of a policy that depends on time are for its own logits, not for a Gram matrix"):
            tasks.moments(log_policy, torch.eye(8)[None])

    def test_a_gram_matrix_of_another_shape(self, refuses):
        tasks, log_policy = world("corridor", "stationary")
        with refuses("gram must have shape (1, 8, 8), got (8, 8)"):
            tasks.moments(log_policy, torch.eye(8))

    def test_a_stack_of_policies(self, refuses):
        tasks = WORLDS["corridor"]
        with refuses("moments takes one policy, (B, S, A) or (T, B, S, A), got a stack of runs"):
            tasks.moments(random_policy(tasks, runs=2))
