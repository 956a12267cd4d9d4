"""MEX: its optimality, its relaxation, its regret, and the two ends of eta, on worlds small enough to check."""

import math
from itertools import product

import pytest
import torch
from small_worlds import WORLDS, corridor, slippery

from maxrl_lab.errors import InputError
from maxrl_lab.exploration import boxes, mex
from maxrl_lab.exploration.bounds import regularised_bounds
from maxrl_lab.exploration.boxes import Experience
from maxrl_lab.exploration.bumex import bumex_policies, estimates, exploring_share
from maxrl_lab.exploration.chances import ITERATIONS, divergence
from maxrl_lab.randomness import generator
from maxrl_lab.tabular.tasks import TabularTasks

INFINITE = float("inf")


def walked(tasks, box, rollouts, seed=0):
    """What so many rollouts of an even policy see."""
    experience = Experience(box)
    even = torch.full(tasks.shape, 1 / tasks.shape[2], dtype=torch.float64).log()
    experience.add(tasks.paths(even, rollouts, generator("walked", seed))[1])
    return experience


def played(tasks, box, eta, episodes, seed=0, settle=True):
    """The exact pass rates (K, B) of the policies that MEX plays, and what it has seen in the end."""
    experience, rates = Experience(box), []
    for episode in range(episodes):
        policy = mex.mex_policy(tasks, experience, eta, settle=settle)
        rates.append(tasks.pass_rate(policy))
        experience.add(tasks.paths(policy, 1, generator("played", seed, episode))[1])
    return torch.stack(rates), experience


def two_doors(chance=0.6, horizon=3):
    """One running state: door 0 leads to success with `chance`, else back; door 1 leads to failure."""
    return TabularTasks(
        successors=torch.tensor([[[[1, 0], [2, 2]], [[1, 1], [1, 1]], [[2, 2], [2, 2]]]]),
        probabilities=torch.tensor(
            [[[[chance, 1 - chance], [1.0, 0.0]], [[1.0, 0.0]] * 2, [[1.0, 0.0]] * 2]], dtype=torch.float64
        ),
        start=torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64),
        success=torch.tensor([[False, True, False]]),
        failure=torch.tensor([[False, False, True]]),
        horizon=horizon,
    )


class TestRelaxation:
    @pytest.mark.parametrize("name", WORLDS)
    @pytest.mark.parametrize("eta", [0.05, 0.5])
    def test_its_value_is_not_below_the_truths(self, name, eta):
        """V >= E[right - eta sum_t N KL(observed || truth)] of any policy in the truth, the best included."""
        tasks = WORLDS[name]
        experience = walked(tasks, boxes.anything(tasks), 10)
        plan = mex.plan(tasks, experience, eta, iterations=ITERATIONS)
        truth = boxes.in_columns(experience.box, tasks)
        price = eta * torch.where(experience.visits > 0, experience.visits * divergence(experience.nominal, truth), 0.0)
        value = tasks.success.double()
        for step in reversed(range(tasks.horizon)):
            ahead = torch.cat([value, value.amax(1, keepdim=True)], 1).gather(1, experience.box.candidates.flatten(1))
            best = ((truth * ahead.view(truth.shape)).sum(-1) - price).amax(-1)
            value = torch.where(tasks.active, best, value)
            assert bool((plan.values[step] >= value - 1e-9).all())

    def test_it_is_the_best_of_a_grid_of_tables_in_one_step(self):
        """Horizon 1, one pair seen 3 times to fail: max_e e + eta 3 log(1-e), by hand 1 - 3 eta + 3 eta log(3 eta)."""
        tasks = two_doors(horizon=1)
        experience = Experience(boxes.everywhere(tasks))
        experience.counts[0, 0, :, 2] = 3.0
        eta = 0.2
        value = float(mex.plan(tasks, experience, eta, iterations=ITERATIONS).values[0, 0, 0])
        assert value == pytest.approx(1 - 0.6 + 0.6 * math.log(0.6), abs=1e-9)

    def test_above_the_objective_where_no_pair_is_visited_twice(self):
        """A layered world: states 0, 1, 2 in a row, so the penalty is paid once in both; V of any table is less."""
        nexts = torch.tensor([[[1, 1], [2, 2], [3, 4], [3, 3], [4, 4]]])
        tasks = TabularTasks(
            nexts,
            start=torch.eye(5, dtype=torch.float64)[:1],
            success=torch.tensor([[False, False, False, True, False]]),
            failure=torch.tensor([[False, False, False, False, True]]),
            horizon=3,
        )
        experience = Experience(boxes.everywhere(tasks))
        experience.counts[0, 0, :, 4] = 2.0  # both moves of the first state were seen to fail
        experience.seen[:] = True
        for eta in (0.05, 0.2, 0.4):
            relaxed = float(mex.plan(tasks, experience, eta, iterations=ITERATIONS).values[0, 0, 0])
            model = mex.ascend(tasks, experience, eta, steps=200, learning_rate=0.1)
            objective = float(model.value - eta * model.loss)
            assert relaxed >= objective - 1e-9
            assert objective == pytest.approx(relaxed, abs=0.02), "gradient ascent comes near here"

    def test_below_the_objective_where_a_pair_is_visited_again_and_again(self):
        """One state that was seen to stay once; 20 tries. A table that leaves it with chance e pays -eta log(1-e) once.

        The relaxation pays at every try, so that a chance is not worth its price as soon as V > 1 - eta.
        """
        tasks = TabularTasks(
            torch.tensor([[[1], [1]]]),
            start=torch.tensor([[1.0, 0.0]], dtype=torch.float64),
            success=torch.tensor([[False, True]]),
            failure=torch.tensor([[False, False]]),
            horizon=20,
        )
        experience = Experience(boxes.everywhere(tasks))
        experience.counts[0, 0, 0, 0] = 1.0
        eta = 0.5
        relaxed = float(mex.plan(tasks, experience, eta, iterations=ITERATIONS).values[0, 0, 0])
        leaving = torch.linspace(0.0, 0.999, 1000, dtype=torch.float64)
        objective = 1 - (1 - leaving) ** 20 + eta * (1 - leaving).log()
        assert relaxed <= 1 - eta + 1e-9
        assert float(objective.max()) > relaxed + 0.2


