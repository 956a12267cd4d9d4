"""Training from a policy's own answers: one run, and the tables it leaves."""

import time
from typing import Literal

import torch

from maxrl_lab.policies.stack import Stack
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.rows import Row, Tables
from maxrl_lab.tokens.batch import TokenBatch
from maxrl_lab.tokens.study import Study
from maxrl_lab.training import fit
from maxrl_lab.training.groups import DivergedError
from maxrl_lab.training.sweep import Run, naming_diverged

Stage = Literal["sweep", "report"]
"""What a run is for: runs of the sweep are measured at the end, on validation problems; others on held-out ones."""


def train(study: Study, policy: Transformer, run: Run, stage: Stage, checkpoint: fit.Checkpoint) -> Tables:
    """Train the policy in place; return the tables `dynamics`, `timings`, `evaluations` and `votes`.

    `dynamics` and `timings` have a row an update; `evaluations` (pass@k) and `votes` (majority votes) are measured now
    and then. Raises `InputError` if the policy diverges.
    """
    settings = study.settings
    training = _Training(study, policy, run, stage)
    optimisation = fit.Optimisation(
        settings.steps,
        "adamw",
        warmup=max(1, settings.steps // 10),
        clip=settings.clip,
        measure_every=max(1, settings.steps // settings.measurements),
        checkpoint_every=max(10, min(50, settings.steps // 10)),
    )
    with naming_diverged([run], study.task.name):
        return fit.fit(
            Stack([policy]),
            [run.method],
            [run.learning_rate],
            optimisation,
            batch=training.batch,
            measure=training.measure,
            checkpoint=checkpoint,
            log=training.log,
            progress=study.context.progress(f"{study.task.name}: {run.name}"),
        )


class _Training:
    """What `fit` asks for in a run: the batch of each update, and rows about it."""

    def __init__(self, study: Study, policy: Transformer, run: Run, stage: Stage) -> None:
        self.study, self.policy, self.run, self.stage = study, policy, run, stage
        self.start = 0.0
        self.latest: TokenBatch

    def batch(self, step: int) -> TokenBatch:
        """Return the prompts of an update."""
        problems = self.study.problems(self.run.seed, step)
        self.start = time.perf_counter()
        self.latest = self.study.batch(self.policy, problems, self.run.seed, step)
        return self.latest

    def log(self, step: int) -> Tables:
        """Return what the update's rollouts were like, and where its time went; refuse a policy that is NaN."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.policy.parameters()):
            raise DivergedError(0, step + 1)  # before it is saved over the last good checkpoint
        head = self.run.row(step + 1)
        dynamics = {**head, **self.latest.seen, "gradient_norm": _gradient_norm(self.policy)}
        return {"dynamics": [dynamics], "timings": [{**head, **self._seconds()}]}

    def _seconds(self) -> Row:
        total = time.perf_counter() - self.start
        spent = self.latest.seconds
        rate = self.latest.seen["tokens"] / total
        return {**spent, "seconds_update": total - sum(spent.values()), "tokens_per_second": rate}

    def measure(self, step: int) -> Tables:
        """Return pass@k and the majority votes after so many updates."""
        settings = self.study.settings
        is_end = step == settings.steps
        if self.stage == "sweep" and not is_end:
            return {}
        problems = self.study.held_out() if self.stage == "report" else self.study.validation(self.run.seed)
        samples = settings.samples // (1 if is_end and self.stage == "report" else 4)
        evaluation = self.study.evaluate(self.policy, problems, samples, self.study.writing(), self.run.seed, step)
        if not bool(evaluation.written.log_probs.isfinite().all()):
            raise DivergedError(0, step)
        head = {**self.run.row(step), "samples": samples}
        return {
            "evaluations": [{**head, **row} for row in evaluation.coverage()],
            "votes": [{**head, "majority": evaluation.majority(self.study.task)}],
        }


def _gradient_norm(policy: Transformer) -> float:
    squares = [parameter.grad.square().sum() for parameter in policy.parameters() if parameter.grad is not None]
    return float(torch.stack(squares).sum().sqrt())
