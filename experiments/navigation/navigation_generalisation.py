"""What carries over to mazes that a policy was not trained on, in one attempt and in many, from few mazes and many?

The navigation twin of Fig. 5 and 17 of arXiv:2602.02710v1. Policies are trained as in `navigation`, at one N, on few
training mazes of each distance and on more, and evaluated on held-out mazes, of which no map is among the training
ones: exact pass@k, its peak while training beside its end, coverage, and how many samples GRPO needs for the same
coverage. A seed samples everything, the held-out mazes too, and the methods of a seed share all of that.

    maxrl-lab run navigation_generalisation        (a minute; `standard`: some twenty)

Tables: `sweep` (the end of every swept run on the training mazes), `curves` (a row per reported run, measured step and
split), `coverage` and `difficulty` (pass@k, and the pass rate by distance, of the reported runs at the end, by split).
The column `comparison` says on how many mazes of each distance a policy was trained.
"""

from dataclasses import dataclass
from functools import partial

from experiments._shared import known_rates
from experiments.navigation._comparison import FEW, Runs, Section, compare_sections
from experiments.navigation._shared import LARGEST_GRID, SMALLEST_GRID, GridSettings
from maxrl_lab.rows import Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, MaybeCounts, Names, Rates, check_lists
from maxrl_lab.settings import Settings as Group


@dataclass(frozen=True)
class Methods(Group):
    """Methods: every estimator at one N, after the same number of updates."""

    estimators: Names = FEW
    """Estimators that are compared; N in an option stands for the number of rollouts."""
    rollouts: Count = 16
    """Number N of rollouts of each level in an update."""


@dataclass(frozen=True)
class Training(Group):
    """Training: Adam with a cosine schedule after a tenth of warm-up."""

    other_levels: MaybeCounts = (8,)
    """Other numbers of training levels of each distance that policies are trained on, to compare with."""
    learning_rates: Rates = (0.001, 0.003, 0.01, 0.03, 0.1)
    """Learning rates that are swept alike for every method and number of levels."""
    steps: Count = 300
    """Number of updates of each run."""


@dataclass(frozen=True)
class Evaluation(Group):
    """Evaluation: exact pass rates on training and on held-out levels."""

    held_out: Count = 64
    """Number of held-out levels of each distance."""
    coverage_ks: Counts = (1, 4, 16, 64, 256, 1024, 4096)
    """Values of k in the final coverage curve."""


@dataclass(frozen=True)
class Settings(Evaluation, Runs, Training, Methods, GridSettings):
    """Levels, methods, training and evaluation."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at N, and that no number of levels is there twice."""
        super().__post_init__()
        check_lists(other_levels=(*self.other_levels, self.levels))
        for section in self.sections():
            section.check()

    def sections(self) -> list[Section]:
        """Return a comparison for each number of training levels, from few to many."""
        return [
            Section(
                "navigation_generalisation",
                partial(self.world, levels=count, held_out=self.held_out),
                self.estimators,
                (self.rollouts,),
                self.learning_rates,
                self.steps,
                columns={"comparison": name_of(count)},
                coverage_ks=self.coverage_ks,
            )
            for count in sorted((*self.other_levels, self.levels))
        ]


def name_of(levels: int) -> str:
    """Return the value of the column `comparison`."""
    return f"{levels} levels"


PRESETS = {
    "smoke": Settings(
        **SMALLEST_GRID,
        other_levels=(1,),
        held_out=2,
        rollouts=4,
        learning_rates=(0.003, 0.01),
        coverage_ks=(1, 8),
    ),
    "quick": Settings(seeds=3, fixed_rates=known_rates("navigation_generalisation")),
    "standard": Settings(other_levels=(8, 200), seeds=10, sweep_seeds=3),
    "full": Settings(
        **LARGEST_GRID,
        other_levels=(25, 100),
        held_out=200,
        rollouts=64,
        learning_rates=(0.001, 0.003, 0.01, 0.03, 0.1),
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the swept runs' last rows, and the reported runs' curves, coverage and final pass rates by distance."""
    return compare_sections(settings.sections(), settings, context)
