"""A bandit as a batch: pulls against the policy and the chances, and gradients against an enumeration."""

import pytest
import torch
from scipy import stats

from maxrl_lab import exact
from maxrl_lab.exploration.bandit_batch import BanditBatch
from maxrl_lab.training.groups import DivergedError
from maxrl_lab.training.methods import Exact, Expected, Sampled

CHANCES = torch.tensor([[0.9, 0.2, 0.0], [0.1, 1.0, 0.5]], dtype=torch.float64)
FEATURES = torch.tensor([[1.0, 0.0], [-0.5, 1.0], [0.3, 0.7]], dtype=torch.float64)


def batch(weights, step=0, seeds=(0, 1)):
    return BanditBatch((weights @ FEATURES.T).log_softmax(1), CHANCES, seeds, step)


def some_weights():
    return torch.tensor([[0.2, -0.4], [1.0, 0.3]], dtype=torch.float64, requires_grad=True)


def enumerated(weights, run):
    """(probability, score, reward) of each action and outcome of one run."""
    policy = (weights[run] @ FEATURES.T).softmax(0).detach()
    scores = FEATURES - policy @ FEATURES
    chances = CHANCES[run]
    probabilities = torch.cat([policy * chances, policy * (1 - chances)])
    rewards = torch.cat([torch.ones(3), torch.zeros(3)]).double()
    return probabilities, torch.cat([scores, scores]), rewards


class TestBanditBatch:
    def test_the_log_pass_rate_is_the_chance_of_success(self):
        weights = some_weights()
        rates = batch(weights).log_pass_rate([1, 0]).exp().detach()
        for row, run in enumerate([1, 0]):
            probabilities, _, rewards = enumerated(weights, run)
            assert float(rates[row, 0]) == pytest.approx(float(probabilities @ rewards), rel=1e-12)

    @pytest.mark.parametrize("method", [Expected("maxrl", 4), Expected("rloo", 4)])
    def test_expected_gradients_are_those_of_an_enumeration(self, method):
        weights = some_weights()
        (gradient,) = torch.autograd.grad(method.loss(batch(weights), [0, 1]).sum(), weights)
        for run in range(2):
            probabilities, scores, rewards = enumerated(weights, run)
            wanted = exact.moments(
                method.estimator, rollouts=4, probabilities=probabilities, scores=scores, rewards=rewards
            ).mean
            assert torch.allclose(-gradient[run], wanted, rtol=1e-9, atol=0)

    def test_the_exact_gradient_is_the_mean_score_of_what_is_right(self):
        weights = some_weights()
        (gradient,) = torch.autograd.grad(Exact("maximum_likelihood").loss(batch(weights), [0, 1]).sum(), weights)
        for run in range(2):
            probabilities, scores, rewards = enumerated(weights, run)
            right = probabilities * rewards
            assert torch.allclose(-gradient[run], right @ scores / right.sum(), rtol=1e-9, atol=0)

    def test_pulls_are_as_often_right_as_the_chances_say(self):
        # 2 exact binomial tests of 40,000 pulls, 1e-4 false alarms together; the stream is fixed
        weights = some_weights()
        rates = batch(weights).log_pass_rate([0, 1]).exp()[:, 0].tolist()
        right = batch(weights).rollout([0, 1], 40_000).rewards.sum((1, 2)).tolist()
        for count, rate in zip(right, rates, strict=True):
            assert stats.binomtest(int(count), 40_000, rate).pvalue > 1e-4 / 2

    def test_sampled_gradients_have_the_expected_mean(self):
        # 4 components over 400 steps, |z| < 4.5: a false alarm in 3e-5 of seeds; the stream is fixed
        weights = some_weights()
        method, estimates = Sampled("maxrl", 4), []
        for step in range(400):
            (gradient,) = torch.autograd.grad(method.loss(batch(weights, step), [0, 1]).sum(), weights)
            estimates.append(gradient)
        (wanted,) = torch.autograd.grad(Expected("maxrl", 4).loss(batch(weights), [0, 1]).sum(), weights)
        sample = torch.stack(estimates)
        assert ((sample.mean(0) - wanted).abs() < 4.5 * sample.std(0) / 400**0.5).all()

    def test_runs_with_one_seed_pull_the_same(self):
        weights = some_weights()[[0, 0]]
        group = BanditBatch((weights @ FEATURES.T).log_softmax(1), CHANCES[[0, 0]], [7, 7], 3).rollout([0, 1], 50)
        assert torch.equal(group.rewards[0], group.rewards[1])
        assert torch.equal(group.log_probs[0], group.log_probs[1])


class TestBadInput:
    def test_shapes(self, refuses):
        with refuses("expected log_policy and chances (R, A) and R seeds, got (2, 3), (2, 3) and 1 seeds"):
            batch(some_weights(), seeds=(0,))

    def test_a_diverged_policy_is_named(self):
        weights = some_weights().detach().clone()
        weights[1] = float("nan")
        with pytest.raises(DivergedError, match="the policy of run 1 is NaN after 9 updates"):
            batch(weights, step=9)
