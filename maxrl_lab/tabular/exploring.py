"""Every reachable state of an environment, explored breadth-first with the environment's own rules, as a table.

A state is its key together with the outcome of the episode: a terminating step never leads to the running state with
the same key. The step count is no part of a state: truncation is ignored, and the horizon of the tasks takes its place.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from maxrl_lab.errors import InputError
from maxrl_lab.tabular.tasks import TabularTasks

Array = npt.NDArray[Any]
SuccessRule = Callable[[float, bool], bool]
RUNNING, SUCCESS, FAILURE = range(3)

_TOLERANCE, _SINGLE_PRECISION = 1e-9, 1e-6


class Move(NamedTuple):
    """One possible result of an action: the key of the state it leads to, and what the environment said."""

    probability: float
    key: Hashable
    reward: float
    terminated: bool


class Explorable(Protocol):
    """What `explore` needs of an environment; a snapshot is whatever `moves` needs to start from a state."""

    actions: int

    def starts(self) -> Iterable[tuple[float, Hashable]]:
        """Return the probability and the key of each start state."""

    def moves(self, snapshot: Any, action: int) -> Iterable[Move]:
        """Return the possible results of an action."""

    def enter(self, key: Any, /) -> tuple[Any, Array]:
        """Return the snapshot and the observation of a state that `starts` or `moves` has just led to."""


class Table(NamedTuple):
    """The result of exploring: S states, A actions, at most C successors; absorbing states lead to themselves."""

    successors: Array
    """(S, A, C) int64."""
    probabilities: Array
    """(S, A, C) float64."""
    start: Array
    """(S,) float64."""
    outcome: Array
    """(S,) int8: RUNNING, SUCCESS or FAILURE."""
    observations: Array
    """(S,) int64 row of `features`."""
    features: Array
    """(O, F) the distinct observations."""

    def tasks(self, horizon: int) -> TabularTasks:
        """Return the table as one task; `InputError` if it cannot be solved within the horizon."""
        deterministic = self.successors.shape[2] == 1
        outcome = torch.from_numpy(self.outcome)[None]
        return TabularTasks(
            successors=torch.from_numpy(self.successors[..., 0] if deterministic else self.successors)[None],
            probabilities=None if deterministic else torch.from_numpy(self.probabilities)[None],
            start=torch.from_numpy(self.start)[None],
            success=outcome == SUCCESS,
            failure=outcome == FAILURE,
            observations=torch.from_numpy(self.observations)[None],
            features=torch.from_numpy(self.features),
            horizon=horizon,
        )


def explore(world: Explorable, success: SuccessRule, max_states: int) -> Table:
    """Return the table of all states that can be reached, breadth-first; `InputError` for more than `max_states`."""
    search = _Search(world, max_states)
    start: dict[int, float] = {}
    for probability, key in world.starts():
        if probability > 0:
            state = search.number(key, RUNNING)
            start[state] = start.get(state, 0.0) + probability
    if not start:
        raise InputError("expected a start state with a probability > 0, got none")
    start = _summing_to_1(start)
    rows: dict[tuple[int, int], dict[int, float]] = {}
    while search.waiting:
        state, snapshot = search.waiting.popleft()
        for action in range(world.actions):
            row = rows[state, action] = {}
            for move in world.moves(snapshot, action):
                if move.probability > 0:
                    after = search.number(move.key, outcome_of(success, move.reward, move.terminated))
                    row[after] = row.get(after, 0.0) + move.probability
            rows[state, action] = row = _summing_to_1(row)
            if not abs(sum(row.values()) - 1) <= _TOLERANCE:
                raise InputError(f"chances must sum to 1, got {sum(row.values()):g} for state {state}, action {action}")
    return search.table(start, rows, world.actions)


def _summing_to_1(chances: dict[int, float]) -> dict[int, float]:
    """Return chances whose sum is off by no more than single precision explains, divided by it."""
    total = sum(chances.values())
    if not _TOLERANCE < abs(total - 1) <= _SINGLE_PRECISION:
        return chances
    return {state: chance / total for state, chance in chances.items()}


class _Search:
    """The states seen so far, the states that still wait for their moves, and the distinct observations."""

    def __init__(self, world: Explorable, max_states: int) -> None:
        self.world, self.max_states = world, max_states
        self.numbers: dict[tuple[Hashable, int], int] = {}
        self.waiting: deque[tuple[int, Any]] = deque()
        self.rows: dict[bytes, int] = {}
        self.features: list[Array] = []
        self.observations: list[int] = []

    def number(self, key: Hashable, outcome: int) -> int:
        """Return the number of a state, a new one if it has not been seen."""
        state = self.numbers.get((key, outcome))
        if state is not None:
            return state
        state = len(self.numbers)
        if state >= self.max_states:
            raise InputError(
                f"more than {self.max_states} states can be reached (max_states), with {len(self.waiting)} still to "
                "be explored; if the number is finite, raise max_states"
            )
        self.numbers[key, outcome] = state
        snapshot, observation = self.world.enter(key)
        row = self.rows.setdefault(observation.tobytes(), len(self.rows))
        if row == len(self.features):
            self.features.append(observation)
        self.observations.append(row)
        if outcome == RUNNING:
            self.waiting.append((state, snapshot))
        return state

    def table(self, start: dict[int, float], rows: dict[tuple[int, int], dict[int, float]], actions: int) -> Table:
        """Return everything as arrays; missing successors are the state itself, with probability 0."""
        states, width = len(self.numbers), max(map(len, rows.values()))
        successors = np.broadcast_to(np.arange(states)[:, None, None], (states, actions, width)).copy()
        probabilities = np.zeros((states, actions, width))
        probabilities[:, :, 0] = 1.0
        for (state, action), row in rows.items():
            successors[state, action, : len(row)] = list(row)
            probabilities[state, action, : len(row)] = list(row.values())
        starts = np.zeros(states)
        starts[list(start)] = list(start.values())
        outcome = np.array([outcome for _, outcome in self.numbers], dtype=np.int8)
        return Table(successors, probabilities, starts, outcome, np.array(self.observations), np.stack(self.features))


def outcome_of(success: SuccessRule, reward: float, terminated: bool) -> int:
    """Return how an episode stands after a step: RUNNING, SUCCESS or FAILURE."""
    if success(reward, terminated):
        return SUCCESS
    return FAILURE if terminated else RUNNING
