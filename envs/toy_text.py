"""Gymnasium's toy-text environments as exact tasks: tables that nobody here wrote, slips and all."""

from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv

from maxrl_lab.specs import lookup
from maxrl_lab.tabular.tabulating import tabulate
from maxrl_lab.tabular.tasks import TabularTasks

FROZEN_LAKE_HORIZONS = {"4x4": 100, "8x8": 200}
"""Gymnasium's time limits of the two maps."""


def frozen_lake(map_name: str = "4x4", slippery: bool = True, horizon: int | None = None) -> TabularTasks:
    """Return FrozenLake: success is reaching the goal, a hole is a failure; on slippery ice 2 of 3 moves go astray.

    horizon: by default Gymnasium's time limit, 100 steps for the map `4x4` and 200 for `8x8`.
    """
    limit = lookup(FROZEN_LAKE_HORIZONS, "map", map_name)
    env = FrozenLakeEnv(map_name=map_name, is_slippery=slippery)
    return tabulate(env, horizon=limit if horizon is None else horizon)


def cliff_walking(slippery: bool = False, horizon: int | None = None) -> TabularTasks:
    """Return CliffWalking: success is reaching the goal, and there is no failure but running out of time.

    A step off the cliff leads back to the start and goes on (Sutton and Barto 2020, example 6.6); every reward is
    negative, so that success is read off the termination. horizon: 100 by default, as Gymnasium sets no limit.
    """
    env = CliffWalkingEnv(is_slippery=True) if slippery else CliffWalkingEnv()
    return tabulate(env, horizon=100 if horizon is None else horizon, success=lambda _reward, terminated: terminated)


def taxi(horizon: int | None = None) -> TabularTasks:
    """Return Taxi: success is setting the passenger down at the destination (reward 20); 300 start states.

    A wrong pick-up or drop-off costs reward and is no failure. horizon: by default Gymnasium's time limit, 200.
    """
    return tabulate(
        TaxiEnv(),
        horizon=200 if horizon is None else horizon,
        success=lambda reward, terminated: terminated and reward == 20,
    )
