"""Gymnasium environments as exact tables: every reachable state, found breadth-first with the environment's own rules.

A state is what its key says it is, together with how the episode stands there: an environment state that a terminating
step leads to is never the running state with the same key. The step count is no part of a state: truncation is ignored,
and the horizon of the tasks takes its place.
"""

import copy
import itertools
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces, wrappers

from envs.tabular import TabularTasks
from maxrl_lab.specs import check_count

Array = npt.NDArray[Any]
SuccessRule = Callable[[float, bool], bool]
RUNNING, SUCCESS, FAILURE = range(3)

_DROPPED = (wrappers.TimeLimit, wrappers.OrderEnforcing, wrappers.PassiveEnvChecker)
_MORE_COPIES = 30
"""How often a step that draws random numbers is repeated, to see whether they matter."""
_TOLERANCE = 1e-9
_REPLAYS = 64
_REPLAY_STEPS = 200


class Move(NamedTuple):
    """One possible result of an action: the key of the state it leads to, and what the environment said."""

    probability: float
    key: Hashable
    reward: float
    terminated: bool


class World(Protocol):
    """What `explore` needs of an environment; a snapshot is whatever `moves` needs to start from a state."""

    actions: int

    def starts(self) -> Iterable[tuple[float, Hashable]]:
        """Return the probability and the key of each start state."""

    def moves(self, snapshot: Any, action: int) -> Iterable[Move]:
        """Return the possible results of an action."""

    def enter(self, key: Any, /) -> tuple[Any, Array]:
        """Return the snapshot and the observation of a state that `starts` or `moves` has just led to."""


class Table(NamedTuple):
    """What exploring found: S states, A actions, at most C successors; absorbing states lead to themselves."""

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
        """Return the table as one task; `ValueError` if it cannot be solved within the horizon."""
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


def tabulate(
    env: gymnasium.Env[Any, Any],
    *,
    horizon: int | None = None,
    key: Callable[[Any], Hashable] | None = None,
    success: SuccessRule | None = None,
    max_states: int = 100_000,
    seed: int = 0,
) -> TabularTasks:
    """Return a Gymnasium environment with discrete actions as one exact task, B = 1; `env` itself is left as it is.

    An environment with a transition table `P`, as Gymnasium's toy-text ones have, gives that table, chances included.
    Any other is explored from `env.reset(seed=seed)` with its own `step` on deep copies, so it must be deterministic.

    horizon: H; by default the environment's `spec.max_episode_steps`, else its `max_steps`.
    key: maps the unwrapped environment to something hashable that decides its future, the step count left out; by
        default the environment's own method `state_key`.
    success: says of a reward and `terminated` whether the episode ends here, in success; by default a terminating step
        with a reward > 0. Other terminating steps are failures.

    Observations are flattened by `gymnasium.spaces.flatten`, one-hot float32 if they are discrete. Time limits and
    checkers are taken off; other wrappers stay, because observations come from them, except around a table `P`, which
    says nothing of them. Every step is taken twice with different random numbers, more often if it draws any, and
    random sequences of actions are replayed in the environment itself. Raises `ValueError` for an environment that is
    random or does not follow the table, and for more than `max_states` states, no success, or no horizon; the tasks
    themselves refuse what cannot be solved. A chance too rare to show in any of these steps remains unseen.
    """
    if not isinstance(env, gymnasium.Env):
        raise ValueError(f"env must be a gymnasium.Env, got {env!r}")
    horizon = check_count("horizon", _own_horizon(env) if horizon is None else horizon)
    check_count("max_states", max_states)
    check_count("seed", seed, 0)
    bare = _without_limits(_copy(env))
    rule = success or _rewarded
    world: World = _TableOfEnv(bare) if _has_table(env) else _Copies(_copy(bare), key, seed)
    table = explore(world, rule, max_states)
    if not (table.outcome == SUCCESS).any():
        raise ValueError(
            "no reachable transition is a success (by default: terminated with a reward > 0); "
            "pass success=, a function of reward and terminated"
        )
    _replay(bare, table, rule, seed, min(horizon, _REPLAY_STEPS))
    return table.tasks(horizon)


def explore(world: World, success: SuccessRule, max_states: int) -> Table:
    """Return the table of all states that can be reached, breadth-first; `ValueError` for more than `max_states`."""
    search = _Search(world, max_states)
    start: dict[int, float] = {}
    for probability, key in world.starts():
        if probability > 0:
            state = search.place(key, RUNNING)
            start[state] = start.get(state, 0.0) + probability
    if not start:
        raise ValueError("expected a start state with a probability > 0, got none")
    rows: dict[tuple[int, int], dict[int, float]] = {}
    while search.waiting:
        state, snapshot = search.waiting.popleft()
        for action in range(world.actions):
            row = rows[state, action] = {}
            for move in world.moves(snapshot, action):
                if move.probability > 0:
                    after = search.place(move.key, _outcome(success, move.reward, move.terminated))
                    row[after] = row.get(after, 0.0) + move.probability
            if not abs(sum(row.values()) - 1) <= _TOLERANCE:
                raise ValueError(f"chances must sum to 1, got {sum(row.values()):g} for state {state}, action {action}")
    return search.table(start, rows, world.actions)


