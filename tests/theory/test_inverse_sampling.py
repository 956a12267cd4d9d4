"""Inverse sampling against every possible sequence of rollouts, high-precision references, and tables by hand."""

import itertools
import math

import mpmath
import pytest
import torch

from maxrl_lab import inverse_sampling
from maxrl_lab.training.groups import Group
from maxrl_lab.training.methods import Exact, Expected, Inverse, Sampled
from maxrl_lab.training.step import run_losses

LOGITS = torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64)
RIGHT = torch.tensor([0, 1, 0])
"""Three outcomes, one of them right with probability 0.13; `BOTH` has two right ones with scores of their own."""
BOTH = torch.tensor([1, 0, 1])
CASES = [
    # m, cap
    (1, 1),
    (3, 1),
    (1, 4),
    (2, 4),
    (3, 5),
    (4, 4),
    (7, 4),
    (5, 6),
]
EXACT = {"rel": 1e-12, "abs": 1e-12}


def follow(rewards, successes):
    """Draw until m have succeeded: (number drawn, places of the successes counted)."""
    found = []
    for place, reward in enumerate(rewards):
        if reward:
            found.append(place)
        if len(found) == successes:
            return place + 1, found
    return len(rewards), found


class Enumerated:
    """All sequences of `cap` rollouts of the small policy, followed one by one."""

    def __init__(self, rewards, successes, cap):
        policy = LOGITS.softmax(0)
        scores = torch.eye(3, dtype=torch.float64) - policy
        self.rewards = []
        chances, estimates, costs = [], [], []
        for sequence in itertools.product(range(3), repeat=cap):
            outcome = [int(rewards[each]) for each in sequence]
            cost, found = follow(outcome, successes)
            own = [scores[sequence[place]] for place in found]
            estimates.append(sum(own) / len(own) if own else torch.zeros(3, dtype=torch.float64))
            chances.append(math.prod(float(policy[each]) for each in sequence))
            costs.append(cost)
            self.rewards.append(outcome)
        self.scores = scores[torch.tensor(list(itertools.product(range(3), repeat=cap)))]
        self.chances = torch.tensor(chances, dtype=torch.float64)
        self.estimates = torch.stack(estimates)
        self.costs = torch.tensor(costs)
        self.rewards = torch.tensor(self.rewards)
        self.pass_rate = float(policy @ rewards.double())
        self.moment = float((policy * rewards) @ scores.square().sum(1))

    def mean(self):
        return self.chances @ self.estimates

    def variance(self):
        return float(self.chances @ self.estimates.square().sum(1) - self.mean().square().sum())


def pass_rate_of(logits, rewards):
    return logits.softmax(0) @ rewards.double()


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"m={case[0]},cap={case[1]}")
def case(request):
    return request.param


@pytest.fixture(scope="module", params=[RIGHT, BOTH], ids=["one right", "two right"])
def world(request, case):
    return request.param, Enumerated(request.param, *case)


class TestEnumeration:
    def test_mean_is_the_likelihood_gradient_up_to_the_cap(self, case, world):
        rewards, every = world
        logits = LOGITS.clone().requires_grad_()
        pass_rate_of(logits, rewards).log().backward()
        wanted = (1 - (1 - every.pass_rate) ** case[1]) * logits.grad
        assert every.mean().tolist() == pytest.approx(wanted.tolist(), **EXACT)

    def test_weight_says_the_same_in_units_of_the_pass_rate_gradient(self, case, world):
        rewards, every = world
        logits = LOGITS.clone().requires_grad_()
        pass_rate_of(logits, rewards).backward()
        wanted = inverse_sampling.weight(every.pass_rate, cap=case[1]) * logits.grad
        assert every.mean().tolist() == pytest.approx(wanted.tolist(), **EXACT)

    def test_advantages_give_the_estimate_of_every_sequence(self, case, world):
        _, every = world
        advantages = inverse_sampling.advantages(every.rewards, successes=case[0])
        estimates = (advantages[..., None] * every.scores).mean(1)
        assert torch.allclose(estimates, every.estimates, rtol=1e-14, atol=1e-15)

    def test_variance(self, case, world):
        rewards, every = world
        logits = LOGITS.clone().requires_grad_()
        pass_rate_of(logits, rewards).backward()
        found = inverse_sampling.variance(
            successes=case[0],
            cap=case[1],
            pass_rate=every.pass_rate,
            gradient_norm_squared=float(logits.grad.square().sum()),
            success_moment=every.moment,
        )
        assert found.shape == ()
        assert float(found) == pytest.approx(every.variance(), **EXACT)

    def test_cost_of_every_sequence_and_its_mean(self, case, world):
        _, every = world
        assert inverse_sampling.cost(every.rewards, successes=case[0]).tolist() == every.costs.tolist()
        found = inverse_sampling.expected_cost(every.pass_rate, successes=case[0], cap=case[1])
        assert float(found) == pytest.approx(float(every.chances @ every.costs.double()), **EXACT)


