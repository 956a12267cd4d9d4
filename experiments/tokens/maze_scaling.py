"""A transformer that writes paths through fresh mazes: what do more rollouts buy RLOO, GRPO and MaxRL?

Section 6.2 of arXiv:2602.02710v1 (Fig. 3 and 17): a small Qwen2-style policy is pretrained on shortest paths of Prim
mazes and then trained, on-policy, on mazes it has never seen. There -log pass@k falls with the number of rollouts N for
MaxRL and hardly for RLOO and GRPO. Pass rates are estimated here, from samples of held-out mazes; intervals are over
seeds, which are the training mazes and all rollouts (pretraining is shared by all, as in the paper).

    maxrl-lab run maze_scaling        (four minutes; `full` is the paper's own setting and wants a GPU)
"""

from dataclasses import dataclass

from experiments.tokens._shared import PAPER, SMOKE, MazeSettings
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context


@dataclass(frozen=True)
class Settings(MazeSettings):
    """What is compared."""

    estimators: tuple[str, ...] = ("rloo", "grpo", "maxrl")
    """Compared."""
    rollouts: tuple[int, ...] = (4, 16, 32)
    """N."""

    def __post_init__(self) -> None:
        """Check also that every method exists at every N."""
        super().__post_init__()
        self.check_methods(self.estimators, self.rollouts)


PRESETS = {
    "smoke": Settings(**SMOKE, rollouts=(4, 8)),
    "quick": Settings(),
    "full": Settings(**PAPER, rollouts=(4, 8, 16, 32, 64, 128)),
}


def run(settings: Settings, context: Context) -> list[Row]:
    """Return rows of view sweep, dynamics (every update) and evaluation (pass@k now and then, and of the base)."""
    return settings.workshop(context).reported(settings.estimators, settings.rollouts)[1]
