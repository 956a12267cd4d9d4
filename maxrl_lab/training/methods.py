"""The ways to take a step: one frozen class each, with the same method `loss`.

    Sampled(estimator, rollouts)    sample N rollouts of every task and apply the estimator: what practice does
    Expected(estimator, rollouts)   the estimator's exact mean w_N(p) grad p: its bias without noise
    Exact(objective)                an objective's exact gradient w(p) grad p: neither bias nor noise
    Inverse(successes, cap)         sample until m rollouts have succeeded: likelihood at a random cost

`Sampled` less `Expected` is pure variance; `Expected` less `Exact` is pure bias. Names in text are read when a method
is made, and nowhere later. An estimator may be any callable from rewards to advantages: its table of coefficients is
read anew in every step, so that what it depends on may change between steps. A callable that answers differently when
it is asked twice is refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from maxrl_lab import estimators, exact, inverse_sampling, objectives, probe, specs
from maxrl_lab.errors import InputError
from maxrl_lab.estimators import Estimator
from maxrl_lab.objectives import Objective
from maxrl_lab.training import surrogates
from maxrl_lab.training.groups import Group
from maxrl_lab.training.surrogates import Surrogate


class Batch(Protocol):
    """B tasks for each of R runs under the runs' present policies: what a family of tasks offers the step.

    A family whose answers can be decoded greedily also has `greedy(runs)`, which returns the tasks (len(runs), B) whose
    likeliest rollout is right.
    """

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return N rollouts of each task for the named runs: a group (len(runs), B, N)."""
        ...

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return the exact log pass rates (len(runs), B), differentiable; `InputError` if the family has none."""
        ...


class Method(Protocol):
    """Which gradient a run follows."""

    kind: ClassVar[str]
    """One of sampled, expected, exact and inverse."""

    @property
    def name(self) -> str:
        """The text form of the method, as rows and figures name it."""
        ...

    @property
    def rollouts(self) -> int | None:
        """The number N of rollouts of each task, or the most of them in a step; None for an exact gradient."""
        ...

    @property
    def drawn(self) -> int | None:
        """The number of rollouts of each task that `loss` asks the batch for; None for a method that asks for none."""
        ...

    def loss(self, batch: Batch, runs: Sequence[int]) -> Tensor:
        """Return the named runs' losses (len(runs),), whose gradients are minus the runs' gradient estimates."""
        ...


@dataclass(frozen=True)
class Sampled:
    """The estimator's gradient estimate on N rollouts of each task."""

    kind: ClassVar[str] = "sampled"
    estimator: Any
    """A text form such as `pkpo:k=4`, a made estimator, or a callable from rewards to advantages."""
    rollouts: int
    """The number N of rollouts of each task in a step."""
    surrogate: Any = surrogates.PLAIN
    """The loss that is made of the advantages; any but the default changes the objective."""

    def __post_init__(self) -> None:
        """Read the names and check that the estimator exists at N."""
        object.__setattr__(self, "estimator", _checked(self.estimator, self.rollouts))
        object.__setattr__(self, "surrogate", surrogates.resolve(self.surrogate))

    @property
    def name(self) -> str:
        """The estimator, and the surrogate if it is not the plain one: `grpo | greedy_gate`."""
        name = probe.name_of(self.estimator)
        return name if self.surrogate.name == surrogates.PLAIN else f"{name}{specs.SEPARATOR}{self.surrogate.spec}"

    @property
    def drawn(self) -> int:
        """The number N of rollouts."""
        return self.rollouts

    def loss(self, batch: Batch, runs: Sequence[int]) -> Tensor:
        """Return the surrogate loss of N rollouts of each task."""
        group = batch.rollout(runs, self.rollouts)
        if self.surrogate.needs_greedy:
            group = replace(group, greedy=greedy(batch, runs))
        return sampled_loss(group, self.estimator, self.surrogate)


@dataclass(frozen=True)
class Expected:
    """The exact mean w_N(p) grad p of the estimator's gradient estimate: the estimator's bias without its noise."""

    kind: ClassVar[str] = "expected"
    estimator: Any
    """A text form, a made estimator or a callable, as in `Sampled`."""
    rollouts: int
    """The number N of rollouts whose mean is taken; none is sampled."""
    drawn: ClassVar[None] = None

    def __post_init__(self) -> None:
        """Read the name and check that the estimator exists at N."""
        object.__setattr__(self, "estimator", _checked(self.estimator, self.rollouts))

    @property
    def name(self) -> str:
        """The text form of the estimator."""
        return probe.name_of(self.estimator)

    def loss(self, batch: Batch, runs: Sequence[int]) -> Tensor:
        """Return the loss whose gradient is -w_N(p) grad p, averaged over tasks."""
        log_rates = batch.log_pass_rate(runs)
        p = log_rates.detach().double().exp().clamp(max=1.0).nan_to_num(1.0)
        weight = exact.table_weight(*_table(self.estimator, self.rollouts), p)
        return exact_loss(log_rates, p * weight)


