"""Bounds on the best pass rate, what they rule out, boxes of chances, what is seen: on worlds small enough to check."""

import pytest
import torch
from small_worlds import WORLDS, corridor, graphs, slippery

from maxrl_lab.errors import InputError
from maxrl_lab.exploration import boxes
from maxrl_lab.exploration.bounds import (
    UNDECIDED_FLOOR,
    Bounds,
    certified_pass_rate,
    exploring_weights,
    masked,
    pass_rate_bounds,
    provably_wrong,
    regularised_bounds,
    root_penalty,
    value_bounds,
)
from maxrl_lab.exploration.boxes import Box, Experience
from maxrl_lab.randomness import generator
from maxrl_lab.tabular.rollout import Paths


def best_values(tasks):
    """The best probability of success (H+1, B, S) by plain loops over the raw tables."""
    count, states, actions = tasks.shape
    values = [[[float(tasks.success[task, state]) for state in range(states)] for task in range(count)]]
    for _ in range(tasks.horizon):
        after = values[0]
        rows = []
        for task in range(count):
            row = []
            for state in range(states):
                if tasks.success[task, state] or tasks.failure[task, state]:
                    row.append(after[task][state])
                    continue
                moves = []
                for action in range(actions):
                    nexts = tasks.successors[task, state, action].reshape(-1).tolist()
                    chances = (
                        [1.0] if tasks.probabilities is None else tasks.probabilities[task, state, action].tolist()
                    )
                    moves.append(sum(chance * after[task][to] for chance, to in zip(chances, nexts, strict=True)))
                row.append(max(moves))
            rows.append(row)
        values.insert(0, rows)
    return torch.tensor(values, dtype=torch.float64)


def random_box(tasks, seed):
    """A box around the truth with limits at random distances; other states are candidates as well."""
    random = torch.Generator().manual_seed(seed)
    box = boxes.everywhere(tasks)
    truth = boxes.in_columns(box, tasks)
    below, above = (torch.rand(truth.shape, generator=random, dtype=torch.float64) for _ in range(2))
    width = float(torch.rand(1, generator=random))
    return Box(box.candidates, truth * (1 - width * below), truth + (1 - truth) * width * above)


def walked(tasks, box, rollouts, seed=0):
    """What so many rollouts of an even policy see."""
    experience = Experience(box)
    even = torch.full(tasks.shape, 1 / tasks.shape[2], dtype=torch.float64).log()
    experience.add(tasks.paths(even, rollouts, generator("walked", seed))[1])
    return experience


class TestBounds:
    @pytest.mark.parametrize("name", WORLDS)
    @pytest.mark.parametrize("seed", range(5))
    def test_the_best_value_lies_between_them_in_every_state_at_every_time(self, name, seed):
        tasks = WORLDS[name]
        truth = best_values(tasks)
        bounds = value_bounds(tasks, random_box(tasks, seed))
        assert bool((bounds.lower <= truth + 1e-12).all())
        assert bool((bounds.upper >= truth - 1e-12).all())
        assert bool((bounds.lower < truth - 1e-3).any() or (bounds.upper > truth + 1e-3).any()), "the box is no point"
        lower, upper = certified_pass_rate(bounds)
        best = (tasks.start.double() * truth[0]).sum(-1)
        assert bool(((lower <= best + 1e-12) & (best <= upper + 1e-12)).all())

    @pytest.mark.parametrize("name", WORLDS)
    def test_they_meet_where_the_box_is_a_point(self, name):
        tasks = WORLDS[name]
        bounds, truth = value_bounds(tasks, boxes.point(tasks)), best_values(tasks)
        assert float((bounds.lower - truth).abs().max()) <= 1e-12
        assert float((bounds.upper - truth).abs().max()) <= 1e-12

    def test_a_wider_box_has_wider_bounds(self):
        tasks = slippery()
        narrow = random_box(tasks, 1)
        wide = Box(narrow.candidates, narrow.low / 2, (1 + narrow.high) / 2)
        inside, outside = value_bounds(tasks, narrow), value_bounds(tasks, wide)
        assert bool((outside.lower <= inside.lower + 1e-12).all())
        assert bool((outside.upper >= inside.upper - 1e-12).all())

    def test_nothing_known_bounds_nothing_but_the_horizon(self):
        tasks = corridor(horizon=5)
        lower, upper = certified_pass_rate(value_bounds(tasks, boxes.anything(tasks)))
        assert (lower.tolist(), upper.tolist()) == ([0.0], [1.0])

    @pytest.mark.parametrize("name", WORLDS)
    def test_any_state_stands_for_every_state(self, name):
        """The wildcard of `anything` gives what a column for every state gives, before steps and after."""
        tasks = WORLDS[name]
        few, many = (
            value_bounds(tasks, boxes.confident(walked(tasks, make(tasks), 20)))
            for make in (boxes.anything, boxes.everywhere)
        )
        untouched = value_bounds(tasks, boxes.anything(tasks)), value_bounds(tasks, boxes.everywhere(tasks))
        assert torch.equal(untouched[0].upper, untouched[1].upper)
        assert torch.equal(untouched[0].lower, untouched[1].lower)
        assert few.upper.shape == many.upper.shape

    def test_a_failure_that_was_never_seen_is_not_given_away(self):
        """The pit of a random graph, before anybody has stood on it and after."""
        tasks = graphs(4, (4,), 2, seed=1)
        pit = int(tasks.failure[0].nonzero()[0])
        seen = torch.zeros(1, 4, dtype=torch.bool)
        box = boxes.everywhere(tasks)
        hidden, shown = value_bounds(tasks, box, seen), value_bounds(tasks, box)
        assert float(shown.upper[0, 0, pit]) == 0
        assert float(hidden.upper[0, 0, pit]) == 1
        assert float(hidden.lower[0, 0, pit]) == 0

    def test_regularised_bounds_are_no_certificates(self):
        tasks = slippery()
        bounds = regularised_bounds(tasks, walked(tasks, boxes.anything(tasks), 5), strength=5.0)
        assert bool((bounds.lower <= bounds.upper + 1e-12).all())
        with pytest.raises(InputError, match="got regularised ones"):
            certified_pass_rate(bounds)
        assert len(pass_rate_bounds(bounds)) == 2

    def test_regularised_bounds_near_the_truth_as_visits_grow(self):
        """With 60,000 rollouts the shares are within 0.02 of the chances (a false alarm below 1e-9). So are bounds."""
        tasks = slippery()
        bounds = regularised_bounds(tasks, walked(tasks, boxes.anything(tasks), 60_000), strength=50.0, iterations=40)
        best = (tasks.start.double() * best_values(tasks)[0]).sum(-1)
        for bound in pass_rate_bounds(bounds):
            assert float((bound - best).abs().max()) < 0.1

    def test_the_penalty_of_bumex(self):
        visits = torch.tensor([[[0.0, 4.0]]])
        expected = [0.0, 5 * (4 / torch.tensor(2 / 0.05).log()).sqrt().item()]
        assert root_penalty(visits, 5.0, 0.05).flatten().tolist() == pytest.approx(expected)
        with pytest.raises(InputError, match="strength must be finite and not negative, got -1"):
            root_penalty(visits, -1.0, 0.05)


