"""The gridworld levels as a vectorised Gymnasium environment: many episodes side by side, stepped by look-ups."""

from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Discrete, MultiBinary
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.gridworld.environment import FRAMES_PER_SECOND
from envs.gridworld.episodes import Episodes, Planes, check_render_mode, read_settings
from envs.gridworld.levels import ACTIONS
from envs.gridworld.picture import Picture, picture
from maxrl_lab import specs


class GridWorldVectorEnv(VectorEnv[Planes, NDArray[np.int64], NDArray[Any]]):
    """`num_envs` episodes of `GridWorldEnv` side by side, stepped by look-ups; the options are `GridWorldSettings`.

    Observations (num_envs, 4, size, size), actions, rewards (float64), terminations and truncations (num_envs,). Infos
    as in `GridWorldEnv`, with a first axis and Gymnasium's `_key` masks. The step after an episode's end ignores the
    action and begins the next episode, on a random level (autoreset mode `NEXT_STEP`; the others are not offered). All
    episodes share one random stream, so a `SyncVectorEnv` with the same seed meets other levels and slips. Raises
    `InputError` as `GridWorldEnv`.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 the base class declares it so
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": FRAMES_PER_SECOND,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None, **settings: Any) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.num_envs, self.render_mode = specs.check_count("num_envs", num_envs), render_mode
        self._episodes = Episodes(read_settings(settings), num_envs)
        self.levels, self.tasks = self._episodes.levels, self._episodes.tasks
        self.single_observation_space = MultiBinary([4, self._episodes.size, self._episodes.size])
        self.single_action_space = Discrete(len(ACTIONS))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Planes, dict[str, Any]]:
        """Return the first observations and infos of new episodes everywhere.

        The levels are `options={"level": i}`, one index or one for each, or random ones.
        """
        super().reset(seed=seed)
        levels = self._episodes.checked_levels(options)
        self._episodes.begin(np.ones(self.num_envs, dtype=bool), self.np_random, levels)
        return self._episodes.observations(), self._infos()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Planes, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Return observations, rewards, terminations, truncations and infos; episodes that had ended begin anew.

        Raises `InputError` for actions outside 0..3, and Gymnasium's `ResetNeeded` before the first `reset`.
        """
        if (self._episodes.steps < 0).any():
            raise ResetNeeded("no episode has begun: call reset() first")
        moves, over = self._episodes.checked_actions(actions), self._episodes.ended.copy()
        results = self._episodes.move(~over, moves, self.np_random)
        self._episodes.begin(over, self.np_random)
        return self._episodes.observations(), *results, self._infos()

    def render(self) -> tuple[str | Picture, ...] | None:
        """Return a text or a picture of each episode; None without a render mode."""
        if self.render_mode is None:
            return None
        positions = self._episodes.positions()
        return tuple(
            level.text(agent) if self.render_mode == "ansi" else picture(level, agent) for level, agent in positions
        )

    def _infos(self) -> dict[str, Any]:
        infos: dict[str, Any] = self._episodes.infos()
        return infos | {f"_{name}": np.ones(self.num_envs, dtype=bool) for name in infos}
