"""Counts and coin flips: n^(-1/2) in closed form, over seeds, and through the gradient of the bonus."""

from itertools import product

import pytest
import torch

from maxrl_lab.errors import InputError
from maxrl_lab.exploration.counts import CoinFlips, CoinHead, VisitCounts, bonus_loss, flip
from maxrl_lab.randomness import generator


class TestVisitCounts:
    def test_by_hand(self):
        counts = VisitCounts((2, 3))
        counts.add(torch.tensor([[0, 0, 2], [1, 1, 1]]))
        counts.add(torch.tensor([[2], [0]]))
        assert counts.visits.tolist() == [[2, 0, 2], [1, 3, 0]]
        wanted = torch.tensor([[3.0, 1, 3], [2, 4, 1]], dtype=torch.float64) ** -0.5
        assert torch.allclose(counts.bonus(), wanted, rtol=1e-15)
        assert counts.bonus(0.25)[0, 1] == 2

    @pytest.mark.parametrize(
        ("outcomes", "words"),
        [
            (torch.tensor([[3], [0]]), "must lie in 0..2, got 3"),
            (torch.tensor([[-1], [0]]), "must lie in 0..2, got -1"),
            (torch.tensor([[0.0], [0]]), "torch.float32"),
            (torch.tensor([0, 1]), r"torch.int64 \(2, N\), got torch.int64 \(2,\)"),
        ],
    )
    def test_other_outcomes_are_refused(self, outcomes, words):
        with pytest.raises(InputError, match=words):
            VisitCounts((2, 3)).add(outcomes)

    def test_bad_sizes_are_refused(self):
        with pytest.raises(InputError, match=r"positive numbers, got \(2, 0\)"):
            VisitCounts((2, 0))
        with pytest.raises(InputError, match="ridge must be positive, got 0"):
            VisitCounts((2,)).bonus(0)


class TestCoinFlips:
    @pytest.mark.parametrize("visits", [1, 2, 3, 5])
    def test_the_mean_square_is_one_over_n_over_all_coins(self, visits):
        means = [(sum(coins) / visits) ** 2 for coins in product((-1, 1), repeat=visits)]
        assert sum(means) / len(means) == pytest.approx(1 / visits, rel=1e-12)

    def test_the_fit_is_the_least_squares_fit(self):
        # the gradient of the squared error over an outcome's coins vanishes at the mean that `bonus` is made of
        table = CoinFlips((2,), generator("prior"))
        table.add(torch.tensor([0, 0, 0, 1]), generator("coins"))
        coins = (torch.randint(2, (4, 20), generator=generator("coins")) * 2 - 1).double()
        values = torch.zeros(2, 20, dtype=torch.float64, requires_grad=True)
        fit = torch.stack([coins[:3].mean(0), coins[3]])
        (
            values[torch.tensor([0, 0, 0, 1])] + fit.detach()[torch.tensor([0, 0, 0, 1])] - coins
        ).square().sum().backward()
        assert values.grad.abs().max() < 1e-12
        assert torch.allclose(table.bonus(), fit.square().mean(-1).sqrt(), rtol=1e-12)

    @pytest.mark.parametrize("prior", [False, True])
    def test_the_mean_square_is_one_over_n_over_seeds(self, prior):
        # 2,000 tables of 20 coins; five outcomes visited 0, 1, 2, 4, 9 times. Within 4 standard errors: a false alarm
        # in 5 x 6e-5 of seeds
        visits = [0, 1, 2, 4, 9]
        outcomes = torch.tensor([y for y, n in enumerate(visits) for _ in range(n)])
        table = CoinFlips((2000, 5), generator("prior", 1), prior=prior)
        table.add(outcomes.expand(2000, -1), generator("coins", 1))
        squares = table.bonus().square()
        error = squares.std(0) / 2000**0.5
        wanted = torch.tensor([(1 / (n + prior) if n + prior else 0.0) for n in visits], dtype=torch.float64)
        assert ((squares.mean(0) - wanted).abs() <= 4 * error + 1e-12).all()

    def test_outcomes_of_one_task_do_not_touch_another(self):
        table = CoinFlips((2, 3), generator("prior", 2))
        table.add(torch.tensor([[1], [2]]), generator("coins", 2))
        assert table.bonus().tolist() == [[0, 1, 0], [0, 0, 1]]


