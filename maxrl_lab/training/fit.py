"""The loop around the step: R runs trained together, measured now and then, resumable to the last checkpoint."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack
from maxrl_lab.rows import Tables, append
from maxrl_lab.settings import Choice, Count, CountOrZero, Interval, Positive, Settings
from maxrl_lab.threads import one_thread
from maxrl_lab.training.methods import Batch, Method
from maxrl_lab.training.step import run_losses, take_step

OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
_OPTIONS: dict[str, dict[str, Any]] = {"adamw": {"weight_decay": 0.0}}
"""Options that are not torch's defaults: AdamW decays no weights, as in the jobs of TRL and verl."""


def constant(step: int, steps: int, warmup: int) -> float:  # noqa: ARG001
    """Return the factor of a schedule that rises linearly over the warm-up and then stays at 1."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def cosine(step: int, steps: int, warmup: int) -> float:
    """Return the factor of a schedule that rises linearly, then falls as half a cosine to 0 after the last update."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


SCHEDULES: dict[str, Callable[[int, int, int], float]] = {"constant": constant, "cosine": cosine}
"""Factor on the learning rate as a function of (step, steps, warm-up steps)."""


class Checkpoint(Protocol):
    """Where the state of an unfinished training is kept."""

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state: nested dicts and lists of tensors and plain values."""

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, None if there is none."""


@dataclass(frozen=True)
class Optimisation(Settings):
    """How a policy is optimised: everything but the gradient."""

    steps: Count
    """Number of updates; each has its own batch, so training is always on-policy."""
    optimiser: Annotated[str, Choice(OPTIMISERS)] = "sgd"
    """Name of the optimiser."""
    momentum: Annotated[float, Interval(0, 1, closed_low=True)] = 0.0
    """Momentum of SGD; the other optimisers take none."""
    schedule: Annotated[str, Choice(SCHEDULES)] = "constant"
    """Name of the schedule of the learning rate."""
    warmup: CountOrZero = 0
    """Number of updates of linear warm-up."""
    clip: Positive | None = None
    """Bound on the gradient norm of each run; None for no bound."""
    measure_every: Count = 10
    """Number of updates between measurements; the first and the last step are always measured."""
    checkpoint_every: Count = 50
    """Number of updates between checkpoints."""

    def __post_init__(self) -> None:
        """Check also that only SGD is given a momentum."""
        super().__post_init__()
        if self.momentum and self.optimiser != "sgd":
            raise InputError(f"momentum belongs to sgd, got momentum {self.momentum} with {self.optimiser}")


def fit(
    stack: Stack,
    methods: Sequence[Method],
    learning_rates: Sequence[float],
    optimisation: Optimisation,
    *,
    batch: Callable[[int], Batch],
    checkpoint: Checkpoint,
    measure: Callable[[int], Tables] | None = None,
    log: Callable[[int], Tables] | None = None,
    stop: Callable[[Tables], bool] = lambda tables: False,  # noqa: ARG005
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Tables:
    """Train the stack's R networks, each by its own method and learning rate; return the tables that were measured.

    `batch(step)` evaluates the stack on that step's tasks; `measure(step)` returns rows, by table, after `step`
    updates; `log(step)` returns rows about the update that was just made, while its gradients are still there;
    training ends early where `stop(tables)` says so, which is told all tables after every measurement. The state is
    saved every `optimisation.checkpoint_every` steps and at the end; a later call continues from there and returns
    equal tables. On a CPU torch uses one thread meanwhile: small networks gain nothing from a second one, and wait for
    it where anything else runs.
    """
    if not len(methods) == len(learning_rates) == len(stack.networks):
        got = f"{len(methods)} and {len(learning_rates)} for {len(stack.networks)} networks"
        raise InputError(f"expected a method and a learning rate for every network, got {got}")
    training = _Training(stack, optimisation, learning_rates, checkpoint)
    with one_thread():
        for step in progress(range(training.step, optimisation.steps)):
            if measure and step % optimisation.measure_every == 0:
                append(training.tables, measure(step))
                if stop(training.tables):
                    break
            take_step(run_losses(batch(step), methods), training.optimiser, optimisation.clip)
            training.schedule.step()
            training.step = step + 1
            if log:
                append(training.tables, log(step))
            ended = training.step == optimisation.steps
            if measure and ended:
                append(training.tables, measure(training.step))
            if ended or training.step % optimisation.checkpoint_every == 0:
                training.save()
    return training.tables


def make_optimiser(
    optimisation: Optimisation, networks: Iterable[nn.Module], rates: Sequence[float]
) -> torch.optim.Optimizer:
    """Return one optimiser with a parameter group, and so a learning rate, per run."""
    groups: list[dict[str, Any]] = [
        {"params": list(network.parameters()), "lr": rate} for network, rate in zip(networks, rates, strict=True)
    ]
    options: dict[str, Any] = {"momentum": optimisation.momentum} if optimisation.optimiser == "sgd" else {}
    return OPTIMISERS[optimisation.optimiser](groups, **options, **_OPTIONS.get(optimisation.optimiser, {}))


class _Training:
    """What changes while R runs train, and is therefore saved: parameters, optimiser, schedule, step and tables."""

    def __init__(
        self, stack: Stack, optimisation: Optimisation, rates: Sequence[float], checkpoint: Checkpoint
    ) -> None:
        """Take up the state of the checkpoint, or start at step 0 if there is none."""
        self.stack, self.checkpoint = stack, checkpoint
        self.optimiser = make_optimiser(optimisation, stack.networks, rates)
        factor = SCHEDULES[optimisation.schedule]
        self.schedule = LambdaLR(self.optimiser, lambda step: factor(step, optimisation.steps, optimisation.warmup))
        self.step, self.tables = 0, Tables()
        saved = checkpoint.load()
        if saved is not None:
            self.step, self.tables = saved["step"], saved["tables"]
            for name, part in self._parts.items():
                part.load_state_dict(saved[name])

    def save(self) -> None:
        """Replace the saved state by the present one."""
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        self.checkpoint.save({"step": self.step, "tables": self.tables, **parts})

    @property
    def _parts(self) -> dict[str, Any]:
        return {"stack": self.stack, "optimiser": self.optimiser, "schedule": self.schedule}
