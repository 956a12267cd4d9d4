"""With an exact likelihood to compare with: how near does each estimator come to cross-entropy training?

Section 6.1 of arXiv:2602.02710v1 (Fig. 2 and 9) trains a ResNet-50 on ImageNet from scratch: the untrained pass rate
is about 1/1000, REINFORCE stays there even at 1024 rollouts, MaxRL approaches cross-entropy as rollouts grow, GRPO
lies between. Here the images are three handwritten digits side by side, one of 1000 classes (`envs.digits`), and the
policy is a small multilayer perceptron; estimators sample N classes of each image and are told right or wrong. Where
MaxRL stays behind cross-entropy, two things can be the reason: bias, which leaves out the share (1-p)^(N-1) of the
likelihood gradient at pass rate p (37% at p = 0.001 and N = 1000), and noise. So Algorithm 1's exact mean is followed
too, which has the bias alone.

Every method's learning rate is swept alike on seeds that are not reported, and the rate with the best mean final
pass@1 on fresh training images is used for all reported seeds; `quick` takes the rates that `standard` chose. All runs
are one batched program.

    maxrl-lab run classification        (two minutes; `standard` thirty, `full` wants a GPU)

Tables: `sweep` (the end of every swept run, if any), `curves` (a row per reported run and measured step), `coverage`
(pass@k of the reported runs at the end). The column `kind` is `sampled`, `expected` (an estimator's exact mean) or
`exact` (cross-entropy).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from envs.digits import three_digits
from experiments._shared import KnownRates, Seeds, known_rates
from experiments.classification._shared import Classifiers, Policy
from maxrl_lab import evaluate
from maxrl_lab.policies.stack import Stack
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, Interval, MaybeNames, Names, Rates
from maxrl_lab.settings import Settings as Base
from maxrl_lab.training import fit
from maxrl_lab.training.methods import Exact, Expected, Method, Sampled
from maxrl_lab.training.sweep import Run, compare, in_blocks


@dataclass(frozen=True)
class Methods(Base):
    """Methods: cross-entropy, which needs no rollouts, and every estimator at every N."""

    estimators: Names = ("mean_centred", "grpo", "maxrl")
    """Estimators that are compared with cross-entropy on sampled classes."""
    expected: MaybeNames = ("maxrl",)
    """Estimators whose exact mean is followed too, without sampling, which leaves their bias and no noise."""
    rollouts: Counts = (16, 128, 1024, 4096)
    """Numbers N of rollouts of each image."""
    learning_rates: Rates = (0.03, 0.1, 0.2, 0.4, 1.0, 3.0, 10.0)
    """Learning rates of SGD that are swept alike for every method."""


@dataclass(frozen=True)
class Training(Base):
    """Training: SGD with a cosine schedule after a warm-up of one step in twenty."""

    steps: Count = 1000
    """Number of updates of each run."""
    batch: Count = 64
    """Number of images in each update."""
    momentum: Annotated[float, Interval(0, 1, closed_low=True)] = 0.9
    """Momentum of SGD, as in the paper."""
    runs_at_once: Count = 50
    """Most runs trained as one batched program; it bounds memory and changes results by rounding only."""


@dataclass(frozen=True)
class Evaluation(Base):
    """Evaluation: exact pass rates of fresh training images and of held-out ones."""

    test_images: Count = 1000
    """Number of held-out images, written with other digit pictures than training, and of images that choose rates."""
    coverage_ks: Counts = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    """Values of k in the final coverage curve (Fig. 9)."""
    measurements: Count = 10
    """Number of evaluations of a reported run after the first."""


@dataclass(frozen=True)
class Settings(Evaluation, Training, Policy, Seeds, KnownRates, Methods):
    """Methods, seeds, policy, training and evaluation."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at every N."""
        super().__post_init__()
        self.methods()

    def methods(self) -> dict[str, list[Method]]:
        """Return cross-entropy and every estimator at every N, and apart the exact means, which have the same names."""
        sampled = [Sampled(name, count) for name in self.estimators for count in self.rollouts]
        methods: dict[str, list[Method]] = {
            "sampled": [Exact("maximum_likelihood"), *sampled],
            "expected": [Expected(name, count) for name in self.expected for count in self.rollouts],
        }
        return {kind: listed for kind, listed in methods.items() if listed}

    def optimisation(self, measurements: int) -> fit.Optimisation:
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
    "quick": Settings(steps=400, seeds=3, fixed_rates=known_rates("classification")),
    "standard": Settings(),
    "full": Settings(
        learning_rates=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        seeds=10,
        steps=3000,
        batch=256,
        hidden=(256, 256),
        test_images=5000,
        measurements=60,
    ),
}
"""The ends of the swept rates are worse than the middle for every method at every N; REINFORCE stays near chance, a
pass@1 of 0.001 to 0.008, at every rate. `standard` trains cross-entropy until its cosine schedule leaves a pass@1 of
0.85 on training images; twice as many updates leave 0.94. `full` has the paper's momentum, schedule, batch, numbers of
rollouts and rates; its network and its number of updates are smaller than those of 20 epochs of ImageNet.
"""


