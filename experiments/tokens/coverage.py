"""What do more samples at test time buy each trained policy: coverage pass@k, scaling efficiency, majority vote?

Fig. 5 and Table 7 of arXiv:2602.02710v1: MaxRL needs 2 to 19 times fewer samples than GRPO for the same pass@k, and
majority votes profit too. Here the policies of `maze_scaling` at one N write many answers to held-out mazes, at a
temperature and nucleus of choice. The vote is on the whole path; an answer that was cut off is no candidate of the
vote, and a maze without any candidate counts as wrong.

    maxrl-lab run coverage        (half a minute after `maze_scaling`, whose policies it shares)

Tables: `sweep` (a row per method, rate and seed, unless all rates are known), `coverage` (a row per policy, seed and
k), `votes` (a row per policy and seed). The policy called `base` is the one before training.
"""

from dataclasses import dataclass
from typing import Annotated

from experiments._shared import known_rates
from experiments.tokens._shared import PAPER, QUICK, SMOKE, MazeSettings
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Interval, Names, Positive
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tokens.comparison import compare
from maxrl_lab.tokens.trained import base, trained
from maxrl_lab.training.sweep import Run


@dataclass(frozen=True)
class Methods(Group):
    """Methods: every estimator at one N."""

    estimators: Names = ("rloo", "grpo", "maxrl")
    """Estimators that are compared."""
    rollouts: Count = 16
    """Number N of rollouts that the policies were trained with."""


@dataclass(frozen=True)
class Coverage(Group):
    """Coverage: how the trained policies are sampled."""

    coverage_samples: Count = 256
    """Number of answers to each held-out maze."""
    temperature: Positive = 1.0
    """Temperature at which answers are sampled (the paper: 0.6 for language models)."""
    top_p: Annotated[float, Interval(0, 1, closed_high=True)] = 1.0
    """Share of the probability that answers are sampled from (the paper: 0.95 for language models)."""


@dataclass(frozen=True)
class Settings(MazeSettings, Coverage, Methods):
    """Methods, coverage, mazes, policy, pretraining, training and evaluation."""

    def __post_init__(self) -> None:
        """Check also that every method exists at N."""
        super().__post_init__()
        self.check_methods(self.estimators, (self.rollouts,))


PRESETS = {
    "smoke": Settings(**SMOKE, rollouts=4, coverage_samples=8),
    "quick": Settings(**QUICK, fixed_rates=known_rates("maze_scaling")),
    "standard": Settings(),
    "full": Settings(**PAPER, rollouts=128, coverage_samples=4096),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the sweep, and of every policy and seed pass@k and the share of right majority votes."""
    study = settings.study(context)
    compared = compare(study, settings.estimators, (settings.rollouts,), fixed=settings.fixed)
    held_out, writing = study.held_out(), study.writing(settings.temperature, settings.top_p)
    policies: list[tuple[str, int, Run | None]] = [("base", seed, None) for seed in range(settings.seeds)]
    policies += [(name, run.seed, run) for name, run in compared.runs]
    coverage: list[Row] = []
    votes: list[Row] = []
    for name, seed, run in context.progress("coverage")(policies):
        policy = base(study, seed) if run is None else trained(study, run, "report")[0]
        evaluation = study.evaluate(policy, held_out, settings.coverage_samples, writing, "coverage", seed)
        head = {"estimator": name, "seed": seed}
        coverage += [{**head, **row} for row in evaluation.coverage()]
        votes.append({**head, "majority": evaluation.majority(study.task)})
    swept = {name: rows for name, rows in compared.tables.items() if name == "sweep"}
    return {**swept, "coverage": coverage, "votes": votes}
