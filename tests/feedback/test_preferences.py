"""Preferences: fair coins between equal outcomes, rewards by maximum likelihood, DPO's loss."""

import math
from itertools import pairwise

import pytest
import torch

from maxrl_lab.errors import InputError
from maxrl_lab.feedback.preferences import (
    best_and_worst,
    dpo_loss,
    fit_rewards,
    log_likelihood,
    preference,
    tied,
)
from maxrl_lab.randomness import generator


class TestRankings:
    def test_equal_outcomes_are_ranked_at_random(self):
        # 20,000 groups of four failures: the best and the worst are uniform. A chi-square of 3 degrees above 21.1 has
        # a probability of 1e-4, twice
        best, worst = best_and_worst(torch.zeros(20_000, 4), 4.0, generator("ranking"))
        for index in (best, worst):
            counts = index.bincount(minlength=4).double()
            assert float((counts - 5000).square().sum() / 5000) < 21.1
        assert (best != worst).all()

    @pytest.mark.parametrize("scale", [1.0, 4.0])
    def test_a_pair_obeys_bradley_and_terry(self, scale):
        # 20,000 pairs of a right answer and a wrong one: within 4 standard errors, a false alarm in 6e-5 of seeds
        best, _ = best_and_worst(torch.tensor([1, 0]).expand(20_000, 2), scale, generator("pairs", int(scale)))
        wanted = float(preference(torch.tensor(1.0), scale))
        assert abs(float((best == 0).double().mean()) - wanted) < 4 * (wanted * (1 - wanted) / 20_000) ** 0.5
        assert preference(torch.tensor(0.0), scale) == 0.5

    def test_ties_are_groups_of_one_outcome(self):
        rewards = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 1]])
        assert tied(rewards).tolist() == [True, False, True]

    def test_bad_input_is_named(self):
        with pytest.raises(InputError, match="at least two answers, got 1"):
            best_and_worst(torch.zeros(3, 1), 1.0, generator("none"))
        with pytest.raises(InputError, match="scale must be positive and finite, got -1"):
            best_and_worst(torch.zeros(3, 2), -1.0, generator("none"))
        with pytest.raises(InputError, match="got 2"):
            best_and_worst(torch.tensor([[2.0, 0.0]]), 1.0, generator("none"))


class TestDpo:
    def test_by_hand(self):
        loss = dpo_loss(*(torch.tensor(value) for value in (-1.0, -3.0, -2.0, -2.0)), beta=0.5)
        assert float(loss) == pytest.approx(math.log(1 + math.exp(-1.0)))

    def test_at_the_reference_its_gradient_is_half_beta_of_the_difference_of_scores(self):
        values = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
        dpo_loss(values[0], values[1], values[0].detach(), values[1].detach(), beta=0.3).backward()
        assert values.grad.tolist() == pytest.approx([-0.15, 0.15])


class TestFit:
    def wins(self, seed=0, items=4):
        return torch.randint(6, (3, items, items), generator=generator("wins", seed)).double()

    def test_two_items_by_hand(self):
        # with weights 3 : 1 and a vanishing ridge the difference of rewards is log 3
        theta = fit_rewards(torch.tensor([[0.0, 3.0], [1.0, 0.0]]), 1e-9)
        assert theta.tolist() == pytest.approx([math.log(3) / 2, -math.log(3) / 2], abs=1e-6)

    @pytest.mark.parametrize("ridge", [0.01, 0.25, 1.0])
    def test_it_is_the_maximum(self, ridge):
        wins = self.wins()
        theta = fit_rewards(wins, ridge).requires_grad_()
        log_likelihood(wins, theta, ridge).sum().backward()
        assert theta.grad.abs().max() < 1e-6
        assert theta.sum(-1).abs().max() < 1e-6

    def test_it_does_not_depend_on_what_is_fitted_beside_it(self):
        wins = self.wins(1)
        assert torch.allclose(fit_rewards(wins, 0.5)[1], fit_rewards(wins[1], 0.5), rtol=0, atol=1e-9)

    def test_separable_preferences_are_held_by_the_ridge(self):
        wins = torch.zeros(3, 3)
        wins[0, 1:] = 1000
        sizes = [float(fit_rewards(wins, ridge)[0]) for ridge in (1.0, 0.25, 0.01)]
        assert all(small < large < 20 for small, large in pairwise(sizes))

    def test_no_preference_is_no_reward(self):
        assert fit_rewards(torch.zeros(2, 5, 5), 1.0).tolist() == [[0.0] * 5] * 2

    @pytest.mark.parametrize(
        ("wins", "ridge", "words"),
        [
            (torch.zeros(2, 3), 1.0, r"\(\.\.\., D, D\), got \(2, 3\)"),
            (-torch.ones(2, 2), 1.0, "must not be negative, got -1"),
            (torch.zeros(2, 2), 0.0, "ridge must be positive and finite, got 0"),
        ],
    )
    def test_bad_input_is_named(self, wins, ridge, words):
        with pytest.raises(InputError, match=words):
            fit_rewards(wins, ridge)
