"""What do preferences, counts and demonstrations buy where outcomes are rare, for each unit of feedback?

Three reconstructions beside MaxRL on outcomes, each on a world that is small enough for exact pass rates. Pairs chosen
before any label (REGIME, arXiv:2305.18505) in mazes that the uniform policy solves once in thousands of rollouts, where
a pair of two failures is a coin flip. COPO (arXiv:2501.12735) on answers that can all be listed: DPO on rankings, with
a bonus from exact counts or from coin flips. Inverse reinforcement learning by maximum likelihood, offline
(arXiv:2302.07457): a reward from demonstrations, in a model of the world that may be wrong.

    maxrl-lab run feedback        (a minute; `standard`: three)

Tables: `pairs` (a row per scale, method, model, maze and number of labels), `sweep` (the ends of the swept runs on
answers), `answers` (a row per run and round), `coins` (a row per run with coin flips and number of visits) and
`demonstrations` (a row per condition, method and maze).
"""

from dataclasses import dataclass
from typing import Annotated

from experiments.feedback import _answers, _pairs
from experiments.feedback._answers import VERIFIERS, Answers
from experiments.feedback._demonstrations import panel_rows
from experiments.feedback._pairs import EXPLORERS, Pairs
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.runs.workers import in_parallel
from maxrl_lab.settings import Count, Counts, Each, Interval, Processes
from maxrl_lab.settings import Settings as Group

Weights = Annotated[tuple[float, ...], Each(Interval(closed_low=True))]


@dataclass(frozen=True)
class Demonstrations(Group):
    """Demonstrations: slippery Prim mazes, an expert that is nearly always right, and a model from transitions."""

    demo_mazes: Count = 10
    """Number of mazes with demonstrations; a maze is a seed."""
    demonstrations: Count = 3
    """Number of demonstrations in a maze."""
    transitions: Counts = (100, 300, 1000, 3000)
    """Numbers of random transitions of which a model of the maze is made."""
    penalties: Weights = (0.0, 1.0, 4.0, 16.0)
    """Weights lambda, from small to large, of the penalty for what the model has seen too seldom."""
    demo_updates: Count = 200
    """Number of updates of MaxRL on outcomes, in the maze and in the model."""
    processes: Processes = 0
    """Number of processes that make the parts of the experiment side by side, or 0 for one a core."""

    def demonstration_rows(self) -> list[Row]:
        """Return the rows of the panel."""
        return panel_rows(
            self.demo_mazes,
            self.transitions,
            self.penalties,
            demonstrations=self.demonstrations,
            updates=self.demo_updates,
        )


@dataclass(frozen=True)
class Settings(Demonstrations, Answers, Pairs):
    """Pairs, answers and demonstrations."""


PRESETS = {
    "smoke": Settings(
        scales=(4.0,),
        size=7,
        distance=5,
        horizon=10,
        mazes=3,
        labels=32,
        passive_labels=128,
        episodes=(4,),
        sweep_mazes=1,
        maze_rates=(0.3,),
        prompts=3,
        digits=4,
        length=2,
        width=8,
        rounds=4,
        alphas=(0.03,),
        answer_rates=(0.01,),
        answer_seeds=2,
        answer_sweep_seeds=1,
        demo_mazes=2,
        transitions=(100, 1000),
        penalties=(0.0, 16.0),
        demo_updates=4,
    ),
    "quick": Settings(
        mazes=10, answer_seeds=5, answer_sweep_seeds=1, demo_mazes=6, transitions=(100, 1000), penalties=(0.0, 16.0)
    ),
    "standard": Settings(),
    "full": Settings(mazes=100, answer_seeds=20, answer_sweep_seeds=5, demo_mazes=50, distance=13, labels=4096),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the tables of all three panels; their parts are made side by side, and kept when they are done."""
    names = [f"pairs scale {scale:g}" for scale in settings.scales]
    names += ["demonstrations all", *(f"answers {name}" for name in VERIFIERS), "pairs outcomes"]
    names += [f"pairs explorer {name}" for name in EXPLORERS]
    jobs = [(settings, name, context.checkpoint.stage(name.replace(" ", "-"))) for name in names]
    tables: Tables = {}
    for part in in_parallel(_kept, jobs, settings.processes, context.progress("feedback")):
        append(tables, part)
    return tables


def _kept(job: tuple[Settings, str, Checkpoint]) -> Tables:
    """Return the tables of a part, from its checkpoint if it was made before."""
    settings, name, checkpoint = job
    saved = checkpoint.load()
    if saved is None:
        saved = {"tables": _made(settings, *name.split(" "))}
        checkpoint.save(saved)
    tables: Tables = saved["tables"]
    return tables


def _made(settings: Settings, panel: str, kind: str, value: str = "") -> Tables:
    if panel == "answers":
        return _answers.rows(settings, kind)
    if panel == "demonstrations":
        return {"demonstrations": settings.demonstration_rows()}
    if kind == "scale":
        return {"pairs": _pairs.rows_of_scale(settings, float(value))}
    made = _pairs.rows_of_explorers(settings, value) if kind == "explorer" else _pairs.rows_of_outcomes(settings)
    return {"pairs": made}