class TestEnds:
    def test_eta_0_never_learns(self):
        """Everything promises everything for ever. Only ties that go to what is known would make it learn."""
        tasks = two_doors()
        rates, experience = played(tasks, boxes.anything(tasks), 0.0, 30, settle=False)
        assert float(experience.visits.sum()) >= 30
        even = torch.full(tasks.shape, 0.5, dtype=torch.float64).log()
        assert rates.flatten().tolist() == pytest.approx([float(tasks.pass_rate(even))] * 30)

    def test_eta_infinity_is_stuck_where_the_first_sample_misleads(self):
        """Horizon 1: door 0 failed once to open, door 1 was seen to fail: both are believed hopeless for ever.

        The good door is not tried again on purpose: what is played takes the doors alike, whatever has been seen since.
        """
        tasks = two_doors(horizon=1)
        experience = Experience(boxes.anything(tasks))
        experience.counts[0, 0, 0, 1] = experience.counts[0, 0, 1, 0] = 1.0
        trusting = mex.plan(tasks, experience, INFINITE).values[0, 0, 0]
        hoping = mex.plan(tasks, experience, 0.1).values[0, 0, 0]
        assert float(trusting) == 0
        assert float(hoping) > 0.5
        longer = two_doors(horizon=3)
        experience.counts[0, 0, 1] = torch.tensor(
            [0.0, 0.0, 0.0]
        )  # door 1 is untried now: hope is there, and only there
        policy = mex.mex_policy(longer, experience, INFINITE).exp()
        assert policy[-1, 0, 0].tolist() == [0.0, 1.0]

    def test_a_small_eta_recovers_from_the_same_sample(self):
        """Door 0 opens with chance 0.6, and within 60 episodes MEX settles on it; seeds are fixed."""
        tasks = two_doors(horizon=1)
        for seed in range(5):
            rates, _ = played(tasks, boxes.anything(tasks), 0.1, 60, seed)
            assert float(rates[-1]) == pytest.approx(0.6)

    @pytest.mark.parametrize("name", ["corridor", "graphs"])
    def test_where_moves_are_certain_every_failing_episode_tries_a_new_pair(self, name):
        tasks = WORLDS[name]
        experience = Experience(boxes.anything(tasks))
        best = mex.best_pass_rate(tasks)
        for episode in range(tasks.shape[1] * tasks.shape[2] + 1):
            policy = mex.mex_policy(tasks, experience, INFINITE)
            if bool((tasks.pass_rate(policy) == best).all()):
                break
            before = (experience.visits > 0).sum((1, 2))
            group, paths = tasks.paths(policy, 1, generator("pairs", episode))
            experience.add(paths)
            grown = (experience.visits > 0).sum((1, 2)) > before
            assert bool((grown | (group.rewards[:, 0] > 0)).all())
        assert tasks.pass_rate(policy).tolist() == pytest.approx(best.tolist(), abs=1e-12)


