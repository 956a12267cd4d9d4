"""The loop around the step: R runs trained together, measured now and then, resumable to the last checkpoint."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack
from maxrl_lab.rows import Row
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.training.methods import Batch, Method
from maxrl_lab.training.step import run_losses, take_step

OPTIMISERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def constant(step: int, steps: int, warmup: int) -> float:  # noqa: ARG001
    """Linear over the warm-up, then 1."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def cosine(step: int, steps: int, warmup: int) -> float:
    """Linear over the warm-up, then half a cosine that reaches 0 after the last update."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


SCHEDULES: dict[str, Callable[[int, int, int], float]] = {"constant": constant, "cosine": cosine}
"""Factor on the learning rate as a function of (step, steps, warm-up steps)."""


@dataclass(frozen=True)
class Recipe:
    """How a policy is optimised: everything but the gradient."""

    steps: int
    """Updates; one per batch, so always on-policy."""
    optimiser: str = "sgd"
    """A key of `OPTIMISERS`."""
    momentum: float = 0.0
    """SGD's momentum; 0 for the other optimisers."""
    schedule: str = "constant"
    """A key of `SCHEDULES`."""
    warmup: int = 0
    """Steps of linear warm-up."""
    clip: float | None = None
    """Bound on each run's gradient norm; None is off."""
    measure_every: int = 10
    """Steps between measurements; the first and the last step are always measured."""
    checkpoint_every: int = 50
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        """Check names and counts."""
        specs.lookup(OPTIMISERS, "optimiser", self.optimiser)
        specs.lookup(SCHEDULES, "schedule", self.schedule)
        for name in ("steps", "measure_every", "checkpoint_every"):
            specs.check_count(name, getattr(self, name))
        specs.check_count("warmup", self.warmup, minimum=0)
        if self.momentum and self.optimiser != "sgd":
            raise InputError(f"momentum belongs to sgd, got momentum {self.momentum} with {self.optimiser}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must lie in [0, 1), got {self.momentum}")
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"clip must be positive, or None to be off, got {self.clip}")


def fit(
    stack: Stack,
    methods: Sequence[Method],
    learning_rates: Sequence[float],
    recipe: Recipe,
    *,
    batch: Callable[[int], Batch],
    measure: Callable[[int], list[Row]],
    checkpoint: Checkpoint,
    log: Callable[[int], list[Row]] | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[Row]:
    """Train the stack's R networks, each by its own method and learning rate; return the measured rows.

    `batch(step)` evaluates the stack on that step's tasks; `measure(step)` returns rows after `step` updates,
    `log(step)` rows about the update that was just made, while its gradients are still there. State is saved every
    `recipe.checkpoint_every` steps and at the end; a later call continues from there with equal results.
    """
    if not len(methods) == len(learning_rates) == len(stack.networks):
        got = f"{len(methods)} and {len(learning_rates)} for {len(stack.networks)} networks"
        raise InputError(f"expected a method and a learning rate for every network, got {got}")
    optimiser = make_optimiser(recipe, stack.networks, learning_rates)
    schedule = LambdaLR(optimiser, lambda step: SCHEDULES[recipe.schedule](step, recipe.steps, recipe.warmup))
    done, rows = _restore(checkpoint, stack, optimiser, schedule)
    for step in progress(range(done, recipe.steps)):
        if step % recipe.measure_every == 0:
            rows += measure(step)
        take_step(run_losses(batch(step), methods), optimiser, recipe.clip)
        schedule.step()
        rows += log(step) if log else []
        finished = step + 1
        if finished == recipe.steps:
            rows += measure(finished)
        if finished == recipe.steps or finished % recipe.checkpoint_every == 0:
            _save(checkpoint, stack, optimiser, schedule, finished, rows)
    return rows


def make_optimiser(recipe: Recipe, networks: Iterable[nn.Module], rates: Sequence[float]) -> torch.optim.Optimizer:
    """Return one optimiser with a parameter group, and so a learning rate, per run."""
    groups: list[dict[str, Any]] = [
        {"params": list(network.parameters()), "lr": rate} for network, rate in zip(networks, rates, strict=True)
    ]
    options: dict[str, Any] = {"momentum": recipe.momentum} if recipe.optimiser == "sgd" else {}
    return OPTIMISERS[recipe.optimiser](groups, **options)


def _save(
    checkpoint: Checkpoint,
    stack: Stack,
    optimiser: torch.optim.Optimizer,
    schedule: LambdaLR,
    step: int,
    rows: list[Row],
) -> None:
    checkpoint.save(
        {
            "step": step,
            "rows": rows,
            "stack": stack.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
        }
    )


def _restore(
    checkpoint: Checkpoint, stack: Stack, optimiser: torch.optim.Optimizer, schedule: LambdaLR
) -> tuple[int, list[Row]]:
    state = checkpoint.load()
    if state is None:
        return 0, []
    stack.load_state_dict(state["stack"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    return state["step"], state["rows"]
