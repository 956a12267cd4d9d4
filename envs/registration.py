"""Gymnasium's plug-in entry point: `gymnasium.make("maxrl_lab/GridWorld-v0")` works wherever the lab is installed."""


def register() -> None:
    """Register the lab's environments; Gymnasium adds the namespace `maxrl_lab`."""
    from gymnasium.envs.registration import register as add

    add(
        id="GridWorld-v0",
        entry_point="envs.gridworld_env:GridWorldEnv",
        vector_entry_point="envs.gridworld_env:GridWorldVectorEnv",
    )
