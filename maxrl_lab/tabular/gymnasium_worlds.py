"""Gymnasium environments as worlds to explore: one that writes down its transitions, and one that can only be run."""

import copy
import itertools
import random
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np
from gymnasium import spaces

from maxrl_lab.errors import InputError
from maxrl_lab.tabular.exploring import Array, Move

_SHOWN = 16
"""How many numbers of an observation a message holds."""
_MORE_COPIES = 30
"""How often a step that samples random numbers is repeated, to see whether they matter."""
_RESETS = 8
"""How often an environment is reset with the same seed, to see whether it starts in the same way."""


class TransitionTable:
    """A world that is written down: `P` maps a state and an action to (probability, next, reward, terminated)."""

    def __init__(self, env: Any) -> None:
        if env is not env.unwrapped:
            raise InputError(
                f"a transition table P says nothing of the wrapper {type(env).__name__} around it: "
                "pass env.unwrapped, or an environment without P"
            )
        if getattr(env, "initial_state_distrib", None) is None:
            raise InputError("an environment with a transition table P needs initial_state_distrib, got none")
        if len(env.initial_state_distrib) != len(env.P):
            got = f"{len(env.initial_state_distrib)} for {len(env.P)} states"
            raise InputError(f"initial_state_distrib must hold a probability for each state of P, got {got}")
        self.env = env
        self.actions = len(env.P[0])
        self.observe = observer(env.observation_space)

    def starts(self) -> Iterable[tuple[float, Hashable]]:
        """Return the start distribution that comes with the table."""
        return [(float(chance), state) for state, chance in enumerate(self.env.initial_state_distrib)]

    def moves(self, snapshot: Any, action: int) -> Iterable[Move]:
        """Return the table's entry; a snapshot is a state's number."""
        return [Move(float(p), int(s), float(r), bool(t)) for p, s, r, t in self.env.P[snapshot][action]]

    def enter(self, key: Any, /) -> tuple[Any, Array]:
        """Return the state's number and its observation."""
        return key, self.observe(key)


class Copies:
    """A world that can only be run: each step is taken in two deep copies or more, which must agree."""

    def __init__(self, env: Any, key: Callable[[Any], Hashable] | None, seed: int) -> None:
        if not callable(key or getattr(env.unwrapped, "state_key", None)):
            raise InputError(
                "pass key=, a function of the unwrapped environment that returns something hashable which decides its "
                f"future (the step count left out); {type(env.unwrapped).__name__} has no method state_key"
            )
        self.key = key
        self.first, self.actions = action_range(env)
        self.observe = observer(env.observation_space)
        self.streams = itertools.count()
        self.env, self.observation = env, self._started(env, seed)
        self.seen: dict[Hashable, Array] = {(self.key_of(env), False): self.observation}

    def _started(self, env: Any, seed: int) -> Array:
        """Reset the environment and return its observation; `InputError` if the seed does not decide it."""
        starts = []
        for _ in range(_RESETS):
            observation = self.observe(reset(env, seed))
            starts.append((self.key_of(env), observation.tolist()))
            if starts[-1] != starts[0]:
                raise InputError(
                    f"reset(seed={seed}) does not start in the same way twice: in state {starts[0][0]} and in "
                    f"{starts[-1][0]}; it must draw from self.np_random, which the seed sets"
                )
        return observation

    def starts(self) -> Iterable[tuple[float, Hashable]]:
        """Return the state after `reset`."""
        return [(1.0, self.key_of(self.env))]

    def moves(self, snapshot: Any, action: int) -> Iterable[Move]:
        """Return the result of the action in copies of the snapshot; `InputError` if the copies disagree."""
        move, observation, is_random = self.step(snapshot, action)
        for _ in range(_MORE_COPIES if is_random else 1):
            again, also, _ = self.step(snapshot, action)
            if move != again or not np.array_equal(observation, also):
                at = f"state {self.key_of(snapshot)}, action {action + self.first}"
                one, other = _describe(move, observation, also), _describe(again, also, observation)
                raise InputError(f"not deterministic: {at} led to {one} and {other}")
        before = self.seen.setdefault((move.key, move.terminated), observation)
        if not np.array_equal(before, observation, equal_nan=True):
            raise InputError(
                f"key= leaves out something that the observation shows: {move.key} was seen with "
                f"{shown(before, observation)} and with {shown(observation, before)}"
            )
        return [move]

    def enter(self, _key: Any, /) -> tuple[Any, Array]:
        """Return the copy that was stepped last, which `moves` never steps itself, and its observation."""
        return self.env, self.observation

    def step(self, snapshot: Any, action: int) -> tuple[Move, Array, bool]:
        """Step a copy with random numbers of its own; return also whether it sampled any."""
        self.env = copied(snapshot)
        self.env.unwrapped.np_random = stream = np.random.default_rng(next(self.streams))
        before = _states(stream)
        try:
            observation, reward, terminated = step(self.env, action + self.first)
        except InputError as error:
            raise InputError(f"state {self.key_of(snapshot)}: {error}") from error.__cause__
        self.observation = self.observe(observation)
        return Move(1.0, self.key_of(self.env), reward, terminated), self.observation, _states(stream) != before

    def key_of(self, env: Any) -> Hashable:
        """Return the key of an environment's present state."""
        # `state_key` is looked up on the copy: a method bound earlier would give the key of the original environment
        key: Hashable = env.unwrapped.state_key() if self.key is None else self.key(env.unwrapped)
        try:
            hash(key)
        except TypeError:
            raise InputError(f"key must return something hashable, got {type(key).__name__}") from None
        return key


