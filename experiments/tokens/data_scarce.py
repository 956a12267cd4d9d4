"""Many epochs over few problems: who keeps pass@k on problems never seen?

Section 6.3 of arXiv:2602.02710v1 (Fig. 4, Table 4) trains SmolLM2-360M on GSM8K for 50 epochs: RLOO and GRPO peak early
and then lose pass@k below the base model; MaxRL is slower at first and keeps it. Here a small transformer trains on a
fixed set of modular sums, answered through a scratchpad of which only the result is verified (the latent-generation
setting of section 2), and of countdown problems, which have many right answers.

Pretraining samples from the whole training split, so the base policy has seen the fixed set; held-out problems share no
multiset of numbers with that split. A seed has a training set and a base of its own.

    maxrl-lab run data_scarce        (two minutes; `standard`: 70)

The tables are those of `maze_scaling`, with the columns `task` and, where there is a step, `epoch`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from envs.countdown import MAX_LARGEST, MAX_NUMBERS, Countdown
from envs.modular_sum import ModularSum
from experiments._shared import KnownRates, known_rates
from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Choice, Count, Each, Interval, Names, Positive, Rate, Rates, Whole
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tokens.comparison import compare
from maxrl_lab.tokens.settings import SMALLEST, TokenSettings
from maxrl_lab.tokens.study import Study
from maxrl_lab.tokens.tasks import TokenTask

FEW = ("rloo", "grpo", "maxrl")
"""The methods of the paper's Fig. 4."""
TABLE_4 = (
    *FEW,
    "pkpo:k=N/2",
    "grpo | entropy_bonus:coefficient=0.01",
    "grpo | differential_smoothing:gamma=0.05",
)
"""Those of its Table 4."""


@dataclass(frozen=True)
class Methods(Group):
    """Methods: every estimator at one N."""

    estimators: Names = TABLE_4
    """Methods that are compared: estimators, each with a surrogate after ` | ` if it has one."""
    rollouts: Count = 16
    """Number N of rollouts of each problem."""


@dataclass(frozen=True)
class Tasks(Group):
    """Tasks: few problems of each, seen again and again."""

    tasks: Annotated[tuple[str, ...], Each(Choice(("modular_sum", "countdown")))] = ("countdown",)
    """Names of the tasks: modular_sum, countdown."""
    training_set: Count = 1024
    """Number of problems in the fixed training set; an epoch is once through it."""
    sum_length: Count = 6
    """Largest number of digits of a modular sum."""
    shortest_sum: Count = 3
    """Smallest number of digits of a modular sum."""
    sum_pretrain_until: Annotated[float, Interval(0, 1, closed_high=True)] = 0.25
    """Validation pass@1 on sums at which their pretraining ends; a policy that guesses has 1 / modulus."""
    sum_pretrain_steps: Count = 3000
    """Largest number of updates of the pretraining on sums, which takes longer than that on countdown."""
    sum_pretrain_batch: Count = 256
    """Number of sums in each update of the pretraining."""
    sum_pretrain_rate: Rate = 2e-3
    """Learning rate of the pretraining on sums."""
    modulus: Annotated[int, Whole(2)] = 23
    """Modulus of the sums, whose digits lie below it."""
    numbers: Annotated[int, Whole(2, MAX_NUMBERS)] = 3
    """Number of given numbers in a countdown problem."""
    largest: Annotated[int, Whole(1, MAX_LARGEST)] = 12
    """Largest given number, and largest target, of a countdown problem."""

    def task(self, name: str) -> TokenTask:
        """Return the task of a name."""
        makers: dict[str, Callable[[], TokenTask]] = {
            "modular_sum": lambda: ModularSum(
                self.sum_length, self.modulus, scratchpad=True, shortest=self.shortest_sum
            ),
            "countdown": lambda: Countdown(self.numbers, self.largest),
        }
        return makers[name]()


