"""A transformer that writes paths through fresh mazes: what do more rollouts buy RLOO, GRPO and MaxRL?

Section 6.2 of arXiv:2602.02710v1 (Fig. 3 and 17): a small Qwen2-style policy is pretrained on shortest paths of Prim
mazes and then trained, on-policy, on mazes it has never seen. There -log pass@k falls with the number of rollouts N for
MaxRL and hardly for RLOO and GRPO. Pass rates are estimated here, from samples of held-out mazes; intervals are over
seeds, which redraw pretraining, training mazes and all rollouts. Pretraining ends at a pass rate of 3%.

    maxrl-lab run maze_scaling        (six minutes; `standard`: two hours or three on two cores; `full` wants a GPU)

Tables: `sweep` (a row per method, N, rate and seed; none where all rates are known), `dynamics` and `timings` (a row
per update of a reported run), `evaluations` (pass@k of the reported runs now and then), `votes` (their majority votes),
`base` and `base_votes` (each seed's pretrained policy's), `bases` (how many updates of pretraining that took).
"""

from dataclasses import dataclass

from experiments._shared import known_rates
from experiments.tokens._shared import PAPER, QUICK, SMOKE, MazeSettings
from maxrl_lab.rows import Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Counts, Names
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tokens.comparison import compare


@dataclass(frozen=True)
class Methods(Group):
    """Methods: every estimator at every N."""

    estimators: Names = ("rloo", "grpo", "maxrl")
    """Estimators that are compared."""
    rollouts: Counts = (4, 16, 64)
    """Numbers N of rollouts of each maze."""


@dataclass(frozen=True)
class Settings(MazeSettings, Methods):
    """Methods, mazes, policy, pretraining, training and evaluation."""

    def __post_init__(self) -> None:
        """Check also that every method exists at every N."""
        super().__post_init__()
        self.check_methods(self.estimators, self.rollouts)


PRESETS = {
    "smoke": Settings(**SMOKE, rollouts=(4, 8)),
    "quick": Settings(**QUICK, rollouts=(4, 16), fixed_rates=known_rates("maze_scaling")),
    "standard": Settings(),
    "full": Settings(**PAPER, rollouts=(4, 8, 16, 32, 64, 128)),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the tables of the comparison."""
    return compare(settings.study(context), settings.estimators, settings.rollouts, fixed=settings.fixed).tables
