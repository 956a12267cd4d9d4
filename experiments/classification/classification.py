"""With an exact likelihood to compare with: how near does each estimator come to cross-entropy training?

Section 6.1 of arXiv:2602.02710v1 (Fig. 2 and 9) trains a ResNet-50 on ImageNet from scratch: the untrained pass rate
is about 1/1000, REINFORCE stays there even at 1024 rollouts, MaxRL approaches cross-entropy as rollouts grow, GRPO
lies between. Here the images are three handwritten digits side by side, one of 1000 classes (`envs.classification`),
and the policy is a small multilayer perceptron; estimators sample N classes an image and are told right or wrong.

Every method's learning rate is swept alike on seeds of their own, the best by mean final pass@1 on fresh training
images is used for all reported seeds, and the sweep is in the rows. All runs are one batched program.

    maxrl-lab run classification        (two to three minutes; `full` wants a GPU)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.digits import CLASSES, PIXELS, three_digits
from maxrl_lab import evaluate, specs
from maxrl_lab.classification import ClassificationBatch
from maxrl_lab.policies.stack import Stack, mlp, seeded
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import check_lists, check_rates
from maxrl_lab.training import fit
from maxrl_lab.training.methods import Exact, Method, Sampled
from maxrl_lab.training.sweep import Run, blocks, choose_learning_rates, reported_runs, swept_runs


@dataclass(frozen=True)
class Settings:
    """Methods, policy and optimisation."""

    estimators: tuple[str, ...] = ("rloo", "grpo", "maxrl")
    """Compared with cross-entropy, which needs no rollouts."""
    rollouts: tuple[int, ...] = (16, 128, 1024)
    """N."""
    learning_rates: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """Swept alike for every method."""
    sweep_seeds: int = 2
    """Seeds of the sweep; none of them is reported."""
    seeds: int = 5
    """Reported runs per method."""
    steps: int = 200
    """Updates; cosine schedule after a warm-up of one step in twenty."""
    batch: int = 128
    """Images per update."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the perceptron's hidden layers."""
    momentum: float = 0.9
    """Of SGD, as in the paper."""
    test_images: int = 1000
    """Held-out images, written with other digit pictures than training."""
    coverage_ks: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    """k of the final coverage curve (Fig. 9)."""
    measurements: int = 10
    """Evaluations during training."""
    runs_at_once: int = 50
    """Runs trained as one batched program: bounds memory, changes results by rounding only."""

    def __post_init__(self) -> None:
        """Check counts and names."""
        check_lists(
            estimators=self.estimators,
            rollouts=self.rollouts,
            learning_rates=self.learning_rates,
            coverage_ks=self.coverage_ks,
        )
        for name in ("seeds", "sweep_seeds", "steps", "batch", "test_images", "measurements", "runs_at_once"):
            specs.check_count(name, getattr(self, name))
        for width in (*self.hidden, *self.coverage_ks):
            specs.check_count("hidden and coverage_ks", width)
        check_rates(*self.learning_rates)
        self.methods()

    def methods(self) -> list[Method]:
        """Return cross-entropy and every estimator at every N."""
        sampled = [Sampled(name, count) for name in self.estimators for count in self.rollouts]
        return [Exact("maximum_likelihood"), *sampled]

    def recipe(self, measurements: int) -> fit.Optimisation:
        """Return how every run is optimised, and that it is measured so many times after the start."""
        return fit.Optimisation(
            steps=self.steps,
            momentum=self.momentum,
            schedule="cosine",
            warmup=max(1, self.steps // 20),
            measure_every=max(1, self.steps // measurements),
        )


PRESETS = {
    "smoke": Settings(
        rollouts=(4, 16),
        learning_rates=(0.3, 1.0),
        seeds=2,
        steps=6,
        batch=16,
        hidden=(16,),
        test_images=50,
        measurements=2,
    ),
    "quick": Settings(),
    "full": Settings(
        rollouts=(4, 16, 64, 256, 1024),
        learning_rates=(0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        seeds=10,
        steps=3000,
        batch=256,
        hidden=(256, 256),
        test_images=5000,
        measurements=60,
    ),
}


def run(settings: Settings, context: Context) -> list[Row]:
    """Return the sweep's final rows, the reported runs' learning curves, and their final coverage."""
    swept = swept_runs(settings.methods(), settings.learning_rates, settings.seeds, settings.sweep_seeds)
    sweep = [row for row in _train(swept, "sweep", settings, context) if row["step"] == settings.steps]
    best = choose_learning_rates(sweep, "train_pass_at_1")
    return sweep + _train(reported_runs(settings.methods(), best, settings.seeds), "report", settings, context)


def _train(runs: Sequence[Run], stage: str, settings: Settings, context: Context) -> list[Row]:
    rows: list[Row] = []
    for number, block in blocks(runs, settings.runs_at_once):
        rows += _train_block(block, stage, f"{stage}-{number}", settings, context)
    return rows


def _train_block(runs: Sequence[Run], stage: str, name: str, settings: Settings, context: Context) -> list[Row]:
    seeds = [each.seed for each in runs]
    networks = [seeded(lambda: mlp([PIXELS, *settings.hidden, CLASSES]), seed) for seed in seeds]
    stack = Stack(networks).to(context.device)
    training = three_digits("train")

    def images(purpose: str, count: int, step: int) -> tuple[Tensor, Tensor]:
        """Every run's images (R, count, 192) and labels (R, count): equal for equal seeds."""
        drawn = {seed: training.sample(count, generator(purpose, seed, step)) for seed in dict.fromkeys(seeds)}
        pixels, labels = zip(*(drawn[seed] for seed in seeds), strict=True)
        return torch.stack(pixels).to(context.device), torch.stack(labels).to(context.device)

    def batch(step: int) -> ClassificationBatch:
        pixels, labels = images("training images", settings.batch, step)
        return ClassificationBatch(stack(pixels).log_softmax(-1), labels, seeds, step)

    check = images("sweep images", settings.test_images, 0)
    held_out = three_digits("test").sample(settings.test_images, generator("held-out images"))

    def measure(step: int) -> list[Row]:
        on_training = _measure(stack, *check)[0].mean(1)
        rates, top1 = _measure(stack, *(each.to(context.device).expand(len(runs), *each.shape) for each in held_out))
        final = step == settings.steps and stage == "report"
        rows = []
        for place, each in enumerate(runs):
            head = each.row(stage, step)
            measured = {
                "train_pass_at_1": float(on_training[place]),
                "pass_at_1": float(rates[place].mean()),
                "pass_at_128": float(_coverage(rates[place], 128)),
                "top_1": float(top1[place]),
            }
            rows.append({**head, **measured, "k": None, "coverage": None})
            for k in settings.coverage_ks if final else ():
                rows.append({**head, "stage": "coverage", "k": k, "coverage": float(_coverage(rates[place], k))})
        return rows

    return fit.fit(
        stack,
        [each.method for each in runs],
        [each.learning_rate for each in runs],
        settings.recipe(settings.measurements if stage == "report" else 1),
        batch=batch,
        measure=measure,
        checkpoint=context.checkpoint.stage(name),
        progress=context.progress(f"classification {name}"),
    )


def _measure(stack: Stack, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return exact pass rates (R, B) and the share of images whose most likely class is right (R,)."""
    with torch.no_grad():
        log_probs = stack(pixels).log_softmax(-1)
    rates = log_probs.gather(-1, labels[..., None]).squeeze(-1).double().exp().clamp(max=1.0)
    return rates, (log_probs.argmax(-1) == labels).double().mean(-1)


def _coverage(rates: Tensor, k: int) -> Tensor:
    """Exact coverage at k, NaN for a run that has diverged."""
    return evaluate.exact_coverage(rates, [k])[0] if bool(rates.isfinite().all()) else rates.mean()