@dataclass(frozen=True)
class Settings(KnownRates, TokenSettings, Tasks, Methods):
    """Methods, tasks, policy, pretraining, training and evaluation."""

    pretrain_until: Annotated[float, Interval(0, 1, closed_high=True)] = 0.04
    """Validation pass@1 at which pretraining ends, so that every seed starts alike; 1 makes all pretrain_steps."""
    steps: Count = 800
    """Number of updates; an epoch has training_set / prompts of them."""
    prompts: Count = 64
    """Number of prompts in each update."""
    learning_rates: Rates = (3e-4, 1e-3, 3e-3, 1e-2)
    """Learning rates of AdamW that are swept alike for every method."""
    seeds: Count = 5
    """Number of reported runs of each method; a seed redraws pretraining, training problems and all rollouts."""
    sweep_seeds: Count = 2
    """Number of seeds of the sweep that chooses learning rates; none of them is reported."""
    sweep_steps: Annotated[int, Whole(0)] = 320
    """Number of updates of the sweep's runs, or 0 for as many as the reported runs have."""
    memory: Positive = 0.0625
    """GiB for activations in each process; what does not fit is done in parts, which changes results by rounding."""
    held_out: Count = 256
    """Number of held-out problems, and of the validation problems that choose learning rates."""
    samples: Annotated[int, Whole(4)] = 256
    """Number of answers to each held-out problem at the end; a quarter of them during training and in the sweep."""
    measurements: Count = 20
    """Number of evaluations during training after the first."""

    def __post_init__(self) -> None:
        """Check also the methods, and that the training set is a whole number of batches."""
        super().__post_init__()
        if self.training_set % self.prompts:
            raise InputError(f"training_set must be a multiple of prompts = {self.prompts}, got {self.training_set}")
        self.check_methods(self.estimators, (self.rollouts,))

    def study(self, name: str, context: Context) -> Study:
        """Return the policies for a task."""
        context = replace(context, checkpoint=context.checkpoint.stage(name))
        return Study(self.task(name), self.pretrained_on(name), context, self.training_set)

    def pretrained_on(self, name: str) -> "Settings":
        """Return the settings with a task's own pretraining."""
        if name != "modular_sum":
            return self
        return replace(
            self,
            pretrain_until=self.sum_pretrain_until,
            pretrain_steps=self.sum_pretrain_steps,
            pretrain_batch=self.sum_pretrain_batch,
            pretrain_rate=self.sum_pretrain_rate,
        )


PRESETS = {
    "smoke": Settings(
        **{**SMALLEST, "held_out": 4},
        estimators=FEW,
        sweep_seeds=1,
        sweep_steps=0,
        tasks=("modular_sum", "countdown"),
        training_set=8,
        sum_length=3,
        shortest_sum=2,
        sum_pretrain_until=1.0,
        sum_pretrain_steps=12,
        sum_pretrain_batch=8,
        rollouts=4,
    ),
    "quick": Settings(
        estimators=FEW, seeds=3, steps=200, measurements=10, held_out=128, fixed_rates=known_rates("data_scarce")
    ),
    "standard": Settings(),
    # Table 4's methods, groups and epochs (k = 16 of PKPO's 128 rollouts), with the paper's maze policy in place of
    # its language model: countdown is no GSM8K. Held-out answers are drawn at temperature 1, in the paper at 0.6 and
    # top-p 0.95.
    "full": Settings(
        estimators=tuple(name.replace("k=N/2", "k=16") for name in TABLE_4),
        width=256,
        layers=4,
        heads=4,
        mlp=1024,
        pretrain_rate=5e-4,
        steps=1500,
        sweep_steps=0,
        learning_rates=(3e-5, 1e-4, 3e-4),
        prompts=256,
        held_out=512,
        samples=1024,
        measurements=30,
        memory=16.0,
        training_set=7680,
        largest=30,
        numbers=4,
        rollouts=128,
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the tables of the comparison on each task."""

    def named(task: str, row: Row) -> Row:
        epoch = {"epoch": row["step"] * settings.prompts / settings.training_set} if "step" in row else {}
        return {"task": task, **row, **epoch}

    tables: Tables = {}
    for task in settings.tasks:
        compared = compare(
            settings.study(task, context), settings.estimators, (settings.rollouts,), fixed=settings.fixed, section=task
        )
        append(tables, {name: [named(task, row) for row in rows] for name, rows in compared.tables.items()})
    return tables
