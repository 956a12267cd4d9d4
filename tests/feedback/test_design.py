"""Designed pairs: features are occupancies, the design is greedy, information in closed form, and the regret bound."""

from itertools import product

import pytest
import torch
from small_worlds import graphs, slippery

from maxrl_lab.errors import InputError
from maxrl_lab.feedback import design
from maxrl_lab.feedback.design import Model
from maxrl_lab.feedback.preferences import fit_rewards, preference
from maxrl_lab.randomness import generator

WORLDS = {"deterministic": graphs(4), "stochastic": slippery(4)}


def random_model(seed=0, states=4, actions=2, horizon=3):
    stream = generator("model", seed)
    moves = torch.rand(states, actions, states, dtype=torch.float64, generator=stream)
    return Model(moves / moves.sum(-1, keepdim=True), torch.eye(states, dtype=torch.float64)[0], horizon)


def as_policy(actions, count):
    """Log-probabilities (H, S, A) of the policy that takes the actions (H, S)."""
    return torch.nn.functional.one_hot(actions, count).double().clamp(min=1e-300).log()


class TestModel:
    @pytest.mark.parametrize("name", WORLDS)
    def test_features_are_the_occupancy_at_the_horizon(self, name):
        tasks = WORLDS[name]
        for task in range(tasks.shape[0]):
            model, kept = design.model_of(tasks, task)
            stream = generator("actions", task)
            actions = torch.randint(tasks.shape[2], (3, tasks.horizon, len(kept)), generator=stream)
            for policy, features in zip(actions, model.features(actions), strict=True):
                whole = torch.zeros(tasks.horizon, *tasks.shape, dtype=torch.float64).sub(
                    torch.tensor(float(tasks.shape[2])).log()
                )
                whole[:, task, kept] = as_policy(policy, tasks.shape[2])
                wanted = tasks.occupancy(whole)[-1, task]
                assert torch.allclose(features, wanted[kept], rtol=0, atol=1e-12)
                assert float(wanted.sum()) == pytest.approx(float(wanted[kept].sum()), abs=1e-12)

    @pytest.mark.parametrize("name", WORLDS)
    def test_uniform_features_are_the_occupancy_of_the_uniform_policy(self, name):
        tasks = WORLDS[name]
        uniform = torch.full(tasks.shape, 1 / tasks.shape[2], dtype=torch.float64).log()
        model, kept = design.model_of(tasks, 1)
        wanted = tasks.occupancy(uniform)[-1, 1, kept]
        assert torch.allclose(model.uniform_features(), wanted, rtol=0, atol=1e-12)

    def test_the_best_policy_is_the_best_of_all(self):
        model = random_model(states=2, horizon=3)
        rewards = torch.tensor([[0.3, -0.7], [0.0, 1.0]], dtype=torch.float64)
        every = torch.tensor(list(product(range(2), repeat=6))).view(-1, 3, 2)
        values = model.features(every) @ rewards.T
        values_of_best = (model.features(model.best(rewards)) * rewards).sum(-1)
        assert torch.allclose(values_of_best, values.max(0).values, rtol=0, atol=1e-12)

    def test_estimated_from_counts_by_hand(self):
        visits = torch.zeros(2, 1, 2)
        visits[0, 0] = torch.tensor([1.0, 3.0])
        model = design.estimated(visits, torch.tensor([1.0, 0.0], dtype=torch.float64), 2)
        assert model.transitions[:, 0].tolist() == [[0.25, 0.75], [0.0, 1.0]]

    def test_optimistic_exploration_tries_every_pair_that_can_be_reached(self):
        tasks = WORLDS["deterministic"]
        model, _ = design.model_of(tasks)
        states, actions, _ = model.transitions.shape
        # every episode tries a new pair while there is one that H steps can reach
        visits = design.explore(model, states * actions, generator("explore"), optimistic=True)
        reached = model.start > 0
        for _ in range(model.horizon - 1):
            reached = reached | (model.transitions[reached].sum((0, 1)) > 0)
        assert torch.equal(visits.sum(-1) > 0, reached[:, None].expand(-1, actions))
        assert float(visits.sum()) == states * actions * model.horizon
        assert bool((visits[model.transitions == 0] == 0).all())

    def test_uniform_exploration_has_the_dynamics(self):
        # 4,000 episodes of 3 steps in a world of 2 actions: within 4 standard errors of every transition from the
        # start; a false alarm in 8 x 6e-5 of seeds
        model = random_model()
        visits = design.explore(model, 4000, generator("uniform"), optimistic=False)
        tried = visits[0].sum(-1, keepdim=True)
        error = (model.transitions[0] * (1 - model.transitions[0]) / tried).sqrt()
        assert ((visits[0] / tried - model.transitions[0]).abs() <= 4 * error).all()
        assert abs(float(tried[0] / tried.sum()) - 0.5) < 4 * 0.5 / float(tried.sum()) ** 0.5

    @pytest.mark.parametrize(
        ("transitions", "words"),
        [
            (torch.ones(2, 1, 2, dtype=torch.float64), "a sum off by 1"),
            (torch.ones(2, 2, dtype=torch.float64), r"got \(2, 2\)"),
        ],
    )
    def test_what_is_no_distribution_is_refused(self, transitions, words):
        with pytest.raises(InputError, match=words):
            Model(transitions, torch.tensor([1.0, 0.0], dtype=torch.float64), 1)

    def test_a_task_that_does_not_exist_is_refused(self):
        with pytest.raises(InputError, match=r"task must lie in 0\.\.1, got 7"):
            design.model_of(slippery(4), 7)