class TestRegret:
    def test_regret_is_the_sum_of_what_was_missed(self):
        """Against plain counting: a corridor whose best pass rate is 1, and the pass rates that were played."""
        tasks = corridor()
        rates, _ = played(tasks, boxes.anything(tasks), INFINITE, 12)
        assert float(mex.regret(tasks, rates)) == pytest.approx(sum(1 - float(rate) for rate in rates), abs=1e-12)
        assert float(mex.best_pass_rate(tasks)) == 1
        assert float(rates[-1]) == 1

    def test_two_doors_by_hand(self):
        assert float(mex.best_pass_rate(two_doors(0.6, 3))) == pytest.approx(1 - 0.4**3)


class TestFiniteClass:
    def hypotheses(self):
        """Two doors that open with other chances: 9 tables of one world, the truth (0.6) among them."""
        made = [two_doors(round(0.1 * tenth, 1)) for tenth in range(1, 10)]
        stacked = {
            name: torch.cat([getattr(one, name) for one in made])
            for name in ("successors", "probabilities", "start", "success", "failure")
        }
        return TabularTasks(**stacked, horizon=3)

    @pytest.mark.parametrize(("right", "wrong"), list(product([0, 2, 5], [0, 1, 6])))
    @pytest.mark.parametrize("eta", [0.02, 0.3])
    def test_the_maximum_is_not_below_the_truth(self, right, wrong, eta):
        """V_f - eta L(f) >= p* - eta L(truth), the inequality that the regret bound of MEX begins with."""
        transitions = torch.zeros(3, 2, 3)
        transitions[0, 0, 1], transitions[0, 0, 0] = right, wrong
        chosen = mex.best_hypothesis(self.hypotheses(), transitions, eta)
        scores = chosen.values - eta * chosen.losses
        assert float(scores[chosen.best]) == float(scores.max())
        assert float(scores[chosen.best]) >= float(scores[5])
        assert float(chosen.values[5]) == pytest.approx(1 - 0.4**3)
        loss = -(right * torch.tensor(0.6).double().log() + wrong * torch.tensor(0.4).double().log())
        assert float(chosen.losses[5]) == pytest.approx(float(loss), abs=1e-6)

    def test_without_data_the_most_promising_table_and_with_many_the_likeliest(self):
        hypotheses, transitions = self.hypotheses(), torch.zeros(3, 2, 3)
        assert mex.best_hypothesis(hypotheses, transitions, 0.1).best == 8
        transitions[0, 0, 1], transitions[0, 0, 0] = 300, 700
        assert mex.best_hypothesis(hypotheses, transitions, 0.1).best == 2

    def test_what_a_table_excludes_excludes_it(self):
        hypotheses, transitions = self.hypotheses(), torch.zeros(3, 2, 3)
        transitions[0, 1, 1] = 1  # door 1 led to success, which no table allows
        assert bool(mex.best_hypothesis(hypotheses, transitions, 0.1).losses.isinf().all())
        assert mex.best_hypothesis(hypotheses, transitions, 0.0).best == 8  # without a price only promises count

    def test_bad_input_is_one_line(self):
        hypotheses = self.hypotheses()
        with pytest.raises(InputError, match="eta must be >= 0, got -1"):
            mex.best_hypothesis(hypotheses, torch.zeros(3, 2, 3), -1.0)
        with pytest.raises(InputError, match=r"transitions must have shape \(3, 2, 3\), got \(3, 2\)"):
            mex.best_hypothesis(hypotheses, torch.zeros(3, 2), 0.1)


