"""Mazes in tokens, as several experiments train on them: the same settings make the same policies, trained once."""

from dataclasses import dataclass
from typing import Any

from envs.maze import Maze
from maxrl_lab.runs.context import Context
from maxrl_lab.tokens.settings import SMALLEST, TokenSettings
from maxrl_lab.tokens.study import Workshop


@dataclass(frozen=True)
class MazeSettings(TokenSettings):
    """The mazes."""

    size: int = 9
    """Cells along a side, walls included; odd."""
    answer_length: int = 24
    """Most tokens of an answer, DONE and <eos> included; mazes with a longer shortest way are not drawn."""

    def __post_init__(self) -> None:
        """Check also the size."""
        super().__post_init__()
        self.task()

    def workshop(self, context: Context) -> Workshop:
        """Return where policies for these mazes are trained."""
        return Workshop(self.task(), self, context)

    def task(self) -> Maze:
        """Return the task."""
        return Maze(self.size, self.answer_length)


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
