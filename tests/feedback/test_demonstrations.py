"""Maximum-likelihood inverse reinforcement learning: gradients, the gap to the likelihood and its bound, all exact."""

import math
from dataclasses import replace

import pytest
import torch
from small_worlds import graphs, slippery

from maxrl_lab.feedback import soft_control
from maxrl_lab.feedback.demonstrations import DemonstrationLikelihood, behaviour_cloning, demonstrated_visits
from maxrl_lab.feedback.offline_model import count_penalty, learnt_model, path_counts, sample_transitions
from maxrl_lab.feedback.soft_control import soft_value_iteration
from maxrl_lab.randomness import generator
from maxrl_lab.tabular.transitions import dense_transitions

WORLDS = {"deterministic": graphs(4), "stochastic": slippery(4)}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact_expert(tasks, temperature=0.5):
    """The visits of a soft-optimal expert who wants to succeed."""
    rewards = tasks.success.double()[..., None].expand(tasks.shape).contiguous()
    dense = dense_transitions(tasks)
    policy = soft_value_iteration(dense, rewards, horizon=tasks.horizon, temperature=temperature).log_policy
    return soft_control.visits(dense, tasks.start, policy), policy


def sampled(tasks, count=3):
    _, paths = tasks.paths(exact_expert(tasks)[1], count, generator("demonstrations"))
    return demonstrated_visits(tasks, paths.states, paths.actions), paths


def likelihood(tasks, *, model=None, demonstrations=None, weight=2.0, seed=0, temperature=0.5):
    counts = sample_transitions(tasks, 12, generator("transitions", seed))
    return DemonstrationLikelihood(
        model=learnt_model(tasks, counts) if model is None else model,
        features=random(*tasks.shape[:2], 3, seed=seed),
        demonstrations=exact_expert(tasks)[0] if demonstrations is None else demonstrations,
        penalty=count_penalty(tasks, counts, weight),
        temperature=temperature,
    )


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("seed", range(3))
class TestLikelihood:
    def test_gradient_by_visits_is_autograd_through_the_recursion(self, name, seed):
        for demonstrations in (None, sampled(WORLDS[name])[0]):
            made = likelihood(WORLDS[name], demonstrations=demonstrations, seed=seed)
            theta = random(WORLDS[name].shape[0], 3, seed=seed + 10).requires_grad_()
            (wanted,) = torch.autograd.grad(made.surrogate(theta).sum(), theta)
            assert wanted.abs().min() > 1e-3
            assert torch.allclose(made.gradient(theta.detach()), wanted, rtol=0, atol=1e-9)

    def test_the_gap_is_likelihood_less_surrogate(self, name, seed):
        for demonstrations in (None, sampled(WORLDS[name])[0]):
            made = likelihood(WORLDS[name], demonstrations=demonstrations, seed=seed)
            theta = random(WORLDS[name].shape[0], 3, seed=seed + 20)
            wanted = made.log_likelihood(theta) - made.surrogate(theta)
            assert wanted.abs().max() > 1e-2
            assert torch.allclose(made.gap(theta), wanted, rtol=0, atol=1e-10)

    def test_the_gap_is_below_its_bound(self, name, seed):
        tasks = WORLDS[name]
        made = likelihood(tasks, seed=seed)
        for size in (0.1, 1.0, 10.0):
            theta = size * random(tasks.shape[0], 3, seed=seed + 30)
            bound = made.gap_bound(theta, tasks)
            assert (made.gap(theta).abs() <= bound).all()
            assert bound.isfinite().all()

    def test_the_true_model_without_penalty_has_no_gap(self, name, seed):
        tasks = WORLDS[name]
        made = likelihood(tasks, model=tasks, weight=0.0, seed=seed)
        theta = random(tasks.shape[0], 3, seed=seed + 40)
        assert torch.allclose(made.surrogate(theta), made.log_likelihood(theta), rtol=0, atol=1e-10)
        assert torch.equal(made.gap_bound(theta, tasks), torch.zeros(tasks.shape[0], dtype=torch.float64))

    def test_the_surrogate_is_concave(self, name, seed):
        made = likelihood(WORLDS[name], seed=seed)
        one, other = (random(WORLDS[name].shape[0], 3, seed=seed + shift) for shift in (50, 60))
        middle = made.surrogate((one + other) / 2)
        assert (middle > (made.surrogate(one) + made.surrogate(other)) / 2).all()

    def test_fit_is_the_maximum(self, name, seed):
        made = likelihood(WORLDS[name], seed=seed)
        learnt = made.fit(weight_decay=0.1)
        theta = learnt.parameters
        assert learnt.slope < 1e-6
        assert torch.allclose(made.gradient(theta), 0.1 * theta, rtol=0, atol=1e-6)
        assert torch.equal(learnt.control.log_policy, made.control(theta).log_policy)