class TestMasks:
    @pytest.mark.parametrize("name", WORLDS)
    @pytest.mark.parametrize("seed", range(4))
    def test_ruling_out_moves_leaves_the_best_pass_rate(self, name, seed):
        """The best policy among those that avoid the moves is as good: dynamic programming over what is left."""
        tasks = WORLDS[name]
        wrong = provably_wrong(value_bounds(tasks, random_box(tasks, seed)))
        truth = value_bounds(tasks, boxes.point(tasks))
        left = truth.upper_moves.masked_fill(wrong, -torch.inf).amax(-1)
        assert float((left - truth.upper[:-1])[tasks.active.expand(left.shape)].abs().max()) <= 1e-12

    def test_with_a_narrow_box_some_moves_are_ruled_out_and_the_even_policy_gains(self):
        tasks = corridor(horizon=4)
        even = torch.full(tasks.shape, 0.5, dtype=torch.float64).log()
        wrong = provably_wrong(value_bounds(tasks, boxes.point(tasks)))
        assert bool(wrong.any())
        # the one step that may be lost can be lost at the start alone: stepping back later costs two
        assert float(tasks.pass_rate(masked(even, wrong))) == pytest.approx(1.0)
        assert float(tasks.pass_rate(even)) == pytest.approx(3 / 16)

    def test_a_mask_keeps_a_distribution_and_never_takes_every_move(self):
        policy = torch.tensor([[[0.2, 0.8], [0.5, 0.5]]], dtype=torch.float64).log()
        wrong = torch.tensor([[[[True, False], [True, True]]]])
        assert masked(policy, wrong).exp().flatten().tolist() == pytest.approx([0.0, 1.0, 0.5, 0.5])


class TestExploringWeights:
    def weights(self, lower, upper):
        """Of one state at one time, whose value bounds are the largest of its moves'."""
        low, high = (torch.tensor(part, dtype=torch.float64).view(1, 1, 1, -1) for part in (lower, upper))
        values = [torch.cat([part.amax(-1), torch.zeros(1, 1, 1)]) for part in (low, high)]
        start = torch.ones(1, 1, dtype=torch.float64)
        return exploring_weights(Bounds(*values, low, high, start, certified=True)).flatten().tolist()

    def test_undecided_moves_weigh_what_a_uniform_draw_would_gain(self):
        """V = 0.4: the mean of (q - V)+, q uniform in [0.2, 0.8], is 0.4^2 / (2 * 0.6); in [0.4, 0.6] it is 0.1."""
        assert self.weights([0.2, 0.4], [0.8, 0.6]) == pytest.approx([0.16 / 1.2, 0.1])

    def test_the_formula_is_the_expected_improvement(self):
        """A draw of 200,000 comes within 5 standard errors, at most 0.0014."""
        draws = 0.2 + 0.6 * torch.rand(200_000, generator=torch.Generator().manual_seed(0))
        assert self.weights([0.2, 0.4], [0.8, 0.6])[0] == pytest.approx(
            float((draws - 0.4).clamp(min=0).mean()), abs=0.0014
        )

    def test_a_certainly_best_move_weighs_1_and_a_hopeless_one_nothing(self):
        assert self.weights([0.7, 0.1], [0.9, 0.5]) == pytest.approx([1.0, UNDECIDED_FLOOR])

    def test_one_move_alone_is_the_best(self):
        assert self.weights([0.0], [0.3]) == [1.0]


