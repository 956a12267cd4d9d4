"""What is asked of a Gymnasium environment before it is explored: its table, its actions, its observations."""

from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces

from maxrl_lab.tabular.gymnasium_worlds import action_range, has_table, observer

MOVES = [(1.0, 0, 0.0, False)]
TABLES = {
    "two states of two actions": ({0: {0: MOVES, 1: MOVES}, 1: {0: MOVES * 2, 1: MOVES}}, True),
    "one state of one action": ({0: {0: MOVES}}, True),
    "none": (None, False),
    "no states": ({}, False),
    "a list of states": ([{0: MOVES}], False),
    "states numbered from 1": ({1: {0: MOVES}}, False),
    "states with names": ({0: {0: MOVES}, "home": {0: MOVES}}, False),
    "a list of actions": ({0: [MOVES]}, False),
    "a list of actions in one of the states": ({0: {0: MOVES}, 1: [MOVES]}, False),
    "actions numbered from 1": ({0: {1: MOVES}}, False),
    "an action too few in one of the states": ({0: {0: MOVES, 1: MOVES}, 1: {0: MOVES}}, False),
    "moves of three parts": ({0: {0: [(1.0, 0, 0.0)]}}, False),
    "moves of five parts among others": ({0: {0: [*MOVES, (1.0, 0, 0.0, False, {})]}}, False),
}
"""Attribute `P` of an environment, and whether it is a table as Gymnasium's toy-text environments have one."""


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_states_and_actions_numbered_from_0_and_moves_of_four_parts(name):
    table, wanted = TABLES[name]
    assert has_table(SimpleNamespace(unwrapped=SimpleNamespace(P=table))) is wanted


def test_no_attribute_is_no_table():
    assert not has_table(SimpleNamespace(unwrapped=SimpleNamespace()))


@pytest.mark.parametrize("start", [0, 3, -2])
def test_actions_are_counted_from_the_first(start):
    assert action_range(SimpleNamespace(action_space=spaces.Discrete(5, start=start))) == (start, 5)


OBSERVATIONS = {
    "a number of a few": (spaces.Discrete(3), 1, [0, 1, 0], np.float32),
    "a number of a few, from another start": (spaces.Discrete(3, start=5), 7, [0, 0, 1], np.float32),
    "several numbers": (spaces.MultiDiscrete([2, 3]), np.array([1, 2]), [0, 1, 0, 0, 1], np.int64),
    "bytes": (spaces.Box(0, 255, (1, 2), np.uint8), np.array([[3, 255]], np.uint8), [3, 255], np.uint8),
    "unsigned numbers that torch knows little of": (
        spaces.Box(0, 65535, (2,), np.uint16),
        np.array([3, 65535], np.uint16),
        [3, 65535],
        np.int64,
    ),
    "short numbers": (spaces.Box(-9, 9, (1,), np.int16), np.array([-9], np.int16), [-9], np.int16),
    "double precision": (spaces.Box(-1, 1, (2,), np.float64), np.array([0.1, -0.1]), [0.1, -0.1], np.float64),
}
"""A space, an observation in it, the row that is made of it, and the type of that row."""


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_are_rows_of_a_type_that_torch_knows(name):
    space, observation, wanted, dtype = OBSERVATIONS[name]
    row = observer(space)(observation)
    assert row.tolist() == wanted
    assert row.dtype == dtype


def test_the_parts_that_have_no_fixed_number_of_numbers_are_named(refuses):
    parts = {
        "a": spaces.Discrete(2),
        "b": spaces.Sequence(spaces.Discrete(2)),
        "c": spaces.Sequence(spaces.Discrete(3)),
    }
    misfit = "'b': Sequence(Discrete(2), stack=False), 'c': Sequence(Discrete(3), stack=False)"
    with refuses(
        f"expected observations that gymnasium.spaces.flatten makes a 1-D array of, got {misfit}; wrap the environment "
        "so that they are (MiniGrid: minigrid.wrappers.ImgObsWrapper)"
    ):
        observer(spaces.Dict(parts))
