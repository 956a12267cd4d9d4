"""What stands for the likelihood of a denoised answer, against masks, orders and hand-made policies."""

import itertools
import math

import pytest
import torch

from maxrl_lab.denoising import likelihoods
from maxrl_lab.denoising.lattice import Lattice, subsets
from maxrl_lab.denoising.samplers import Blocks, EntropyBounded, MostConfident, Uniform

LATTICE = Lattice(4, 3)
TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}


def random_table(lattice=LATTICE, prompts=2, seed=0, scale=2.0):
    """Log-probabilities of a policy without structure, float64."""
    stream = torch.Generator().manual_seed(seed)
    logits = torch.randn(prompts, lattice.size, lattice.length, lattice.base, generator=stream, dtype=torch.float64)
    return (scale * logits).log_softmax(-1)


def token(lattice, table, answer, visible, place):
    """log pi(x_place | the visible digits of an answer), (B,)."""
    words = [int(answer[i]) if i in visible else lattice.base for i in range(lattice.length)]
    return table[:, int(lattice.index(torch.tensor(words))), place, int(answer[place])]


def by_orders(lattice, table, answer, orders):
    """The mean over orders of the log-probability of writing an answer in that order."""
    paths = [
        sum(token(lattice, table, answer, set(order[:step]), place) for step, place in enumerate(order))
        for order in orders
    ]
    return torch.stack(paths).mean(0)


class TestElbo:
    def test_masks_are_orders(self):
        """By 2^L masks, k uniform and a uniform k-subset, = the mean over L! orders = what is implemented."""
        table = random_table()
        bound = likelihoods.elbo(LATTICE, table)
        for row in (0, 17, 80):
            answer = LATTICE.answers[row]
            masks = torch.zeros(2, dtype=torch.float64)
            for k in range(1, 5):
                for mask in itertools.combinations(range(4), k):
                    visible = set(range(4)) - set(mask)
                    terms = sum(token(LATTICE, table, answer, visible, place) for place in mask)
                    masks += terms * (4 / k) / math.comb(4, k) / 4
            orders = by_orders(LATTICE, table, answer, list(itertools.permutations(range(4))))
            assert torch.allclose(bound[:, row], masks, **TOLERANCE)
            assert torch.allclose(bound[:, row], orders, **TOLERANCE)

    def test_blocks_by_orders(self):
        table = random_table()
        orders = [(*first, *last) for first in ((0, 1), (1, 0)) for last in ((2, 3), (3, 2))]
        for row in (5, 44):
            wanted = by_orders(LATTICE, table, LATTICE.answers[row], orders)
            assert torch.allclose(likelihoods.elbo(LATTICE, table, 2)[:, row], wanted, **TOLERANCE)

    @pytest.mark.parametrize("seed", range(5))
    def test_a_bound_for_its_own_sampler(self, seed):
        table = random_table(seed=seed)
        for block in (1, 2, 4):
            gap = LATTICE.answer_log_probs(table, Blocks(block)) - likelihoods.elbo(LATTICE, table, block)
            assert (gap >= -1e-12).all()
            assert (gap.abs().max() < 1e-12) == (block == 1)
        whole = LATTICE.answer_log_probs(table, Uniform())
        assert torch.allclose(whole, LATTICE.answer_log_probs(table, Blocks(4)), **TOLERANCE)

    def test_no_bound_for_the_most_confident_place(self):
        """The sampler that is deployed writes some answers less often than the bound of uniform orders says."""
        table = random_table()
        gap = LATTICE.answer_log_probs(table, MostConfident()) - likelihoods.elbo(LATTICE, table)
        assert (gap < -0.1).any()
        assert (gap > 0.1).any()

    def test_mean_gradient_is_minus_that_of_the_mean_gap(self):
        logits = random_table(prompts=1).requires_grad_()
        table = logits.log_softmax(-1)
        exact, bound = LATTICE.answer_log_probs(table, Uniform()), likelihoods.elbo(LATTICE, table)
        chances = exact.exp().detach()
        of_bound = torch.autograd.grad((chances * bound).sum(), logits, retain_graph=True)[0]
        of_gap = torch.autograd.grad((chances * (exact - bound)).sum(), logits)[0]
        assert of_bound.norm() > 1e-3
        assert torch.allclose(of_bound, -of_gap, atol=1e-12)

    def test_block_that_does_not_divide(self, refuses):
        with refuses("the size of a block must divide the length 4, got 3"):
            likelihoods.elbo(LATTICE, random_table(), 3)


