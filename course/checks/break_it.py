"""Exercise 5.1: the student writes the test. It must accept every right function and reject every wrong one.

The functions stay here: the student's test calls them and sees their advantages, never their code, and they come in an
order that nobody knows beforehand.
"""

import secrets
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from course.checks.numbers import Lookup
from course.parameters import Parameters
from course.wrong import WrongAnswerError
from maxrl_lab import estimators
from maxrl_lab.audit import Report, audit


def _successes(rewards: Tensor) -> Tensor:
    return rewards.sum(-1, keepdim=True)


def _small_epsilon(rewards: Tensor) -> Tensor:
    return rewards * rewards.shape[-1] / (_successes(rewards) + 1e-8)


def _large_epsilon(rewards: Tensor) -> Tensor:
    return rewards / (rewards.mean(-1, keepdim=True) + 0.1)


def _pooled(rewards: Tensor) -> Tensor:
    return rewards * rewards.numel() / rewards.sum().clamp(min=1)


def _not_a_number(rewards: Tensor) -> Tensor:
    return rewards / rewards.mean(-1, keepdim=True)


def _per_success(rewards: Tensor) -> Tensor:
    return rewards / _successes(rewards).clamp(min=1)


def _one_order_less(rewards: Tensor) -> Tensor:
    return estimators.make("maxrl_order", order=max(1, rewards.shape[-1] - 1))(rewards)


def _clipped(rewards: Tensor) -> Tensor:
    return estimators.make("maxrl_no_baseline")(rewards).clamp(max=3.0)


def _random(rewards: Tensor) -> Tensor:
    return estimators.make("maxrl_no_baseline")(rewards) + 0.1 * torch.rand_like(rewards) * (rewards.sum() > 0)


def _ordered(rewards: Tensor) -> Tensor:
    return estimators.make("maxrl_no_baseline")(rewards) - rewards.roll(1, -1) * (_successes(rewards) > 1)


def _perturbed(rollouts: int, others: int) -> Callable[[Tensor], Tensor]:
    """Return a right function whose success is worth 5% too much at one N, with J others right."""

    def function(rewards: Tensor) -> Tensor:
        advantages = estimators.make("maxrl_leave_one_out")(rewards)
        here = (_successes(rewards) - rewards == others) & (rewards == 1)
        return torch.where(here & (rewards.shape[-1] == rollouts), advantages * 1.05 + 0.05, advantages)

    return function


RIGHT: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: estimators.make(name) for name in ("maxrl_leave_one_out", "maxrl_cross_fitted", "maxrl_no_baseline")},
    "r N / (K + 1e-8)": _small_epsilon,
}
"""Functions that are unbiased for order N and give 0 where K = 0."""
WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "Algorithm 1": estimators.make("maxrl"),
    "an epsilon of 0.1": _large_epsilon,
    "K pooled over the batch": _pooled,
    "the control variate, which moves at K = 0": estimators.make("maxrl_control_variate"),
    "N forgotten": _per_success,
    "GRPO": estimators.make("grpo"),
    "GRPO with the sample's deviation": estimators.make("grpo", ddof=1),
    "order N - 1 without a baseline": _one_order_less,
    "advantages clipped at 3": _clipped,
    "NaN where K = 0": _not_a_number,
    "noise among the advantages": _random,
    "a baseline from the neighbour": _ordered,
    "5% too much at N = 3, J = 1": _perturbed(3, 1),
    "5% too much at N = 5, J = 3": _perturbed(5, 3),
    "5% too much at N = 8, J = 5": _perturbed(8, 5),
}
"""Functions that are not."""
ROLLOUTS = tuple(range(2, 9))
"""The numbers of rollouts with which the student's test may call a function."""


def break_it(answer: Lookup, asked: Parameters) -> None:  # noqa: ARG001
    """5.1: the share of wrong functions that are rejected, 0 if a right one is."""
    is_right = answer("is_right")
    cases = [(name, function, True) for name, function in RIGHT.items()]
    cases += [(name, function, False) for name, function in WRONG.items()]
    secrets.SystemRandom().shuffle(cases)
    verdicts = {name: (bool(is_right(_callable(function))), wanted) for name, function, wanted in cases}
    for name, (verdict, wanted) in verdicts.items():
        if wanted and not verdict:
            raise WrongAnswerError(
                f"your test rejects a right function ({name}):\n{audit(RIGHT[name], rollouts=8).text()}"
            )
    missed = [name for name in WRONG if verdicts[name][0]]
    if missed:
        lines = "\n".join(f"  {_described(audit(WRONG[name], rollouts=8))}: {name}" for name in missed)
        rejected = len(WRONG) - len(missed)
        raise WrongAnswerError(
            f"it rejects {rejected} of {len(WRONG)} wrong functions; missed:\n{lines}", rejected / len(WRONG)
        )


def _callable(function: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
    """The function as the student's test may call it: with a group (N,) or a batch (B, N) of rewards 0 and 1."""

    def called(rewards: Any) -> Any:
        given = torch.as_tensor(rewards, dtype=torch.float64)
        if given.ndim not in (1, 2) or given.shape[-1] not in ROLLOUTS:
            raise ValueError(f"expected rewards (N,) or (B, N) with N from 2 to 8, got {tuple(given.shape)}")
        return function(estimators.check_rewards(given)).numpy()

    return called


def _described(report: Report) -> str:
    if not report.valid:
        return "no table: " + ", ".join(trap.name for trap in report.traps if trap.invalidates)
    return f"optimises {report.objective or 'no known objective'} at N = 8"
