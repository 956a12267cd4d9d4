"""Where do the trained policies walk in mazes they have never seen, right and wrong?

Fig. 10 of arXiv:2602.02710v1 shows paths of trained policies. Here: held-out mazes, from the easiest to the hardest for
the base policy, and a sample of each policy's answers, up to the first step into a wall.

    maxrl-lab run maze_trajectories        (ten seconds after `maze_scaling`, whose policies it shares)

Tables: `mazes` (a text a maze), `rates` (a row per policy and maze), `paths` (a row per policy, maze, path and time),
`sweep` as in `maze_scaling`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.gridworld.mazes import MOVES
from envs.maze import MOVE_WORDS, render
from experiments._shared import known_rates
from experiments.tokens._shared import PAPER, QUICK, SMOKE, MazeSettings
from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Names
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tokens.comparison import compare
from maxrl_lab.tokens.evaluation import Evaluation
from maxrl_lab.tokens.study import Study
from maxrl_lab.tokens.trained import base, trained


@dataclass(frozen=True)
class Methods(Group):
    """Methods: every estimator at one N."""

    estimators: Names = ("rloo", "grpo", "maxrl")
    """Estimators whose policies are shown, beside the base policy; they are those of seed 0."""
    rollouts: Count = 16
    """Number N of rollouts that the policies were trained with."""


@dataclass(frozen=True)
class Shown(Group):
    """What is shown: some mazes, and some paths through them."""

    mazes: Count = 4
    """Number of held-out mazes shown, from easy to hard for the base policy."""
    kept: Count = 3
    """Most right paths, and most wrong paths, kept of the samples."""


@dataclass(frozen=True)
class Settings(MazeSettings, Shown, Methods):
    """Methods, what is shown, mazes, policy, pretraining, training and evaluation."""

    def __post_init__(self) -> None:
        """Check also that there are so many mazes and that every method exists at N."""
        super().__post_init__()
        if self.mazes > self.held_out:
            raise InputError(f"mazes must be at most held_out = {self.held_out}, got {self.mazes}")
        self.check_methods(self.estimators, (self.rollouts,))


PRESETS = {
    "smoke": Settings(**SMOKE, rollouts=4, mazes=2, kept=2),
    "quick": Settings(**QUICK, fixed_rates=known_rates("maze_scaling")),
    "standard": Settings(),
    "full": Settings(**PAPER, rollouts=128),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the mazes that are shown, every policy's pass rate on each, and its paths."""
    study = settings.study(context)
    compared = compare(study, settings.estimators, (settings.rollouts,), fixed=settings.fixed)
    policies = {"base": base(study, seed=0)}
    policies |= {name: trained(study, run, "report")[0] for name, run in compared.runs if run.seed == 0}
    evaluations = {name: _evaluate(study, policy) for name, policy in policies.items()}
    shown = _spread(evaluations["base"].correct.cpu().numpy(), settings.mazes)
    content = evaluations["base"].problems.content
    rates: list[Row] = []
    paths: list[Row] = []
    for name, evaluation in evaluations.items():
        for maze in shown:
            head = {"maze": maze, "estimator": name}
            rates.append({**head, "pass_rate": float(evaluation.right[maze].double().mean())})
            paths += [{**head, **row} for row in _paths(study, evaluation, maze, settings.kept)]
    mazes = [{"maze": maze, "text": render(content[maze])} for maze in shown]
    swept = {name: rows for name, rows in compared.tables.items() if name == "sweep"}
    return {"mazes": mazes, "rates": rates, "paths": paths, **swept}


def _evaluate(study: Study, policy: Transformer) -> Evaluation:
    """Return samples of every held-out maze; all policies get the same random numbers."""
    return study.evaluate(policy, study.held_out(), study.settings.samples, study.writing(), "trajectories")


def _spread(correct: np.ndarray, count: int) -> list[int]:
    """Return the indices of `count` mazes, evenly from the most to the least often solved."""
    order = np.argsort(-correct, kind="stable")
    return [int(index) for index in order[np.linspace(0, len(order) - 1, count).round().astype(int)]]


def _paths(study: Study, evaluation: Evaluation, maze: int, kept: int) -> list[Row]:
    """Return the cells of the first right and of the first wrong paths through a maze."""
    rows = []
    walls = evaluation.problems.content[maze]
    for success in (True, False):
        for path in (evaluation.right[maze] == success).nonzero().flatten()[:kept].tolist():
            length = int(evaluation.written.lengths[maze, path])
            words = study.task.vocabulary.decode(evaluation.written.tokens[maze, path, :length].tolist())
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
