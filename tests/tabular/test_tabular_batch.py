"""The trainer's view of tables: random numbers by seed and step, and gradients against every path."""

import numpy as np
import pytest
import torch
from scipy import stats
from small_worlds import (
    WORLDS,
    corridor,
    enumerated_pass_rate,
    random_policy,
    slippery,
)

from maxrl_lab import exact, objectives
from maxrl_lab.randomness import generator
from maxrl_lab.tabular.batch import DivergedError, TabularBatch
from maxrl_lab.training.methods import Exact, Expected, Sampled
from maxrl_lab.training.step import run_losses


def altered(values, *changes):
    """A copy of a tensor with (place, value) changes."""
    copy = values.clone()
    for place, value in changes:
        copy[place] = value
    return copy


class TestBatch:
    def batch(self, seeds=(1, 2, 1), step=0, name="slippery", times=1):
        tasks = WORLDS[name]
        return TabularBatch(tasks, random_policy(tasks, times, runs=len(seeds)), seeds, step)

    def same_policy(self, seeds, step=0):
        """One policy for all runs, so that only the random numbers differ."""
        tasks = WORLDS["slippery"]
        return TabularBatch(tasks, random_policy(tasks).expand(len(seeds), 1, -1, -1, -1), seeds, step)

    def test_a_diverged_run_is_named(self, refuses):
        tasks = corridor()
        log_policy = altered(random_policy(tasks, runs=3), ((1, 0, 0, 2, 1), torch.nan))
        with refuses("the policy of run 1 is NaN after 17 updates: it has diverged"):
            TabularBatch(tasks, log_policy, [7, 8, 9], 17)

    def test_impossible_actions_are_no_divergence(self):
        tasks = corridor()
        log_policy = torch.tensor([-torch.inf, 0.0]).expand(2, 1, 1, 4, 2)
        batch = TabularBatch(tasks, log_policy, [0, 1], 0)
        assert batch.rollout([0, 1], 3).rewards.all()
        assert batch.log_pass_rate([0, 1]).tolist() == [[0.0], [0.0]]

    def test_a_seed_for_every_run(self, refuses):
        with refuses("expected log_policy (R, T, B, S, A) and R seeds, got (3, 1, 1, 4, 2) and 2 seeds"):
            TabularBatch(corridor(), random_policy(corridor(), runs=3), [0, 1], 0)

    def test_runs_with_one_seed_draw_the_same(self):
        rewards = self.same_policy([1, 2, 1]).rollout([0, 1, 2], 64).rewards
        assert torch.equal(rewards[0], rewards[2])
        assert not torch.equal(rewards[0], rewards[1])

    @pytest.mark.parametrize("times", [1, 4])
    def test_runs_may_be_asked_for_in_any_order_and_number(self, times):
        batch = self.batch(times=times)
        everyone = batch.rollout([0, 1, 2], 32)
        for runs in ([2, 0], [1], [2, 1, 0]):
            some = batch.rollout(runs, 32)
            assert torch.equal(some.rewards, everyone.rewards[runs])
            assert torch.equal(some.lengths, everyone.lengths[runs])
            assert torch.allclose(some.log_probs, everyone.log_probs[runs], rtol=1e-14)
            assert torch.equal(batch.log_pass_rate(runs), batch.log_pass_rate([0, 1, 2])[runs])

    def test_a_run_alone_is_the_run_among_others(self):
        tasks, stack = WORLDS["slippery"], random_policy(WORLDS["slippery"], runs=3)
        everyone = TabularBatch(tasks, stack, [4, 5, 6], 3).rollout([0, 1, 2], 32)
        alone = TabularBatch(tasks, stack[[1]], [5], 3).rollout([0], 32)
        assert torch.equal(alone.rewards[0], everyone.rewards[1])
        assert torch.equal(alone.lengths[0], everyone.lengths[1])

    def test_another_step_draws_other_numbers_and_the_same_step_the_same(self):
        rewards = [self.same_policy([1], step).rollout([0], 64).rewards for step in (4, 4, 5)]
        assert torch.equal(rewards[0], rewards[1])
        assert not torch.equal(rewards[0], rewards[2])

    def test_the_address_of_the_random_numbers_is_seed_step_and_number_of_rollouts(self):
        # Published rows can be made again only while it stays what it is.
        group = self.same_policy([9, 5], step=3).rollout([1], 64)
        policy = self.same_policy([0]).log_policy[0]
        wanted = WORLDS["slippery"].rollout(policy, 64, generator("rollouts", 5, 3, 64))
        assert torch.equal(group.log_probs[0], wanted.log_probs)
        assert torch.equal(group.lengths[0], wanted.lengths)

    @pytest.mark.parametrize("times", [1, 4])
    def test_log_pass_rates_are_those_of_the_enumeration(self, times):
        batch = self.batch(times=times)
        wanted = torch.stack([enumerated_pass_rate(batch.tables, policy) for policy in batch.log_policy])
        assert torch.allclose(batch.log_pass_rate([0, 1, 2]).exp(), wanted, rtol=1e-12)

    @pytest.mark.parametrize("times", [3, 7])
    def test_a_policy_in_time_needs_a_row_a_step(self, times):
        # Otherwise a rollout reads the rows of the next run, or leaves rows out.
        tasks = corridor()
        with pytest.raises(ValueError, match="log_policy must have shape"):
            TabularBatch(tasks, random_policy(tasks, times, runs=2), [0, 1], 0).rollout([0, 1], 2)


