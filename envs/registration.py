"""The lab's environments by name, for `gymnasium.make`: importing this module registers them.

    gymnasium.make("envs.registration:maxrl_lab/GridWorld-v0", layout="four_rooms")

Gymnasium imports what stands before the colon; after `import envs.registration` the name alone is enough. (Gymnasium
1.0 dropped entry points for plug-ins.)
"""

import gymnasium

GRID_WORLD = "maxrl_lab/GridWorld-v0"


def register() -> None:
    """Make `gymnasium.make(GRID_WORLD)` and `gymnasium.make_vec(GRID_WORLD)` work; a second call changes nothing."""
    if GRID_WORLD not in gymnasium.registry:
        gymnasium.register(
            id=GRID_WORLD,
            entry_point="envs.gridworld.environment:GridWorldEnv",
            vector_entry_point="envs.gridworld.vector:GridWorldVectorEnv",
        )


register()
