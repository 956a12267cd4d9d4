"""What the token experiments share: a policy pretrained on solutions, then trained from its own answers.

Every training run is a value addressed by its settings (`policy_cache`), so experiments that look at the same policies
train them once. Learning rates are swept alike for every method at one N and one seed that is not reported.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from envs.tokens import EOS, Problems, TokenTask
from experiments.context import Context, check_lists, check_rates
from experiments.policy_cache import Trained, cached
from experiments.sweep import Run, choose_learning_rates, reported_runs, swept_runs
from maxrl_lab import evaluate, fit, specs, tokens, train
from maxrl_lab.groups import Group
from maxrl_lab.policies import answers
from maxrl_lab.policies.answers import Answers
from maxrl_lab.policies.stack import Stack, seeded
from maxrl_lab.policies.transformer import Shape, Transformer
from maxrl_lab.randomness import generator
from maxrl_lab.runs import Row
from maxrl_lab.train import DivergedError


@dataclass(frozen=True)
class TokenSettings:
    """The policy, its pretraining, and how it is trained and evaluated."""

    width: int = 64
    """Of the residual stream."""
    layers: int = 2
    """Of the transformer."""
    heads: int = 4
    """Query heads; half as many of keys and values."""
    mlp: int = 128
    """Hidden units of the SwiGLU."""
    pretrain_steps: int = 400
    """Updates on solutions; the policy they end with is where every method starts."""
    pretrain_batch: int = 32
    """Problems of each."""
    pretrain_rate: float = 2e-3
    """Learning rate of AdamW; cosine after a tenth of warm-up."""
    steps: int = 60
    """On-policy updates, one a batch; constant rate after a tenth of warm-up."""
    prompts: int = 16
    """Prompts of each."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Of AdamW, swept alike for every method."""
    sweep_rollouts: int = 16
    """N at which the rate is chosen, for all N: AdamW divides out an estimator's scale."""
    seeds: int = 3
    """Reported runs per method."""
    sweep_seeds: int = 1
    """Seeds of the sweep; none of them is reported."""
    held_out: int = 64
    """Held-out problems."""
    samples: int = 256
    """Answers of each at the end; a quarter of them during training."""
    measurements: int = 4
    """Evaluations during training, after the first."""
    precision: str = "float32"
    """float32, or bfloat16 (faster, and only nearly on-policy)."""
    memory: float = 1.0
    """GiB for activations; what does not fit is done in parts."""

    def __post_init__(self) -> None:
        """Check counts and ranges."""
        check_lists(learning_rates=self.learning_rates)
        check_rates(self.pretrain_rate, *self.learning_rates)
        for name in ("pretrain_steps", "pretrain_batch", "steps", "prompts", "sweep_rollouts", "seeds", "sweep_seeds"):
            specs.check_count(name, getattr(self, name))
        for name in ("held_out", "measurements"):
            specs.check_count(name, getattr(self, name))
        specs.check_count("samples", self.samples, minimum=4)
        self.shape(vocabulary=3, context=8)
        tokens.Writing(1, memory=self.memory, precision=self.precision)

    def shape(self, vocabulary: int, context: int) -> Shape:
        """Return the size of the policy."""
        kv_heads = max(1, self.heads // 2)
        return Shape(vocabulary, self.width, self.layers, self.heads, kv_heads, self.mlp, context)

    def check_methods(self, names: Sequence[str], rollouts: Sequence[int]) -> None:
        """Raise `ValueError` unless every method exists at every N, and none is there twice."""
        check_lists(rollouts=tuple(rollouts))
        for count in (*rollouts, self.sweep_rollouts):
            check_lists(methods=tuple(train.sampled(name, count).name for name in names))


@dataclass(frozen=True)
class Evaluation:
    """Samples of every held-out problem."""

    problems: Problems
    written: Answers
    right: Tensor
    """(B, n) bool."""

    @property
    def correct(self) -> Tensor:
        """(B,) right answers of each problem."""
        return self.right.sum(1)

    def pass_at(self, ks: Sequence[int]) -> list[float]:
        """Unbiased mean pass@k of each of `ks`."""
        values: list[float] = evaluate.coverage(self.correct, self.right.shape[1], ks).tolist()
        return values


@dataclass(frozen=True)
class Workshop:
    """One task, the settings, and where policies for it are trained."""

    task: TokenTask
    settings: TokenSettings
    context: Context
    training_set: int | None = None
    """Problems of a fixed training set; None: fresh ones in every update."""

    def writing(self, temperature: float = 1.0, top_p: float = 1.0) -> tokens.Writing:
        """Return how answers are drawn."""
        settings = self.settings
        return tokens.Writing(self.task.answer_length, EOS, temperature, top_p, settings.memory, settings.precision)

    def held_out(self) -> Problems:
        """Return the held-out problems, the same for all."""
        return self.task.problems(self.settings.held_out, split="test", distinct=True)

    def problems(self, seed: int, step: int) -> Problems:
        """Return the problems of one update: equal for equal seeds, whatever the method."""
        count = self.settings.prompts
        if self.training_set is None:
            return self.task.problems(count, seed=seed + 1, step=step)
        fixed = self.task.problems(self.training_set, seed=0, distinct=True)
        each = self.training_set // count
        epoch, place = divmod(step, each)
        order = torch.randperm(self.training_set, generator=generator("epoch", seed, epoch))
        return fixed.select(order[place * count : (place + 1) * count])

    def prompts(self, problems: Problems) -> tokens.Prompts:
        """Return prompts where the policy is."""
        device = self.context.device
        return tokens.Prompts(problems.prompts.to(device), problems.lengths.to(device))

    def evaluate(self, policy: Transformer, problems: Problems, samples: int, writing: tokens.Writing, *key: str | int) -> Evaluation:
        """Draw samples of every problem."""
        stream = generator("evaluation", *key, device=self.context.device)
        written = tokens.write(policy, self.prompts(problems), samples, writing, stream)
        return Evaluation(problems, written, self.task.verify(problems.content, written.tokens, written.lengths))

    def base(self) -> Transformer:
        """Return the policy pretrained on solutions, where every method starts."""
        settings = self.settings
        names = ("width", "layers", "heads", "mlp", "pretrain_steps", "pretrain_batch", "pretrain_rate", "precision")
        key = {"task": self.task.key, "length": self.task.answer_length, **{name: getattr(settings, name) for name in names}}
        return cached("base", key, self.task.vocabulary.words, self.context.device, self._pretrain)[0]

    def _pretrain(self) -> Trained:
        settings, task = self.settings, self.task
        context = int(task.problems(1).prompts.shape[1]) + task.answer_length + _SLACK
        shape = settings.shape(len(task.vocabulary), context)
        policy = seeded(lambda: Transformer(shape), 0).to(self.context.device)
        assert isinstance(policy, Transformer)
        recipe = fit.Recipe(
            settings.pretrain_steps, "adamw", schedule="cosine", warmup=max(1, settings.pretrain_steps // 10)
        )
        fit.fit(
            Stack([policy]),
            [train.Method("objective", "maximum_likelihood")],
            [settings.pretrain_rate],
            recipe,
            batch=lambda step: _Solutions(self, policy, step),
            measure=lambda step: [],  # noqa: ARG005
            checkpoint=self.context.checkpoint.stage(f"base-{task.name}"),
            progress=self.context.progress(f"{task.name}: pretraining"),
        )
        return policy, []

    def train(self, run: Run, stage: str) -> Trained:
        """Return the base policy trained by a run, and the rows of its training."""
        ignored = ("learning_rates", "seeds", "sweep_seeds", "sweep_rollouts")
        settings = {name: value for name, value in asdict(self.settings).items() if name not in ignored}
        key = {
            "task": self.task.key,
            "length": self.task.answer_length,
            "training_set": self.training_set,
            "stage": stage,
            "run": asdict(run),
            **settings,
        }
        return cached("run", key, self.task.vocabulary.words, self.context.device, lambda: self._train(run, stage))

    def _train(self, run: Run, stage: str) -> Trained:
        policy, settings = self.base(), self.settings
        held_out, latest = self.held_out(), _Latest()
        name = f"{self.task.name}: {run.method.name}, N = {run.method.rollouts}, lr {run.learning_rate:g}, seed {run.seed}"

        def batch(step: int) -> tokens.TokenBatch:
            latest.start = time.perf_counter()
            latest.batch = self.batch(policy, self.problems(run.seed, step), run.seed, step)
            return latest.batch

        def log(step: int) -> list[Row]:
            return [{**run.row(stage, step + 1), "view": "dynamics", **latest.describe(policy)}]

        def measure(step: int) -> list[Row]:
            if stage != "report":
                return []
            samples = settings.samples // (1 if step == settings.steps else 4)
            found = self.evaluate(policy, held_out, samples, self.writing(), run.seed, step)
            ks = [1, *(k for k in KS if k <= samples)]
            curve = dict(zip(ks, found.pass_at(ks), strict=True))
            row = {**run.row(stage, step), "view": "evaluation", "samples": samples}
            return [{**row, "k": k, "pass_at_k": value} for k, value in curve.items()]

        recipe = fit.Recipe(
            settings.steps,
            "adamw",
            warmup=max(1, settings.steps // 10),
            measure_every=max(1, settings.steps // settings.measurements),
            checkpoint_every=max(10, settings.steps // 10),
        )
        try:
            rows = fit.fit(
                Stack([policy]),
                [run.method],
                [run.learning_rate],
                recipe,
                batch=batch,
                measure=measure,
                checkpoint=self.context.checkpoint.stage(_file_name(f"{stage}-{name}")),
                log=log,
                progress=self.context.progress(name),
            )
        except DivergedError as error:
            raise ValueError(
                f"{name} has diverged: its policy is NaN after {error.step} updates; leave that rate out (the last "
                "checkpoint is kept)"
            ) from None
        return policy, rows

    def batch(self, policy: Transformer, problems: Problems, seed: int, step: int) -> tokens.TokenBatch:
        """Return the trainer's view of some problems."""

        def verify(written: Tensor, lengths: Tensor) -> Tensor:
            return self.task.verify(problems.content, written, lengths)

        return tokens.TokenBatch(policy, self.prompts(problems), verify, self.writing(), seed, step)

    def choose_rates(self, names: Sequence[str]) -> tuple[dict[str, float], list[Row]]:
        """Return each method's best learning rate by training pass rate in the last quarter, and the sweep's rows."""
        settings = self.settings
        methods = {train.sampled(name, settings.sweep_rollouts): name for name in names}
        rows = []
        for run in swept_runs(list(methods), settings.learning_rates, settings.seeds, settings.sweep_seeds):
            found = self.train(run, "sweep")[1]
            last = [row["pass_rate"] for row in found if row["step"] > 0.75 * settings.steps]
            rows.append({**run.row("sweep", settings.steps), "view": "sweep", "pass_rate": float(np.mean(last))})
        best = choose_learning_rates(rows, "pass_rate")
        return {name: best[method.name, method.rollouts] for method, name in methods.items()}, rows

    def reported(self, names: Sequence[str], rollouts: Sequence[int]) -> tuple[list[tuple[str, Run]], list[Row]]:
        """Return the runs to report, each with its method's name in the settings, and the sweep that chose their rates."""
        rates, rows = self.choose_rates(names)
        runs = []
        for count in rollouts:
            methods = {train.sampled(name, count): name for name in names}
            best = {(method.name, method.rollouts): rates[name] for method, name in methods.items()}
            runs += [(methods[run.method], run) for run in reported_runs(list(methods), best, self.settings.seeds)]
        return runs, rows


KS = (1, 4, 16, 64, 256, 1024, 2048)
"""k of the evaluations, as far as there are samples."""
_SLACK = 8
"""Tokens of context beyond the longest prompt seen, for tasks whose prompts differ in length."""


class _Solutions:
    """Solutions of fresh problems, whose log-probability is what pretraining climbs."""

    def __init__(self, workshop: Workshop, policy: Transformer, step: int) -> None:
        self.workshop, self.policy = workshop, policy
        settings = workshop.settings
        self.problems = workshop.task.problems(settings.pretrain_batch, seed=0, step=step)
        random = np.random.default_rng(generator("solutions", step).initial_seed())
        self.solutions = workshop.task.solutions(self.problems.content, random)

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Not here."""
        raise ValueError("pretraining samples nothing")

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:  # noqa: ARG002
        """Return the log-probabilities of the solutions (1, B)."""
        device = self.workshop.context.device
        with self.workshop.writing().arithmetic(device):
            prefix = answers.read(self.policy, *self.workshop.prompts(self.problems))
            written, lengths = (each.to(device)[:, None] for each in self.solutions)
            return answers.score(self.policy, prefix, written, lengths)[0].T


class _Latest:
    """The update that is being made."""

    start: float
    batch: tokens.TokenBatch

    def describe(self, policy: Transformer) -> Row:
        """What its rollouts were like, the gradient's norm, and where the time went."""
        total = time.perf_counter() - self.start
        spent = self.batch.seconds
        squares = [each.grad.square().sum() for each in policy.parameters() if each.grad is not None]
        return {
            **self.batch.seen,
            "gradient_norm": float(torch.stack(squares).sum().sqrt()),
            **spent,
            "seconds_update": total - sum(spent.values()),
            "tokens_per_second": self.batch.seen["tokens"] / total,
        }


def _file_name(text: str) -> str:
    return "".join(each if each.isalnum() or each in "-." else "-" for each in text)


def each_run(
    runs: Sequence[tuple[str, Run]], train_one: Callable[[Run], Trained]
) -> list[tuple[str, Run, Transformer, list[Row]]]:
    """Train or read every run."""
    return [(name, run, *train_one(run)) for name, run in runs]