class TestAscent:
    def test_the_objective_is_what_it_says(self):
        tasks = slippery()
        experience = walked(tasks, boxes.everywhere(tasks), 8)
        model = mex.ascend(tasks, experience, 0.2, steps=20)
        by_hand = (experience.visits * divergence(experience.nominal, model.chances)).nan_to_num(0.0)
        assert model.loss.tolist() == pytest.approx(by_hand.sum((1, 2)).tolist(), abs=1e-9)
        assert model.chances.sum(-1).flatten().tolist() == pytest.approx([1.0] * 20)

    @pytest.mark.parametrize("eta", [0.1, 1.0])
    def test_more_steps_never_end_lower(self, eta):
        tasks = slippery()
        experience = walked(tasks, boxes.everywhere(tasks), 8)
        ends = [mex.ascend(tasks, experience, eta, steps=steps) for steps in (1, 40)]
        few, many = (model.value - eta * model.loss for model in ends)
        assert bool((many >= few).all())

    def test_in_a_certain_world_it_comes_near_the_maximum(self):
        """Untried pairs may lead to the goal at no price, so the maximum is 1; the shortfall is below 0.01."""
        tasks = corridor()
        model = mex.ascend(tasks, walked(tasks, boxes.everywhere(tasks), 1), 1.0, steps=60)
        assert float(model.value - model.loss) > 0.99

    def test_bad_input_is_one_line(self, monkeypatch):
        tasks = corridor()
        experience = Experience(boxes.anything(tasks))
        with pytest.raises(InputError, match=r"eta must be finite and not negative, got -0\.5"):
            mex.ascend(tasks, experience, -0.5)
        with pytest.raises(InputError, match="limits are 0 and 1, got others"):
            mex.ascend(slippery(), Experience(boxes.point(slippery())), 0.1)
        monkeypatch.setattr(mex, "MAX_NUMBERS", 7)
        with pytest.raises(InputError, match=r"at most 7, got H = 5, S = 4, A = 2, C = 2"):
            mex.ascend(tasks, experience, 0.1)
        with pytest.raises(InputError, match="solved exactly up to M S A = 7, got M = 1, S = 4, A = 2"):
            mex.best_hypothesis(tasks, torch.zeros(4, 2, 4), 0.1)


@pytest.mark.parametrize("eta", [-0.1, float("nan")])
def test_a_negative_eta_is_refused(eta):
    tasks = corridor()
    with pytest.raises(InputError, match="eta must be >= 0, got"):
        mex.plan(tasks, Experience(boxes.anything(tasks)), eta)


def test_ties_are_broken_by_what_is_known_and_then_at_random():
    moves = torch.tensor([[[[1.0, 1.0, 0.5]]]])
    assert mex.greedy(moves).exp().flatten().tolist() == pytest.approx([0.5, 0.5, 0.0])
    known = torch.tensor([[[[0.0, 0.3, 0.9]]]])
    assert mex.greedy(moves, known).exp().flatten().tolist() == pytest.approx([0.0, 1.0, 0.0])


class TestBumex:
    def test_estimates_stay_within_the_bounds(self):
        tasks = slippery()
        experience = walked(tasks, boxes.anything(tasks), 20)
        bounds = regularised_bounds(tasks, experience)
        made = estimates(tasks, experience, bounds)
        assert bool(((made >= bounds.lower_moves - 1e-12) & (made <= bounds.upper_moves + 1e-12)).all())

    def test_what_is_played_mixes_exploring_and_greedy_moves(self):
        tasks = slippery()
        experience = walked(tasks, boxes.anything(tasks), 20)
        alone, mixed = (bumex_policies(tasks, experience, epsilon) for epsilon in (0.0, 0.25))
        assert torch.equal(alone.played.exp(), alone.greedy.exp())
        assert mixed.played.exp().sum(-1).flatten().tolist() == pytest.approx([1.0] * mixed.played[..., 0].numel())
        assert bool((mixed.played.exp() >= 0.75 * mixed.greedy.exp() - 1e-12).all())

    def test_it_finds_the_way_through_a_corridor(self):
        """Whatever the seed: every episode of the greedy part tries a move that is not ruled out."""
        tasks = corridor()
        experience = Experience(boxes.anything(tasks))
        for episode in range(30):
            made = bumex_policies(tasks, experience, exploring_share(episode))
            experience.add(tasks.paths(made.played, 1, generator("bumex", episode))[1])
        assert float(tasks.pass_rate(made.greedy)) == 1

    def test_the_exploring_share_falls_to_its_floor(self):
        assert [exploring_share(episode) for episode in (0, 10, 10_000)] == [1.0, 0.5, 0.01]
        with pytest.raises(InputError, match="epsilon must lie in"):
            bumex_policies(corridor(), Experience(boxes.anything(corridor())), 1.5)