class TestByHand:
    REWARDS = torch.tensor(
        [
            [0, 0, 0, 0],
            [1, 0, 0, 0],
            [0, 1, 0, 1],
            [0, 1, 1, 1],
            [1, 1, 1, 1],
            [0, 0, 0, 1],
        ]
    )

    @pytest.mark.parametrize(
        ("successes", "costs"),
        [
            (1, [4, 1, 2, 2, 1, 4]),
            (2, [4, 4, 4, 3, 2, 4]),  # the second row waits in vain for a second success
            (4, [4, 4, 4, 4, 4, 4]),
            (9, [4, 4, 4, 4, 4, 4]),
        ],
    )
    def test_cost(self, successes, costs):
        assert inverse_sampling.cost(self.REWARDS, successes=successes).tolist() == costs

    @pytest.mark.parametrize(
        ("successes", "advantages"),
        [
            # cap / K on the first m successes, K of them; those after the m-th get 0
            (1, [[0] * 4, [4, 0, 0, 0], [0, 4, 0, 0], [0, 4, 0, 0], [4, 0, 0, 0], [0, 0, 0, 4]]),
            (2, [[0] * 4, [4, 0, 0, 0], [0, 2, 0, 2], [0, 2, 2, 0], [2, 2, 0, 0], [0, 0, 0, 4]]),
            (9, [[0] * 4, [4, 0, 0, 0], [0, 2, 0, 2], [0, 4 / 3, 4 / 3, 4 / 3], [1] * 4, [0, 0, 0, 4]]),
        ],
    )
    @pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32])
    def test_advantages(self, successes, advantages, dtype):
        found = inverse_sampling.advantages(self.REWARDS.to(dtype), successes=successes)
        assert found.dtype == torch.float64
        assert torch.equal(found, torch.tensor(advantages, dtype=torch.float64))

    def test_nothing_after_the_last_counted_success_matters(self):
        # The first two successes are at places 1 and 2; what follows takes every value.
        heads = torch.tensor([[0, 1, 1]]).expand(8, -1)
        rewards = torch.cat([heads, torch.tensor(list(itertools.product([0, 1], repeat=3)))], 1)
        assert inverse_sampling.advantages(rewards, successes=2).tolist() == [[0, 3, 3, 0, 0, 0]] * 8
        assert inverse_sampling.cost(rewards, successes=2).tolist() == [3] * 8

    @pytest.mark.parametrize(("pass_rate", "cost"), [(0.0, 10.0), (1.0, 3.0)])
    def test_expected_cost_of_hopeless_and_of_certain_tasks(self, pass_rate, cost):
        assert float(inverse_sampling.expected_cost(pass_rate, successes=3, cap=10)) == cost

    def test_variance_of_a_certain_task_is_the_scores_own(self):
        # At p = 1 every estimate averages min(m, cap) scores of mean 0.
        found = inverse_sampling.variance(
            successes=3, cap=10, pass_rate=1.0, gradient_norm_squared=0.0, success_moment=6.0
        )
        assert float(found) == pytest.approx(2.0, rel=1e-14)


PASS_RATES = [1e-12, 1e-9, 1e-6, 1e-3, 0.03, 0.5, 0.97]


def binomial(k, cap, p):
    return mpmath.binomial(cap, k) * p**k * (1 - p) ** (cap - k)


