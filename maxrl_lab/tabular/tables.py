"""Finite decision processes as tables: B tasks whose outcome is right or wrong, checked when they are made.

A task is a table. Success and failure states absorb, so a rollout is right if it stands on a success state after H
steps. A Markov policy on it is a table too, of log-probabilities `log_policy`, (T, B, S, A), T = 1 for a stationary
policy and T = H for one that depends on time; (B, S, A) is short for T = 1, and a leading axis R stands for the runs of
a sweep, (R, T, B, S, A).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError

AnyTables = TypeVar("AnyTables", bound="Tables")

TABLES = ("successors", "start", "success", "failure", "probabilities", "observations")
"""The fields with an axis of tasks."""
_TYPES = {
    ("successors", "observations"): (torch.int64,),
    ("success", "failure"): (torch.bool,),
    ("start", "probabilities"): (torch.float32, torch.float64),
}
_TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-9}
"""How far from 1 the sum of a distribution may be."""


@dataclass(frozen=True, eq=False)
class Tables:
    """B tasks of at most S states and A actions, with the same horizon.

    Tasks with fewer states are padded with failure states that nothing reaches. Raises `InputError`, with the task and
    the numbers, for shapes that do not fit, rows that are not distributions, and tasks that no policy can solve.
    """

    successors: Tensor
    """(B, S, A) the next state if moves are deterministic, else (B, S, A, C) the C possible next states."""
    start: Tensor
    """(B, S) start distribution."""
    success: Tensor
    """(B, S) bool: the episode ends in this state, with a success."""
    failure: Tensor
    """(B, S) bool: the episode ends in this state, with a failure."""
    horizon: int
    """H, the largest number of steps."""
    probabilities: Tensor | None = None
    """(B, S, A, C) of the successors; None if deterministic."""
    observations: Tensor | None = None
    """(B, S) row of `features` that a policy sees in each state; None if the tasks have no observations."""
    features: Tensor | None = None
    """(O, ...) the distinct observations of all tasks."""

    def __post_init__(self) -> None:
        """Check shapes, indices, distributions, and that every task can be solved within the horizon."""
        self._check_types()
        self._check_shapes()
        self._check_rows()
        self._check_solvable()

    def __repr__(self) -> str:
        """Say how large the tasks are."""
        tasks, states, actions = self.shape
        kind = "deterministic" if self.probabilities is None else "stochastic"
        size = f"{tasks} {kind} tasks, {states} states, {actions} actions, horizon {self.horizon}"
        return f"{type(self).__name__}({size})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, S, A)."""
        tasks, states, actions = self.successors.shape[:3]
        return tasks, states, actions

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.successors.device

    @cached_property
    def active(self) -> Tensor:
        """(B, S) bool: neither success nor failure nor padding."""
        return ~(self.success | self.failure)

    @cached_property
    def distance(self) -> Tensor:
        """Return the least number of steps from each state to success, (B, S) float64, infinite where there is no way.

        Of the possible successors of a move the nearest counts: a slip may be what leads there.
        """
        nexts = self.next_states
        steps = torch.where(self.success, 0.0, torch.inf).to(torch.float64)
        for _ in range(self.shape[1]):
            nearest = steps.flatten()[nexts].amin((-1, -2)) + 1
            improved = torch.where(self.active, torch.minimum(steps, nearest), steps)
            if torch.equal(improved, steps):
                break
            steps = improved
        return steps

    @cached_property
    def next_states(self) -> Tensor:
        """(B, S, A, C) where moves lead, as flat indices b S + s; absorbing states and impossible moves stay."""
        tasks, states, _ = self.shape
        first = torch.arange(tasks, device=self.device).view(-1, 1, 1, 1) * states
        staying = torch.arange(tasks * states, device=self.device).view(tasks, states, 1, 1)
        nexts = first + (self.successors if self.successors.ndim == 4 else self.successors[..., None])
        nexts = torch.where(self.active[..., None, None], nexts, staying)
        return nexts if self.probabilities is None else torch.where(self.probabilities > 0, nexts, staying)

    def to(self: AnyTables, device: torch.device | str) -> AnyTables:
        """Return the tasks on another device."""
        if torch.device(device) == self.device:
            return self
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return self._with(tensors)

    def select(self: AnyTables, tasks: Sequence[int]) -> AnyTables:
        """Return some of the tasks, in the order given; the features stay."""
        rows = torch.as_tensor(list(tasks), device=self.device)
        tensors = {name: value[rows] for name in TABLES if (value := getattr(self, name)) is not None}
        if self.features is not None:
            tensors["features"] = self.features
        return self._with(tensors)

    def observed(self) -> tuple[Tensor, Tensor]:
        """Return `features` (O, ...) and `observations` (B, S); `InputError` if the tasks have none."""
        if self.features is None or self.observations is None:
            raise InputError("expected tasks with observations, got tasks without")
        return self.features, self.observations

    def checked(self, log_policy: Tensor) -> Tensor:
        """Return the policy as (R, T, B, S, A); `InputError` for another shape or rows that are not distributions."""
        full = log_policy.reshape((1,) * max(0, 5 - log_policy.ndim) + tuple(log_policy.shape))
        tasks, states, actions = self.shape
        if full.ndim != 5 or full.shape[1] not in (1, self.horizon) or full.shape[2:] != self.shape:
            raise InputError(
                f"log_policy must have shape ([R,] [T,] {tasks}, {states}, {actions}) with T = 1 or {self.horizon}, "
                f"got {tuple(log_policy.shape)}"
            )
        total = log_policy.detach().logsumexp(-1).exp()
        wrong = self.active & ~((total - 1).abs() <= _TOLERANCES[torch.float32] * actions)
        if bool(wrong.any()):
            got = f"{float(total[wrong][0]):g} in state {int(wrong.nonzero()[0, -1])}"
            raise InputError(f"log_policy must hold log-probabilities whose exponentials sum to 1, got {got}")
        return full

    def _with(self: AnyTables, tensors: dict[str, Tensor]) -> AnyTables:
        """Return tables with other tensors, which come from checked ones and are not checked again."""
        tables = object.__new__(type(self))
        for name in (*TABLES, "features"):
            object.__setattr__(tables, name, tensors.get(name))
        object.__setattr__(tables, "horizon", self.horizon)
        return tables

    def _check_types(self) -> None:
        for names, wanted in _TYPES.items():
            for name in names:
                value = getattr(self, name)
                if value is not None and value.dtype not in wanted:
                    raise InputError(f"{name} must be of type {' or '.join(map(str, wanted))}, got {value.dtype}")

    def _check_shapes(self) -> None:
        wanted = self.successors.shape[:2]
        if self.successors.ndim not in (3, 4) or min(self.successors.shape) < 1:
            raise InputError(f"successors must be (B, S, A) or (B, S, A, C), got {tuple(self.successors.shape)}")
        if (self.successors.ndim == 4) != (self.probabilities is not None):
            raise InputError("successors (B, S, A, C) come with probabilities, successors (B, S, A) without")
        if self.probabilities is not None and self.probabilities.shape != self.successors.shape:
            got = f"{tuple(self.probabilities.shape)} and {tuple(self.successors.shape)}"
            raise InputError(f"probabilities and successors must have the same shape, got {got}")
        for name in ("start", "success", "failure", "observations"):
            value = getattr(self, name)
            if value is not None and value.shape != wanted:
                raise InputError(f"{name} must have shape {tuple(wanted)}, got {tuple(value.shape)}")
        if (self.observations is None) != (self.features is None):
            raise InputError("observations and features come together")
        object.__setattr__(self, "horizon", specs.check_count("horizon", self.horizon))

    def _check_rows(self) -> None:
        _check_index("successors", self.successors, self.shape[1])
        if self.observations is not None and self.features is not None:
            _check_index("observations", self.observations, len(self.features))
        _check_distribution("start", self.start)
        if self.probabilities is not None:
            _check_distribution("probabilities", self.probabilities)
        both = self.success & self.failure
        if bool(both.any()):
            task, state = both.nonzero()[0].tolist()
            raise InputError(f"a state is a success or a failure, got both in task {task}, state {state}")

    def _check_solvable(self) -> None:
        steps = torch.where(self.start > 0, self.distance, torch.inf).amin(1)
        if bool((steps > self.horizon).any()):
            task = int((steps > self.horizon).nonzero()[0])
            need = f"{steps[task]:.0f} steps" if steps[task] < torch.inf else "a way that does not exist"
            raise InputError(f"task {task} cannot be solved: it needs {need}, the horizon is {self.horizon}")


def _check_index(name: str, value: Tensor, size: int) -> None:
    wrong = (value < 0) | (value >= size)
    if bool(wrong.any()):
        raise InputError(f"{name} must lie in 0..{size - 1}, got {int(value[wrong][0])}")


def _check_distribution(name: str, value: Tensor) -> None:
    wrong = ~((value >= 0).all(-1) & ((value.double().sum(-1) - 1).abs() <= _TOLERANCES[value.dtype]))
    if bool(wrong.any()):
        index = tuple(wrong.nonzero()[0].tolist())
        got = f"the sum {float(value[index].sum()):g} and the smallest {float(value[index].min()):g}"
        raise InputError(f"{name} must be >= 0 and sum to 1, got {got} at {index}")
