"""What experiments on mazes in tokens share: the same settings make the same policies, which are trained once."""

from dataclasses import dataclass
from typing import Annotated, Any

from envs.gridworld.levels import MAX_SIZE, MIN_SIZE
from envs.maze import Maze
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Settings, Whole
from maxrl_lab.tokens.settings import SMALLEST, TokenSettings
from maxrl_lab.tokens.study import Study


@dataclass(frozen=True)
class Mazes(Settings):
    """Mazes: perfect ones, by Prim's algorithm, fresh in every update."""

    size: Annotated[int, Whole(MIN_SIZE, MAX_SIZE)] = 9
    """Number of cells along a side, walls included; it is odd."""
    answer_length: Count = 24
    """Most tokens of an answer, DONE and <eos> included; mazes with a longer shortest way are not used."""

    def task(self) -> Maze:
        """Return the task."""
        return Maze(self.size, self.answer_length)


@dataclass(frozen=True)
class MazeSettings(TokenSettings, Mazes):
    """Mazes, and policies trained on them."""

    def __post_init__(self) -> None:
        """Check also that there are such mazes."""
        super().__post_init__()
        self.task()

    def study(self, context: Context) -> Study:
        """Return the policies for these mazes."""
        return Study(self.task(), self, context)


SMOKE: dict[str, Any] = {**SMALLEST, "size": 7, "answer_length": 16}
"""A few seconds."""
PAPER: dict[str, Any] = {
    "size": 17,
    "answer_length": 180,
    "width": 256,
    "layers": 4,
    "heads": 4,
    "mlp": 1024,
    "pretrain_steps": 1500,
    "pretrain_batch": 32,
    "pretrain_rate": 5e-4,
    "steps": 9000,
    "prompts": 256,
    "learning_rates": (3e-5, 1e-4, 3e-4),
    "held_out": 256,
    "samples": 2048,
    "measurements": 30,
    "memory": 16.0,
}
"""The paper's own setting (App. E.1), for a GPU; its learning rate, 1e-4, is one of those swept."""
