"""Virtual ascent and optimism: the mixture's bound on every run, pulls counted, and the learner by a plain loop."""

import math

import pytest
import torch

from envs import sphere
from maxrl_lab.exploration.geodesics import differences
from maxrl_lab.exploration.pulling import Play
from maxrl_lab.exploration.version_space import optimism
from maxrl_lab.exploration.viol import WITH_DERIVATIVES, Derivatives, derivative_loss, viol
from maxrl_lab.randomness import generator

SEEDS = range(12)


def points(count, seed, dimension=4):
    return sphere.points_on_sphere(count, dimension, generator("points", seed))


ACTIONS = points(30, 0)
CLASSES = {
    "needles": sphere.needles(ACTIONS),
    "hills": sphere.hills(points(20, 1)),
    "bumps": sphere.bumps(points(3, 2), ACTIONS[:5]),
}


def truths(rewards):
    return torch.tensor([seed * 7 % len(rewards.values(ACTIONS)) for seed in SEEDS])


def play_all(name, play=None):
    rewards, play = CLASSES[name], play or Play(budget=160, pulls=2)
    known = (rewards, ACTIONS, truths(rewards), play)
    return {
        "values": viol(*known, seeds=SEEDS),
        "derivatives": viol(*known, seeds=SEEDS, derivatives=Derivatives()),
        "optimism": optimism(*known, seeds=SEEDS),
    }


@pytest.mark.parametrize("name", CLASSES)
class TestEveryRun:
    def test_the_mixtures_loss_is_at_most_the_truths_and_log_m(self, name):
        for trace in play_all(name).values():
            slack = trace.truth_loss + math.log(trace.weights.shape[1]) - trace.mixture_loss
            assert (slack > -1e-9).all()
            assert trace.mixture_loss.isfinite().all()

    def test_every_pull_is_counted(self, name):
        traces = play_all(name)
        assert traces["values"].pulls.tolist() == list(range(2, 161, 2))
        assert traces["derivatives"].pulls.tolist() == [16 * turn for turn in range(1, 11)]
        assert traces["optimism"].pulls.tolist() == list(range(2, 161, 2))

    def test_values_are_the_truths(self, name):
        rewards = CLASSES[name]
        table = rewards.values(ACTIONS)[truths(rewards)]
        for trace in play_all(name).values():
            assert torch.equal(trace.values, table.gather(1, trace.actions))
            assert torch.allclose(trace.weights.sum(1), torch.ones(12, dtype=torch.float64))

    def test_mean_reward_is_that_of_all_pulls(self, name):
        for method in ("values", "optimism"):
            trace = play_all(name)[method]
            assert torch.allclose(trace.mean_reward, trace.values.mean(1), rtol=0, atol=1e-12)


