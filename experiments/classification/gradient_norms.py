"""Which examples move the policy? The size of each example's exact expected gradient against its pass rate.

Fig. 8 of arXiv:2602.02710v1 estimates it with 131,072 rollouts per example on ImageNet; here |w_N(p) grad p| is exact,
per example of a half-trained classifier (`envs.classification`), for every N and in the population limit. In the paper
cross-entropy and MaxRL are high near p = 0 and fall, GRPO peaks near p = 0.5, REINFORCE is tiny.

    maxrl-lab run gradient_norms        (some seconds)
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from envs.digits import CLASSES, PIXELS, three_digits
from experiments._shared import check_estimators
from maxrl_lab import exact, objectives, specs
from maxrl_lab.classification import ClassificationBatch
from maxrl_lab.policies.stack import Stack, mlp, seeded
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import check_lists, check_rates
from maxrl_lab.training import fit
from maxrl_lab.training.methods import Exact


@dataclass(frozen=True)
class Settings:
    """The network, how far it is trained, and what is evaluated on it."""

    objectives: tuple[str, ...] = ("expected_reward", "grpo_limit", "maximum_likelihood")
    """Population limits."""
    estimators: tuple[str, ...] = ("rloo", "grpo", "maxrl")
    """At finite N."""
    rollouts: tuple[int, ...] = (16, 128, 1024)
    """N."""
    seeds: int = 5
    """Networks."""
    steps: int = 150
    """Cross-entropy updates before the measurement: enough that pass rates cover the whole range."""
    learning_rate: float = 0.3
    """Of SGD with momentum 0.9."""
    batch: int = 128
    """Images per update."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the perceptron's hidden layers."""
    examples: int = 600
    """Fresh training images measured."""

    def __post_init__(self) -> None:
        """Check counts and names."""
        check_lists(objectives=self.objectives, estimators=self.estimators, rollouts=self.rollouts)
        for name in ("seeds", "steps", "batch", "examples"):
            specs.check_count(name, getattr(self, name))
        check_rates(self.learning_rate)
        for name in self.objectives:
            objectives.resolve(name)
        check_estimators(self.estimators, self.rollouts)


PRESETS = {
    "smoke": Settings(rollouts=(16,), seeds=2, steps=5, batch=16, hidden=(16,), examples=20),
    "quick": Settings(),
    "full": Settings(rollouts=(16, 64, 256, 1024, 4096), seeds=10, steps=300, hidden=(256, 256), examples=10_000),
}

_EXAMPLES_AT_ONCE = 50


def run(settings: Settings, context: Context) -> list[Row]:
    """Return a row per seed, example and curve: pass_rate, curve name, rollouts (None: population), gradient_norm."""
    stack = _half_trained(settings, context)
    rows = []
    for seed in context.progress("gradient_norms")(range(settings.seeds)):
        pixels, labels = three_digits("train").sample(settings.examples, generator("examples", seed))
        log_rate, norm = slopes(stack.networks[seed], pixels.to(context.device), labels.to(context.device))
        pass_rate = log_rate.exp()
        for name in settings.objectives:
            rows += _rows(seed, name, None, pass_rate, norm * objectives.resolve(name).log_slope(log_rate))
        for name in settings.estimators:
            for count in settings.rollouts:
                weight = exact.weight(name, rollouts=count, pass_rate=pass_rate)
                rows += _rows(seed, name, count, pass_rate, norm * weight * pass_rate)
    return rows


def slopes(network: torch.nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return each example's log p and |grad log p| over all parameters, both (B,), float64."""
    parameters = {name: value.detach() for name, value in network.named_parameters()}

    def log_pass_rate(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        log_probs: Tensor = functional_call(network, weights, (image,)).log_softmax(-1)
        return log_probs.gather(0, label).squeeze(0)

    def one(image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        gradient = grad(log_pass_rate)(parameters, image, label)
        square = sum((part.square().sum() for part in gradient.values()), torch.zeros((), device=image.device))
        return log_pass_rate(parameters, image, label), square

    logs, squares = vmap(one, in_dims=(0, 0), chunk_size=_EXAMPLES_AT_ONCE)(pixels, labels[:, None])
    return logs.double().clamp(max=0.0), squares.double().sqrt()


def _half_trained(settings: Settings, context: Context) -> Stack:
    """Train every seed's network by cross-entropy."""
    seeds = range(settings.seeds)
    networks = [seeded(lambda: mlp([PIXELS, *settings.hidden, CLASSES]), seed) for seed in seeds]
    stack = Stack(networks).to(context.device)
    training = three_digits("train")

    def batch(step: int) -> ClassificationBatch:
        drawn = [training.sample(settings.batch, generator("training images", seed, step)) for seed in seeds]
        pixels, labels = (torch.stack(part).to(context.device) for part in zip(*drawn, strict=True))
        return ClassificationBatch(stack(pixels).log_softmax(-1), labels, list(seeds), step)

    fit.fit(
        stack,
        [Exact("maximum_likelihood")] * settings.seeds,
        [settings.learning_rate] * settings.seeds,
        fit.Optimisation(steps=settings.steps, momentum=0.9),
        batch=batch,
        checkpoint=context.checkpoint.stage("training"),
        progress=context.progress("gradient_norms, training"),
    )
    return stack


def _rows(seed: int, name: str, rollouts: int | None, pass_rate: Tensor, norm: Tensor) -> list[Row]:
    columns = enumerate(zip(pass_rate.tolist(), norm.abs().tolist(), strict=True))
    return [
        {"seed": seed, "example": place, "curve": name, "rollouts": rollouts, "pass_rate": p, "gradient_norm": size}
        for place, (p, size) in columns
    ]
