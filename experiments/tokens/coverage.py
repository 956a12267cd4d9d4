"""What do more samples at test time buy each trained policy: coverage pass@k, scaling efficiency, majority vote?

Fig. 5 and Table 7 of arXiv:2602.02710v1: MaxRL needs 2 to 19 times fewer samples than GRPO for the same pass@k, and
majority votes profit too. Here the policies of `maze_scaling` at one N write many answers to held-out mazes, at a
temperature and nucleus of choice; the vote is on the whole path.

    maxrl-lab run coverage        (half a minute after `maze_scaling`, whose policies it shares)
"""

from dataclasses import dataclass

from experiments.tokens._shared import PAPER, SMOKE, MazeSettings
from maxrl_lab import specs
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.training.sweep import Run


@dataclass(frozen=True)
class Settings(MazeSettings):
    """Which policies, and how they are sampled."""

    estimators: tuple[str, ...] = ("rloo", "grpo", "maxrl")
    """Compared."""
    rollouts: int = 16
    """N they were trained with."""
    coverage_samples: int = 256
    """Answers of each held-out maze."""
    temperature: float = 1.0
    """At which they are drawn (the paper: 0.6 for language models)."""
    top_p: float = 1.0
    """Of which nucleus they are drawn (the paper: 0.95 for language models)."""

    def __post_init__(self) -> None:
        """Check also how samples are drawn, and that every method exists at N."""
        super().__post_init__()
        specs.check_count("coverage_samples", self.coverage_samples)
        self.check_methods(self.estimators, (self.rollouts,))
        self.writing(1, self.temperature, self.top_p)


PRESETS = {
    "smoke": Settings(**SMOKE, rollouts=4, coverage_samples=8),
    "quick": Settings(),
    "full": Settings(**PAPER, rollouts=128, coverage_samples=4096),
}


def run(settings: Settings, context: Context) -> list[Row]:
    """Return a row per policy, seed and k: pass@k, and the share of right majority votes of all samples."""
    workshop = settings.workshop(context)
    named, _ = workshop.reported(settings.estimators, (settings.rollouts,))
    held_out = workshop.held_out()
    writing = workshop.writing(settings.temperature, settings.top_p)
    bases: list[tuple[Row, Run | None]] = [
        ({"estimator": "base", "seed": seed}, None) for seed in range(settings.seeds)
    ]
    trained = [({"estimator": name, "stage": "report", **run.row(settings.steps)}, run) for name, run in named]
    rows = []
    for head, run in context.progress("coverage")([*bases, *trained]):
        policy = workshop.base() if run is None else workshop.train(run, "report")[0]
        found = workshop.evaluate(policy, held_out, settings.coverage_samples, writing, "coverage", head["seed"])
        drawn = {"temperature": settings.temperature, "top_p": settings.top_p}
        rows += [{**head, **drawn, **row} for row in found.rows(workshop.task)]
    return rows
