"""In MiniGrid's own levels, which nobody here made: does what an estimator learns differ as it does in the mazes?

The levels are Chevalier-Boisvert et al.'s (2023), with their own 7 x 7 view; a task's reward is right or wrong. They
are held as exact tables, so every pass rate is exact, on training and on held-out levels. A seed samples everything:
which levels of each name are trained on and held out, initial parameters and rollouts; the methods of a seed share all
of that. Learning rates are swept alike for every method and N, on seeds that are not reported, and chosen by mean final
pass@1 on the training levels.

    maxrl-lab run navigation_minigrid        (a minute; `standard`: thirty)

Tables: `sweep` (the end of every swept run on the training levels), `curves` (a row per reported run, measured step and
split), `difficulty` (the pass rate by name of the level, of the reported runs at the end, by split).
"""

from dataclasses import dataclass
from typing import Annotated

from envs import minigrid
from experiments._shared import known_rates
from experiments.navigation._comparison import Methods, Runs, Section, compare_sections
from experiments.navigation._shared import VIEW_POLICIES, minigrid_world
from maxrl_lab.rows import Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Choice, Count, Each, Rates
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tabular.study import World

MINIGRID = ("Fetch-5x5-N2", "LavaGapS7", "MultiRoom-N2-S4", "DoorKey-5x5", "SimpleCrossingS9N1", "LavaCrossingS9N1")
"""MiniGrid levels of the default setting."""


@dataclass(frozen=True)
class MiniGrid(Group):
    """MiniGrid: the levels, and the network that reads them."""

    names: Annotated[tuple[str, ...], Each(Choice(minigrid.LEVELS))] = MINIGRID
    """MiniGrid levels that are learnt together."""
    levels: Count = 6
    """Number of training levels of each name, and as many held-out ones; no two of them are the same."""
    horizon: Count = 48
    """Step limit H of a rollout."""
    policy: Annotated[str, Choice(VIEW_POLICIES)] = "perceptron"
    """Network that acts: perceptron sees view, direction and mission, convolutional sees the view alone."""
    width: Count = 64
    """Number of units in each hidden layer of the perceptron, four times the convolutional network's channels."""


@dataclass(frozen=True)
class Training(Group):
    """Training: Adam with a cosine schedule after a tenth of warm-up."""

    learning_rates: Rates = (0.001, 0.003, 0.01, 0.03, 0.1)
    """Learning rates that are swept alike for every method and N."""
    steps: Count = 100
    """Number of updates of each run."""


@dataclass(frozen=True)
class Settings(Runs, Training, Methods, MiniGrid):
    """Levels, methods, training and evaluation."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at every N."""
        super().__post_init__()
        self.section().check()

    def world(self, seed: int) -> World:
        """Return a seed's levels as tasks for the policy."""
        return minigrid_world(self.names, self.levels, self.levels, self.horizon, self.policy, self.width, seed)

    def section(self) -> Section:
        """Return the one comparison."""
        name, rates = "navigation_minigrid", self.learning_rates
        return Section(name, self.world, self.estimators, self.rollouts, rates, self.steps)


PRESETS = {
    "smoke": Settings(
        names=("Fetch-5x5-N2",),
        levels=1,
        horizon=12,
        width=8,
        rollouts=(4,),
        learning_rates=(0.003, 0.01),
        sweep_seeds=1,
        seeds=2,
        steps=4,
        measurements=2,
    ),
    "quick": Settings(
        estimators=("rloo", "grpo", "maxrl"), rollouts=(4, 16), seeds=3, fixed_rates=known_rates("navigation_minigrid")
    ),
    "standard": Settings(seeds=10, sweep_seeds=3),
    "full": Settings(
        names=(*MINIGRID, "FourRooms", "DoorKey-6x6", "Unlock", "GoToDoor-5x5"),
        horizon=128,
        rollouts=(4, 16, 64, 128),
        seeds=10,
        sweep_seeds=3,
        steps=2000,
        measurements=40,
        runs_at_once=30,
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the swept runs' last rows, and the reported runs' curves and final pass rates by level."""
    return compare_sections([settings.section()], settings, context)
