"""At one N, on mazes: does MaxRL beat remedies for lost diversity (entropy bonus, PKPO, Differential Smoothing, SELF)?

Table 3 and Fig. 18 of arXiv:2602.02710v1, at 128 rollouts: MaxRL has the highest pass@1 and pass@k, PKPO comes second,
the others stay near GRPO. Each remedy is one line here: an estimator, or GRPO's advantages with another surrogate
(`maxrl_lab.training.surrogates`). Beside Algorithm 1, of order N-1, stands the leave-one-out form of exact order N.
The coefficients of the entropy bonus and of Differential Smoothing are swept with the learning rates, and the best one
is reported. `full` adds the zero-sum form of order N/4.

    maxrl-lab run maze_baselines        (two minutes after `maze_scaling`, whose policies it shares; `standard`: 180)

The tables are those of `maze_scaling`.
"""

from dataclasses import dataclass

from experiments._shared import known_rates
from experiments.tokens._shared import PAPER, QUICK, SMOKE, MazeSettings
from maxrl_lab.rows import Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, MaybeNames, Names
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tokens.comparison import compare

METHODS = (
    "rloo",
    "grpo",
    "grpo | entropy_bonus:coefficient=0.01",
    "grpo | differential_smoothing:gamma=0.05",
    "grpo | greedy_gate",
    "pkpo:k=N/2",
    "maxrl",
    "maxrl_leave_one_out",
)
"""The methods of Table 3, and Fig. 18's SELF, `greedy_gate`."""
COEFFICIENTS = (
    "grpo | entropy_bonus:coefficient=0.001",
    "grpo | entropy_bonus:coefficient=0.1",
    "grpo | differential_smoothing:gamma=0.01",
    "grpo | differential_smoothing:gamma=0.2",
)
"""The same remedies with smaller and larger coefficients."""
FEW = ("rloo", "grpo", "grpo | differential_smoothing:gamma=0.01", "pkpo:k=N/2", "maxrl")
"""Those that fit into a few minutes, with the coefficient that `standard` chose."""


@dataclass(frozen=True)
class Methods(Group):
    """Methods: estimators, with or without a surrogate, at one N."""

    methods: Names = METHODS
    """Methods that are compared: estimators, each with a surrogate after ` | ` if it has one."""
    alternatives: MaybeNames = COEFFICIENTS
    """Methods among them with other options, swept alike: of a method and its alternatives the best is reported.

    Without values (`--alternatives`) every method is reported with its own options.
    """
    rollouts: Count = 16
    """Number N of rollouts of each maze."""


@dataclass(frozen=True)
class Settings(MazeSettings, Methods):
    """Methods, mazes, policy, pretraining, training and evaluation."""

    def __post_init__(self) -> None:
        """Check also that every method and alternative exists at N."""
        super().__post_init__()
        self.check_methods(self.methods, (self.rollouts,))
        for name in self.alternatives:
            self.check_methods((name,), (self.rollouts,))


PRESETS = {
    "smoke": Settings(**SMOKE, rollouts=4, alternatives=()),
    "quick": Settings(**QUICK, methods=FEW, alternatives=(), fixed_rates=known_rates("maze_baselines")),
    "standard": Settings(learning_rates=(3e-5, 1e-4, 3e-4, 1e-3)),
    # the paper's PKPO has k = 16 of its 128 rollouts
    "full": Settings(
        **{**PAPER, "prompts": 32, "steps": 20_000},
        methods=tuple(name.replace("k=N/2", "k=16") for name in (*METHODS, "maxrl_centred:order=N/4")),
        rollouts=128,
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the tables of the comparison."""
    study, counts = settings.study(context), (settings.rollouts,)
    return compare(study, settings.methods, counts, alternatives=settings.alternatives, fixed=settings.fixed).tables
