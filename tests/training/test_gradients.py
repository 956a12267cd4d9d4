"""A step's gradient is what theory says, through a real network: by enumeration, in expectation and by sampling."""

import itertools
import math

import pytest
import torch
from small_problem import CLASSES, INPUTS, SmallProblem

from maxrl_lab import exact
from maxrl_lab.classification import ClassificationBatch
from maxrl_lab.training import methods
from maxrl_lab.training.groups import Group
from maxrl_lab.training.methods import Exact, Expected, Sampled
from maxrl_lab.training.step import run_losses

EXACT = {"rtol": 1e-10, "atol": 1e-13}
"""Float64 through a network: the largest rounding error seen is below 1e-14."""


def one_run(seed=0, step=0):
    problem = SmallProblem([seed])
    return problem, problem.batch(step)


def gradient_of(loss, problem, run=0):
    problem.stack.zero_grad()
    loss.backward(retain_graph=True)
    return problem.gradient(run)


# What autograd must find: each objective written as its textbook formula in p, with no help from the library.
def log_likelihood(p):
    return p.log()


def truncated_likelihood(order):
    return lambda p: -sum((1 - p) ** k / k for k in range(1, order + 1))


def pass_at_k(k):
    return lambda p: 1 - (1 - p) ** k


def expected_reward(p):
    return p


def ascent_direction(objective, problem, batch, scale=1.0):
    """The gradient of the mean objective over the batch's inputs, by autograd of its formula."""
    pass_rate = batch.log_probs.softmax(-1).gather(-1, batch.labels[..., None])
    return gradient_of(scale * objective(pass_rate).mean(), problem)


def enumerated_loss(batch, rollouts, estimator):
    """The mean of `sampled_loss` over every group of N rollouts of every input: V^N groups, weighted by probability."""
    classes = torch.tensor(list(itertools.product(range(CLASSES), repeat=rollouts)))
    log_probs = batch.log_probs[0][:, classes]  # (B, V^N, N)
    rewards = (classes == batch.labels[0, :, None, None]).double()
    losses = methods.sampled_loss(Group(rewards[:, :, None], log_probs[:, :, None]), estimator)  # (B, V^N)
    probabilities = log_probs.detach().sum(-1).exp()
    assert torch.allclose(probabilities.sum(-1), torch.ones(INPUTS, dtype=torch.float64), rtol=1e-12)
    return (probabilities * losses).sum(-1).mean()


UNBIASED = [
    # estimator, N, its objective, factor (theory.md, "The estimators")
    ("reinforce", 1, expected_reward, 1.0),
    ("reinforce", 3, expected_reward, 1.0),
    ("mean_centred", 4, expected_reward, 1 - 1 / 4),
    ("rloo", 3, expected_reward, 1.0),
    ("grpo", 2, expected_reward, 1.0),  # at N = 2 the only mixed group has deviation 1/2: RL, exactly
    ("maxrl_no_baseline", 4, truncated_likelihood(4), 1.0),
    ("maxrl_control_variate", 4, truncated_likelihood(4), 1.0),
    ("maxrl_leave_one_out", 1, truncated_likelihood(1), 1.0),
    ("maxrl_leave_one_out", 2, truncated_likelihood(2), 1.0),
    ("maxrl_leave_one_out", 4, truncated_likelihood(4), 1.0),
    ("maxrl_cross_fitted", 4, truncated_likelihood(4), 1.0),
    ("maxrl_order:order=1", 4, truncated_likelihood(1), 1.0),
    ("maxrl_order:order=3", 4, truncated_likelihood(3), 1.0),
    ("maxrl_order:order=N", 4, truncated_likelihood(4), 1.0),
    ("pkpo:k=1", 3, pass_at_k(1), 1.0),
    ("pkpo:k=2", 4, pass_at_k(2), 1.0),
    ("pkpo:k=N", 4, pass_at_k(4), 1.0),
    # Algorithm 1, the form that everybody ships, is of order N-1: plain RL at N = 2.
    ("maxrl", 2, expected_reward, 1.0),
    ("maxrl", 3, truncated_likelihood(2), 1.0),
    ("maxrl", 4, truncated_likelihood(3), 1.0),
]


