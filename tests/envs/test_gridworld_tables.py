"""Levels as tables: moves by hand, pits and goals, slips, pass rates by enumeration, and what a policy sees."""

from itertools import product

import numpy as np
import pytest
import torch

from envs.gridworld.levels import make_levels, parse
from envs.gridworld.mazes import MOVES
from envs.gridworld.tables import egocentric, pictures, tasks
from maxrl_lab.randomness import generator

UP, DOWN, LEFT, RIGHT = range(4)

# States are row * 5 + col. Free: S 6, pit 7, G 8 in the first row; 11, 12, 13 below; 16 and 17 in the third.
LEVEL = parse("""
#####
#SOG#
#...#
#..##
#####
""")
FREE = {6, 7, 8, 11, 12, 13, 16, 17}
# Every move from every cell that one acts on, by hand: up, down, left, right.
NEXT = {
    6: [6, 11, 6, 7],
    11: [6, 16, 11, 12],
    12: [7, 17, 11, 13],
    13: [8, 13, 12, 13],
    16: [11, 16, 16, 17],
    17: [12, 17, 16, 17],
}
# No walls but the edge of the drawing.
BARE = parse("S..\n...\n..G")


def uniform(table):
    return torch.full(table.shape, 0.25, dtype=torch.float64).log()


def enumerated(nexts, start, success, failure, horizon):
    """Share of all action sequences that end in success."""
    right = 0
    for actions in product(range(4), repeat=horizon):
        state = start
        for action in actions:
            if state in success or state in failure:
                break
            state = nexts[state][action]
        right += state in success
    return right / 4**horizon


class TestMoves:
    def test_by_hand(self):
        successors = tasks([LEVEL], horizon=6).successors[0]
        assert {state: successors[state].tolist() for state in NEXT} == NEXT

    def test_the_edge_of_a_drawing_without_walls_is_a_wall(self):
        assert tasks([BARE], horizon=4).successors[0].tolist() == [
            [0, 3, 0, 1],
            [1, 4, 0, 2],
            [2, 5, 1, 2],
            [0, 6, 3, 4],
            [1, 7, 3, 5],
            [2, 8, 4, 5],
            [3, 6, 6, 7],
            [4, 7, 6, 8],
            [5, 8, 7, 8],
        ]

    def test_start_goal_and_pits(self):
        table = tasks([LEVEL], horizon=6)
        assert table.start[0].nonzero().flatten().tolist() == [6]
        assert table.success[0].nonzero().flatten().tolist() == [8]
        assert set(table.failure[0].nonzero().flatten().tolist()) == (set(range(25)) - FREE) | {7}
        assert set(table.active[0].nonzero().flatten().tolist()) == set(NEXT)
        assert table.horizon == 6
        assert table.shape == (1, 25, 4)

    def test_goal_and_pit_absorb(self):
        stay = tasks([LEVEL], horizon=6).next_states[0, :, :, 0]
        assert stay[7].tolist() == [7] * 4
        assert stay[8].tolist() == [8] * 4

    @pytest.mark.parametrize(
        ("actions", "reward", "length"),
        [
            ([DOWN, RIGHT, RIGHT, UP, LEFT, LEFT], 1, 4),
            ([RIGHT, RIGHT, RIGHT, RIGHT, RIGHT, RIGHT], 0, 1),  # the pit, next to the goal
            ([UP, DOWN, RIGHT, RIGHT, RIGHT, UP], 1, 6),  # two bumps
            ([UP, DOWN, LEFT, RIGHT, RIGHT, LEFT], 0, 6),
        ],
    )
    def test_walks_by_hand(self, actions, reward, length):
        table = tasks([LEVEL], horizon=6)
        policy = torch.full((6, *table.shape), -torch.inf, dtype=torch.float64)
        for step, action in enumerate(actions):
            policy[step, ..., action] = 0
        group = table.rollout(policy, 1, generator("test", 0))
        assert (float(group.rewards), int(group.lengths)) == (reward, length)

    @pytest.mark.parametrize("layout", ["open", "obstacles", "prim", "four_rooms"])
    def test_levels_against_a_slow_loop(self, layout):
        levels = make_levels(layout, 9, count=3, pits=2)
        table = tasks(levels, horizon=64)
        for task, level in enumerate(levels):
            for row, col in np.argwhere(~level.walls).tolist():
                for action, (down, right) in enumerate(MOVES):
                    ahead = (row, col) if level.walls[row + down, col + right] else (row + down, col + right)
                    assert table.successors[task, 9 * row + col, action] == 9 * ahead[0] + ahead[1]
            assert table.distance[task, 9 * level.start[0] + level.start[1]] == level.distance