class TestLearner:
    def test_values_alone_are_bayes_by_a_loop(self):
        rewards, play = CLASSES["hills"], Play(budget=40, pulls=4)
        trace = viol(rewards, ACTIONS, truths(rewards)[:2], play, seeds=[3, 4])
        table = rewards.values(ACTIONS)
        for run, seed in enumerate([3, 4]):
            truth = int(truths(rewards)[run])
            uniforms = torch.rand(10, 1, 4, generator=generator("bandit", seed), dtype=torch.float64)
            weights, lost = torch.full((20,), 1 / 20, dtype=torch.float64), 0.0
            for turn in range(10):
                action = int((weights @ table).argmax())
                assert action == int(trace.actions[run, turn])
                right = int((uniforms[turn, 0] < table[truth, action]).sum())
                likelihood = table[:, action] ** right * (1 - table[:, action]) ** (4 - right)
                lost -= math.log(float(weights @ likelihood))
                weights = weights * likelihood / (weights @ likelihood)
            assert torch.allclose(weights, trace.weights[run], rtol=0, atol=1e-12)
            assert lost == pytest.approx(float(trace.mixture_loss[run]), abs=1e-9)

    def test_derivative_loss_by_hand(self):
        derivatives = Derivatives(step=0.5, clip=3.0)
        values = torch.zeros(1, 2, 6, dtype=torch.float64)
        values[0, 1] = torch.tensor([0.6, 0.4, 0.5, 0.5, 0.5, 0.5])
        rates = torch.tensor([[0.75, 0.25, 1.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
        # slope seen 0.5, curvature seen 2; variances at N = 4: 1 / (8 0.25 4) = 1/8, 1 / (16 0.0625 4) = 1/4
        first = 0.5**2 * 8 / 2 + min(2 / 0.5, 3) ** 2 / 2
        second = 0.3**2 * 8 / 2 + min(2 / 0.5, 3) ** 2 / 2
        assert derivative_loss(values, rates, 4, derivatives)[0].tolist() == pytest.approx([first, second])

    def test_the_variances_are_the_greatest(self):
        # rates of 1/2 everywhere have the greatest variance: 20,000 draws, |z| < 4.5 (7e-6); the stream is fixed
        draws = torch.rand(20_000, 6, 4, generator=generator("draws"), dtype=torch.float64)
        slope, curvature = differences((draws < 0.5).double().mean(-1), 0.3)
        for seen, variance in ((slope, 1 / (8 * 0.3**2 * 4)), (curvature, 1 / (16 * 0.3**4 * 4))):
            assert abs(float(seen.square().mean()) / variance - 1) < 4.5 * (2 / 20_000) ** 0.5

    def test_derivatives_climb_where_values_alone_stay(self):
        # two hills promise the same at the action that is played, and only their slopes there tell them apart
        east, north = torch.eye(3, dtype=torch.float64)[:2]
        middle = (east + north) / 2**0.5
        rewards = sphere.hills(torch.stack([east, north]))
        actions = torch.stack([middle, east, north])
        assert float(rewards.values(actions).mean(0).argmax()) == 0
        known = (rewards, actions, torch.zeros(20, dtype=torch.long), Play(budget=1600, pulls=4))
        stays, climbs = (viol(*known, seeds=range(20), derivatives=d) for d in (None, Derivatives()))
        assert (stays.actions == 0).all()
        assert torch.allclose(stays.weights, torch.full((20, 2), 0.5, dtype=torch.float64))
        assert (climbs.actions[:, -1] == 1).all()


class TestOptimism:
    def test_the_version_space_by_a_loop(self):
        rewards, play = CLASSES["bumps"], Play(budget=200, pulls=4)
        trace = optimism(rewards, ACTIONS, truths(rewards)[:1], play, seeds=[5], delta=0.1)
        table, truth = rewards.values(ACTIONS), int(truths(rewards)[0])
        uniforms = torch.rand(50, 1, 4, generator=generator("bandit", 5), dtype=torch.float64)
        losses, left = torch.zeros(18, dtype=torch.float64), torch.ones(18, dtype=torch.bool)
        for turn in range(50):
            action = int(table[left].amax(0).argmax())
            assert action == int(trace.actions[0, turn])
            right = int((uniforms[turn, 0] < table[truth, action]).sum())
            losses -= right * table[:, action].log() + (4 - right) * (1 - table[:, action]).log()
            left &= losses - losses.min() <= math.log(18 / 0.1)
        assert torch.equal(trace.weights[0] > 0, left)
        assert 0 < int(left.sum()) < 18

    def test_the_truth_survives(self):
        # the truth is refuted with a chance of at most 0.05 a run: of 12 runs 6 or more by a chance of 1e-5
        rewards = CLASSES["bumps"]
        trace = optimism(rewards, ACTIONS, truths(rewards), Play(budget=400, pulls=4), seeds=SEEDS)
        survived = trace.weights[torch.arange(12), truths(rewards)] > 0
        assert int(survived.sum()) > 6

    def test_a_needle_is_met_by_trying_what_is_left(self):
        rewards = CLASSES["needles"]
        trace = optimism(rewards, ACTIONS, truths(rewards), Play(budget=30, pulls=1), seeds=SEEDS)
        assert trace.values[:, -1].eq(1).all()


class TestBadInput:
    def test_messages(self, refuses):
        rewards = CLASSES["hills"]
        known = (rewards, ACTIONS, truths(rewards))
        with refuses(f"a round takes {4 * WITH_DERIVATIVES} pulls, got a budget of 31"):
            viol(*known, Play(budget=31), seeds=SEEDS, derivatives=Derivatives())
        with refuses("expected a seed for each of 12 runs, got 1"):
            viol(*known, Play(), seeds=[0])
        with refuses("truths must be (R,) numbers of models, 0..19, got [20]"):
            viol(rewards, ACTIONS, torch.tensor([20]), Play(), seeds=[0])
        with refuses("actions must be unit vectors (A, d), got (30, 4)"):
            viol(rewards, 2 * ACTIONS, truths(rewards), Play(), seeds=SEEDS)
        with refuses("delta must lie in (0, 1), got 0"):
            optimism(*known, Play(), seeds=SEEDS, delta=0)
        with refuses("pulls must be a whole number >= 1, got 0"):
            Play(pulls=0)
        with refuses("step must be positive and finite, got 0.0"):
            Derivatives(step=0.0)