class TestBoxes:
    def test_repeated_candidates_become_one(self):
        box = boxes.among(torch.tensor([[[[1, 1, 0]], [[0, 1, 2]]]]))
        assert box.high[0, 0, 0].tolist() == [1.0, 0.0, 1.0]
        assert boxes.point(slippery()).low.sum(-1).flatten().tolist() == pytest.approx([1.0] * 20)

    def test_the_truth_in_the_columns_of_a_box(self):
        tasks = slippery()
        placed = boxes.in_columns(boxes.everywhere(tasks), tasks)
        assert placed[0, 0, 0].tolist() == pytest.approx([0.1, 0.7, 0.2, 0.0, 0.0])
        assert placed[1, 0, 0].tolist() == pytest.approx([0.0, 1.0, 0.0, 0.0, 0.0])

    def test_every_step_is_counted_once(self):
        tasks = WORLDS["graphs"]
        experience = walked(tasks, boxes.anything(tasks), 50)
        even = torch.full(tasks.shape, 1 / 3, dtype=torch.float64).log()
        group, paths = tasks.paths(even, 50, generator("walked", 0))
        assert float(experience.visits.sum()) == float(group.lengths.sum())
        for task in range(3):
            pairs = [
                (int(state), int(action), int(after))
                for states, actions in zip(paths.states[task], paths.actions[task], strict=True)
                for state, action, after in zip(states, actions, states[1:], strict=False)
                if action >= 0
            ]
            for state, action, after in set(pairs):
                columns = experience.box.candidates[task, state, action] == after
                counted = float(experience.counts[task, state, action][columns].sum())
                assert counted == pairs.count((state, action, after))
        part = experience.select([2])
        assert torch.equal(part.counts[0], experience.counts[2])
        assert torch.equal(part.seen[0], experience.seen[2])

    def test_confident_boxes_hold_the_truth(self):
        """All 200 worlds at 95%: more than 20 failures would have a chance below 0.2% if the bound were tight."""
        tasks = slippery()
        failures = 0
        for seed in range(200):
            box = boxes.confident(walked(tasks, boxes.anything(tasks), 30, seed), 0.95)
            truth = boxes.in_columns(box, tasks)
            failures += int(((truth < box.low - 1e-12) | (truth > box.high + 1e-12)).any())
        assert failures <= 20

    def test_confident_boxes_are_clopper_and_pearsons(self):
        """3 of 10 in a task of 8 cells: P(Bin(10, low) >= 3) and P(Bin(10, high) <= 3) are both half of the level."""
        from scipy import stats

        box = boxes.among(torch.tensor([[[[0, 1]] * 2] * 2]))
        experience = Experience(box)
        experience.counts[0, 0, 0] = torch.tensor([3.0, 7.0])
        made = boxes.confident(experience, 0.9)
        half = 0.1 / (2 * 8 * 10 * 11)
        low, high = float(made.low[0, 0, 0, 0]), float(made.high[0, 0, 0, 0])
        assert stats.binom.sf(2, 10, low) == pytest.approx(half, rel=1e-6)
        assert stats.binom.cdf(3, 10, high) == pytest.approx(half, rel=1e-6)
        assert made.low[0, 0, 1].tolist() == [0.0, 0.0]

    def test_bad_boxes_are_refused_in_one_line(self):
        nexts = torch.zeros(1, 2, 1, 2, dtype=torch.long)
        with pytest.raises(InputError, match=r"contains no distribution: its lower limits sum to 1\.2"):
            boxes.among(torch.tensor([[[[0, 1]]]]), torch.tensor([[[[0.6, 0.6]]]]))
        with pytest.raises(InputError, match=r"must have one shape \(B, S, A, C\), got"):
            Box(nexts, torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1))
        with pytest.raises(InputError, match=r"candidates must lie in 0\.\.2, where 2 stands for any state"):
            boxes.among(nexts + 3)
        with pytest.raises(InputError, match=r"expected a box of \(1, 4, 2\) tasks, states and moves, got"):
            value_bounds(corridor(), boxes.anything(WORLDS["graphs"]))

    def test_a_world_outside_of_the_box_is_refused(self):
        tasks = corridor()
        box = boxes.among(torch.zeros(*tasks.shape, 1, dtype=torch.long))
        with pytest.raises(InputError, match="the box names no candidate 1 for state 0, move 1 of task 0"):
            boxes.in_columns(box, tasks)
        with pytest.raises(
            InputError, match="names no candidate 1 for state 0, move 1 of task 0, which a path went to"
        ):
            Experience(box).add(Paths(torch.tensor([[[0, 1]]]), torch.tensor([[[1]]])))