def run_gradients(name, times, methods):
    """(each run's gradient estimate, its logits, the tasks): minus what `losses` leaves on the runs' logits."""
    tasks = WORLDS[name]
    logits = random_policy(tasks, times, runs=len(methods), seed=7).requires_grad_()
    batch = TabularBatch(tasks, logits.log_softmax(-1), range(len(methods)), 0)
    losses = run_losses(batch, methods)
    assert losses.shape == (len(methods),)
    losses.sum().backward()
    return -logits.grad, logits.detach(), tasks


def weighted_gradient(tasks, logits, weight):
    """mean over tasks of w(p) grad p, from the enumeration of all paths."""
    logits = logits.clone().requires_grad_()
    rates = enumerated_pass_rate(tasks, logits.log_softmax(-1))
    (weight(rates.detach()) * rates).mean().backward()
    return logits.grad


class TestTraining:
    @pytest.mark.parametrize("name", list(WORLDS))
    @pytest.mark.parametrize("times", ["stationary", "in time"])
    def test_expected_and_objective_are_weights_times_the_gradient_of_the_pass_rate(self, name, times):
        methods = [
            Expected("maxrl", 4),
            Exact("maximum_likelihood"),
            Expected("grpo", 7),
            Exact("truncated_likelihood:order=3"),
            Expected("maxrl", 4),
            Exact("pass_at_k:k=2"),
            Expected("pkpo:k=2", 5),
        ]
        horizon = 1 if times == "stationary" else WORLDS[name].horizon
        gradients, logits, tasks = run_gradients(name, horizon, methods)
        for method, gradient, own in zip(methods, gradients, logits, strict=True):
            if method.kind == "exact":
                weight = objectives.resolve(method.name).weight
            else:

                def weight(rates, method=method):
                    return exact.weight(method.name, rollouts=method.rollouts, pass_rate=rates)

            wanted = weighted_gradient(tasks, own, weight)
            assert wanted.abs().max() > 1e-3
            assert torch.allclose(gradient, wanted, rtol=0, atol=1e-10)

    @pytest.mark.parametrize(("name", "task"), [("graphs", 1), ("slippery", 0)])
    @pytest.mark.parametrize("estimator", ["maxrl", "rloo", "grpo"])
    @pytest.mark.parametrize("times", ["stationary", "in time"])
    def test_sampled_has_the_expected_mean_and_the_exact_variance(self, name, task, estimator, times):
        # 20,000 groups of 4, each a task with logits of its own (all equal), so that the gradient of the loss holds
        # every group's estimate. In each of 12 cases a t-test for each number of the mean and one for the variance,
        # 1e-5 false alarms together (Bonferroni, and the normal limit).
        groups, rollouts = 20_000, 4
        one = WORLDS[name].select([task])
        logits = random_policy(one, 1 if times == "stationary" else one.horizon, seed=3)
        copies = logits[None].repeat(1, 1, groups, 1, 1).requires_grad_()
        batch = TabularBatch(one.select([0] * groups), copies.log_softmax(-1), [11], 0)
        run_losses(batch, [Sampled(estimator, rollouts)]).sum().backward()
        estimates = -copies.grad[0].transpose(0, 1).flatten(1) * groups
        mean = weighted_gradient(
            one, logits, lambda rates: exact.weight(estimator, rollouts=rollouts, pass_rate=rates)
        ).flatten()
        moving = estimates.std(0) > 0
        assert not mean[~moving].any()
        assert stats.ttest_1samp(estimates[:, moving], mean[moving]).pvalue.min() > 1e-5 / (int(moving.sum()) + 1)
        moments = one.moments(logits.log_softmax(-1))
        variance = float(exact.variance(estimator, rollouts=rollouts, **moments._asdict()))
        squares = (estimates - mean).square().sum(1)
        assert stats.ttest_1samp(squares, variance).pvalue > 1e-5 / (int(moving.sum()) + 1)
        assert float(squares.mean()) == pytest.approx(variance, rel=0.1)


class TestSeeds:
    def test_numpy_seeds_give_the_same_rollouts(self):
        tasks = slippery()
        policy = random_policy(tasks, runs=3)
        groups = [
            TabularBatch(tasks, policy, seeds, step).rollout([0, 1, 2], 16)
            for seeds, step in (([3, 8, 3], 2), (np.array([3, 8, 3]), np.int32(2)))
        ]
        assert torch.equal(groups[0].rewards, groups[1].rewards)
        assert torch.equal(groups[0].log_probs, groups[1].log_probs)
        assert not torch.equal(groups[0].log_probs[0], groups[0].log_probs[1])

    def test_a_diverged_policy_is_told_by_run_and_step(self):
        tasks = slippery()
        policy = random_policy(tasks, runs=3)
        policy[1, 0, 1, 2, 0] = torch.nan
        with pytest.raises(DivergedError, match="run 1 is NaN after 7 updates") as e:
            TabularBatch(tasks, policy, [0, 1, 2], 7)
        assert (e.value.run, e.value.step) == (1, 7)
