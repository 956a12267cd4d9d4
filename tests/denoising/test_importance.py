"""Weights of tokens, against loops over answers, orders and anchors."""

import itertools
import math

import pytest
import torch

from maxrl_lab.denoising.importance import divergences, mean_weights, token_weights, weighted_moments
from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.moments import Problem, tabulate
from maxrl_lab.policies.masked import PairwiseDenoiser

LENGTH, BASE = 3, 2
LATTICE = Lattice(LENGTH, BASE)
PROMPT = torch.zeros(1, 1, dtype=torch.long)
RIGHT = LATTICE.answers.sum(1) % 2 == 1


def problem(seed=0):
    return Problem(PairwiseDenoiser(LENGTH, BASE, seed=seed), PROMPT[0], RIGHT, LATTICE)


def log_prob(table, answer, visible, place):
    words = [int(answer[i]) if i in visible else BASE for i in range(LENGTH)]
    return table[0, int(LATTICE.index(torch.tensor(words))), place, int(answer[place])]


def rollouts(seed, count, cap):
    """Yield (chance, is right, grad of the weighted surrogate, weights by step) of every run and set of anchors."""
    policy = PairwiseDenoiser(LENGTH, BASE, seed=seed)
    table = policy.log_probs(PROMPT, LATTICE.states)
    draws = list(itertools.combinations(range(1, LENGTH), count - 1))
    orders = list(itertools.permutations(range(LENGTH)))
    for (row, answer), order, draw in itertools.product(enumerate(LATTICE.answers), orders, draws):
        chance, surrogate, weights = 1 / len(orders) / len(draws), 0.0, []
        for step, place in enumerate(order):
            anchor = max(time for time in (0, *draw) if time <= step)
            written = log_prob(table, answer, order[:step], place)
            scored = log_prob(table, answer, order[:anchor], place)
            weights.append(min(cap, math.exp((scored - written).item())))
            chance *= math.exp(written.item())
            surrogate = surrogate + weights[-1] * scored
        slopes = torch.autograd.grad(surrogate, list(policy.parameters()), retain_graph=True)
        yield chance, bool(RIGHT[row]), torch.cat([part.flatten() for part in slopes]), weights


class TestWeightedMoments:
    @pytest.mark.parametrize(("count", "cap"), [(1, math.inf), (2, math.inf), (2, 1.0), (1, 1.3), (3, 1.0)])
    def test_every_rollout(self, count, cap):
        listed = list(rollouts(1, count, cap))
        moments = weighted_moments(problem(1), f"anchors:count={count}", cap)
        for row, wanted in enumerate((True, False)):
            group = [(chance, slope) for chance, is_right, slope, _ in listed if is_right == wanted]
            total = sum(chance for chance, _ in group)
            mean = sum(chance * slope for chance, slope in group) / total
            square = sum(chance * slope.square().sum().item() for chance, slope in group) / total
            assert torch.allclose(moments.means[row], mean, atol=1e-12)
            assert moments.squares[row].item() == pytest.approx(square, rel=1e-10)
        weights = sum(chance * torch.tensor(weights, dtype=torch.float64) for chance, _, _, weights in listed)
        assert torch.allclose(mean_weights(problem(1), f"anchors:count={count}", cap), weights, atol=1e-12)

    def test_weights_of_one_change_nothing(self):
        """Where each token is scored where it was written, all weights are 1: the path itself, also with a cap of 1."""
        for cap in (1.0, math.inf):
            ours, path = weighted_moments(problem(), "anchors:count=3", cap), problem().moments("path")
            assert torch.allclose(ours.means, path.means, atol=1e-12)
            assert torch.allclose(ours.squares, path.squares, rtol=1e-10)

    @pytest.mark.parametrize("name", ["mean_field", "two_times", "anchors:count=2"])
    def test_uncapped_weights_have_the_mean_one(self, name):
        assert torch.allclose(mean_weights(problem(), name), torch.ones(LENGTH, dtype=torch.float64), atol=1e-12)
        capped = mean_weights(problem(), name, 1.0)
        assert capped[0].item() == pytest.approx(1.0)
        assert (capped[1:] < 1 - 1e-3).all()

    def test_scores_of_uncapped_weights_have_the_mean_zero(self):
        """Sum over digits of pi w grad log pi_anchor = sum of grad pi_anchor = 0, for all rollouts together."""
        moments = weighted_moments(problem(), "mean_field")
        mean = moments.pass_rate * moments.means[0] + (1 - moments.pass_rate) * moments.means[1]
        assert mean.abs().max() < 1e-12
        capped = weighted_moments(problem(), "mean_field", 1.0)
        assert (capped.pass_rate * capped.means[0] + (1 - capped.pass_rate) * capped.means[1]).norm() > 1e-2

    def test_token_weights_are_capped(self):
        assert token_weights(problem(), 1.5).max().item() == 1.5
        assert token_weights(problem()).max().item() > 1.5


class TestDivergences:
    @pytest.mark.parametrize("count", [1, 2])
    def test_by_states(self, count):
        """The KL divergence of the two distributions over digits, averaged over rollouts and anchors."""
        table = tabulate(PairwiseDenoiser(LENGTH, BASE, seed=0), PROMPT, LATTICE)
        wanted = torch.zeros(LENGTH, dtype=torch.float64)
        draws = list(itertools.combinations(range(1, LENGTH), count - 1))
        orders = list(itertools.permutations(range(LENGTH)))
        for answer, order, draw in itertools.product(LATTICE.answers, orders, draws):
            chance = 1 / len(orders) / len(draws)
            for step, place in enumerate(order):
                anchor = max(time for time in (0, *draw) if time <= step)
                rows = []
                for visible in (order[:step], order[:anchor]):
                    words = [int(answer[i]) if i in visible else BASE for i in range(LENGTH)]
                    rows.append(table[0, int(LATTICE.index(torch.tensor(words))), place])
                # each way to complete the answer is one rollout: their chances sum to that of the state
                kl = float((rows[0].exp() * (rows[0] - rows[1])).sum())
                wanted[step] += chance * kl * math.exp(_rest(table, answer, order))
        assert torch.allclose(divergences(problem(), f"anchors:count={count}"), wanted, atol=1e-12)

    def test_the_path_is_at_no_distance(self):
        assert divergences(problem(), "anchors:count=3").abs().max() < 1e-14


def _rest(table, answer, order):
    return sum(log_prob(table, answer, order[:step], place).item() for step, place in enumerate(order))


class TestBadInput:
    def test_surrogates_that_score_a_token_otherwise(self, refuses):
        for name in ("elbo", "own_step", "coupled", "two_times:samples=2"):
            with refuses(f"expected a surrogate that scores every token once, got {name!r}"):
                weighted_moments(problem(), name)

    def test_cap(self, refuses):
        with refuses("cap must be positive, got 0"):
            weighted_moments(problem(), "mean_field", 0)
