"""Grids of mazes: the exact distribution of Prim's process, and distances by scipy and by hand."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components
from small_mazes import RING, exact_distribution, graph, opened, p_value, steps_to

from envs.gridworld import mazes
from envs.gridworld.mazes import distances, prim_mazes

SIZES = [5, 7, 11, 17, 33]


class TestPrim:
    @pytest.mark.parametrize("size", SIZES)
    def test_mazes_are_perfect(self, size):
        # A connected graph with one edge fewer than nodes is a tree: one way between any two cells.
        for walls in prim_mazes(size, 20, np.random.default_rng(0)):
            # Every wall is a part of its own, and all free cells together are one.
            assert connected_components(graph(~walls), directed=False)[0] == walls.sum() + 1
            assert graph(~walls).nnz == (~walls).sum() - 1
            assert (~walls[1::2, 1::2]).all()
            assert walls[::2, ::2].all()
            assert walls[[0, -1]].all()
            assert walls[:, [0, -1]].all()

    @pytest.mark.parametrize(("size", "trees", "count"), [(5, 4, 20_000), (7, 192, 40_000)])
    def test_mazes_have_the_exact_distribution_of_prims_process(self, size, trees, count):
        # A chi-square test; below 1e-6 is a false alarm with that probability.
        exact = exact_distribution(size // 2)
        assert len(exact) == trees
        assert sum(exact.values()) == pytest.approx(1)
        seen = Counter(opened(walls) for walls in prim_mazes(size, count, np.random.default_rng(0)))
        assert set(seen) <= set(exact)
        assert p_value(seen, exact) > 1e-6

    def test_the_first_cell_decides_so_it_is_random_too(self):
        # Grown from the corner alone, the trees of 3 x 3 cells have another distribution, which the test above tells.
        seen = Counter(opened(walls) for walls in prim_mazes(7, 40_000, _AlwaysTheCorner(np.random.PCG64(0))))
        assert p_value(seen, exact_distribution(3)) < 1e-6

    def test_more_than_a_chunk(self, monkeypatch):
        monkeypatch.setattr(mazes, "_CHUNK", 7)
        walls = prim_mazes(9, 30, np.random.default_rng(0))
        assert len(np.unique(walls, axis=0)) == 30
        goals = np.random.default_rng(1).integers(0, 4, (30, 2)) * 2 + 1
        expected = [steps_to(~each, goal) for each, goal in zip(walls, goals, strict=True)]
        np.testing.assert_array_equal(distances(~walls, goals), expected)

    def test_an_even_size_is_refused(self, refuses):
        with refuses("a Prim maze needs an odd size, got 8"):
            prim_mazes(8, 1, np.random.default_rng(0))


class _AlwaysTheCorner(np.random.Generator):
    def integers(self, *arguments):
        return np.zeros_like(super().integers(*arguments))


class TestDistances:
    def test_by_hand(self):
        assert distances(~RING[None], (3, 3))[0, 1:-1, 1:-1].tolist() == [[4, 3, 2], [3, -1, 1], [2, 1, 0]]

    @given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(2, 9), st.floats(0, 1))
    def test_agree_with_scipy_on_any_pictures_with_or_without_a_border(self, seed, rows, cols, share):
        random = np.random.default_rng(seed)
        free = random.random((3, rows, cols)) < share
        goals = np.stack([random.integers(rows, size=3), random.integers(cols, size=3)], 1)
        free[np.arange(3), goals[:, 0], goals[:, 1]] = True
        expected = [steps_to(each, goal) for each, goal in zip(free, goals, strict=True)]
        np.testing.assert_array_equal(distances(free, goals), expected)

    @pytest.mark.parametrize("count", [1, 3])
    def test_leave_the_grids_as_they_are(self, count):
        free = np.repeat(~RING[None], count, 0)
        distances(free, (3, 3))
        np.testing.assert_array_equal(free, np.repeat(~RING[None], count, 0))
