"""What the token experiments share: a policy pretrained on solutions, then trained from its own answers.

Every training run is a value addressed by its settings (`policy_cache`), so experiments that look at the same policies
train them once. Learning rates are swept alike for every method, at one N and on a seed that is not reported, and
chosen by pass@1 on validation problems, which are not reported.
"""

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack, seeded
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.context import Context
from maxrl_lab.runs.workers import in_parallel, one_thread
from maxrl_lab.tokens.batch import TokenBatch
from maxrl_lab.tokens.evaluation import Evaluation
from maxrl_lab.tokens.policy_cache import Trained, cached
from maxrl_lab.tokens.scoring import read, score
from maxrl_lab.tokens.settings import TokenSettings
from maxrl_lab.tokens.tasks import Problems, TokenTask
from maxrl_lab.tokens.writing import Prompts, Writing, write
from maxrl_lab.training import fit
from maxrl_lab.training.groups import DivergedError, Group
from maxrl_lab.training.methods import Exact, Method, parse_method
from maxrl_lab.training.sweep import Key, Run, choose_learning_rates, reported_runs, swept_runs


@dataclass(frozen=True)
class Workshop:
    """One task, the settings, and where policies for it are trained."""

    task: TokenTask
    settings: TokenSettings
    context: Context
    training_set: int | None = None
    """Problems of a fixed training set; None: fresh ones in every update."""

    def writing(self, temperature: float = 1.0, top_p: float = 1.0) -> Writing:
        """Return how answers are drawn."""
        return self.settings.writing(self.task.answer_length, temperature, top_p)

    def held_out(self) -> Problems:
        """Return the held-out problems, the same for all."""
        return self.task.problems(self.settings.held_out, split="test", distinct=True)

    def validation(self) -> Problems:
        """Return as many problems of the training split that are not in a fixed training set: they choose the rates.

        (Pretraining draws from the whole split, so where there are few problems it has seen them.)
        """
        if self.training_set is None:
            return self.task.problems(self.settings.held_out, seed=0, step=FRESH)
        return self._fixed.select(np.arange(self.training_set, self.training_set + self.settings.held_out))

    @cached_property
    def _fixed(self) -> Problems:
        """The fixed training set, and behind it the validation problems."""
        return self.task.problems((self.training_set or 0) + self.settings.held_out, seed=0, distinct=True)

    def problems(self, seed: int, step: int) -> Problems:
        """Return the problems of one update: equal for equal seeds, whatever the method."""
        count = self.settings.prompts
        if self.training_set is None:
            return self.task.problems(count, seed=seed + 1, step=step)
        each = self.training_set // count
        epoch, place = divmod(step, each)
        order = torch.randperm(self.training_set, generator=generator("epoch", seed, epoch))
        return self._fixed.select(order[place * count : (place + 1) * count])

    def prompts(self, problems: Problems) -> Prompts:
        """Return prompts where the policy is."""
        device = self.context.device
        return Prompts(problems.prompts.to(device), problems.lengths.to(device))

    def evaluate(
        self, policy: Transformer, problems: Problems, samples: int, writing: Writing, *key: str | int
    ) -> Evaluation:
        """Draw samples of every problem."""
        stream = generator("evaluation", *key, device=self.context.device)
        written = write(policy, self.prompts(problems), samples, writing, stream)
        return Evaluation(problems, written, self.task.verify(problems.content, written.tokens, written.lengths))

    def base(self) -> Transformer:
        """Return the policy pretrained on solutions, where every method starts."""
        return self._cached("base", {}, self._pretrain)[0]

    def _cached(self, kind: str, key: dict[str, object], make: Callable[[str], Trained]) -> Trained:
        task = self.task
        own = {name: value for name, value in asdict(self.settings).items() if name in _ADDRESS[kind]}
        key = {"task": task.key, "length": task.answer_length, "source": _source(task), **own, **key}
        with one_thread():
            return cached(kind, key, task.vocabulary.words, self.context.device, make)

    def _pretrain(self, address: str) -> Trained:
        settings, task = self.settings, self.task
        longest = task.prompt_length or task.problems(_PROMPTS_SEEN).prompts.shape[1] + _SLACK
        shape = settings.shape(len(task.vocabulary), longest + task.answer_length)
        policy = seeded(lambda: Transformer(shape), 0).to(self.context.device)
        recipe = fit.Optimisation(
            settings.pretrain_steps,
            "adamw",
            schedule="cosine",
            warmup=max(1, settings.pretrain_steps // 10),
            measure_every=settings.pretrain_steps,
        )
        try:
            fit.fit(
                Stack([policy]),
                [Exact("maximum_likelihood")],
                [settings.pretrain_rate],
                recipe,
                batch=lambda step: _Solutions(self, policy, step),
                measure=lambda step: _Solutions(self, policy, step).check(),
                checkpoint=self.context.checkpoint.stage(address),
                progress=self.context.progress(f"{task.name}: pretraining"),
            )
        except DivergedError as error:
            raise InputError(
                f"{task.name}: pretraining with lr {settings.pretrain_rate:g} has diverged: its policy is NaN after "
                f"{error.step} updates; lower pretrain_rate"
            ) from None
        return policy, []

    def train(self, run: Run, stage: str) -> Trained:
        """Return the base policy trained by a run, and the rows of its training."""
        key: dict[str, object] = {"training_set": self.training_set, "stage": stage, "run": asdict(run)}
        return self._cached("run", key, lambda address: self._train(run, stage, address))

    def train_all(self, runs: Sequence[Run], stage: str) -> list[list[Row]]:
        """Train all runs, side by side; return the rows of each. The policies are then there for `train`."""
        self.base()
        quiet = replace(self, context=replace(self.context, quiet=True))
        progress = self.context.progress(f"{self.task.name}: {len(runs)} runs, {stage}")
        on_gpu = self.context.device.type == "cuda"
        jobs = [(quiet, run, stage) for run in runs]
        return in_parallel(_train_job, jobs, 1 if on_gpu else self.settings.processes, progress)

    def _train(self, run: Run, stage: str, address: str) -> Trained:
        policy, settings = self.base(), self.settings
        latest = _Latest()
        name = (
            f"{self.task.name}: {run.method.name}, N = {run.method.rollouts}, lr {run.learning_rate:g}, seed {run.seed}"
        )

        def batch(step: int) -> TokenBatch:
            problems = self.problems(run.seed, step)
            latest.start = time.perf_counter()
            latest.batch = self.batch(policy, problems, run.seed, step)
            return latest.batch

        def log(step: int) -> Tables:
            if not all(bool(each.isfinite().all()) for each in policy.parameters()):
                raise DivergedError(0, step + 1)  # before it is saved over the last good checkpoint
            row = {"view": "dynamics", "stage": stage, **run.row(step + 1), **latest.describe(policy)}
            return {"rows": [row]}

        def measure(step: int) -> Tables:
            ended = step == settings.steps
            if stage == "sweep" and not ended:
                return {}
            problems = self.held_out() if stage == "report" else self.validation()
            samples = settings.samples // (1 if ended else 4)
            found = self.evaluate(policy, problems, samples, self.writing(), run.seed, step)
            if not bool(found.written.log_probs.isfinite().all()):
                raise DivergedError(0, step)
            head = {"view": "evaluation", "stage": stage, **run.row(step)}
            return {"rows": [{**head, **row} for row in found.rows(self.task)]}

        recipe = fit.Optimisation(
            settings.steps,
            "adamw",
            warmup=max(1, settings.steps // 10),
            measure_every=max(1, settings.steps // settings.measurements),
            checkpoint_every=max(10, min(50, settings.steps // 10)),
        )
        try:
            tables = fit.fit(
                Stack([policy]),
                [run.method],
                [run.learning_rate],
                recipe,
                batch=batch,
                measure=measure,
                checkpoint=self.context.checkpoint.stage(address),
                log=log,
                progress=self.context.progress(name),
            )
        except DivergedError as error:
            raise InputError(
                f"{name} has diverged: its policy is NaN after {error.step} updates; leave that rate out, with --out "
                "or --force (the last checkpoint is kept)"
            ) from None
        return policy, tables["rows"]

    def batch(self, policy: Transformer, problems: Problems, seed: int, step: int) -> TokenBatch:
        """Return the trainer's view of some problems."""

        def verify(written: Tensor, lengths: Tensor) -> Tensor:
            return self.task.verify(problems.content, written, lengths)

        return TokenBatch(policy, self.prompts(problems), verify, self.writing(), seed, step)

    def choose_rates(self, names: Sequence[str]) -> tuple[dict[str, float], list[Row]]:
        """Return each method's best learning rate, by final pass@1 on validation problems, and the sweep's rows."""
        settings = self.settings
        for draw in (self.held_out, self.validation):  # too few problems are noticed before anything is trained
            draw()
        methods = {parse_method(name, settings.sweep_rollouts): name for name in names}
        rows = []
        runs = swept_runs(list(methods), settings.learning_rates, settings.seeds, settings.sweep_seeds)
        for run, found in zip(runs, self.train_all(runs, "sweep"), strict=True):
            (rate,) = [row["pass_at_k"] for row in found if row["view"] == "evaluation" and row["k"] == 1]
            rows.append({"view": "sweep", "stage": "sweep", **run.row(settings.steps), "pass_rate": rate})
        best = choose_learning_rates(rows, "pass_rate")
        return {name: best[method.name, method.rollouts] for method, name in methods.items()}, rows

    def reported(self, names: Sequence[str], rollouts: Sequence[int]) -> tuple[list[tuple[str, Run]], list[Row]]:
        """Train the runs to report; return each with its method's name in the settings, and all their rows.

        Rows are the sweep that chose the rates, dynamics and evaluations of the runs, and evaluations of the base.
        """
        rates, rows = self.choose_rates(names)
        named = []
        for count in rollouts:
            methods: dict[Method, str] = {parse_method(name, count): name for name in names}
            best: dict[Key, float] = {(method.name, method.rollouts): rates[name] for method, name in methods.items()}
            named += [(methods[run.method], run) for run in reported_runs(list(methods), best, self.settings.seeds)]
        for (name, _), found in zip(named, self.train_all([run for _, run in named], "report"), strict=True):
            rows += [{"estimator": name, **row} for row in found]
        return named, rows + self.base_rows()

    def base_rows(self) -> list[Row]:
        """Return the evaluation of the base."""
        found = self.evaluate(self.base(), self.held_out(), self.settings.samples, self.writing(), "base")
        return [{"view": "evaluation", "stage": "base", "step": 0, **each} for each in found.rows(self.task)]


FRESH = 10**6
"""A step of the stream of training problems that no training reaches."""
_PROMPTS_SEEN, _SLACK = 100, 8
"""The context of tasks that do not say how long prompts get: the longest of so many, and so many tokens more."""


def _source(task: TokenTask) -> str:
    """The code of a task of the user's own, which `policy_cache` does not know; empty where there is no file of it."""
    try:
        return inspect.getsource(type(task))
    except (OSError, TypeError):
        return ""


class _Solutions:
    """Solutions of fresh problems, whose log-probability is what pretraining climbs."""

    def __init__(self, workshop: Workshop, policy: Transformer, step: int) -> None:
        self.workshop, self.policy, self.step = workshop, policy, step
        settings = workshop.settings
        self.problems = workshop.task.problems(settings.pretrain_batch, seed=0, step=step)
        random = np.random.default_rng(generator("solutions", step).initial_seed())
        self.solutions = workshop.task.solutions(self.problems.content, random)

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:  # noqa: ARG002
        """Not here."""
        raise InputError("pretraining samples nothing")

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:  # noqa: ARG002
        """Return the log-probabilities of the solutions (1, B)."""
        device = self.workshop.context.device
        with self.workshop.writing().arithmetic(device):
            prefix = read(self.policy, *self.workshop.prompts(self.problems))
            written, lengths = (each.to(device)[:, None] for each in self.solutions)
            log_probs = score(self.policy, prefix, written, lengths)[0].T
        if not bool(log_probs.isfinite().all()):
            raise DivergedError(0, self.step)
        return log_probs

    def check(self) -> Tables:
        """Return no tables; raise `DivergedError` if the policy is NaN."""
        with torch.no_grad():
            self.log_pass_rate([0])
        return {}


class _Latest:
    """The update that is being made."""

    start: float
    batch: TokenBatch

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


def _train_job(job: tuple[Workshop, Run, str]) -> list[Row]:
    workshop, run, stage = job
    return workshop.train(run, stage)[1]


_POLICY = ("width", "layers", "heads", "mlp", "pretrain_steps", "pretrain_batch", "pretrain_rate", "precision")
_TRAINING = ("steps", "prompts", "held_out", "samples", "measurements", "memory")
_ADDRESS = {"base": _POLICY, "run": (*_POLICY, *_TRAINING)}
"""The settings that a cached policy depends on; the run says the rest."""