class TestSlips:
    def test_probabilities_by_hand(self):
        # slip 0.2: the chosen move with 0.8 + 0.2 / 4, each other with 0.2 / 4.
        table = tasks([LEVEL], horizon=6, slip=0.2)
        assert table.successors.shape == table.probabilities.shape == (1, 25, 4, 4)
        for state, action in product(NEXT, range(4)):
            assert table.successors[0, state, action].tolist() == NEXT[state]
            expected = [0.85 if move == action else 0.05 for move in range(4)]
            assert table.probabilities[0, state, action].tolist() == pytest.approx(expected, abs=1e-15)

    def test_none_without(self):
        assert tasks([LEVEL], horizon=6).probabilities is None

    def test_slips_do_not_change_where_a_uniform_policy_ends(self):
        straight, slippery = tasks([LEVEL], horizon=6), tasks([LEVEL], horizon=6, slip=0.7)
        torch.testing.assert_close(slippery.pass_rate(uniform(slippery)), straight.pass_rate(uniform(straight)))

    def test_a_policy_that_never_moves_up_gets_there_by_a_slip(self):
        # Down, right, right with 0.1 / 2 + 0.9 / 4 each, then up with 0.9 / 4.
        table = tasks([LEVEL], horizon=4, slip=0.9)
        policy = torch.tensor([0.0, 0.5, 0.0, 0.5], dtype=torch.float64).log().expand(table.shape)
        assert float(table.pass_rate(policy)) == pytest.approx(0.275**3 * 0.225, rel=1e-12)


class TestPassRate:
    @pytest.mark.parametrize("horizon", [4, 6])
    def test_uniform_policy_against_enumeration(self, horizon):
        table = tasks([LEVEL], horizon=horizon)
        nexts = {**NEXT, **{state: [state] * 4 for state in (7, 8)}}
        expected = enumerated(nexts, 6, {8}, {7}, horizon)
        assert float(table.pass_rate(uniform(table))) == pytest.approx(expected, rel=1e-12)

    def test_one_way_in_four_steps_by_hand(self):
        # down, right, right, up is the only one of 4^4 sequences: through the pit there is no way.
        table = tasks([LEVEL], horizon=4)
        assert float(table.pass_rate(uniform(table))) == pytest.approx(1 / 256, rel=1e-12)

    def test_corner_to_corner_by_hand(self):
        # 4 choose 2 ways to order two moves down and two right.
        table = tasks([BARE], horizon=4)
        assert float(table.pass_rate(uniform(table))) == pytest.approx(6 / 256, rel=1e-12)

    def test_levels_of_a_batch_do_not_mix(self):
        levels = make_levels("obstacles", 7, count=4, distance=3)
        together = tasks(levels, horizon=8)
        alone = [tasks([level], horizon=8) for level in levels]
        expected = torch.cat([table.pass_rate(uniform(table)) for table in alone])
        torch.testing.assert_close(together.pass_rate(uniform(together)), expected)


def looked_at(level, row, col, radius):
    """What an agent at (row, col) sees, cell by cell: walls, then pits, then the goal, then the way to it."""
    seen = []
    for plane in range(3):
        for down in range(-radius, radius + 1):
            for right in range(-radius, radius + 1):
                there = (row + down, col + right)
                inside = min(there) >= 0 and max(there) < level.size
                seen.append(
                    [
                        (not inside) or level.walls[there],
                        inside and level.pits[there],
                        there == level.goal,
                    ][plane]
                )
    return [float(each) for each in seen] + [(level.goal[0] - row) / level.size, (level.goal[1] - col) / level.size]


