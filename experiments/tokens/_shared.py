"""What experiments on mazes in tokens share: the same settings make the same policies, which are trained once.

The regime is the one in which the paper's effect lives: the base solves one maze in thirty, so that most groups have no
success, and training is long enough for a policy to forget what it could do.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from envs.gridworld.levels import MAX_SIZE, MIN_SIZE
from envs.maze import Maze
from experiments._shared import KnownRates
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Positive, Rates, Settings, Whole
from maxrl_lab.tokens.settings import SMALLEST, TokenSettings
from maxrl_lab.tokens.study import Study


@dataclass(frozen=True)
class Mazes(Settings):
    """Mazes: perfect ones, by Prim's algorithm, fresh in every update."""

    size: Annotated[int, Whole(MIN_SIZE, MAX_SIZE)] = 9
    """Number of cells along a side, walls included; it is odd."""
    answer_length: Count = 32
    """Most tokens of an answer, DONE and <eos> included; mazes with a longer shortest way are not used."""

    def task(self) -> Maze:
        """Return the task."""
        return Maze(self.size, self.answer_length)


@dataclass(frozen=True)
class MazeSettings(KnownRates, TokenSettings, Mazes):
    """Mazes, and policies trained on them."""

    steps: Count = 600
    """Number of updates, each on its own batch of answers."""
    prompts: Count = 64
    """Number of prompts in each update."""
    learning_rates: Rates = (1e-4, 3e-4, 1e-3)
    """Learning rates of AdamW that are swept alike for every method at every N."""
    seeds: Count = 5
    """Number of reported runs of each method; a seed redraws pretraining, training problems and all rollouts."""
    sweep_seeds: Count = 2
    """Number of seeds of the sweep that chooses learning rates; none of them is reported."""
    sweep_steps: Annotated[int, Whole(0)] = 300
    """Number of updates of the sweep's runs, or 0 for as many as the reported runs have."""
    memory: Positive = 0.0625
    """GiB for activations in each process; what does not fit is done in parts, which changes results by rounding."""
    held_out: Count = 256
    """Number of held-out problems, and of the validation problems that choose learning rates."""
    samples: Annotated[int, Whole(4)] = 256
    """Number of answers to each held-out problem at the end; a quarter of them during training and in the sweep."""

    def __post_init__(self) -> None:
        """Check also that there are such mazes."""
        super().__post_init__()
        self.task()

    def study(self, context: Context) -> Study:
        """Return the policies for these mazes."""
        return Study(self.task(), self, context)


QUICK: dict[str, Any] = {"seeds": 3, "steps": 100, "held_out": 64}
"""Minutes: what differs from `standard`, beside the rates, which are those that `standard` chose."""
SMOKE: dict[str, Any] = {**SMALLEST, "size": 7, "answer_length": 16, "sweep_seeds": 1, "sweep_steps": 0}
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
    "sweep_steps": 0,
    "prompts": 256,
    "pretrain_until": 1.0,
    "learning_rates": (3e-5, 1e-4, 3e-4),
    "held_out": 256,
    "samples": 2048,
    "measurements": 30,
    "memory": 16.0,
}
"""The paper's own setting (App. E.1), for a GPU; its learning rate, 1e-4, is one of those swept."""
