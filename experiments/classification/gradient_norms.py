"""Which examples move the policy, measured by the exact expected gradient of every example at its pass rate?

Fig. 8 of arXiv:2602.02710v1 estimates it with 131,072 rollouts per example on ImageNet; here |w_N(p) grad p| is exact,
per example of a half-trained classifier of three-digit numbers (`envs.digits`), for every N and in the population
limit. In the paper cross-entropy and MaxRL are high near p = 0 and fall, GRPO peaks near p = 0.5, REINFORCE is tiny.

    maxrl-lab run gradient_norms        (some seconds)

Table: `rows` (a row per seed, example and curve).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from envs.digits import three_digits
from experiments._shared import Objectives, check_estimators
from experiments.classification._shared import Classifiers, Policy
from maxrl_lab import exact, objectives
from maxrl_lab.policies.stack import Stack
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, Names, Rate
from maxrl_lab.settings import Settings as Base
from maxrl_lab.training import fit
from maxrl_lab.training.methods import Exact


@dataclass(frozen=True)
class Curves(Base):
    """Curves: whose gradients are measured."""

    objectives: Objectives = ("expected_reward", "grpo_limit", "maximum_likelihood")
    """Objectives whose gradient is measured: the population limits."""
    estimators: Names = ("rloo", "grpo", "maxrl")
    """Estimators whose expected gradient is measured at every N."""
    rollouts: Counts = (16, 128, 1024)
    """Numbers N of rollouts of each image."""


@dataclass(frozen=True)
class Training(Base):
    """Training: cross-entropy before the measurement."""

    steps: Count = 150
    """Number of updates before the measurement: enough that pass rates cover the whole range."""
    learning_rate: Rate = 0.3
    """Learning rate of SGD with momentum 0.9."""
    batch: Count = 128
    """Number of images in each update."""


@dataclass(frozen=True)
class Examples(Base):
    """Examples: on what gradients are measured."""

    seeds: Count = 5
    """Number of networks."""
    examples: Count = 600
    """Number of fresh training images measured on each network."""


@dataclass(frozen=True)
class Settings(Examples, Training, Policy, Curves):
    """The network, how far it is trained, and what is measured on it."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at every N."""
        super().__post_init__()
        check_estimators(self.estimators, self.rollouts)


PRESETS = {
    "smoke": Settings(rollouts=(16,), seeds=2, steps=5, batch=16, hidden=(16,), examples=20),
    "quick": Settings(),
    "standard": Settings(seeds=10, examples=400),
    "full": Settings(rollouts=(16, 128, 1024, 4096), seeds=10, steps=300, hidden=(256, 256), examples=1000),
}
"""`full` has the paper's number of examples; its 1500 updates would leave no hard example on pictures of digits."""

_EXAMPLES_AT_ONCE = 50


def run(settings: Settings, context: Context) -> Tables:
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
    return {"rows": rows}


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
    policies = Classifiers(settings.hidden, range(settings.seeds), context.device)
    fit.fit(
        policies.stack,
        [Exact("maximum_likelihood")] * settings.seeds,
        [settings.learning_rate] * settings.seeds,
        fit.Optimisation(steps=settings.steps, momentum=0.9),
        batch=lambda step: policies.batch(settings.batch, step),
        checkpoint=context.checkpoint.stage("training"),
        progress=context.progress("gradient_norms, training"),
    )
    return policies.stack


def _rows(seed: int, name: str, rollouts: int | None, pass_rate: Tensor, norm: Tensor) -> list[Row]:
    columns = enumerate(zip(pass_rate.tolist(), norm.abs().tolist(), strict=True))
    return [
        {"seed": seed, "example": example, "curve": name, "rollouts": rollouts, "pass_rate": p, "gradient_norm": size}
        for example, (p, size) in columns
    ]