class TestFit:
    def test_worlds_are_fitted_as_if_alone(self):
        tasks = slippery(4)
        together = likelihood(tasks).fit(weight_decay=0.1).parameters
        for task in range(2):
            one = likelihood(tasks)
            alone = replace(
                one,
                model=one.model.select([task]),
                features=one.features[[task]],
                demonstrations=one.demonstrations[:, [task]],
                penalty=one.penalty[[task]],
            )
            assert torch.allclose(alone.fit(weight_decay=0.1).parameters[0], together[task], rtol=0, atol=1e-5)

    def test_the_experts_reward_is_recovered_from_its_exact_visits(self):
        tasks = slippery(4)
        goal = tasks.success.double()[..., None]
        made = DemonstrationLikelihood(
            tasks, goal, exact_expert(tasks)[0], torch.zeros(tasks.shape, dtype=torch.float64), temperature=0.5
        )
        learnt = made.fit(weight_decay=1e-9, tolerance=1e-11)
        assert learnt.parameters.flatten().tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
        policy = exact_expert(tasks)[1]
        assert torch.allclose(tasks.pass_rate(learnt.control.log_policy), tasks.pass_rate(policy), rtol=0, atol=1e-5)


class TestDemonstrations:
    def test_visits_by_a_loop(self):
        tasks = slippery(4)
        visits, paths = sampled(tasks, 5)
        wanted = torch.zeros_like(visits)
        for task in range(2):
            for path in range(5):
                for step in range(4):
                    state, action = int(paths.states[task, path, step]), int(paths.actions[task, path, step])
                    if action < 0:
                        assert not tasks.active[task, state]
                        wanted[step, task, state] += 1 / 5 / 2
                    else:
                        wanted[step, task, state, action] += 1 / 5
        assert torch.allclose(visits, wanted, rtol=0, atol=1e-15)

    def test_behaviour_cloning_by_hand(self):
        visits = torch.zeros(2, 1, 3, 2, dtype=torch.float64)
        visits[0, 0, 0] = torch.tensor([0.75, 0.25])
        visits[1, 0, 0, 0], visits[1, 0, 1, 1] = 0.25, 0.75
        # state 0: 1 of 1.25 visits take action 0; state 1: all take action 1; state 2 was not shown
        assert behaviour_cloning(visits).exp()[0].tolist() == [[0.8, 0.2], [0, 1], [0.5, 0.5]]
        assert behaviour_cloning(visits, 0.25).exp()[0, 1].tolist() == pytest.approx([0.25 / 1.25, 1 / 1.25])

    def test_no_policy_makes_the_demonstrated_actions_likelier(self):
        visits, _ = sampled(slippery(4), 20)
        cloned = behaviour_cloning(visits)
        value = (visits.sum(0) * cloned).sum()
        for seed in range(20):
            other = (cloned.clamp(min=-30) + 0.1 * random(*cloned.shape, seed=seed)).log_softmax(-1)
            assert (visits.sum(0) * other).sum() < value


