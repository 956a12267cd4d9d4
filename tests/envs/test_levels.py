"""Levels: what each layout promises, seen by an independent search, and that no level is in both splits."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, shortest_path

from envs.gridworld.levels import LAYOUTS, MAX_SIZE, MIN_SIZE, Level, make_levels, parse

SIZES = {"open": [5, 6, 9, 12], "obstacles": [7, 10, 15], "prim": [5, 9, 15, 33], "four_rooms": [5, 6, 9, 13]}
LAYOUT_SIZES = [(layout, size) for layout, sizes in SIZES.items() for size in sizes]

# S to G by hand: down twice, right twice, up twice. The pit blocks the straight way along the top.
DETOUR = """
#####
#SOG#
#.#.#
#...#
#####
"""
SEALED = DETOUR.replace("#...#", "#.#.#")


def edges(free):
    """Pairs of neighbouring free cells, each pair once, by comparing the picture with itself moved by a cell."""
    cells = np.arange(free.size).reshape(free.shape)
    down, right = free[1:] & free[:-1], free[:, 1:] & free[:, :-1]
    return np.concatenate(
        [
            np.stack([cells[:-1][down], cells[1:][down]], 1),
            np.stack([cells[:, :-1][right], cells[:, 1:][right]], 1),
        ]
    )


def graph(free):
    pairs = edges(free)
    return coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(free.size, free.size)).tocsr()


def steps_to(free, goal):
    """Number of moves to `goal` from every cell, by scipy."""
    cell = goal[0] * len(free) + goal[1]
    return shortest_path(graph(free), directed=False, unweighted=True, indices=cell).reshape(free.shape)


def contents(levels):
    return [level.text() for level in levels]


class TestLayouts:
    @pytest.mark.parametrize(("layout", "size"), LAYOUT_SIZES)
    def test_walls_are_all_around(self, layout, size):
        for level in make_levels(layout, size, count=4):
            assert level.walls.shape == (size, size)
            assert level.size == size
            border = np.ones((size, size), dtype=bool)
            border[1:-1, 1:-1] = False
            assert level.walls[border].all()

    @pytest.mark.parametrize("size", SIZES["prim"])
    @pytest.mark.parametrize("seed", range(3))
    def test_prim_mazes_are_perfect(self, size, seed):
        # A connected graph with one edge fewer than nodes is a tree: one way between any two cells.
        walls = next(LAYOUTS["prim"](size, np.random.default_rng(seed)))
        # Every wall is a part of its own, and all free cells together are one.
        assert connected_components(graph(~walls), directed=False)[0] == walls.sum() + 1
        assert len(edges(~walls)) == (~walls).sum() - 1
        assert (~walls[1::2, 1::2]).all()
        assert walls[::2, ::2].all()

    def test_prim_mazes_do_not_prefer_a_direction(self):
        # Of the 12 inner cells of a 7 x 7 maze's passages, 6 join side by side and 6 above; a maze opens 8 of the 12.
        # Over 500 mazes each opens 4 on average; the standard error is below 0.06, so 5 of them: false alarm < 1e-6.
        mazes = [~next(LAYOUTS["prim"](7, np.random.default_rng(seed))) for seed in range(500)]
        assert np.mean([maze[1::2, 2:-1:2].sum() for maze in mazes]) == pytest.approx(4, abs=0.3)
        assert np.mean([maze[2:-1:2, 1::2].sum() for maze in mazes]) == pytest.approx(4, abs=0.3)

    @pytest.mark.parametrize("size", SIZES["open"])
    def test_open_rooms_are_empty(self, size):
        (level,) = make_levels("open", size, count=1)
        assert (~level.walls).sum() == (size - 2) ** 2

    def test_about_a_quarter_of_a_room_with_obstacles_is_wall(self):
        # 31^2 cells, standard error sqrt(0.25 * 0.75 / 961) = 0.014; five of them: false alarm below 1e-6.
        walls = next(LAYOUTS["obstacles"](33, np.random.default_rng(0)))[1:-1, 1:-1]
        assert walls.mean() == pytest.approx(0.25, abs=0.07)

    @pytest.mark.parametrize("size", SIZES["four_rooms"])
    @pytest.mark.parametrize("seed", range(5))
    def test_four_rooms_have_one_door_in_each_arm_and_are_connected(self, size, seed):
        walls = next(LAYOUTS["four_rooms"](size, np.random.default_rng(seed)))
        middle = size // 2
        arms = [walls[middle, 1:middle], walls[middle, middle + 1 : -1], walls[1:middle, middle]]
        assert [(~arm).sum() for arm in [*arms, walls[middle + 1 : -1, middle]]] == [1, 1, 1, 1]
        assert walls[middle, middle]
        rooms = walls.copy()
        rooms[middle, :] = rooms[:, middle] = False
        assert (~rooms[1:-1, 1:-1]).all()
        assert connected_components(graph(~walls), directed=False)[0] == walls.sum() + 1

    def test_an_even_prim_maze_is_refused(self, refuses):
        with refuses("a Prim maze needs an odd size, got 8"):
            make_levels("prim", 8, count=1)


class TestDistance:
    @pytest.mark.parametrize(("layout", "size"), LAYOUT_SIZES)
    @pytest.mark.parametrize("pits", [0, 2])
    def test_start_and_goal_are_exactly_as_far_apart_as_asked(self, layout, size, pits):
        for distance in (1, 2, 4) if size < 7 else (1, 4, 7):
            for level in make_levels(layout, size, count=2, distance=distance, pits=pits):
                assert steps_to(~(level.walls | level.pits), level.goal)[level.start] == distance
                assert level.distance == distance
                assert level.pits.sum() == pits
                assert not (level.pits & level.walls).any()

    def test_without_a_distance_there_is_a_way_all_the_same(self):
        for level in make_levels("obstacles", 9, count=30, pits=4):
            assert 0 < steps_to(~(level.walls | level.pits), level.goal)[level.start] == level.distance < np.inf

    def test_by_hand(self):
        assert parse(DETOUR).distance == 6
        assert parse(SEALED).distance == np.inf


class TestSeeds:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_the_same_seed_makes_the_same_levels_and_another_makes_others(self, layout):
        first, again, other = (contents(make_levels(layout, 11, count=6, seed=seed)) for seed in (3, 3, 4))
        assert first == again
        assert not set(first) & set(other)

    def test_more_levels_begin_with_the_fewer(self):
        assert contents(make_levels("prim", 9, count=8))[:3] == contents(make_levels("prim", 9, count=3))

    def test_numpy_numbers_mean_the_same_as_pythons(self):
        numpys = {"count": np.int32(2), "distance": np.int64(4), "pits": np.int8(1), "seed": np.int64(5)}
        pythons = {name: int(value) for name, value in numpys.items()}
        assert contents(make_levels("prim", np.int64(9), **numpys)) == contents(make_levels("prim", 9, **pythons))

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_train_and_test_share_no_level_whatever_the_seeds(self, layout):
        # Of 5 x 5 levels there are so few that different seeds do draw the same ones, within a split; of four rooms
        # there are 8 maps, none of them held out.
        size = 7 if layout == "four_rooms" else 5
        splits = {
            split: [contents(make_levels(layout, size, count=10, split=split, seed=seed)) for seed in range(5)]
            for split in ("train", "test")
        }
        train, test = (set().union(*splits[split]) for split in ("train", "test"))
        assert not train & test
        assert all(len(set(levels)) == 10 for levels in [*splits["train"], *splits["test"]])

    def test_all_levels_are_in_one_split(self):
        # Open 5 x 5: 9 maps, told apart by their goal, each with 8 starts; 2000 draws miss one of 72 levels with
        # probability below 1e-8. Which maps are for testing is a matter of hashes.
        counts = {}
        for split in ("train", "test"):
            with pytest.raises(ValueError, match=r"\Afound \d+ of 100 distinct") as refusal:
                make_levels("open", 5, count=100, split=split)
            counts[split] = int(str(refusal.value).split()[1])
        assert counts["train"] + counts["test"] == 72
        assert counts["test"] % 8 == 0
        assert 0 < counts["test"] < counts["train"]

    def test_a_quarter_of_all_maps_is_for_testing(self):
        # 13 x 13 mazes: no two maps are the same. 800 of them: standard deviation 0.015, so 5 of them.
        random = np.random.default_rng(0)
        held_out = []
        while len(held_out) < 800:
            walls = next(LAYOUTS["prim"](13, random))
            cells = np.argwhere(~walls).tolist()
            level = Level(walls, np.zeros_like(walls), tuple(cells[0]), tuple(cells[-1]))
            held_out.append(level.is_held_out)
        assert np.mean(held_out) == pytest.approx(0.25, abs=0.08)

    @pytest.mark.parametrize(
        ("layout", "size", "pits"), [("open", 6, 0), ("open", 5, 1), ("prim", 5, 0), ("prim", 7, 2)]
    )
    def test_no_map_is_in_both_splits(self, layout, size, pits):
        maps = {
            split: {
                (level.walls.tobytes(), level.pits.tobytes(), level.goal)
                for seed in range(3)
                for level in make_levels(layout, size, count=8, pits=pits, split=split, seed=seed)
            }
            for split in ("train", "test")
        }
        assert all(maps.values())
        assert not maps["train"] & maps["test"]

    def test_the_split_of_a_level_does_not_depend_on_its_start(self):
        free = [(row, col) for row in range(1, 5) for col in range(1, 5)]
        walls, pits = next(LAYOUTS["open"](6, np.random.default_rng(0))), np.zeros((6, 6), dtype=bool)
        splits = {
            goal: {Level(walls, pits, start, goal).is_held_out for start in free if start != goal} for goal in free
        }
        assert all(len(found) == 1 for found in splits.values())
        assert set().union(*splits.values()) == {True, False}  # but on its goal
        pitted = {cell: np.zeros((6, 6), dtype=bool) for cell in free[2:]}
        for cell, holes in pitted.items():
            holes[cell] = True
        assert len({Level(walls, holes, free[0], free[1]).is_held_out for holes in pitted.values()}) == 2  # and pits

    def test_impossible_counts_are_given_up_quickly(self):
        # Prim 5 x 5: 4 spanning trees of a square of 4 cells, so 4 mazes of 7 cells: 4 x 7 x 6 levels in both splits.
        found = {}
        for split in ("train", "test"):
            start = time.perf_counter()
            with pytest.raises(
                ValueError, match=rf"\Afound \d+ of 300 distinct {split} levels prim 5 x 5 and 0 pits; "
            ) as e:
                make_levels("prim", 5, count=300, split=split)
            assert time.perf_counter() - start < 20  # measured: below 1 s
            found[split] = int(str(e.value).split()[1])
        assert found["train"] + found["test"] == 4 * 7 * 6
        assert len(make_levels("prim", 5, count=found["train"])) == found["train"]

    def test_the_digest_is_the_same_on_every_machine(self):
        assert parse(DETOUR).digest == DETOUR_DIGEST
        assert parse(DETOUR.replace("G#", ".#").replace("#...#", "#..G#")).digest != DETOUR_DIGEST


# BLAKE2b, 8 bytes, little-endian, of the five lines of DETOUR joined by newlines; by `b2sum -l 64`.
DETOUR_DIGEST = int.from_bytes(bytes.fromhex("da03b1f6605ab018"), "little")


class TestText:
    def test_by_hand(self):
        level = parse(DETOUR)
        assert level.start == (1, 1)
        assert level.goal == (1, 3)
        assert np.argwhere(level.pits).tolist() == [[1, 2]]
        assert np.argwhere(~level.walls).tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 3], [3, 1], [3, 2], [3, 3]]

    def test_the_agent_covers_what_it_stands_on(self):
        level = parse(DETOUR)
        assert level.text((2, 1)) == "#####\n#SOG#\n#A#.#\n#...#\n#####"
        assert level.text((1, 3)) == "#####\n#SOA#\n#.#.#\n#...#\n#####"

    @given(st.sampled_from(LAYOUT_SIZES), st.integers(0, 3), st.integers(0, 1000))
    def test_round_trip(self, layout_size, pits, seed):
        (level,) = make_levels(*layout_size, count=1, pits=pits, seed=seed)
        again = parse(level.text())
        np.testing.assert_array_equal(again.walls, level.walls)
        np.testing.assert_array_equal(again.pits, level.pits)
        assert (again.start, again.goal) == (level.start, level.goal)
        assert again.digest == level.digest

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "a level is a square, got 0 lines of [] characters"),
            ("SG\n.", "a level is a square, got 2 lines of [2, 1] characters"),
            ("SG\nA.", "a level is written with # wall, . floor, O pit, S start, G goal, got ['A']"),
            ("SG\nS.", "expected one S, got 2"),
            ("S.\n..", "expected one G, got 0"),
            ("SG.\n...", "a level is a square, got 2 lines of [3, 3] characters"),
        ],
    )
    def test_refuses(self, text, message, refuses):
        with refuses(message):
            parse(text)


class TestLevelRefuses:
    @staticmethod
    def level(walls=(), pits=(), start=(0, 0), goal=(1, 1), size=3):
        cells = np.zeros((2, size, size), dtype=bool)
        for kind, places in enumerate((walls, pits)):
            for place in places:
                cells[kind][place] = True
        return Level(cells[0], cells[1], start, goal)

    def test_a_good_one_is_taken(self):
        assert self.level(walls=[(2, 2)], pits=[(0, 1)]).distance == 2

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"walls": [(0, 0)]}, "start must be a free cell, got (0, 0), which is a wall"),
            ({"pits": [(0, 0)]}, "start must be a free cell, got (0, 0), which is a pit"),
            ({"walls": [(1, 1)]}, "goal must be a free cell, got (1, 1), which is a wall"),
            ({"pits": [(1, 1)]}, "goal must be a free cell, got (1, 1), which is a pit"),
            ({"start": (3, 0)}, "start must lie in a level of 3 x 3 cells, got (3, 0)"),
            ({"start": (0, 3)}, "start must lie in a level of 3 x 3 cells, got (0, 3)"),
            ({"goal": (0, -1)}, "goal must lie in a level of 3 x 3 cells, got (0, -1)"),
            ({"goal": (-1, 0)}, "goal must lie in a level of 3 x 3 cells, got (-1, 0)"),
            ({"goal": (0, 0)}, "start and goal must differ, got (0, 0) for both"),
        ],
    )
    def test_places(self, options, message, refuses):
        with refuses(message):
            self.level(**options)

    @pytest.mark.parametrize("shapes", [((3, 3), (4, 4)), ((3, 4), (3, 4)), ((9,), (9,)), ((3, 3, 3), (3, 3, 3))])
    def test_shapes(self, shapes, refuses):
        with refuses(f"walls and pits must be squares of one size, got {shapes[0]}, {shapes[1]}"):
            Level(*(np.zeros(shape, dtype=bool) for shape in shapes), (0, 0), (1, 1))

    def test_numbers_in_place_of_bools(self, refuses):
        # `~` of the number 1 is -2, which counts as free.
        with refuses("walls and pits must be bool, got int64, bool"):
            Level(np.zeros((3, 3), dtype=np.int64), np.zeros((3, 3), dtype=bool), (0, 0), (1, 1))


class TestRequestsRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"layout": "maze"}, "unknown layout 'maze'; choose one of: open, obstacles, prim, four_rooms"),
            ({"size": MIN_SIZE - 1}, "size must be a whole number >= 5, got 4"),
            ({"size": MAX_SIZE + 1}, "size must be at most 33, got 34"),
            ({"size": 9.0}, "size must be a whole number >= 5, got 9.0"),
            ({"count": 0}, "count must be a whole number >= 1, got 0"),
            ({"pits": -1}, "pits must be a whole number >= 0, got -1"),
            ({"distance": 0}, "distance must be a whole number >= 1, got 0"),
            ({"distance": "far"}, "distance must be a whole number >= 1, got 'far'"),
            ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
            ({"seed": 0.5}, "seed must be a whole number >= 0, got 0.5"),
            ({"split": "valid"}, "unknown split 'valid'; choose one of: train, test"),
            (
                {"size": 5, "distance": 5},
                "found 0 of 1 distinct train levels open 5 x 5 with start and goal 5 moves apart and 0 pits; "
                "the longest way seen is 4 moves",
            ),
            (
                {"size": 5, "pits": 8, "split": "test", "count": 2},
                "found 0 of 2 distinct test levels open 5 x 5 and 8 pits; the longest way seen is 0 moves",
            ),
        ],
    )
    def test_refuses(self, options, message, refuses):
        with refuses(message):
            make_levels(**({"layout": "open", "size": 9, "count": 1} | options))
