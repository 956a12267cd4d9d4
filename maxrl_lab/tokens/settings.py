"""The settings that all token experiments share: the policy, its pretraining, how it is trained and evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maxrl_lab import specs
from maxrl_lab.policies.transformer import Shape
from maxrl_lab.settings import check_lists, check_rates
from maxrl_lab.tokens.decoding import EOS
from maxrl_lab.tokens.writing import Writing
from maxrl_lab.training.methods import parse_method


@dataclass(frozen=True)
class TokenSettings:
    """The policy, its pretraining, and how it is trained and evaluated."""

    width: int = 64
    """Of the residual stream."""
    layers: int = 2
    """Of the transformer."""
    heads: int = 2
    """Query heads; half as many of keys and values."""
    mlp: int = 128
    """Hidden units of the SwiGLU."""
    pretrain_steps: int = 600
    """Updates on solutions; the policy they end with is where every method starts."""
    pretrain_batch: int = 32
    """Problems of each."""
    pretrain_rate: float = 4e-3
    """Learning rate of AdamW; cosine after a tenth of warm-up."""
    steps: int = 30
    """On-policy updates, one a batch; constant rate after a tenth of warm-up."""
    prompts: int = 16
    """Prompts of each."""
    learning_rates: tuple[float, ...] = (1e-4, 2e-4)
    """Of AdamW, swept alike for every method."""
    sweep_rollouts: int = 8
    """N at which the rate is chosen, for all N: AdamW divides out an estimator's scale."""
    seeds: int = 3
    """Reported runs per method."""
    sweep_seeds: int = 1
    """Seeds of the sweep; none of them is reported."""
    held_out: int = 40
    """Held-out problems."""
    samples: int = 128
    """Answers of each at the end; a quarter of them during training."""
    measurements: int = 3
    """Evaluations during training, after the first."""
    precision: str = "float32"
    """float32, or bfloat16 (faster, and only nearly on-policy)."""
    memory: float = 1.0
    """GiB for activations in each process; what does not fit is done in parts."""
    processes: int = 0
    """Runs trained side by side, each on one thread; 0: one a core. Changes no result."""

    def __post_init__(self) -> None:
        """Check counts and ranges."""
        check_lists(learning_rates=self.learning_rates)
        check_rates(self.pretrain_rate, *self.learning_rates)
        for name in ("pretrain_steps", "pretrain_batch", "steps", "prompts", "sweep_rollouts", "seeds", "sweep_seeds"):
            specs.check_count(name, getattr(self, name))
        for name in ("held_out", "measurements"):
            specs.check_count(name, getattr(self, name))
        specs.check_count("samples", self.samples, minimum=4)
        specs.check_count("processes", self.processes, minimum=0)
        self.shape(vocabulary=3, context=8)
        self.writing(1)

    def writing(self, answer_length: int, temperature: float = 1.0, top_p: float = 1.0) -> Writing:
        """Return how answers are drawn."""
        return Writing(answer_length, EOS, temperature, top_p, self.memory, self.precision)

    def shape(self, vocabulary: int, context: int) -> Shape:
        """Return the size of the policy."""
        kv_heads = max(1, self.heads // 2)
        return Shape(vocabulary, self.width, self.layers, self.heads, kv_heads, self.mlp, context)

    def check_methods(self, names: Sequence[str], rollouts: Sequence[int]) -> None:
        """Raise `ValueError` unless every method exists at every N, and none is there twice."""
        check_lists(rollouts=tuple(rollouts))
        for count in (*rollouts, self.sweep_rollouts):
            check_lists(methods=tuple(parse_method(name, count).name for name in names))


SMALLEST: dict[str, Any] = {
    "width": 16,
    "layers": 1,
    "heads": 2,
    "mlp": 16,
    "pretrain_steps": 12,
    "pretrain_batch": 8,
    "steps": 4,
    "prompts": 4,
    "learning_rates": (1e-3,),
    "sweep_rollouts": 4,
    "seeds": 2,
    "held_out": 6,
    "samples": 16,
    "measurements": 1,
    "processes": 1,
}
"""Settings that take a few seconds and learn nothing."""
