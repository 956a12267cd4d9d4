"""Does the order of the estimators depend on optimiser, learning rate, and how rollouts are shared among updates?

Adam divides out an estimator's constant scale, SGD does not: so what a method needs of its learning rate differs, and
what it ends with need not. And at the same number of rollouts in all, small groups may be had often or large ones
seldom. Mazes, policy and seeds are those of `navigation`; every comparison has its own sweep of learning rates, the
same for every method, on seeds that are not reported.

    maxrl-lab run navigation_optimisers        (a minute; `standard`: twenty)

Tables: `sweep` (the end of every swept run), `curves` (a row per reported run and measured step), `difficulty` (the
pass rate by distance of the reported runs at the end), all on the training mazes. The columns `comparison` (`equal
steps` or `equal rollouts`) and `optimiser` name the comparison.
"""

from dataclasses import dataclass

from experiments._shared import known_rates
from experiments.navigation._comparison import Runs, Section, compare_sections
from experiments.navigation._shared import LARGEST_GRID, SMALLEST_GRID, GridSettings
from maxrl_lab.errors import InputError
from maxrl_lab.rows import Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, MaybeCounts, Names, Rates
from maxrl_lab.settings import Settings as Group


@dataclass(frozen=True)
class Methods(Group):
    """Methods: the same estimators in every comparison."""

    estimators: Names = ("rloo", "grpo", "maxrl")
    """Estimators that are compared; N in an option stands for the number of rollouts."""
    rollouts: Counts = (16,)
    """Numbers N of rollouts of each level in an update, at which Adam and SGD are compared."""
    steps: Count = 300
    """Number of updates of each run in that comparison."""
    equal_rollouts: MaybeCounts = (4, 16, 64)
    """Numbers N that are compared at equal rollouts in all; the flag without values leaves this comparison out."""
    equal_total: Count = 3200
    """Number of rollouts in all in that comparison, for each place of a level in an update: N times the updates."""


@dataclass(frozen=True)
class Training(Group):
    """Training: a cosine schedule after a tenth of warm-up."""

    adam_rates: Rates = (0.001, 0.003, 0.01, 0.03, 0.1)
    """Learning rates that are swept with Adam."""
    sgd_rates: Rates = (0.1, 0.3, 1.0, 3.0, 10.0)
    """Learning rates that are swept with SGD, without momentum."""


@dataclass(frozen=True)
class Settings(Runs, Training, Methods, GridSettings):
    """Levels, methods, training and evaluation."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at every N, and that equal rollouts are enough for one update."""
        super().__post_init__()
        for count in self.equal_rollouts:
            if count > self.equal_total:
                raise InputError(f"equal_rollouts must be at most equal_total = {self.equal_total}, got {count}")
        for section in self.sections():
            section.check()

    def sections(self) -> list[Section]:
        """Return the comparisons."""
        adam, sgd = ("adam", self.adam_rates), ("sgd", self.sgd_rates)
        equal = [((count,), self.equal_total // count) for count in self.equal_rollouts]
        kinds = [("equal steps", *adam, self.rollouts, self.steps), ("equal steps", *sgd, self.rollouts, self.steps)]
        kinds += [("equal rollouts", *adam, counts, steps) for counts, steps in equal]
        return [
            Section(
                "navigation_optimisers",
                self.world,
                self.estimators,
                counts,
                rates,
                steps,
                optimiser,
                {"comparison": comparison, "optimiser": optimiser},
            )
            for comparison, optimiser, rates, counts, steps in kinds
        ]


PRESETS = {
    "smoke": Settings(
        **SMALLEST_GRID,
        rollouts=(4,),
        equal_rollouts=(4, 8),
        equal_total=16,
        adam_rates=(0.003, 0.01),
        sgd_rates=(0.3, 1.0),
    ),
    "quick": Settings(seeds=3, steps=150, equal_total=1600, fixed_rates=known_rates("navigation_optimisers")),
    "standard": Settings(seeds=10, sweep_seeds=3),
    "full": Settings(
        **LARGEST_GRID,
        rollouts=(16, 64),
        adam_rates=(0.001, 0.003, 0.01, 0.03, 0.1),
        equal_rollouts=(4, 16, 64, 128),
        equal_total=32_000,
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the swept runs' last rows, and the reported runs' curves and final pass rates by distance."""
    return compare_sections(settings.sections(), settings, context)