class TestCoinHead:
    def test_what_was_never_seen_has_a_bonus_of_one_with_a_prior(self):
        features = torch.randn(400, 16, generator=generator("features"))
        with_prior = CoinHead(16, prior=True)
        with_prior.whiten(features)
        assert with_prior.bonus(features).square().mean() == pytest.approx(1, abs=0.01)
        assert len([p for p in with_prior.parameters() if p.requires_grad]) == 4

    @pytest.mark.parametrize("prior", [False, True])
    def test_fitted_to_separate_features_it_counts(self, prior):
        torch.manual_seed(0)
        visits = [1, 4, 16]
        index = torch.tensor([y for y, n in enumerate(visits) for _ in range(n)])
        head = CoinHead(3, prior=prior, flips=200)
        head.whiten(torch.eye(3))
        coins = flip(len(index), 200, generator("coins", 3))
        optimiser = torch.optim.Adam([p for p in head.parameters() if p.requires_grad], 0.01)
        for _ in range(800):
            optimiser.zero_grad()
            head.loss(torch.eye(3)[index], coins).backward()
            optimiser.step()
        wanted = torch.stack([coins[index == y].mean(0) for y in range(3)]).square().mean(-1).sqrt()
        assert torch.allclose(head.bonus(torch.eye(3)), wanted, atol=0.02)


class TestBonusLoss:
    def policy(self, seed=0):
        logits = torch.randn(2, 5, dtype=torch.float64, generator=generator("logits", seed)).requires_grad_()
        bonuses = torch.rand(2, 5, dtype=torch.float64, generator=generator("bonuses", seed))
        return logits, bonuses

    @pytest.mark.parametrize("off_policy", [False, True])
    def test_its_mean_over_all_pairs_of_answers_is_the_gradient_of_the_mean_bonus(self, off_policy):
        logits, bonuses = self.policy()
        log_policy = logits.log_softmax(-1)
        old = self.policy(1)[0].detach().log_softmax(-1) if off_policy else log_policy.detach()
        wanted = torch.autograd.grad(-0.3 * (log_policy.exp() * bonuses).sum(-1).mean(), logits, retain_graph=True)[0]
        total = torch.zeros(())
        for pair in product(range(5), repeat=2):
            answers = torch.tensor(pair).expand(2, 2)
            weight = old.gather(1, answers).sum(-1).exp()
            for task in range(2):  # a task at a time: each has its own chance of this pair
                one = slice(task, task + 1)
                loss = bonus_loss(
                    log_policy[one].gather(1, answers[one]),
                    bonuses[one].gather(1, answers[one]),
                    0.3,
                    reference=old[one].gather(1, answers[one]) if off_policy else None,
                    cap=torch.inf,
                )
                total = total + weight[task] * loss / 2
        assert torch.allclose(torch.autograd.grad(total, logits)[0], wanted, rtol=0, atol=1e-12)

    def test_one_answer_has_no_baseline_and_the_ratio_is_capped(self):
        log_probs = torch.tensor([[-1.0]], requires_grad=True)
        loss = bonus_loss(log_probs, torch.tensor([[0.5]]), 2.0, reference=torch.tensor([[-4.0]]))
        assert loss.item() == pytest.approx(-2 * 5 * 0.5 * -1)
        loss.backward()
        assert log_probs.grad.item() == pytest.approx(-5.0)

    def test_other_shapes_are_refused(self):
        with pytest.raises(InputError, match=r"got \(2, 3\) and \(2, 4\)"):
            bonus_loss(torch.zeros(2, 3), torch.zeros(2, 4), 1.0)