class TestObservations:
    def test_pictures_by_hand(self):
        (walls, pits, goal) = pictures([LEVEL])[0].tolist()
        assert walls == [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 0, 0, 1, 1], [1, 1, 1, 1, 1]]
        assert pits == [[0] * 5, [0, 0, 1, 0, 0], *[[0] * 5] * 3]
        assert goal == [[0] * 5, [0, 0, 0, 1, 0], *[[0] * 5] * 3]

    def test_pictures_against_a_slow_loop(self):
        levels = make_levels("obstacles", 9, count=3, pits=3)
        shown = pictures(levels)
        assert shown.shape == (3, 3, 9, 9)
        assert shown.dtype == torch.float32
        for place, level in enumerate(levels):
            for row, col in product(range(9), repeat=2):
                expected = [level.walls[row, col], level.pits[row, col], (row, col) == level.goal]
                assert shown[place, :, row, col].tolist() == expected

    @pytest.mark.parametrize("radius", [0, 1, 2, 4])
    def test_windows_against_a_slow_loop(self, radius):
        levels = [*make_levels("obstacles", 7, count=3, pits=3), *make_levels("prim", 7, count=2)]
        rows, features = egocentric(levels, radius)
        assert rows.shape == (5, 49)
        assert features.shape[1] == 3 * (2 * radius + 1) ** 2 + 2
        for place, level in enumerate(levels):
            for row, col in product(range(7), repeat=2):
                if level.walls[row, col] or level.pits[row, col] or (row, col) == level.goal:
                    assert rows[place, 7 * row + col] == 0
                else:
                    seen = features[rows[place, 7 * row + col]]
                    torch.testing.assert_close(seen, torch.tensor(looked_at(level, row, col, radius)))

    def test_equal_surroundings_share_a_row_and_different_ones_do_not(self):
        levels = make_levels("open", 9, count=4)
        rows, features = egocentric(levels, 1)
        views = [
            (int(rows[place, 9 * row + col]), tuple(looked_at(level, row, col, 1)))
            for place, level in enumerate(levels)
            for row, col in product(range(1, 8), repeat=2)
            if (row, col) != level.goal
        ]
        assert len({row for row, _ in views}) == len({seen for _, seen in views}) == len(set(views)) == len(features)
        assert len(features) < len(views)

    def test_they_come_with_the_tasks_unless_refused(self):
        table = tasks([LEVEL], horizon=6, radius=1)
        rows, features = egocentric([LEVEL], 1)
        assert torch.equal(table.observations, rows)
        assert torch.equal(table.features, features)
        assert tasks([LEVEL], horizon=6).features.shape[1] == 3 * 5 * 5 + 2
        blind = tasks([LEVEL], horizon=6, radius=None)
        assert blind.observations is None
        assert blind.features is None


class TestRefuses:
    @pytest.mark.parametrize("slip", [-0.1, 1, 1.5, float("nan")])
    def test_slips(self, slip, refuses):
        with refuses(f"slip must lie in [0, 1), got {slip}"):
            tasks([LEVEL], horizon=6, slip=slip)

    def test_mixed_sizes_and_no_levels(self, refuses):
        with refuses("expected levels of one size, got sizes [3, 5]"):
            tasks([LEVEL, BARE], horizon=6)
        with refuses("expected levels of one size, got sizes []"):
            tasks([], horizon=6)

    def test_a_short_horizon(self, refuses):
        with refuses("task 1 cannot be solved: it needs 4 steps, the horizon is 3"):
            tasks([parse("#####\n#SG.#\n#...#\n#...#\n#####"), LEVEL], horizon=3)

    def test_a_level_without_a_way(self, refuses):
        with refuses("task 0 cannot be solved: it needs a way that does not exist, the horizon is 9"):
            tasks([parse("S#.\n##.\n..G")], horizon=9)

    def test_a_negative_radius(self, refuses):
        with refuses("radius must be a whole number >= 0, got -1"):
            tasks([LEVEL], horizon=6, radius=-1)
