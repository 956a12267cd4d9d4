"""Learnt entropy bounds: exact pass rates and costs, and sampled gradients against exact ones."""

import math

import pytest
import torch

from envs.canvas import Canvas
from maxrl_lab.denoising.decoding import CHOOSER, MODEL, Chooser, DecodingBatch, Fixed, check_bounds, decode
from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.samplers import EntropyBounded
from maxrl_lab.policies.masked import PairwiseDenoiser
from maxrl_lab.training.groups import DivergedError
from maxrl_lab.training.methods import Sampled

CANVAS = Canvas(("pairs",), 2, 2)
LATTICE = Lattice(2, 2)
BOUNDS = (0.0, math.inf)
PROMPTS = torch.tensor([[5, 0, 0], [5, 1, 1]])


def parts(seed=0):
    chooser = Chooser(CANVAS.words, CANVAS.prompt_length, 2).double()
    with torch.no_grad():
        chooser.linear.bias.copy_(torch.tensor([0.3, -0.2]))
    return PairwiseDenoiser(2, 2, seed=seed), chooser


def batch(policy, chooser, **options):
    return DecodingBatch(policy, chooser, BOUNDS, PROMPTS, CANVAS.right, 2, 2, **options)


def right():
    return CANVAS.right(PROMPTS, LATTICE.answers.expand(2, -1, -1))


class TestDecode:
    @pytest.mark.parametrize("budget", [None, 1, 2])
    def test_by_answers(self, budget):
        policy, chooser = parts()
        table = policy.log_probs(PROMPTS, LATTICE.states).detach()
        decoded = decode(LATTICE, table, right(), BOUNDS, budget)
        for column, bound in enumerate(BOUNDS):
            each = LATTICE.decode(table, EntropyBounded(bound))
            chances, steps = each.log_probs.exp(), each.evaluations
            in_time = right() & (steps <= (budget or 2))
            assert torch.allclose(decoded.right[:, column], (chances * right()).sum(1))
            assert torch.allclose(decoded.in_time[:, column], (chances * in_time).sum(1))
            assert torch.allclose(decoded.evaluations[:, column], (chances * steps).sum(1))
        mixed = decoded.mixed(chooser(PROMPTS))
        q = chooser(PROMPTS).exp()
        assert torch.allclose(mixed.evaluations, (q * decoded.evaluations).sum(1, keepdim=True))

    def test_one_evaluation_for_all_places_and_one_for_each(self):
        table = parts()[0].log_probs(PROMPTS, LATTICE.states).detach()
        costs = decode(LATTICE, table, right(), BOUNDS).evaluations
        assert torch.allclose(costs, torch.tensor([[2.0, 1.0]] * 2, dtype=torch.float64))


class TestBatch:
    def test_both_rows_are_the_same_rollouts(self):
        group = batch(*parts()).rollout([MODEL, CHOOSER], 50)
        assert torch.equal(group.rewards[0], group.rewards[1])
        assert len(group.log_probs[1].unique()) == 2
        alone = batch(*parts(), parts=(CHOOSER,)).rollout([0], 50)
        assert torch.equal(alone.log_probs[0], group.log_probs[1])

    def test_budget(self):
        policy, _ = parts()
        slow = batch(policy, Fixed(0, 2), budget=1).rollout([0], 20)
        assert slow.rewards.sum() == 0
        free = batch(policy, Fixed(0, 2)).rollout([0], 20)
        assert torch.equal(free.log_probs, slow.log_probs)
        assert free.rewards.sum() > 0

    @pytest.mark.parametrize("budget", [None, 1])
    def test_mean_gradient(self, budget):
        """REINFORCE over 20,000 rollouts of two prompts against the exact gradient; the false-alarm rate is below 1e-6.

        No entry of a score is larger than 1, so that an entry of the mean of 40,000 has a standard deviation of at most
        0.005; the tolerance is six of them.
        """
        policy, chooser = parts()
        made = batch(policy, chooser, budget=budget)
        ours = Sampled("reinforce", 20_000).loss(made, [MODEL, CHOOSER])
        exact = made.log_pass_rate([MODEL, CHOOSER]).exp().mean(1)
        for row, network in ((0, policy), (1, chooser)):
            parameters = list(network.parameters())
            estimate = torch.autograd.grad(-ours[row], parameters, retain_graph=True)
            wanted = torch.autograd.grad(exact[row], parameters, retain_graph=True)
            estimate, wanted = (torch.cat([part.flatten() for part in parts]) for parts in (estimate, wanted))
            assert (estimate - wanted).abs().max() < 0.03
            assert wanted.norm() > 0.03
            assert torch.cosine_similarity(estimate, wanted, dim=0) > 0.97

    def test_pass_rate_by_hand(self):
        policy, chooser = parts()
        table = policy.log_probs(PROMPTS, LATTICE.states)
        q = chooser(PROMPTS).exp()
        rates = torch.stack([LATTICE.pass_rate(table, EntropyBounded(bound), right()) for bound in BOUNDS], 1)
        wanted = (q * rates).sum(1).log()
        assert torch.allclose(batch(policy, chooser).log_pass_rate([0, 1]), wanted.expand(2, -1))

    def test_a_policy_that_is_nan(self):
        policy, chooser = parts()
        with torch.no_grad():
            policy.bias.fill_(math.nan)
        with pytest.raises(DivergedError):
            batch(policy, chooser).log_pass_rate([0])


class TestBounds:
    def test_uniform_at_first(self):
        assert torch.allclose(Chooser(9, 5, 4)(torch.zeros(1, 5, dtype=torch.long)).exp(), torch.full((1, 4), 0.25))

    def test_fixed(self):
        assert Fixed(1, 3)(PROMPTS).exp().tolist() == [[0, 1, 0]] * 2

    def test_bad_bounds(self, refuses):
        for bounds in ([], [0.1, 0.1], [-0.1, 1.0], [1.0, 0.5]):
            with refuses(f"expected bounds that rise from 0 or more, got {bounds}"):
                check_bounds(bounds)
