"""Where do the trained policies walk in mazes they have never seen, right and wrong?

Fig. 10 of arXiv:2602.02710v1 shows paths of trained policies. Here: held-out mazes, from the easiest to the hardest for
the base policy, and a sample of each policy's answers, up to the first step into a wall.

    maxrl-lab run maze_trajectories        (ten seconds after `maze_scaling`, whose policies it shares)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.gridworld.mazes import MOVES
from envs.maze import MOVE_WORDS, render
from experiments.tokens._shared import PAPER, SMOKE, MazeSettings
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.tokens.evaluation import Evaluation
from maxrl_lab.tokens.study import Workshop


@dataclass(frozen=True)
class Settings(MazeSettings):
    """Which policies and mazes."""

    estimators: tuple[str, ...] = ("rloo", "grpo", "maxrl")
    """Shown, beside the base policy; the runs of seed 0."""
    rollouts: int = 16
    """N they were trained with."""
    mazes: int = 4
    """Held-out mazes shown, from easy to hard for the base policy."""
    kept: int = 3
    """Most right paths, and most wrong ones, kept of the samples."""

    def __post_init__(self) -> None:
        """Check also counts and that every method exists at N."""
        super().__post_init__()
        for name in ("mazes", "kept"):
            specs.check_count(name, getattr(self, name))
        if self.mazes > self.held_out:
            raise InputError(f"mazes must be at most held_out = {self.held_out}, got {self.mazes}")
        self.check_methods(self.estimators, (self.rollouts,))


PRESETS = {
    "smoke": Settings(**SMOKE, rollouts=4, mazes=2, kept=2),
    "quick": Settings(),
    "full": Settings(**PAPER, rollouts=128),
}


def run(settings: Settings, context: Context) -> list[Row]:
    """Return rows of view maze (text), rate (per policy and maze) and path (per policy, maze, path and time)."""
    workshop = settings.workshop(context)
    named, _ = workshop.reported(settings.estimators, (settings.rollouts,))
    policies = {
        "base": workshop.base(),
        **{name: workshop.train(run, "report")[0] for name, run in named if run.seed == 0},
    }
    found = {name: _evaluate(workshop, policy) for name, policy in policies.items()}
    shown = _spread(found["base"].correct.cpu().numpy(), settings.mazes)
    content = found["base"].problems.content
    rows: list[Row] = [{"view": "maze", "maze": place, "text": render(content[place])} for place in shown]
    for name, each in found.items():
        for place in shown:
            rate = float(each.right[place].double().mean())
            head = {"maze": place, "estimator": name, "rollouts": settings.rollouts, "pass_rate": rate}
            rows.append({"view": "rate", **head})
            rows += [{"view": "path", **head, **row} for row in _paths(workshop, each, place, settings.kept)]
    return rows


def _evaluate(workshop: Workshop, policy: Transformer) -> Evaluation:
    """Samples of every held-out maze; all policies get the same random numbers."""
    return workshop.evaluate(policy, workshop.held_out(), workshop.settings.samples, workshop.writing(), "trajectories")


def _spread(correct: np.ndarray, count: int) -> list[int]:
    """Places of `count` mazes, evenly from the most to the least often solved."""
    order = np.argsort(-correct, kind="stable")
    return [int(place) for place in order[np.linspace(0, len(order) - 1, count).round().astype(int)]]


def _paths(workshop: Workshop, found: Evaluation, place: int, kept: int) -> list[Row]:
    """The first right and the first wrong paths."""
    rows = []
    walls = found.problems.content[place]
    for success in (True, False):
        for path in (found.right[place] == success).nonzero().flatten()[:kept].tolist():
            length = int(found.written.lengths[place, path])
            words = workshop.task.vocabulary.decode(found.written.tokens[place, path, :length].tolist())
            for time, (row, col) in enumerate(walk(walls, words)):
                rows.append({"path": path, "success": success, "time": time, "row": row, "col": col})
    return rows


def walk(walls: np.ndarray, words: Sequence[str]) -> list[tuple[int, int]]:
    """Return the cells (row, col) from the start on, up to the first wall, included, or a word that is no move."""
    row, col = 1, 1
    cells = [(row, col)]
    for word in words:
        if word not in MOVE_WORDS or walls[row, col]:
            break
        down, right = MOVES[MOVE_WORDS.index(word)]
        row, col = row + down, col + right
        cells.append((row, col))
    return cells
