"""Exercises whose answer is an advantage function: any right one passes, whatever free baseline it has."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from course import flips
from course.checks.numbers import Function, Lookup
from course.parameters import Parameters
from course.wrong import WrongAnswerError
from maxrl_lab import exact, objectives
from maxrl_lab.audit import Report, audit
from maxrl_lab.probe import probe

MOST_ROLLOUTS = 8
"""Functions are checked at every N up to this one."""
_SHOWN = (0.001, 0.01, 0.1, 0.5, 0.9)
_HINTS = ("own_reward_baseline", "explosion", "not_finite")


def rloo(answer: Lookup, asked: Parameters) -> None:  # noqa: ARG001
    """2.1: unbiased for the expected reward, silent where all are right and where all are wrong."""
    expected_reward(answer("rloo"))


def order_t(answer: Lookup, asked: Parameters) -> None:
    """2.2: unbiased for the likelihood's series up to T, silent where all are wrong."""
    truncated_likelihood(answer("order_t"), asked)


def pass_at_k(answer: Lookup, asked: Parameters) -> None:
    """2.3: unbiased for pass@k."""
    unbiased(answer("pass_at_k"), f"pass_at_k:k={asked.k}", least=asked.k)


def expected_reward(function: Function) -> None:
    """Raise `WrongAnswerError` unless the function is unbiased for the expected reward and 0 at K = 0 and K = N."""
    unbiased(function, "expected_reward")
    silent(function, 0.0)
    silent(function, 1.0)


def truncated_likelihood(function: Function, asked: Parameters) -> None:
    """Raise `WrongAnswerError` unless the function is unbiased for the order asked for, and silent at K = 0."""
    unbiased(function, asked.objective, least=2 if asked.order == "N" else int(asked.order))
    silent(function, 0.0, least=2 if asked.order == "N" else int(asked.order))


def unbiased(function: Function, objective: str, least: int = 2) -> None:
    """Raise `WrongAnswerError` unless the function is unbiased for the objective at N = least..8, group by group."""
    sizes, function = range(max(2, least), MOST_ROLLOUTS + 1), in_single_precision(function)
    for rollouts in (sizes[0], sizes[-1]):
        _is_a_table(function, rollouts)
    counterexample = flips.first_counterexample(function, objective, sizes)
    if counterexample is not None:
        report = audit(function, rollouts=counterexample.rollouts)
        raise WrongAnswerError(
            f"{_verdict(report, objective)}\n\nthe smallest counterexample:\n{counterexample.text()}\n\n"
            f"{_curve(report, objective)}{_hints(audit(function, rollouts=MOST_ROLLOUTS))}"
        )


def in_single_precision(function: Function) -> Function:
    """Return the function with its advantages rounded, so that an answer may compute in single precision in places."""

    def rounded(rewards: Any) -> Any:
        return np.asarray(function(rewards), dtype=np.float32)

    rounded.__name__ = function.__name__
    return rounded


def silent(function: Function, reward: float, least: int = 2) -> None:
    """Raise `WrongAnswerError` if a group whose rewards are all 0, or all 1, still moves the policy."""
    says = "success" if reward == 0 else "failure"
    for rollouts in range(max(2, least), MOST_ROLLOUTS + 1):
        advantages = probe(function, rollouts).group(torch.full((rollouts,), reward, dtype=torch.float64))
        advantage = float(advantages[advantages.abs().argmax()])
        if abs(advantage) > 1e-12:
            rewards, given = [int(reward)] * rollouts, f"{advantage:.6g}"
            raise WrongAnswerError(
                f"a group without {says} must give 0, but rewards {rewards} give every rollout {given}"
            )


def _is_a_table(function: Function, rollouts: int) -> None:
    """Raise `WrongAnswerError` if the advantages are random, not finite, or depend on order or on other groups."""
    traps = audit(function, rollouts=rollouts).traps
    broken = [trap for trap in traps if trap.invalidates or trap.name == "pooled_groups"]
    if broken:
        message = broken[0].message.partition("; if the function is only ever given one group")[0]
        raise WrongAnswerError(f"{broken[0].name} (N = {rollouts}): {message}")


def _verdict(report: Report, objective: str) -> str:
    """Which objective it is at this N."""
    asked, match = f"asked is {objective}", report.nearest
    if match is None:
        return f"N = {report.rollouts}: its mean gradient is 0 at every pass rate; {asked}"
    if match.scale < 0:
        return f"N = {report.rollouts}: it DESCENDS {match.objective} (times {match.scale:.4g}); {asked}"
    if report.objective:
        return f"N = {report.rollouts}: it optimises {match.objective}, times {match.scale:.4g}; {asked}"
    off = f"nearest: {match.objective}, {100 * match.residual:.2g}% off"
    return f"N = {report.rollouts}: it optimises no known objective ({off}); {asked}"


def _curve(report: Report, objective: str) -> str:
    """The weights that the function has, and those asked for."""
    p = torch.tensor(_SHOWN, dtype=torch.float64)
    success, failure = (torch.tensor(column, dtype=torch.float64) for column in (report.success, report.failure))
    rows: dict[str, Tensor] = {
        "pass rate p": p,
        "your weight": exact.table_weight(success, failure, p),
        "asked": objectives.resolve(objective, report.rollouts).weight(p),
    }
    lines = (f"  {name:<12}" + "".join(f"{float(v):>10.4g}" for v in row) for name, row in rows.items())
    return "\n".join(lines)


def _hints(report: Report) -> str:
    """What the audit says at the largest N, where its hints are sharpest."""
    hints = [trap.message for trap in report.traps if trap.name in _HINTS]
    return "".join(f"\n  hint (N = {report.rollouts}): {hint}" for hint in hints)


def box(answer: Lookup, asked: Parameters) -> None:
    """2.4: which objective is each of six tables unbiased for?"""
    named = answer("boxes")()
    if not isinstance(named, dict):
        raise WrongAnswerError(f"expected a dict from a letter to an objective, got {named!r:.60}")
    missing = []
    for letter, table in asked.lettered().items():
        given = str(named.get(letter, "(no answer)"))
        if given.replace(" ", "").casefold() != table.objective:
            row = ", ".join(f"{flip:.4g}" for flip in table.flips())
            missing.append(f"box {letter} is not {given!r:.60}: its flips a(J+1) - b(J), J = 0.., are {row}")
    if missing:
        raise WrongAnswerError("\n".join(missing), share=1 - len(missing) / len(asked.boxes))