class TestAutogradThroughTheClassifier:
    @pytest.mark.parametrize(("estimator", "rollouts", "objective", "factor"), UNBIASED)
    def test_the_mean_over_all_groups_is_the_objectives_gradient(self, estimator, rollouts, objective, factor):
        problem, batch = one_run()
        wanted = ascent_direction(objective, problem, batch, factor)
        assert wanted.abs().max() > 1e-3
        assert torch.allclose(-gradient_of(enumerated_loss(batch, rollouts, estimator), problem), wanted, **EXACT)

    @pytest.mark.parametrize(("estimator", "rollouts", "objective", "factor"), UNBIASED)
    def test_expected_is_the_same_gradient(self, estimator, rollouts, objective, factor):
        problem, batch = one_run()
        wanted = ascent_direction(objective, problem, batch, factor)
        loss = run_losses(batch, [Expected(estimator, rollouts)]).sum()
        assert torch.allclose(-gradient_of(loss, problem), wanted, **EXACT)

    @pytest.mark.parametrize("estimator", ["grpo", "grpo:ddof=1", "grpo:epsilon=0.1"])
    def test_expected_is_the_mean_over_all_groups_where_no_objective_has_a_name(self, estimator):
        problem, batch = one_run()
        loss = run_losses(batch, [Expected(estimator, 4)]).sum()
        wanted = gradient_of(enumerated_loss(batch, 4, estimator), problem)
        assert torch.allclose(gradient_of(loss, problem), wanted, **EXACT)

    @pytest.mark.parametrize(
        ("target", "objective"),
        [
            ("expected_reward", expected_reward),
            ("maximum_likelihood", log_likelihood),
            ("truncated_likelihood:order=5", truncated_likelihood(5)),
            ("pass_at_k:k=3", pass_at_k(3)),
            ("grpo_limit", lambda p: 2 * p.sqrt().arcsin()),
        ],
    )
    def test_exact_is_the_objectives_gradient(self, target, objective):
        problem, batch = one_run()
        wanted = ascent_direction(objective, problem, batch)
        loss = run_losses(batch, [Exact(target)]).sum()
        assert torch.allclose(-gradient_of(loss, problem), wanted, **EXACT)

    def test_maximum_likelihood_is_cross_entropy(self):
        problem, batch = one_run()
        logits = problem.stack(problem.inputs(0))[0]
        wanted = gradient_of(torch.nn.functional.cross_entropy(logits, batch.labels[0]), problem)
        loss = run_losses(batch, [Exact("maximum_likelihood")]).sum()
        assert torch.allclose(gradient_of(loss, problem), wanted, **EXACT)

    def test_order_n_falls_short_of_log_p_by_the_chance_that_all_rollouts_fail(self):
        # One input: grad J^(T) = (1 - (1-p)^T) grad log p, so the relative distance to the likelihood is fail@T.
        problem, batch = one_run()
        single = ClassificationBatch(batch.log_probs[:, :1], batch.labels[:, :1], batch.seeds, batch.step)
        log_pass_rate = single.log_pass_rate([0])
        fail_at_4 = (1 - log_pass_rate.detach().exp().item()) ** 4
        likelihood = gradient_of(log_pass_rate.sum(), problem)
        classes = torch.tensor(list(itertools.product(range(CLASSES), repeat=4)))
        group = Group((classes == single.labels[0, 0]).double()[:, None], single.log_probs[0, 0][classes][:, None])
        loss = group.log_probs.detach().sum((-1, -2)).exp() @ methods.sampled_loss(group, "maxrl_leave_one_out")
        assert torch.allclose(-gradient_of(loss, problem), (1 - fail_at_4) * likelihood, **EXACT)

    @pytest.mark.parametrize("estimator", ["rloo", "grpo", "maxrl", "maxrl_leave_one_out", "pkpo:k=2"])
    def test_sampled_less_expected_is_variance_alone(self, estimator):
        # The difference has mean 0 over all 7^4 groups of every input, and is not 0 in the single group.
        problem, batch = one_run()
        mean = gradient_of(enumerated_loss(batch, 4, estimator), problem)
        expected = gradient_of(run_losses(batch, [Expected(estimator, 4)]).sum(), problem)
        sampled = gradient_of(run_losses(batch, [Sampled(estimator, 4)]).sum(), problem)
        assert torch.allclose(mean - expected, torch.zeros_like(mean), **EXACT)
        assert (sampled - expected).norm() > 0.1 * expected.norm()

    @pytest.mark.parametrize("estimator", ["rloo", "grpo", "maxrl", "maxrl_leave_one_out", "pkpo:k=2"])
    def test_expected_less_exact_is_bias_alone(self, estimator):
        # (w_N(p) - 1/p) grad p on average over inputs, with w_N(p) summed over K here and grad p by autograd.
        problem, batch = one_run()
        expected = gradient_of(-run_losses(batch, [Expected(estimator, 4)]).sum(), problem)
        likelihood = gradient_of(-run_losses(batch, [Exact("maximum_likelihood")]).sum(), problem)
        p = batch.log_pass_rate([0]).exp()
        success, failure = exact.coefficients(estimator, rollouts=4)
        k = torch.arange(5, dtype=torch.float64)
        ways = torch.tensor([math.comb(4, successes) for successes in range(5)], dtype=torch.float64)
        rate = p.detach()[..., None]
        chances = ways * rate**k * (1 - rate) ** (4 - k)
        weight = (chances * (k * success / rate - (4 - k) * failure / (1 - rate))).sum(-1) / 4
        bias = gradient_of(((weight - 1 / p.detach()) * p).mean(), problem)
        assert torch.allclose(expected - likelihood, bias, **EXACT)
        assert bias.norm() > 0.05 * likelihood.norm()

    def test_algorithm_1_is_not_of_order_n(self):
        problem, batch = one_run()
        found = -gradient_of(enumerated_loss(batch, 4, "maxrl"), problem)
        claimed = ascent_direction(truncated_likelihood(4), problem, batch)
        # What is missing is (1-p)^3 grad p: never small while p is not near 1.
        missing = ascent_direction(lambda p: -((1 - p) ** 4) / 4, problem, batch)
        assert torch.allclose(claimed - found, missing, **EXACT)
        assert missing.norm() > 0.05 * claimed.norm()

    def test_algorithm_1_learns_nothing_from_single_rollouts(self):
        problem, batch = one_run()
        assert gradient_of(enumerated_loss(batch, 1, "maxrl"), problem).eq(0).all()
        assert gradient_of(run_losses(batch, [Expected("maxrl", 1)]).sum(), problem).eq(0).all()