class TestPrecision:
    @pytest.mark.parametrize(("successes", "cap"), [(1, 4096), (4, 4096), (64, 1024), (7, 4)])
    def test_expected_cost(self, successes, cap):
        # Optional stopping, an independent formula: p E[cost] = E[successes counted] = E min(m, Binomial(cap, p)).
        with mpmath.workdps(60):
            wanted = []
            for rate in PASS_RATES:
                p = mpmath.mpf(rate)
                missing = sum((successes - k) * binomial(k, cap, p) for k in range(successes))
                wanted.append(float((successes - missing) / p))
        found = inverse_sampling.expected_cost(torch.tensor(PASS_RATES), successes=successes, cap=cap)
        exactly = inverse_sampling.expected_cost(PASS_RATES, successes=successes, cap=cap)
        assert exactly.tolist() == pytest.approx(wanted, rel=1e-11)
        assert found.tolist() == pytest.approx(wanted, rel=1e-4)  # pass rates rounded to single precision

    @pytest.mark.parametrize(("successes", "cap"), [(1, 4096), (4, 4096), (64, 1024), (7, 4)])
    def test_variance(self, successes, cap):
        # Var g = E[1/K; K>0] Var(S | right) + |mean of S given right|^2 P(K>0) (1 - P(K>0)), the law of total variance.
        most = min(successes, cap)
        norm, spread = 0.4, 1.7  # |E[S | right]|^2 and the scores' own variance given success
        with mpmath.workdps(60):
            wanted = []
            for rate in PASS_RATES:
                p = mpmath.mpf(rate)
                chances = [binomial(k, cap, p) for k in range(most)]
                reciprocal = sum(chances[k] / k for k in range(1, most)) + (1 - sum(chances)) / most
                wanted.append(float(reciprocal * spread + norm * chances[0] * (1 - chances[0])))
        p = torch.tensor(PASS_RATES, dtype=torch.float64)
        found = inverse_sampling.variance(
            successes=successes,
            cap=cap,
            pass_rate=p,
            gradient_norm_squared=norm * p**2,
            success_moment=(norm + spread) * p,
        )
        assert found.shape == p.shape
        assert found.tolist() == pytest.approx(wanted, rel=1e-10)

    def test_weight(self):
        with mpmath.workdps(60):
            wanted = [float((1 - (1 - mpmath.mpf(p)) ** 4096) / mpmath.mpf(p)) for p in PASS_RATES]
        assert inverse_sampling.weight(PASS_RATES, cap=4096).tolist() == pytest.approx(wanted, rel=1e-11)

    def test_shapes_follow_the_pass_rates(self):
        rates = torch.full((2, 3), 0.2, dtype=torch.float64)
        assert inverse_sampling.expected_cost(rates, successes=2, cap=8).shape == (2, 3)
        found = inverse_sampling.variance(
            successes=2, cap=8, pass_rate=rates, gradient_norm_squared=rates, success_moment=rates
        )
        assert found.shape == (2, 3)


class TestErrors:
    def test_counts_and_rewards(self, refuses):
        with refuses("successes must be a whole number >= 1, got 0"):
            inverse_sampling.advantages(torch.ones(3), successes=0)
        with refuses("successes must be a whole number >= 1, got 0"):
            inverse_sampling.cost(torch.ones(3), successes=0)
        with refuses("cap must be a whole number >= 1, got 0"):
            inverse_sampling.expected_cost(0.5, successes=1, cap=0)
        with refuses("rewards must be 0 or 1 (right or wrong), got 0.5"):
            inverse_sampling.advantages(torch.tensor([0.5, 1.0]), successes=1)
        with refuses("rewards must be 0 or 1 (right or wrong), got 2"):
            inverse_sampling.cost(torch.tensor([2, 1]), successes=1)

    def test_counts_of_the_expectations(self, refuses):
        with refuses("successes must be a whole number >= 1, got 0"):
            inverse_sampling.variance(successes=0, cap=4, pass_rate=0.5, gradient_norm_squared=1.0, success_moment=1.0)
        with refuses("the variance of inverse sampling needs pass rates above 0, got 0"):
            inverse_sampling.variance(
                successes=1, cap=4, pass_rate=[0.5, 0.0], gradient_norm_squared=1.0, success_moment=1.0
            )
        with pytest.raises(ValueError, match="pass"):
            inverse_sampling.expected_cost(1.5, successes=1, cap=4)

    def test_successes_of_zero_have_no_expected_cost(self, refuses):
        with refuses("successes must be a whole number >= 1, got 0"):
            inverse_sampling.expected_cost(0.5, successes=0, cap=4)


class TestMethod:
    def test_accepted(self):
        method = Inverse(9, 4)  # more than the cap is allowed
        assert (method.kind, method.rollouts) == ("inverse", 4)

    def test_refused(self, refuses):
        with refuses("successes must be a whole number >= 1, got 0"):
            Inverse(0, 4)
        with refuses("cap must be a whole number >= 1, got 0"):
            Inverse(1, 0)
        with pytest.raises(ValueError, match="unknown estimator 'inverse_sampling'"):
            Sampled("inverse_sampling:successes=1", 4)
        with pytest.raises(ValueError, match="unknown objective 'inverse_sampling'"):
            Exact("inverse_sampling:successes=1")