class _Search:
    """The states found so far, those still waiting for their moves, and the distinct observations."""

    def __init__(self, world: World, max_states: int) -> None:
        self.world, self.max_states = world, max_states
        self.numbers: dict[tuple[Hashable, int], int] = {}
        self.waiting: deque[tuple[int, Any]] = deque()
        self.rows: dict[bytes, int] = {}
        self.features: list[Array] = []
        self.observations: list[int] = []

    def place(self, key: Hashable, outcome: int) -> int:
        """Return the number of a state, a new one if it has not been seen."""
        state = self.numbers.get((key, outcome))
        if state is not None:
            return state
        state = len(self.numbers)
        if state >= self.max_states:
            raise ValueError(
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


class _TableOfEnv:
    """A world that is written down: `P` maps state and action to (probability, next, reward, terminated)."""

    def __init__(self, env: Any) -> None:
        if env is not env.unwrapped:
            raise ValueError(
                f"a transition table P says nothing of the wrapper {type(env).__name__} around it: "
                "pass env.unwrapped, or an environment without P"
            )
        if getattr(env, "initial_state_distrib", None) is None:
            raise ValueError("an environment with a transition table P needs initial_state_distrib, got none")
        if len(env.initial_state_distrib) != len(env.P):
            found = f"{len(env.initial_state_distrib)} for {len(env.P)} states"
            raise ValueError(f"initial_state_distrib must hold a probability for each state of P, got {found}")
        self.env = env
        self.actions = len(env.P[0])
        self.observe = _observer(env.observation_space)

    def starts(self) -> Iterable[tuple[float, Hashable]]:
        return [(float(chance), state) for state, chance in enumerate(self.env.initial_state_distrib)]

    def moves(self, snapshot: Any, action: int) -> Iterable[Move]:
        return [Move(float(p), int(s), float(r), bool(t)) for p, s, r, t in self.env.P[snapshot][action]]

    def enter(self, key: Any, /) -> tuple[Any, Array]:
        return key, self.observe(key)


class _Copies:
    """A world that is only run: each step is taken in deep copies, which must agree."""

    def __init__(self, env: Any, key: Callable[[Any], Hashable] | None, seed: int) -> None:
        if not callable(key or getattr(env.unwrapped, "state_key", None)):
            raise ValueError(
                "pass key=, a function of the unwrapped environment that returns something hashable which decides its "
                f"future (the step count left out); {type(env.unwrapped).__name__} has no method state_key"
            )
        self.key = key
        self.first, self.actions = _actions(env)
        self.observe = _observer(env.observation_space)
        self.streams = itertools.count()
        self.env, self.observation = env, self.observe(env.reset(seed=seed)[0])

    def starts(self) -> Iterable[tuple[float, Hashable]]:
        return [(1.0, self.key_of(self.env))]

    def moves(self, snapshot: Any, action: int) -> Iterable[Move]:
        move, observation, drawn = self.step(snapshot, action)
        for _ in range(_MORE_COPIES if drawn else 1):
            again, also, _ = self.step(snapshot, action)
            if move != again or not np.array_equal(observation, also):
                at = f"state {self.key_of(snapshot)}, action {action + self.first}"
                raise ValueError(
                    f"not deterministic: {at} led to {_describe(move, observation)} and {_describe(again, also)}"
                )
        return [move]

    def enter(self, _key: Any, /) -> tuple[Any, Array]:
        return self.env, self.observation  # the last copy stepped; `moves` never steps a snapshot itself

    def step(self, snapshot: Any, action: int) -> tuple[Move, Array, bool]:
        """Step a copy with random numbers of its own; also say whether it drew any."""
        self.env = _copy(snapshot)
        self.env.unwrapped.np_random = random = np.random.default_rng(next(self.streams))
        before = random.bit_generator.state
        observation, reward, terminated, _, _ = self.env.step(action + self.first)
        self.observation = self.observe(observation)
        move = Move(1.0, self.key_of(self.env), float(reward), bool(terminated))
        return move, self.observation, random.bit_generator.state != before

    def key_of(self, env: Any) -> Hashable:
        # the method `state_key` is asked of the copy: a bound one would speak of the environment it was taken from
        found: Hashable = env.unwrapped.state_key() if self.key is None else self.key(env.unwrapped)
        try:
            hash(found)
        except TypeError:
            raise ValueError(f"key must return something hashable, got {type(found).__name__}") from None
        return found


def _replay(env: Any, table: Table, success: SuccessRule, seed: int, steps: int) -> None:
    """Walk through environment and table side by side with random actions; `ValueError` if they part."""
    random = np.random.default_rng(seed)
    observe = _observer(env.observation_space)
    first, actions = _actions(env)
    for attempt in range(_REPLAYS):
        taken: list[int] = []
        reset = seed + attempt if table.start.max() < 1 else seed  # many seeds show many of the starts in a table `P`
        observation = observe(env.reset(seed=reset)[0])
        state = _same(table, np.flatnonzero(table.start), RUNNING, observation)
        for action in random.integers(actions, size=steps).tolist():
            if state is None or table.outcome[state] != RUNNING:
                break
            taken.append(action + first)
            raw, reward, terminated, _, _ = env.step(action + first)
            outcome, observation = _outcome(success, float(reward), bool(terminated)), observe(raw)
            possible = table.successors[state, action][table.probabilities[state, action] > 0]
            state = _same(table, possible, outcome, observation)
        if state is None:
            raise ValueError(
                "the table does not follow the environment (key= or P leaves out something that its future depends "
                f"on): reset(seed={reset}) and actions {taken} gave observation {observation.tolist()}, which is not "
                "what the table says"
            )


def _same(table: Table, states: Array, outcome: int, observation: Array) -> int | None:
    """The state among some that has this outcome and observation."""
    for state in states.tolist():
        row = table.features[table.observations[state]]
        if table.outcome[state] == outcome and row.tobytes() == observation.tobytes():
            return int(state)
    return None


def _outcome(success: SuccessRule, reward: float, terminated: bool) -> int:
    if success(reward, terminated):
        return SUCCESS
    return FAILURE if terminated else RUNNING


def _rewarded(reward: float, terminated: bool) -> bool:
    return terminated and reward > 0


def _describe(move: Move, observation: Array) -> str:
    return f"{move.key} (reward {move.reward:g}, terminated {move.terminated}, observation {observation.tolist()})"


def _own_horizon(env: gymnasium.Env[Any, Any]) -> Any:
    limit = None if env.spec is None else env.spec.max_episode_steps
    limit = getattr(env.unwrapped, "max_steps", None) if limit is None else limit
    if limit is None:
        raise ValueError("pass horizon=: the environment has neither spec.max_episode_steps nor max_steps")
    return limit


def _copy(env: Any) -> Any:
    try:
        return copy.deepcopy(env)
    except Exception as error:  # whatever the environment holds that cannot be copied
        raise ValueError(f"env must be one that copy.deepcopy can copy, got {type(error).__name__}: {error}") from None


def _without_limits(env: Any) -> Any:
    """Take time limits and checkers out of the stack, wherever they are; changes `env`, so pass a copy."""
    if not isinstance(env, gymnasium.Wrapper):
        return env
    env.env = _without_limits(env.env)
    return env.env if isinstance(env, _DROPPED) else env


def _has_table(env: Any) -> bool:
    """Whether there is a `P` of toy-text form, with states and actions numbered from 0."""
    table = getattr(env.unwrapped, "P", None)
    if not isinstance(table, dict) or not table or list(table) != list(range(len(table))):
        return False
    return all(
        isinstance(row, dict)
        and list(row) == list(range(len(table[0])))
        and all(len(result) == 4 for moves in row.values() for result in moves)
        for row in table.values()
    )


def _actions(env: Any) -> tuple[int, int]:
    """The first action's number and how many there are."""
    space = env.action_space
    if not isinstance(space, spaces.Discrete):
        raise ValueError(f"expected a Discrete action space, got {space}")
    return int(space.start), int(space.n)


def _observer(space: spaces.Space[Any]) -> Callable[[Any], Array]:
    """Return the function from an observation in `space` to a 1-D array of a kind that torch knows."""
    try:
        flat: spaces.Space[Any] = spaces.flatten_space(space)
    except NotImplementedError:
        flat = space
    if not isinstance(flat, spaces.Box):
        raise ValueError(f"expected observations that gymnasium.spaces.flatten makes a 1-D array of, got {space}")
    unsigned = flat.dtype is not None and flat.dtype.kind == "u" and flat.dtype.itemsize > 1
    kind = np.float32 if isinstance(space, spaces.Discrete) else np.int64 if unsigned else flat.dtype

    def observe(observation: Any) -> Array:
        if isinstance(space, spaces.Discrete) and not space.contains(observation):
            raise ValueError(f"expected an observation in {space}, got {observation!r}")
        try:
            row: Array = np.array(spaces.flatten(space, observation), dtype=kind)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"expected an observation in {space}, got {observation!r}: {error}") from None
        if row.shape != flat.shape:
            raise ValueError(f"expected an observation of {flat.shape[0]} numbers, got {row.shape} from {space}")
        return row

    return observe
