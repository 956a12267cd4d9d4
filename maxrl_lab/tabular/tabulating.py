"""A user's own Gymnasium environment as an exact task: from its transition table, or by running copies of it."""

from collections.abc import Callable, Hashable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import wrappers

from maxrl_lab.errors import InputError
from maxrl_lab.specs import check_count
from maxrl_lab.tabular.exploring import (
    RUNNING,
    SUCCESS,
    Array,
    Explorable,
    SuccessRule,
    Table,
    explore,
    outcome_of,
)
from maxrl_lab.tabular.gymnasium_worlds import (
    Copies,
    TransitionTable,
    action_range,
    copied,
    has_table,
    observer,
    reset,
    shown,
    step,
)
from maxrl_lab.tabular.tasks import TabularTasks

_DROPPED = (wrappers.TimeLimit, wrappers.OrderEnforcing, wrappers.PassiveEnvChecker)
"""Wrappers that end episodes or check their use; they are taken off."""
_REPLAYS = 64
_REPLAY_STEPS = 200
"""Random sequences of actions that are replayed in the environment, and the most steps of each."""


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

    horizon: H; by default the least of the environment's limits: `spec.max_episode_steps`, that of a `TimeLimit` around
        it, and its `max_steps` after `reset(seed=seed)`.
    key: maps the unwrapped environment to something hashable that decides its future, the step count left out; by
        default the environment's own method `state_key`.
    success: says of a reward and `terminated` whether the episode ends here, in success; by default a terminating step
        with a reward > 0. Other terminating steps are failures.

    Observations are flattened by `gymnasium.spaces.flatten`, one-hot float32 if they are discrete. Time limits and
    checkers are taken off. Other wrappers stay, because observations come from them; around a table `P` they are
    refused, because the table says nothing of them. Every step is taken twice with different random numbers, more often
    if it samples any, and random sequences of actions are replayed in the environment itself. Raises `InputError` for
    an environment that is random or does not follow the table, and for more than `max_states` states, no success, or no
    horizon; the tasks themselves refuse what cannot be solved. A chance too rare to show in any of these steps remains
    unseen.
    """
    if not isinstance(env, gymnasium.Env):
        raise InputError(f"env must be a gymnasium.Env, got {env!r}")
    check_count("max_states", max_states)
    check_count("seed", seed, 0)
    horizon = check_count("horizon", _own_horizon(copied(env), seed) if horizon is None else horizon)
    bare = _without_limits(copied(env))
    rule = success or _rewarded
    world: Explorable = TransitionTable(bare) if has_table(env) else Copies(copied(bare), key, seed)
    table = explore(world, rule, max_states)
    _replay(bare, table, rule, seed, min(horizon, _REPLAY_STEPS))
    if not (table.outcome == SUCCESS).any():
        raise InputError(
            "no reachable transition is a success (by default: terminated with a reward > 0); "
            "pass success=, a function of reward and terminated"
        )
    return table.tasks(horizon)


def _replay(env: Any, table: Table, success: SuccessRule, seed: int, steps: int) -> None:
    """Walk through environment and table side by side with random actions; `InputError` if they part."""
    random = np.random.default_rng(seed)
    observe = observer(env.observation_space)
    first, actions = action_range(env)
    for attempt in range(_REPLAYS):
        taken: list[int] = []
        start = seed + attempt if table.start.max() < 1 else seed  # many seeds show many of the starts in a table `P`
        observation = observe(reset(env, start))
        state = _same(table, np.flatnonzero(table.start), RUNNING, observation)
        for action in random.integers(actions, size=steps).tolist():
            if state is None or table.outcome[state] != RUNNING:
                break
            taken.append(action + first)
            raw, reward, terminated = step(env, action + first)
            outcome, observation = outcome_of(success, reward, terminated), observe(raw)
            possible = table.successors[state, action][table.probabilities[state, action] > 0]
            state = _same(table, possible, outcome, observation)
        if state is None:
            raise InputError(
                "the table does not follow the environment (key= or P leaves out something that its future depends on, "
                f"such as a time limit that is told as terminated): reset(seed={start}) and actions {taken} gave "
                f"observation {shown(observation)}, which is not what the table says"
            )


def _same(table: Table, states: Array, outcome: int, observation: Array) -> int | None:
    """Return the one of some states that has this outcome and observation; None if there is none."""
    for state in states.tolist():
        row = table.features[table.observations[state]]
        if table.outcome[state] == outcome and row.tobytes() == observation.tobytes():
            return int(state)
    return None


def _rewarded(reward: float, terminated: bool) -> bool:
    return terminated and reward > 0


def _own_horizon(env: Any, seed: int) -> Any:
    """Return the least of the limits of an environment, which is reset: some set theirs only then."""
    limits = [None if env.spec is None else env.spec.max_episode_steps]
    reset(env, seed)
    limits.append(getattr(env.unwrapped, "max_steps", None))
    while isinstance(env, gymnasium.Wrapper):
        limits.append(env._max_episode_steps if isinstance(env, wrappers.TimeLimit) else None)
        env = env.env
    if not (given := [limit for limit in limits if limit is not None]):
        raise InputError("pass horizon=: the environment has neither spec.max_episode_steps nor max_steps")
    return min(given)


def _without_limits(env: Any) -> Any:
    """Take time limits and checkers out of the stack, wherever they are; changes `env`, so pass a copy."""
    if not isinstance(env, gymnasium.Wrapper):
        return env
    env.env = _without_limits(env.env)
    return env.env if isinstance(env, _DROPPED) else env
