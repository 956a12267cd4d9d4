"""Mazes by other means: neighbours by scipy's graphs, Prim's process by following every choice, a chi-square test."""

import itertools
from collections import Counter
from functools import cache

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path
from scipy.stats import chisquare

# Two ways lead to the goal, so this is none of Prim's mazes: right right down down, or down down right right.
RING = np.array([list(line) for line in ("#####", "#...#", "#.#.#", "#...#", "#####")]) == "#"


def graph(free):
    """Neighbouring free cells, by comparing the picture with itself moved by a cell."""
    cells = np.arange(free.size).reshape(free.shape)
    down, right = free[1:] & free[:-1], free[:, 1:] & free[:, :-1]
    ends = np.concatenate([cells[:-1][down], cells[:, :-1][right]])
    others = np.concatenate([cells[1:][down], cells[:, 1:][right]])
    return coo_array((np.ones(len(ends)), (ends, others)), shape=(free.size, free.size)).tocsr()


def steps_to(free, goal):
    """Number of moves to `goal` from every cell, by scipy; -1 without a way."""
    cell = np.ravel_multi_index(goal, free.shape)
    steps = shortest_path(graph(free), directed=False, unweighted=True, indices=cell)
    return np.where(np.isfinite(steps), steps, -1).reshape(free.shape)


@cache
def exact_distribution(cells):
    """Probability of each spanning tree of a cells x cells lattice under Prim's process, by following every choice.

    A state is the cells reached and the walls opened; a step opens one of the walls between reached and not reached.
    """
    lattice = list(itertools.product(range(cells), repeat=2))
    walls = [frozenset(pair) for pair in itertools.combinations(lattice, 2) if abs(np.subtract(*pair)).sum() == 1]
    states = Counter({(frozenset([cell]), frozenset()): 1 / len(lattice) for cell in lattice})
    for _ in range(len(lattice) - 1):
        following = Counter()
        for (reached, opened), probability in states.items():
            frontier = [wall for wall in walls if len(wall & reached) == 1]
            for wall in frontier:
                following[reached | wall, opened | {wall}] += probability / len(frontier)
        states = following
    return {opened: probability for (_, opened), probability in states.items()}


def opened(walls):
    """The passages of a maze as pairs of lattice cells."""
    between = [(row, col) for row, col in np.argwhere(~walls).tolist() if (row + col) % 2]
    pairs = [((r // 2 - 1 + r % 2, c // 2 - 1 + c % 2), (r // 2, c // 2)) for r, c in between]
    return frozenset(frozenset(pair) for pair in pairs)


def walls_of(tree, size):
    """The maze of such passages."""
    walls = np.ones((size, size), dtype=bool)
    walls[1::2, 1::2] = False
    for (row, col), (next_row, next_col) in tree:
        walls[row + next_row + 1, col + next_col + 1] = False
    return walls


def p_value(seen, probabilities):
    """Of a chi-square test of counts; what is expected less than ten times is put together."""
    count = seen.total()
    expected = {tree: count * p for tree, p in probabilities.items()}
    common = [tree for tree, times in expected.items() if times >= 10]
    found, awaited = [seen[tree] for tree in common], [expected[tree] for tree in common]
    if len(common) < len(expected):
        found, awaited = [*found, count - sum(found)], [*awaited, count - sum(awaited)]
    return chisquare(found, awaited).pvalue