class TestSampledLoss:
    @pytest.mark.parametrize(
        ("estimator", "advantages"),
        [
            # Rewards of the three tasks below: 1 0 0, 1 1 0 and 0 0 0. r - mean of the others; N/K - 1 and -1.
            ("rloo", [[1, -1 / 2, -1 / 2], [1 / 2, 1 / 2, -1], [0, 0, 0]]),
            ("maxrl", [[2, -1, -1], [1 / 2, 1 / 2, -1], [0, 0, 0]]),
            ("maxrl_no_baseline", [[3, 0, 0], [3 / 2, 3 / 2, 0], [0, 0, 0]]),
        ],
    )
    def test_its_gradient_is_a_slow_loop_over_rollouts(self, estimator, advantages):
        problem, batch = one_run()
        classes = [[2, 5, 1], [3, 3, 6], [0, 1, 0]]
        rewards = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=torch.float64)
        log_probs = torch.stack([batch.log_probs[0, task, drawn] for task, drawn in enumerate(classes)])
        loss = methods.sampled_loss(Group(rewards, log_probs), estimator)
        assert loss.shape == ()
        wanted = 0.0
        for task, drawn in enumerate(classes):
            estimate = 0.0
            for rollout, label in enumerate(drawn):
                score = gradient_of(batch.log_probs[0, task, label], problem)
                estimate = estimate + advantages[task][rollout] * score
            wanted = wanted + estimate / 3  # (1/N) sum_i A_i S_i
        assert torch.allclose(-gradient_of(loss, problem), wanted / 3, **EXACT)  # the mean over tasks


class TestUnbiasedSampling:
    """The code that trains, `ClassificationBatch.rollout` and `sampled_loss`, has the mean that theory gives it."""

    TASKS, ROLLOUTS = 40_000, 4
    LOGITS = torch.tensor([0.3, -1.0, 0.8, -0.4, 0.0, 0.5, -2.0], dtype=torch.float64)
    LABEL = 3  # p = 0.0894

    def estimates(self, estimator):
        """One gradient estimate with respect to the 7 logits from each of 40,000 groups, (B, V)."""
        logits = self.LOGITS.repeat(1, self.TASKS, 1).requires_grad_()
        labels = torch.full((1, self.TASKS), self.LABEL)
        batch = ClassificationBatch(logits.log_softmax(-1), labels, seeds=[11], step=0)
        run_losses(batch, [Sampled(estimator, self.ROLLOUTS)]).sum().backward()
        return -logits.grad[0] * self.TASKS  # the loss is a mean over tasks

    def exact(self, objective):
        logits = self.LOGITS.clone().requires_grad_()
        objective(logits.softmax(-1)[self.LABEL]).backward()
        return logits.grad

    @pytest.mark.parametrize(
        ("estimator", "objective"),
        [
            ("reinforce", expected_reward),
            ("rloo", expected_reward),
            ("maxrl", truncated_likelihood(3)),
            ("maxrl_leave_one_out", truncated_likelihood(4)),
            ("pkpo:k=2", pass_at_k(2)),
        ],
    )
    def test_the_sampled_gradient_is_unbiased(self, estimator, objective):
        # 7 z-scores a case, |z| < 4.5 each: false-alarm rate 7 x 6.8e-6 = 5e-5 a case; the seed is fixed.
        estimates = self.estimates(estimator)
        standard_error = estimates.std(0) / math.sqrt(self.TASKS)
        z = (estimates.mean(0) - self.exact(objective)) / standard_error
        assert z.abs().max() < 4.5

    def test_the_test_above_can_tell_order_4_from_order_3(self):
        estimates = self.estimates("maxrl")
        standard_error = estimates.std(0) / math.sqrt(self.TASKS)
        z = (estimates.mean(0) - self.exact(truncated_likelihood(4))) / standard_error
        assert z.abs().max() > 10