@dataclass(frozen=True)
class Exact:
    """The exact gradient w(p) grad p of an objective."""

    kind: ClassVar[str] = "exact"
    objective: Any
    """A text form such as `truncated_likelihood:order=4`, or a made objective."""
    rollouts: ClassVar[None] = None
    drawn: ClassVar[None] = None

    def __post_init__(self) -> None:
        """Read the name."""
        object.__setattr__(self, "objective", objectives.resolve(self.objective))

    @property
    def name(self) -> str:
        """The text form of the objective."""
        objective: Objective = self.objective
        return objective.spec

    def loss(self, batch: Batch, runs: Sequence[int]) -> Tensor:
        """Return the loss whose gradient is -w(p) grad p, averaged over tasks."""
        log_rates = batch.log_pass_rate(runs)
        return exact_loss(log_rates, self.objective.log_slope(log_rates))


@dataclass(frozen=True)
class Inverse:
    """Inverse sampling: the average score of the first m successes of each task, among at most `cap` rollouts."""

    kind: ClassVar[str] = "inverse"
    successes: int
    """The number m of successes after which no more rollouts of a task count."""
    cap: int
    """The most rollouts of a task in a step."""

    def __post_init__(self) -> None:
        """Check the counts."""
        specs.check_count("successes", self.successes)
        specs.check_count("cap", self.cap)

    @property
    def name(self) -> str:
        """`inverse_sampling:successes=m`."""
        return specs.format_spec("inverse_sampling", {"successes": self.successes})

    @property
    def rollouts(self) -> int:
        """The most rollouts of a task in a step."""
        return self.cap

    @property
    def drawn(self) -> int:
        """The cap: rollouts after the m-th success are asked for, and count as if they were not."""
        return self.cap

    def loss(self, batch: Batch, runs: Sequence[int]) -> Tensor:
        """Return the loss of the successes that count."""
        group = batch.rollout(runs, self.cap)
        if group.counts is not None:
            raise InputError("inverse sampling needs rollouts in their order, got a group of counts (tally=True?)")
        advantages = inverse_sampling.advantages(group.rewards, successes=self.successes)
        return surrogates.sequence_sum(advantages.to(group.log_probs), group)


def parse_method(text: str, rollouts: int) -> Sampled:
    """Return the method of an estimator's text form at N rollouts, `grpo`, or with a surrogate `grpo | greedy_gate`.

    `N` in an option stands for `rollouts`. Raises `InputError` for what is unknown or does not exist at N.
    """
    estimator, separator, surrogate = text.partition("|")
    return Sampled(estimator.strip(), rollouts, surrogate.strip() if separator else surrogates.PLAIN)


def sampled_loss(group: Group, estimator: exact.AnyEstimator, surrogate: str | Surrogate = surrogates.PLAIN) -> Tensor:
    """Return -(1/BN) sum A_i log m(z_i), shape (...): its gradient is minus the mean of the groups' estimates.

    Another surrogate makes another loss of the same advantages.
    """
    # the table, never the function on the batch: a function of one group would pool the tasks
    table = _table(estimators.resolve(estimator, group.rollouts), group.rollouts)
    success, failure = (column.to(group.log_probs) for column in table)
    advantages = estimators.look_up(success, failure, group.rewards, group.counts)
    return surrogates.resolve(surrogate)(advantages, group)


def greedy(batch: Batch, runs: Sequence[int]) -> Tensor:
    """Return which tasks the likeliest rollout solves, (len(runs), B); `InputError` if the family cannot tell."""
    decode = getattr(batch, "greedy", None)
    if decode is None:
        raise InputError(f"the greedy gate needs tasks that can be decoded greedily, got {type(batch).__name__}")
    solved: Tensor = decode(runs)
    return solved


def exact_loss(log_pass_rate: Tensor, slope: Tensor) -> Tensor:
    """Return the mean over tasks of -slope log p, with slope = w(p) p held fixed: its gradient is -w(p) grad p, (...).

    Written in log p because a softmax gives that accurately. A run that has diverged stays NaN and alone.
    """
    return -(slope.to(log_pass_rate) * log_pass_rate).mean(-1)


def _checked(estimator: exact.AnyEstimator, rollouts: int) -> "Estimator | Callable[..., object]":
    """Return the estimator itself; `InputError` if it does not exist at N, or answers differently when asked twice."""
    made = estimators.resolve(estimator, specs.check_rollouts(rollouts))
    table = _table(made, rollouts)
    if not isinstance(made, Estimator):
        again = _table(made, rollouts)
        if not all(torch.equal(one, other) for one, other in zip(table, again, strict=True)):
            raise InputError(f"{probe.name_of(made)} gave other advantages when it was asked a second time")
    return made


def _table(estimator: "Estimator | Callable[..., object]", rollouts: int) -> tuple[Tensor, Tensor]:
    """Return the coefficients a(K), b(K): of a named estimator from memory, of any other callable read anew."""
    if isinstance(estimator, Estimator):
        return _named_table(estimator.spec, rollouts)
    return exact.coefficients(estimator, rollouts=rollouts)


@lru_cache(maxsize=256)
def _named_table(spec: str, rollouts: int) -> tuple[Tensor, Tensor]:
    return exact.coefficients(spec, rollouts=rollouts)
