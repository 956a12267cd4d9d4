"""Many epochs over few problems: who keeps pass@k on problems never seen?

Section 6.3 of arXiv:2602.02710v1 (Fig. 4, Table 4) trains SmolLM2-360M on GSM8K for 50 epochs: RLOO and GRPO peak early
and then lose pass@k below the base model; MaxRL is slower at first and keeps it. Here a small transformer trains on a
fixed set of modular sums, answered through a scratchpad of which only the result is verified (the latent-generation
setting of section 2), and of countdown problems, which have many right answers.

Pretraining draws from the whole training split, so the base policy has seen the fixed set; held-out problems share no
multiset of numbers with that split. Training set and held-out problems are the same for all seeds.

    maxrl-lab run data_scarce        (two minutes)
"""

from dataclasses import dataclass, replace

from envs.countdown import Countdown
from envs.modular_sum import ModularSum
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import check_lists
from maxrl_lab.tokens.settings import SMALLEST, TokenSettings
from maxrl_lab.tokens.study import Workshop
from maxrl_lab.tokens.tasks import TokenTask


@dataclass(frozen=True)
class Settings(TokenSettings):
    """The tasks and what is compared."""

    steps: int = 64
    """Updates; an epoch has training_set / prompts of them."""
    pretrain_rate: float = 2e-3
    """Learning rate of AdamW in pretraining; cosine after a tenth of warm-up."""
    measurements: int = 4
    """Evaluations during training, after the first."""
    pretrain_steps: int = 400
    """Updates on solutions of fresh problems; the policy they end with is where every method starts."""
    learning_rates: tuple[float, ...] = (3e-4, 6e-4)
    """Of AdamW, swept alike for every method."""
    tasks: tuple[str, ...] = ("modular_sum", "countdown")
    """modular_sum, countdown."""
    training_set: int = 64
    """Problems of the fixed training set; an epoch is once through it."""
    sum_length: int = 3
    """Digits of a modular sum."""
    modulus: int = 10
    """Of the sums."""
    numbers: int = 3
    """Given numbers of countdown."""
    largest: int = 12
    """Of the given numbers, and of the target."""
    estimators: tuple[str, ...] = ("rloo", "grpo", "maxrl")
    """Compared."""
    rollouts: int = 8
    """N."""

    def __post_init__(self) -> None:
        """Check also tasks and methods, and that the training set is a whole number of batches."""
        super().__post_init__()
        specs.check_count("training_set", self.training_set)
        if self.training_set % self.prompts:
            raise InputError(f"training_set must be a multiple of prompts = {self.prompts}, got {self.training_set}")
        check_lists(tasks=self.tasks)
        for name in self.tasks:
            self.task(name)
        self.check_methods(self.estimators, (self.rollouts,))

    def task(self, name: str) -> TokenTask:
        """Return the task of a name."""
        makers = {
            "modular_sum": lambda: ModularSum(self.sum_length, self.modulus, scratchpad=True),
            "countdown": lambda: Countdown(self.numbers, self.largest),
        }
        made: TokenTask = specs.lookup(makers, "task", name)()
        return made

    def workshop(self, name: str, context: Context) -> Workshop:
        """Return where policies for a task are trained."""
        own = replace(context, checkpoint=context.checkpoint.stage(name))
        return Workshop(self.task(name), self, own, self.training_set)


PRESETS = {
    "smoke": Settings(**{**SMALLEST, "held_out": 4}, training_set=8, rollouts=4),
    "quick": Settings(),
    "full": Settings(
        width=256,
        layers=4,
        mlp=1024,
        steps=1500,
        learning_rates=(3e-5, 1e-4, 3e-4),
        prompts=256,
        held_out=512,
        samples=1024,
        measurements=30,
        memory=16.0,
        training_set=7680,
        sum_length=8,
        largest=30,
        numbers=4,
        rollouts=128,
    ),
}


def run(settings: Settings, context: Context) -> list[Row]:
    """Return rows of view sweep, dynamics and evaluation, of each task."""
    rows: list[Row] = []
    for name in settings.tasks:
        found = settings.workshop(name, context).reported(settings.estimators, (settings.rollouts,))[1]
        rows += [
            {"task": name, **row, "epoch": row["step"] * settings.prompts / settings.training_set} for row in found
        ]
    return rows
