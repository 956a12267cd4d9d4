"""The peers of table rollouts: environments of Gymnasium, stepped from Python, and NAVIX, compiled by jax."""

from collections.abc import Callable
from typing import Any

import gymnasium
import torch

LEVEL, MINIGRID_ID, NAVIX_ID = "Empty-8x8", "MiniGrid-Empty-8x8-v0", "Navix-Empty-8x8-v0"
ENVS = 64
"""Copies of an environment that is stepped from Python."""
NAVIX_ENVS, NAVIX_STEPS, HIDDEN = 4096, 50, 64

Steps = tuple[Callable[[], object], float]
"""A function to time, and the number of env-steps that it makes."""


def gymnasium_steps(name: str, steps: int, network: torch.nn.Module | None) -> Steps:
    """Return the steps of 64 copies of an environment, in turn, as `gymnasium.make_vec` makes them by default."""
    envs: Any = gymnasium.make_vec(name, num_envs=ENVS, vectorization_mode="sync")
    observation, _ = envs.reset(seed=0)

    def function() -> None:
        seen = observation
        for _ in range(steps):
            actions = envs.action_space.sample() if network is None else _act(network, seen["image"])
            seen, *_ = envs.step(actions)

    return function, float(ENVS * steps)


def _act(network: torch.nn.Module, images: Any) -> Any:
    with torch.no_grad():
        logits = network(torch.as_tensor(images, dtype=torch.float32).flatten(1))
    return torch.distributions.Categorical(logits=logits).sample().numpy()


def navix_steps(network: bool) -> dict[str, Steps]:
    """Return NAVIX with both of its observations, by `jax.jit`, `vmap` and `scan`; nothing if it is not installed."""
    try:
        import jax
        import navix
    except ImportError:
        print("NAVIX is not installed: pip install -e '.[benchmark]' compares with it")
        return {}
    sides = {}
    views = {"7x7 view": navix.observations.symbolic_first_person, "full grid": navix.observations.symbolic}
    for view, observe in views.items():
        rollout = _navix_rollout(navix.make(NAVIX_ID, observation_fn=observe), network)
        sides[f"NAVIX, {LEVEL}, {view}, {NAVIX_ENVS} envs"] = (
            lambda rollout=rollout: jax.block_until_ready(rollout(jax.random.PRNGKey(0))),
            float(NAVIX_ENVS * NAVIX_STEPS),
        )
    return sides


def _navix_rollout(env: Any, network: bool) -> Callable[[Any], Any]:
    import jax
    import jax.numpy as jnp

    width = int(jnp.prod(jnp.array(env.observation_space.shape)))
    sizes = [width, HIDDEN, HIDDEN, 7]
    keys = jax.random.split(jax.random.PRNGKey(1), len(sizes))
    weights = [jax.random.normal(key, (a, b)) / a**0.5 for key, a, b in zip(keys, sizes, sizes[1:], strict=False)]

    def act(key: Any, observation: Any) -> Any:
        if not network:
            return jax.random.randint(key, (NAVIX_ENVS,), 0, 7)
        hidden = observation.reshape(NAVIX_ENVS, width).astype(jnp.float32)
        for weight in weights[:-1]:
            hidden = jax.nn.relu(hidden @ weight)
        return jax.random.categorical(key, hidden @ weights[-1])

    @jax.jit
    def rollout(key: Any) -> Any:
        first, second = jax.random.split(key)
        steps = jax.vmap(env.reset)(jax.random.split(first, NAVIX_ENVS))

        def step(carry: Any, key: Any) -> Any:
            steps, seen = carry
            steps = jax.vmap(env.step)(steps, act(key, steps.observation))
            # the observation is used, so that the compiler cannot leave it out
            return (steps, seen + steps.observation.sum()), steps.reward.sum()

        (_, seen), rewards = jax.lax.scan(step, (steps, 0), jax.random.split(second, NAVIX_STEPS))
        return seen, rewards.sum()

    return rollout