class TestMeanField:
    def test_it_is_the_sampler_that_fills_all_at_once(self):
        table = random_table()
        exact = LATTICE.answer_log_probs(table, EntropyBounded(math.inf))
        assert torch.allclose(likelihoods.mean_field(LATTICE, table), exact, **TOLERANCE)

    def test_blind_to_a_sum(self):
        """From the uniform policy, right and wrong answers of `sum` have the same digits: no contrast, exactly."""
        lattice = Lattice(3, 3)
        logits = torch.zeros(1, lattice.size, 3, 3, dtype=torch.float64, requires_grad=True)
        table = logits.log_softmax(-1)
        right = lattice.answers.sum(1) % 3 == 1
        gradient = torch.autograd.grad(lattice.pass_rate(table, Uniform(), right[None]), logits, retain_graph=True)[0]

        def contrast(values):
            means = values[0, right].mean() - values[0, ~right].mean()
            return torch.autograd.grad(means, logits, retain_graph=True)[0]

        p = 1 / 3
        assert contrast(likelihoods.mean_field(lattice, table)).abs().max() < 1e-15
        bound = contrast(likelihoods.elbo(lattice, table))
        assert torch.allclose(p * (1 - p) * bound, gradient, atol=1e-15)
        assert gradient.norm() > 0.01


class TestAnchors:
    @pytest.mark.parametrize("length", [1, 2, 4, 5])
    def test_coefficients_sum_to_one_per_token(self, length):
        for anchors in range(1, length + 1):
            coefficients = likelihoods.anchor_coefficients(length, anchors)
            assert torch.allclose(coefficients.sum(0), torch.ones(length, dtype=torch.float64), **TOLERANCE)
            assert (coefficients >= 0).all()
            assert (coefficients[subsets(length)] == 0).all()
        for block in (size for size in range(1, length + 1) if length % size == 0):
            sums = likelihoods.elbo_coefficients(length, block).sum(0)
            assert torch.allclose(sums, torch.ones(length, dtype=torch.float64), **TOLERANCE)

    @pytest.mark.parametrize("anchors", [1, 2, 3, 4])
    def test_by_orders_and_draws(self, anchors):
        """The mean over all orders and all sets of anchors, counted one by one."""
        counted = torch.zeros(16, 4, dtype=torch.float64)
        draws = list(itertools.combinations(range(1, 4), anchors - 1))
        for order, draw in itertools.product(itertools.permutations(range(4)), draws):
            for step, place in enumerate(order):
                last = max(anchor for anchor in (0, *draw) if anchor <= step)
                counted[sum(1 << filled for filled in order[:last]), place] += 1 / 24 / len(draws)
        assert torch.allclose(likelihoods.anchor_coefficients(4, anchors), counted, **TOLERANCE)

    def test_the_ends(self):
        table = random_table()
        ends = likelihoods.anchored(LATTICE, table, 1), likelihoods.anchored(LATTICE, table, 4)
        assert torch.allclose(ends[0], likelihoods.mean_field(LATTICE, table), **TOLERANCE)
        assert torch.allclose(ends[1], likelihoods.elbo(LATTICE, table), **TOLERANCE)

    @pytest.mark.parametrize("length", [1, 2, 4])
    def test_two_times(self, length):
        """A digit given nothing has 1/L + (L-1)/(2L): the step is 0, or later than the digit's."""
        lattice = Lattice(length, 2)
        table = random_table(lattice)
        wanted = 1 / length + (length - 1) / (2 * length)
        change = table.clone()
        change[:, -1] += 1.0  # the empty answer is the last state
        risen = likelihoods.two_times(lattice, change) - likelihoods.two_times(lattice, table)
        assert torch.allclose(risen, torch.full_like(risen, length * wanted), **TOLERANCE)

    def test_too_many(self, refuses):
        with refuses("anchors must be at most the length 4, got 5"):
            likelihoods.anchor_coefficients(4, 5)
        with refuses("anchors must be a whole number >= 1, got 0"):
            likelihoods.anchor_coefficients(4, 0)

    def test_gradients_by_finite_differences(self):
        lattice = Lattice(2, 2)
        table = random_table(lattice, prompts=1).requires_grad_()
        for function in (likelihoods.elbo, likelihoods.two_times, likelihoods.mean_field):
            assert torch.autograd.gradcheck(lambda table, f=function: f(lattice, table), table)