class TestOfflineModel:
    def test_path_counts_by_a_loop(self):
        tasks = slippery(4)
        _, paths = sampled(tasks, 5)
        wanted = torch.zeros(2, 5, 2, 5, dtype=torch.float64)
        for task, path, step in torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(4)).tolist():
            if paths.actions[task, path, step] >= 0:
                before, after = paths.states[task, path, step : step + 2].tolist()
                wanted[task, before, paths.actions[task, path, step], after] += 1
        assert torch.equal(path_counts(tasks, paths.states, paths.actions), wanted)

    def test_transitions_are_those_of_the_world(self):
        # 20 frequencies of 20,000 transitions at |z| < 4.5: a false alarm in 1.4e-4 of seeds; the stream is fixed
        tasks = slippery(4)
        counts = sample_transitions(tasks, 20_000, generator("transitions"))
        assert counts.sum((1, 2, 3)).tolist() == [20_000, 20_000]
        assert counts[~tasks.active].sum() == 0
        dense = dense_transitions(tasks)
        number = counts.sum(-1, keepdim=True)
        z = (counts - number * dense) / (number * dense * (1 - dense)).clamp(min=1e-9).sqrt()
        assert z[tasks.active].abs().max() < 4.5
        share = number[..., 0][tasks.active] / 20_000
        assert (share - 1 / 6).abs().max() < 4.5 * math.sqrt(5 / 36 / 20_000)

    def test_the_model_by_hand(self):
        tasks = slippery(4)
        counts = torch.zeros(2, 5, 2, 5, dtype=torch.float64)
        counts[0, 0, 1, 2] = 3
        dense = dense_transitions(learnt_model(tasks, counts))
        assert dense[0, 0, 1].tolist() == pytest.approx([0.05, 0.05, 0.8, 0.05, 0.05])
        assert dense[0, 0, 0].tolist() == pytest.approx([0.2] * 5)
        assert dense[0, 4, 0].tolist() == [0, 0, 0, 0, 1]
        penalty = count_penalty(tasks, counts, 4.0)
        assert penalty[0].tolist() == [[-4, -2], [-4, -4], [-4, -4], [0, 0], [0, 0]]

    def test_much_data_makes_the_model_true(self):
        tasks = slippery(4)
        model = learnt_model(tasks, 1e9 * dense_transitions(tasks))
        policy = exact_expert(tasks)[1]
        assert torch.allclose(model.pass_rate(policy), tasks.pass_rate(policy), rtol=0, atol=1e-8)


class TestBadInput:
    def test_likelihood(self, refuses):
        made = likelihood(slippery(4))
        with refuses("temperature must be positive and finite, got -1"):
            replace(made, temperature=-1)
        with refuses("features must be (2, 5, K), got (2, 4, 3)"):
            replace(made, features=made.features[:, :4])
        with refuses("demonstrations must be visits (H, B, S, A) = (4, 2, 5, 2), got (3, 2, 5, 2)"):
            replace(made, demonstrations=made.demonstrations[1:])
        with refuses("penalty must be (2, 5, 2) and nowhere above 0, got (2, 5, 2) with the largest 0.5"):
            replace(made, penalty=made.penalty * 0 + 0.5)
        with refuses("weight_decay must be positive and finite, got 0"):
            made.fit(weight_decay=0)

    def test_models(self, refuses):
        tasks = slippery(4)
        counts = torch.zeros(2, 5, 2, 5, dtype=torch.float64)
        with refuses("counts must be (2, 5, 2, 5) and nowhere below 0, got (2, 5, 2, 5) with the smallest -1"):
            learnt_model(tasks, counts - 1)
        with refuses("weight must be finite and not negative, got -0.5"):
            count_penalty(tasks, counts, -0.5)
        with refuses("count must be a whole number >= 0, got -1"):
            sample_transitions(tasks, -1, generator("none"))

    def test_demonstrations(self, refuses):
        tasks = slippery(4)
        states = torch.zeros(2, 3, 4, dtype=torch.long)
        with refuses(f"expected states (B, N, H+1) and actions (B, N, H) of {tasks!r}, got (2, 3, 4) and (2, 3, 3)"):
            demonstrated_visits(tasks, states, states[..., 1:])
        with refuses("smoothing must be finite and not negative, got -1"):
            behaviour_cloning(torch.zeros(2, 1, 3, 2), -1)
