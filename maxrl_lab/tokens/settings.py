"""The settings that all token experiments share: the policy, its pretraining, how it is trained and evaluated.

Trained policies are kept by their settings (`maxrl_lab.tokens.policy_cache`): every setting is part of a policy's
address unless it is declared here to change nothing about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from maxrl_lab.fields import fields_of
from maxrl_lab.policies.transformer import Shape
from maxrl_lab.settings import Choice, Count, Interval, Positive, Processes, Rate, Rates, Settings, Whole, check_lists
from maxrl_lab.tokens.decoding import EOS
from maxrl_lab.tokens.writing import PRECISIONS, Writing
from maxrl_lab.training.methods import parse_method


@dataclass(frozen=True)
class Policy(Settings):
    """Policy: a small transformer, like Qwen2."""

    width: Count = 64
    """Width of the residual stream."""
    layers: Count = 2
    """Number of layers of the transformer."""
    heads: Count = 2
    """Number of query heads; there are half as many heads of keys and values."""
    mlp: Count = 128
    """Number of hidden units of each SwiGLU."""
    precision: Annotated[str, Choice(PRECISIONS)] = "float32"
    """Precision of the arithmetic: float32, or bfloat16, which is faster and only nearly on-policy."""

    def shape(self, vocabulary: int, context: int) -> Shape:
        """Return the size of the policy."""
        kv_heads = max(1, self.heads // 2)
        return Shape(vocabulary, self.width, self.layers, self.heads, kv_heads, self.mlp, context)


@dataclass(frozen=True)
class Pretraining(Settings):
    """Pretraining: supervised, on solutions of fresh problems; where every method starts."""

    pretrain_until: Annotated[float, Interval(0, 1, closed_high=True)] = 0.03
    """Validation pass@1 at which pretraining ends, so that every seed starts alike; 1 makes all pretrain_steps."""
    pretrain_steps: Count = 600
    """Largest number of updates of the pretraining."""
    pretrain_batch: Count = 32
    """Number of problems in each update of the pretraining."""
    pretrain_rate: Rate = 4e-3
    """Learning rate of AdamW in pretraining, constant after a short warm-up."""


@dataclass(frozen=True)
class Training(Settings):
    """Training: on-policy, with AdamW at a constant rate after a tenth of warm-up."""

    steps: Count = 30
    """Number of updates, each on its own batch of answers."""
    prompts: Count = 16
    """Number of prompts in each update."""
    learning_rates: Rates = (1e-4, 2e-4)
    """Learning rates of AdamW that are swept alike for every method."""
    clip: Positive = 1.0
    """Bound on the gradient norm of each update, of pretraining's too; 1 is what the jobs of TRL and verl have."""
    seeds: Count = 3
    """Number of reported runs of each method; a seed redraws pretraining, training problems and all rollouts."""
    sweep_seeds: Count = 1
    """Number of seeds of the sweep that chooses learning rates; none of them is reported."""
    sweep_steps: Annotated[int, Whole(0)] = 0
    """Number of updates of the sweep's runs, or 0 for as many as the reported runs have."""
    memory: Positive = 1.0
    """GiB for activations in each process; what does not fit is done in parts, which changes results by rounding."""
    processes: Processes = 0
    """Number of runs trained side by side, each on one thread, or 0 for one a core; it changes no result."""


@dataclass(frozen=True)
class Evaluation(Settings):
    """Evaluation: sampled answers to held-out problems."""

    held_out: Count = 40
    """Number of held-out problems, and of the validation problems that choose learning rates."""
    samples: Annotated[int, Whole(4)] = 128
    """Number of answers to each held-out problem at the end; a quarter of them during training and in the sweep."""
    measurements: Count = 3
    """Number of evaluations during training after the first."""


@dataclass(frozen=True)
class TokenSettings(Evaluation, Training, Pretraining, Policy):
    """The policy, its pretraining, and how it is trained and evaluated."""

    def __post_init__(self) -> None:
        """Check also that the heads divide the width."""
        super().__post_init__()
        self.shape(vocabulary=3, context=8)

    def writing(self, answer_length: int, temperature: float = 1.0, top_p: float = 1.0) -> Writing:
        """Return how answers are sampled."""
        return Writing(answer_length, EOS, temperature, top_p, self.memory, self.precision)

    def check_methods(self, names: Sequence[str], rollouts: Sequence[int]) -> None:
        """Raise `InputError` unless every method exists at every N, and none is there twice."""
        check_lists(rollouts=tuple(rollouts))
        for count in rollouts:
            check_lists(methods=tuple(parse_method(name, count).name for name in names))


CHANGE_NO_RUN = frozenset(
    {"learning_rates", "seeds", "sweep_seeds", "sweep_steps"}
    | {field.name for field in fields_of(TokenSettings) if not field.changes_results}
)
"""Settings that say which runs there are, or that change no result at all: they change nothing about any one run.

(`memory` is not among them: it changes the rounding of a gradient, which training amplifies.)
"""
CHANGE_NO_BASE = CHANGE_NO_RUN | {"steps", "prompts", "held_out", "samples", "measurements"}
"""Settings that pretraining does not read."""

SMALLEST: dict[str, Any] = {
    "width": 16,
    "layers": 1,
    "heads": 2,
    "mlp": 16,
    "pretrain_until": 1.0,
    "pretrain_steps": 12,
    "pretrain_batch": 8,
    "steps": 4,
    "prompts": 4,
    "learning_rates": (1e-3,),
    "seeds": 2,
    "held_out": 6,
    "samples": 16,
    "measurements": 1,
    "processes": 1,
}
"""Settings that take a few seconds and learn nothing."""
