"""The lab's environments by name. Gymnasium 1.0 dropped plug-in entry points, so `import envs` registers them."""

import gymnasium

GRID_WORLD = "maxrl_lab/GridWorld-v0"


def register() -> None:
    """Make `gymnasium.make("maxrl_lab/GridWorld-v0")` work (`envs:maxrl_lab/GridWorld-v0` also imports the lab).

    A second call changes nothing.
    """
    if GRID_WORLD not in gymnasium.registry:
        gymnasium.register(
            id=GRID_WORLD,
            entry_point="envs.gridworld.environment:GridWorldEnv",
            vector_entry_point="envs.gridworld.environment:GridWorldVectorEnv",
        )