def run(settings: Settings, context: Context) -> Tables:
    """Return the swept runs' last rows, and the reported runs' learning curves and final coverage."""
    tables: Tables = {}
    for kind, methods in settings.methods().items():
        append(tables, _compare(kind, methods, settings, context))
    return tables


def _compare(kind: str, methods: Sequence[Method], settings: Settings, context: Context) -> Tables:
    """Return the tables of methods whose names are distinct."""

    def train(stage: str, measurements: int, runs: Sequence[Run]) -> Tables:
        def block(number: int, runs: Sequence[Run]) -> Tables:
            return _train(runs, f"{stage}-{kind}-{number}", measurements, settings, context)

        return in_blocks(runs, settings.runs_at_once, block)

    def sweep(runs: Sequence[Run]) -> list[Row]:
        return [row for row in train("sweep", 1, runs)["curves"] if row["step"] == settings.steps]

    compared = compare(
        methods,
        settings.learning_rates,
        seeds=settings.seeds,
        sweep_seeds=settings.sweep_seeds,
        score="train_pass_at_1",
        sweep=sweep,
        report=lambda runs: train("report", settings.measurements, runs),
        fixed=settings.fixed,
        section="expected" if kind == "expected" else "",
    )
    return {"sweep": compared.sweep, **compared.report} if compared.sweep else compared.report


def _train(runs: Sequence[Run], name: str, measurements: int, settings: Settings, context: Context) -> Tables:
    """Train some runs as one batched program; return their curves and their coverage at the end."""
    policies = Classifiers(settings.hidden, [run.seed for run in runs], context.device)
    training = policies.images("sweep images", settings.test_images, 0)
    held_out = three_digits("test").sample(settings.test_images, generator("held-out images"))
    shared = [part.to(context.device).expand(len(runs), *part.shape) for part in held_out]

    def measure(step: int) -> Tables:
        on_training = _measure(policies.stack, *training)[0].mean(1)
        rates, top_1 = _measure(policies.stack, *shared)
        curves = [
            {
                **_head(run, step),
                "train_pass_at_1": float(on_training[index]),
                "pass_at_1": float(rates[index].mean()),
                "pass_at_128": float(_coverage(rates[index], 128)),
                "top_1": float(top_1[index]),
            }
            for index, run in enumerate(runs)
        ]
        coverage = [
            {**_head(run, step), "k": k, "coverage": float(_coverage(rates[index], k))}
            for index, run in enumerate(runs)
            for k in settings.coverage_ks
        ]
        return {"curves": curves, "coverage": coverage} if step == settings.steps else {"curves": curves}

    return fit.fit(
        policies.stack,
        [run.method for run in runs],
        [run.learning_rate for run in runs],
        settings.optimisation(measurements),
        batch=lambda step: policies.batch(settings.batch, step),
        measure=measure,
        checkpoint=context.checkpoint.stage(name),
        progress=context.progress(f"classification {name}"),
    )


def _head(run: Run, step: int) -> Row:
    """Return the columns that name a run and a number of updates."""
    return {"kind": run.method.kind, **run.row(step)}


def _measure(stack: Stack, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return exact pass rates (R, B) and the share of images whose most likely class is right (R,)."""
    with torch.no_grad():
        log_probs = stack(pixels).log_softmax(-1)
    rates = log_probs.gather(-1, labels[..., None]).squeeze(-1).double().exp().clamp(max=1.0)
    return rates, (log_probs.argmax(-1) == labels).double().mean(-1)


def _coverage(rates: Tensor, k: int) -> Tensor:
    """Return the exact coverage at k, NaN for a run that has diverged."""
    return evaluate.exact_coverage(rates, [k])[0] if bool(rates.isfinite().all()) else rates.mean()