def reset(env: Any, seed: int) -> Any:
    """Return the observation after `env.reset(seed=seed)`; `InputError` if it does not return two values."""
    result = env.reset(seed=seed)
    if not isinstance(result, tuple) or len(result) != 2:
        raise InputError(f"reset must return an observation and info, as Gymnasium has it, got {type(result).__name__}")
    return result[0]


def step(env: Any, action: int) -> tuple[Any, float, bool]:
    """Return observation, reward and `terminated` of a step; `InputError` for an action that fails or other values."""
    try:
        result = env.step(action)
    except Exception as error:  # whatever the environment raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"every action must be possible in every state (an illegal one may change nothing), and action {action} "
            f"raised {reason}"
        ) from error
    if not isinstance(result, tuple) or len(result) != 5:
        got = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        raise InputError(f"step must return observation, reward, terminated, truncated and info, got {got}")
    observation, reward, terminated, _, _ = result
    if np.size(reward) != 1 or np.size(terminated) != 1:
        raise InputError(f"step must return one reward and one terminated, got {reward!r} and {terminated!r}")
    return observation, float(np.asarray(reward).item()), bool(np.asarray(terminated).item())


def _states(stream: np.random.Generator) -> Any:
    """Return the states of an environment's own random numbers and of those that a program shares."""
    shared: Any = np.random.get_state()  # noqa: NPY002  # an environment that uses it is random
    return stream.bit_generator.state, random.getstate(), shared[2], shared[1].tobytes()


def _describe(move: Move, observation: Array, other: Array) -> str:
    seen = shown(observation, other)
    return f"{move.key} (reward {move.reward:g}, terminated {move.terminated}, observation {seen})"


def shown(observation: Array, other: Array | None = None) -> str:
    """Return an observation in a few words: of a long one a few numbers, from the first on that another has not."""
    if len(observation) <= _SHOWN:
        return str(observation.tolist())
    first = 0 if other is None else int(np.argmax(observation != other))
    few = observation[first : first + _SHOWN].tolist()
    return f"{few} (from number {first} of {len(observation)})"


def copied(env: Any) -> Any:
    """Return a deep copy; `InputError` if the environment holds something that cannot be copied."""
    try:
        return copy.deepcopy(env)
    except Exception as error:  # whatever the environment holds that cannot be copied
        raise InputError(f"env must be one that copy.deepcopy can copy, got {type(error).__name__}: {error}") from None


def has_table(env: Any) -> bool:
    """Return whether there is a `P` of toy-text form, with states and actions numbered from 0."""
    table = getattr(env.unwrapped, "P", None)
    if not isinstance(table, dict) or not table or list(table) != list(range(len(table))):
        return False
    return all(
        isinstance(row, dict)
        and list(row) == list(range(len(table[0])))
        and all(len(result) == 4 for moves in row.values() for result in moves)
        for row in table.values()
    )


def action_range(env: Any) -> tuple[int, int]:
    """Return the number of the first action, and how many actions there are."""
    space = env.action_space
    if not isinstance(space, spaces.Discrete):
        raise InputError(f"expected a Discrete action space, got {space}")
    return int(space.start), int(space.n)


def _misfit(space: spaces.Space[Any]) -> str:
    """Return the parts of a space that have no fixed number of numbers."""
    if not isinstance(space, spaces.Dict):
        return str(space)
    return ", ".join(f"{name!r}: {part}" for name, part in space.items() if _flat(part) is None)


def _flat(space: spaces.Space[Any]) -> spaces.Box | None:
    """Return the space of the flattened observations, None if they are not numbers of a fixed count."""
    try:
        flat: spaces.Space[Any] = spaces.flatten_space(space)
    except NotImplementedError:
        return None
    return flat if isinstance(flat, spaces.Box) else None


def observer(space: spaces.Space[Any]) -> Callable[[Any], Array]:
    """Return the function from an observation in `space` to a 1-D array of a kind that torch knows."""
    flat = _flat(space)
    if flat is None:
        raise InputError(
            f"expected observations that gymnasium.spaces.flatten makes a 1-D array of, got {_misfit(space)}; wrap the "
            "environment so that they are (MiniGrid: minigrid.wrappers.ImgObsWrapper)"
        )
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
