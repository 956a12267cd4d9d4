"""A user's own Gymnasium environment as an exact task: from its transition table, or by running copies of it."""

import copy
import itertools
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from maxrl_lab.errors import InputError
from maxrl_lab.specs import check_count
from maxrl_lab.tabular.exploring import RUNNING, SUCCESS, Array, Move, SuccessRule, Table, World, explore, outcome_of
from maxrl_lab.tabular.tasks import TabularTasks

_DROPPED = (wrappers.TimeLimit, wrappers.OrderEnforcing, wrappers.PassiveEnvChecker)
_MORE_COPIES = 30
"""How often a step that draws random numbers is repeated, to see whether they matter."""
_REPLAYS = 64
_REPLAY_STEPS = 200


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
        raise InputError(f"env must be a gymnasium.Env, got {env!r}")
    horizon = check_count("horizon", _own_horizon(env) if horizon is None else horizon)
    check_count("max_states", max_states)
    check_count("seed", seed, 0)
    bare = _without_limits(_copy(env))
    rule = success or _rewarded
    world: World = _TableOfEnv(bare) if _has_table(env) else _Copies(_copy(bare), key, seed)
    table = explore(world, rule, max_states)
    if not (table.outcome == SUCCESS).any():
        raise InputError(
            "no reachable transition is a success (by default: terminated with a reward > 0); "
            "pass success=, a function of reward and terminated"
        )
    _replay(bare, table, rule, seed, min(horizon, _REPLAY_STEPS))
    return table.tasks(horizon)


class _TableOfEnv:
    """A world that is written down: `P` maps state and action to (probability, next, reward, terminated)."""

    def __init__(self, env: Any) -> None:
        if env is not env.unwrapped:
            raise InputError(
                f"a transition table P says nothing of the wrapper {type(env).__name__} around it: "
                "pass env.unwrapped, or an environment without P"
            )
        if getattr(env, "initial_state_distrib", None) is None:
            raise InputError("an environment with a transition table P needs initial_state_distrib, got none")
        if len(env.initial_state_distrib) != len(env.P):
            found = f"{len(env.initial_state_distrib)} for {len(env.P)} states"
            raise InputError(f"initial_state_distrib must hold a probability for each state of P, got {found}")
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
            raise InputError(
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
                raise InputError(
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
            raise InputError(f"key must return something hashable, got {type(found).__name__}") from None
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
            outcome, observation = outcome_of(success, float(reward), bool(terminated)), observe(raw)
            possible = table.successors[state, action][table.probabilities[state, action] > 0]
            state = _same(table, possible, outcome, observation)
        if state is None:
            raise InputError(
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


def _rewarded(reward: float, terminated: bool) -> bool:
    return terminated and reward > 0


def _describe(move: Move, observation: Array) -> str:
    return f"{move.key} (reward {move.reward:g}, terminated {move.terminated}, observation {observation.tolist()})"


def _own_horizon(env: gymnasium.Env[Any, Any]) -> Any:
    limit = None if env.spec is None else env.spec.max_episode_steps
    limit = getattr(env.unwrapped, "max_steps", None) if limit is None else limit
    if limit is None:
        raise InputError("pass horizon=: the environment has neither spec.max_episode_steps nor max_steps")
    return limit


def _copy(env: Any) -> Any:
    try:
        return copy.deepcopy(env)
    except Exception as error:  # whatever the environment holds that cannot be copied
        raise InputError(f"env must be one that copy.deepcopy can copy, got {type(error).__name__}: {error}") from None


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
        raise InputError(f"expected a Discrete action space, got {space}")
    return int(space.start), int(space.n)


def _observer(space: spaces.Space[Any]) -> Callable[[Any], Array]:
    """Return the function from an observation in `space` to a 1-D array of a kind that torch knows."""
    try:
        flat: spaces.Space[Any] = spaces.flatten_space(space)
    except NotImplementedError:
        flat = space
    if not isinstance(flat, spaces.Box):
        raise InputError(f"expected observations that gymnasium.spaces.flatten makes a 1-D array of, got {space}")
    unsigned = flat.dtype is not None and flat.dtype.kind == "u" and flat.dtype.itemsize > 1
    kind = np.float32 if isinstance(space, spaces.Discrete) else np.int64 if unsigned else flat.dtype

    def observe(observation: Any) -> Array:
        if isinstance(space, spaces.Discrete) and not space.contains(observation):
            raise InputError(f"expected an observation in {space}, got {observation!r}")
        try:
            row: Array = np.array(spaces.flatten(space, observation), dtype=kind)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"expected an observation in {space}, got {observation!r}: {error}") from None
        if row.shape != flat.shape:
            raise InputError(f"expected an observation of {flat.shape[0]} numbers, got {row.shape} from {space}")
        return row

    return observe
