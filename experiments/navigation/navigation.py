"""With right-or-wrong rewards on mazes from hard to hopeless: what does each estimator learn, and what do rollouts buy?

The navigation twin of Fig. 3 and 7 of arXiv:2602.02710v1: a small policy learns to reach goals within a step limit, in
mazes whose untrained pass rates run from 0.1 to 1e-6, with a mean of 0.03 and a pass@512 of 0.47, so that most groups
of rollouts have no success at first. In the paper MaxRL solves more tasks with fewer rollouts, and keeps pass@k where
RLOO and GRPO lose it. Every pass rate here is exact (dynamic programming over the table of the level), so curves have
no evaluation noise.

A seed samples everything: mazes, initial parameters, the mazes of an update, rollouts. The methods of a seed share all
of that. Learning rates are swept alike for every method and N, on seeds that are not reported, and chosen by mean final
pass@1. `quick` takes the rates that `standard` has chosen.

    maxrl-lab run navigation        (a minute and a half; `standard`: some forty)

Tables: `sweep` (the end of every swept run), `curves` (a row per reported run and measured step), `difficulty` (the
pass rate by distance of the reported runs at the end), all on the training mazes.
"""

from dataclasses import dataclass

from experiments._shared import known_rates
from experiments.navigation._comparison import FEW, METHODS, ORDERS_BETWEEN, Methods, Runs, Section, compare_sections
from experiments.navigation._shared import LARGEST_GRID, SMALLEST_GRID, GridSettings
from maxrl_lab.rows import Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Names, Rates
from maxrl_lab.settings import Settings as Group

CONTROL_VARIATE = "maxrl_control_variate"
"""What Algorithm 1 leaves out at K = 0 (Section 4.3): Eq. 10 with its control variate there, too."""


@dataclass(frozen=True)
class Training(Group):
    """Training: Adam with a cosine schedule after a tenth of warm-up."""

    learning_rates: Rates = (0.001, 0.003, 0.01, 0.03, 0.1)
    """Learning rates that are swept alike for every method and N."""
    steps: Count = 300
    """Number of updates of each run."""


@dataclass(frozen=True)
class Settings(Runs, Training, Methods, GridSettings):
    """Levels, methods, training and evaluation."""

    estimators: Names = (*METHODS, CONTROL_VARIATE, *ORDERS_BETWEEN)
    """Estimators that are compared; N in an option stands for the number of rollouts."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at every N."""
        super().__post_init__()
        self.section().check()

    def section(self) -> Section:
        """Return the one comparison."""
        return Section("navigation", self.world, self.estimators, self.rollouts, self.learning_rates, self.steps)


PRESETS = {
    "smoke": Settings(
        **SMALLEST_GRID,
        rollouts=(4, 8),
        learning_rates=(0.003, 0.01),
    ),
    "quick": Settings(estimators=FEW, seeds=3, fixed_rates=known_rates("navigation")),
    "standard": Settings(seeds=10, sweep_seeds=3),
    "full": Settings(
        **LARGEST_GRID,
        rollouts=(4, 8, 16, 32, 64, 128),
        learning_rates=(0.001, 0.003, 0.01, 0.03, 0.1),
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the swept runs' last rows, and the reported runs' curves and final pass rates by distance."""
    return compare_sections([settings.section()], settings, context)
