"""The on-policy step, once, for every family of tasks, and the ways to take it.

    sampled    draw N rollouts a task, apply the estimator: what practice does
    expected   the estimator's exact mean w_N(p) grad p: its bias alone, no noise
    objective  an objective's exact gradient w(p) grad p: neither
    inverse    draw until m rollouts have succeeded, at most N: likelihood at random cost (`inverse_sampling`)

`sampled` less `expected` is pure variance, `expected` less `objective` pure bias. Many runs are one batched program
(axis R): each run has a method and a learning rate of its own.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from maxrl_lab import estimators, exact, inverse_sampling, objectives, specs, surrogates
from maxrl_lab.groups import Group

Mode = Literal["sampled", "expected", "objective", "inverse"]


@dataclass(frozen=True)
class Method:
    """What a run's gradient is: an estimator on N rollouts, its exact mean, an objective's, or inverse sampling's."""

    mode: Mode
    """`sampled`, `expected`, `objective` or `inverse`."""
    target: str
    """Text form of the estimator (`pkpo:k=4`), the objective, or the scheme (`inverse_sampling:successes=2`)."""
    rollouts: int | None = None
    """N, the cap in mode `inverse`; None in mode `objective`."""
    surrogate: str = surrogates.PLAIN
    """Text form of the loss made of the advantages in mode `sampled`; any but the default changes the objective."""

    def __post_init__(self) -> None:
        """Check that the target exists and fits N."""
        surrogates.resolve(self.surrogate)
        if self.surrogate != surrogates.PLAIN and self.mode != "sampled":
            raise ValueError(f"a surrogate belongs to mode 'sampled', got {self.surrogate!r} in mode {self.mode!r}")
        if self.mode == "objective":
            objectives.resolve(self.target)
            if self.rollouts is not None:
                raise ValueError(f"mode 'objective' takes no rollouts, got {self.rollouts}")
        elif self.mode in ("sampled", "expected"):
            exact.coefficients(self.target, rollouts=specs.check_count("rollouts", self.rollouts))
        elif self.mode == "inverse":
            inverse_sampling.resolve(self.target)
            specs.check_count("rollouts", self.rollouts)
        else:
            raise ValueError(f"mode must be sampled, expected, objective or inverse, got {self.mode!r}")

    @property
    def name(self) -> str:
        """The target, and the surrogate if it is not the plain one: `grpo + greedy_gate`."""
        return self.target if self.surrogate == surrogates.PLAIN else f"{self.target} + {self.surrogate}"


def sampled(text: str, rollouts: int) -> Method:
    """Return the method of an estimator's text form at N rollouts, `grpo` or `grpo + greedy_gate` with a surrogate."""
    target, plus, surrogate = text.partition("+")
    return Method(
        "sampled", specs.format_at(target.strip(), rollouts), rollouts, surrogate.strip() if plus else surrogates.PLAIN
    )


class Batch(Protocol):
    """B tasks for each of R runs under the runs' present policies: what a family of tasks offers the step."""

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return N rollouts of each task for the named runs: a group (len(runs), B, N)."""
        ...

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Return the exact log pass rates (len(runs), B), differentiable; `ValueError` if the family has none."""
        ...


def losses(batch: Batch, methods: Sequence[Method]) -> Tensor:
    """Return each run's surrogate loss, shape (R,), whose gradient is minus the run's gradient estimate."""
    together: dict[Method, list[int]] = defaultdict(list)
    for run, method in enumerate(methods):
        together[method].append(run)
    order = [run for runs in together.values() for run in runs]
    sampled = _roll_out(batch, together)
    parts = [
        exact_loss(batch.log_pass_rate(runs), method)
        if method not in sampled
        else inverse_loss(sampled[method], method.target)
        if method.mode == "inverse"
        else sampled_loss(sampled[method], method.target, method.surrogate)
        for method, runs in together.items()
    ]
    return torch.cat(parts)[torch.tensor(order).argsort()]


def _roll_out(batch: Batch, together: dict[Method, list[int]]) -> dict[Method, Group]:
    """Roll out all runs with the same N at once; a group per method that samples."""
    by_rollouts: dict[int, list[Method]] = defaultdict(list)
    for method in together:
        if method.mode in ("sampled", "inverse") and method.rollouts is not None:
            by_rollouts[method.rollouts].append(method)
    groups = {}
    for rollouts, methods in by_rollouts.items():
        group = batch.rollout([run for method in methods for run in together[method]], rollouts)
        start = 0
        for method in methods:
            part = slice(start, start + len(together[method]))
            groups[method] = group.select(part)
            if surrogates.needs_greedy(method.surrogate):
                groups[method] = replace(groups[method], greedy=_greedy(batch, together[method]))
            start = part.stop
    return groups


def _greedy(batch: Batch, runs: Sequence[int]) -> Tensor:
    """Which tasks the likeliest rollout solves, (len(runs), B) bool; `ValueError` if the family cannot tell."""
    if not hasattr(batch, "greedy"):
        raise ValueError(f"the greedy gate needs tasks that can be decoded greedily, got {type(batch).__name__}")
    solved: Tensor = batch.greedy(runs)
    return solved


def sampled_loss(group: Group, estimator: exact.AnyEstimator, surrogate: str = surrogates.PLAIN) -> Tensor:
    """Return -(1/BN) sum A_i log m(z_i), shape (...): its gradient is minus the mean of the groups' estimates.

    Another surrogate makes another loss of the same advantages.
    """
    # the table, never the function on the batch: a function of one group would pool the tasks
    table = _read_table(estimators.resolve(estimator, group.rollouts), group.rollouts)
    success, failure = (column.to(group.log_probs) for column in table)
    return surrogates.resolve(surrogate)(estimators.look_up(success, failure, group.rewards), group)


def inverse_loss(group: Group, scheme: str) -> Tensor:
    """Return the same for inverse sampling, shape (...): rollouts after the m-th success count as not drawn."""
    advantages = inverse_sampling.advantages(group.rewards, successes=inverse_sampling.resolve(scheme))
    return surrogates.sequence_sum(advantages.to(group.log_probs), group)


@lru_cache(maxsize=64)
def _read_table(estimator: Callable[..., object], rollouts: int) -> tuple[Tensor, Tensor]:
    return exact.coefficients(estimator, rollouts=rollouts)


def exact_loss(log_pass_rate: Tensor, method: Method) -> Tensor:
    """Return the mean over tasks of -w(p) p log p with w(p) p held fixed: its gradient is -w(p) grad p, shape (...).

    Written in log p because a softmax gives that accurately. A run that has diverged stays NaN and alone.
    """
    if method.mode == "objective":
        slope = objectives.resolve(method.target).log_slope(log_pass_rate)
    else:
        p = log_pass_rate.detach().double().exp().clamp(max=1.0).nan_to_num(1.0)
        slope = p * exact.weight(method.target, rollouts=method.rollouts or 0, pass_rate=p)
    return -(slope.to(log_pass_rate) * log_pass_rate).mean(-1)


def step(run_losses: Tensor, optimiser: torch.optim.Optimizer, clip: float | None = None) -> None:
    """Take one optimiser step on every run's loss (R,); `clip` bounds each run's own gradient norm, off if None."""
    optimiser.zero_grad(set_to_none=True)
    run_losses.sum().backward()
    if clip is not None:
        for group in optimiser.param_groups:
            nn.utils.clip_grad_norm_(group["params"], clip)
    optimiser.step()