class TestDesign:
    def test_the_pairs_are_greedy_by_brute_force(self):
        features = torch.rand(2, 5, 3, dtype=torch.float64, generator=generator("features"))
        pairs = design.designed_pairs(features, 7, 0.25, generator("design"))
        for run in range(2):
            sigma = 0.25 * torch.eye(3, dtype=torch.float64)
            for pair in pairs[run]:
                gaps = features[run][:, None] - features[run][None]
                norms = torch.einsum("ijd,de,ije->ij", gaps, torch.linalg.inv(sigma), gaps)
                assert float(norms[pair[0], pair[1]]) == pytest.approx(float(norms.max()), rel=1e-8)
                gap = gaps[pair[0], pair[1]]
                sigma = sigma + gap[:, None] * gap[None]

    def test_one_hot_features_are_compared_in_turn(self):
        # no candidate is compared twice before all have been compared once
        pairs = design.designed_pairs(torch.eye(6, dtype=torch.float64)[None], 3, 1.0, generator("turns"))
        assert sorted(pairs.flatten().tolist()) == list(range(6))

    def test_bad_input_is_named(self):
        with pytest.raises(InputError, match=r"C >= 2, got \(1, 1, 3\)"):
            design.designed_pairs(torch.zeros(1, 1, 3), 1, 1.0, generator("none"))
        with pytest.raises(InputError, match="ridge must be positive and finite, got 0"):
            design.designed_pairs(torch.zeros(1, 2, 3), 1, 0.0, generator("none"))


class TestInformation:
    def setup_method(self):
        self.theta = torch.tensor([0.0, 0.0, 0.0, 4.0], dtype=torch.float64)
        chance = float(preference(torch.tensor(1.0, dtype=torch.float64), 4.0))
        self.slope = chance * (1 - chance)

    def test_two_rollouts_of_one_policy_in_closed_form(self):
        ends = torch.tensor([0.5, 0.3, 0.19, 0.01], dtype=torch.float64)
        known = design.information(ends, ends, self.theta)[3, 3]
        assert float(known) == pytest.approx(2 * 0.01 * 0.99 * self.slope, rel=1e-12)

    def test_a_pair_with_the_goal_in_closed_form(self):
        goal, other = torch.eye(4, dtype=torch.float64)[[3, 0]]
        assert float(design.information(goal, other, self.theta)[3, 3]) == pytest.approx(self.slope, rel=1e-12)
        assert float(design.information(other, other, self.theta).abs().max()) == 0

    def test_it_is_minus_the_mean_curvature_of_the_log_likelihood(self):
        one, other = torch.rand(2, 4, dtype=torch.float64, generator=generator("ends")).softmax(-1)

        def mean_log_likelihood(theta):
            # the label's law is that of the true rewards; only the fitted ones move
            truth = (self.theta[:, None] - self.theta[None]).sigmoid()
            margin = theta[:, None] - theta[None]
            loss = truth * torch.nn.functional.logsigmoid(margin) + (1 - truth) * torch.nn.functional.logsigmoid(
                -margin
            )
            return (one[:, None] * other[None] * loss).sum()

        curvature = torch.autograd.functional.hessian(mean_log_likelihood, self.theta)
        assert torch.allclose(design.information(one, other, self.theta), -curvature, rtol=0, atol=1e-12)


class TestRegret:
    @pytest.mark.parametrize("seed", range(20))
    def test_the_bound_holds_whatever_the_labels_are(self, seed):
        # <theta*, phi* - phi> <= |phi* - phi|_{Sigma^-1} |theta - theta*|_Sigma where phi is best for theta: surely
        model, stream = random_model(seed), generator("labels", seed)
        truth = torch.tensor([0.0, 0.0, 0.0, 4.0], dtype=torch.float64)
        wins = torch.randint(4, (4, 4), generator=stream).double().fill_diagonal_(0)
        theta = fit_rewards(wins, 0.25)
        best, greedy = model.features(model.best(torch.stack([truth, theta])))
        sigma = torch.diag((wins + wins.T).sum(1) + 0.25) - wins - wins.T
        gap, error = best - greedy, theta - truth
        bound = (gap @ torch.linalg.solve(sigma, gap) * (error @ sigma @ error)).sqrt()
        assert float(truth @ gap) >= -1e-12
        assert float(truth @ gap) <= float(bound) + 1e-12