class HandBatch:
    """Two tasks for each run with rewards and log-probabilities written down; remembers what it was asked for."""

    REWARDS = torch.tensor([[0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 1, 0]])

    def __init__(self, runs):
        random = torch.Generator().manual_seed(0)
        self.log_probs = (-torch.rand(runs, 2, 6, generator=random, dtype=torch.float64)).requires_grad_()
        self.log_rates = torch.tensor([[0.5, 0.25]] * runs, dtype=torch.float64).log().requires_grad_()
        self.asked = []

    def rollout(self, runs, rollouts):
        self.asked.append((tuple(runs), rollouts))
        rewards = self.REWARDS[:, :rollouts].expand(len(runs), -1, -1)
        return Group(rewards, self.log_probs[list(runs)][..., :rollouts])

    def log_pass_rate(self, runs):
        return self.log_rates[list(runs)]


class TestLosses:
    METHODS = (
        Exact("maximum_likelihood"),
        Inverse(1, 4),
        Sampled("reinforce", 4),
        Inverse(2, 4),
        Inverse(3, 6),
        Inverse(1, 4),
        Expected("reinforce", 4),
    )

    def test_every_run_of_a_mixed_stack_has_its_own_loss_and_gradient(self):
        batch = HandBatch(len(self.METHODS))
        losses = run_losses(batch, self.METHODS)
        first, second = batch.log_probs.detach().unbind(1)
        wanted = [
            -(math.log(0.5) + math.log(0.25)) / 2,
            -first[1, 1] / 2,  # only the first success counts; the other task has none among four: 0
            -(first[2, 1] + first[2, 2]) / 4 / 2,
            -(first[3, 1] + first[3, 2]) / 2 / 2,
            -((first[4, 1] + first[4, 2] + first[4, 4]) / 3 + second[4, 4]) / 2,
            -first[5, 1] / 2,
            -(0.5 * math.log(0.5) + 0.25 * math.log(0.25)) / 2,
        ]
        assert losses.tolist() == pytest.approx([float(each) for each in wanted], rel=1e-14)
        losses.sum().backward()
        gradient = torch.zeros(7, 2, 6, dtype=torch.float64)
        gradient[1, 0, 1] = gradient[5, 0, 1] = -1 / 2
        gradient[2, 0, 1:3] = -1 / 8
        gradient[3, 0, 1:3] = -1 / 4
        gradient[4, 0, [1, 2, 4]] = -1 / 6
        gradient[4, 1, 4] = -1 / 2
        assert torch.allclose(batch.log_probs.grad, gradient, rtol=1e-14, atol=0)
        rates = torch.zeros(7, 2, dtype=torch.float64)
        rates[0], rates[6] = -0.5, torch.tensor([-0.25, -0.125])
        assert torch.allclose(batch.log_rates.grad, rates, rtol=1e-14, atol=0)

    def test_runs_with_equal_caps_are_rolled_out_together(self):
        batch = HandBatch(len(self.METHODS))
        run_losses(batch, self.METHODS)
        assert sorted((sorted(runs), count) for runs, count in batch.asked) == [([1, 2, 3, 5], 4), ([4], 6)]

    def test_no_success_no_gradient(self):
        log_probs = torch.zeros(1, 2, 3, requires_grad=True)

        class WithoutSuccess:
            def rollout(self, runs, rollouts):
                return Group(torch.zeros(1, 2, 3), log_probs)

        loss = Inverse(2, 3).loss(WithoutSuccess(), [0])
        loss.backward()
        assert loss.item() == 0.0
        assert not log_probs.grad.any()


def test_lists_are_taken_as_tensors_are():
    rewards = [[0, 1, 1, 0], [0, 0, 0, 0]]
    found = inverse_sampling.advantages(rewards, successes=1)
    assert found.tolist() == [[0, 4, 0, 0], [0, 0, 0, 0]]
    assert torch.equal(found, inverse_sampling.advantages(torch.tensor(rewards), successes=1))
    assert inverse_sampling.cost(rewards, successes=1).tolist() == [2, 4]
    assert inverse_sampling.cost(rewards, successes=2).tolist() == [3, 4]
