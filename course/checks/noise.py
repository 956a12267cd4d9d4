"""Exercises about variance: the quietest table there is, and the estimator with the least error."""

from collections.abc import Mapping

import torch

from course import flips
from course.checks.advantages import truncated_likelihood
from course.checks.numbers import Lookup
from course.parameters import Parameters
from course.wrong import WrongAnswerError
from maxrl_lab import exact

ALLOWANCE = 0.01
"""Relative excess of the variance over the least possible one that still counts as quiet."""
CHOICES = ("rloo", "grpo", "maxrl", "maxrl_no_baseline", "maxrl_cross_fitted", "maxrl_order:order=N/2")
"""Estimators among which `choose` chooses."""
CASES = (
    *((0.2, 2), (0.8, 2), (0.5, 4), (0.8, 4), (0.05, 16), (0.5, 16)),
    *((0.01, 64), (0.5, 64), (0.9, 64), (0.01, 256), (0.05, 256), (0.9, 256)),
)
"""Pass rate and number of rollouts at which it is asked."""
_RIGHT, _WRONG = (0.6, 0.3, 0.1), (0.4, 0.3, 0.2, 0.07, 0.03)


def quiet(answer: Lookup, asked: Parameters) -> None:
    """3.2: unbiased as `order_t`, and within 1% of the least variance that any such table can have."""
    function = answer("quiet")
    truncated_likelihood(function, asked)
    moments = flips.uniform_policy(asked.answers, asked.right)
    success, failure = exact.coefficients(function, rollouts=asked.rollouts)
    variance = float(exact.table_variance(success, failure, **moments))
    best = flips.quietest(asked.objective, asked.rollouts, moments)[1]
    if variance > best * (1 + ALLOWANCE):
        raise WrongAnswerError(
            f"unbiased, but with {asked.right} of {asked.answers} answers right and N = {asked.rollouts} its variance "
            f"is {variance:.4g}, {variance / best:.3f} times the least possible {best:.4g} of any such table "
            f"(allowed: {1 + ALLOWANCE:g} times)"
        )


def choose(answer: Lookup, asked: Parameters) -> None:  # noqa: ARG001
    """3.3: the estimator with the least squared error, at twelve pass rates and numbers of rollouts."""
    function, missing = answer("choose"), []
    for pass_rate, rollouts in CASES:
        errors, given = mean_squared_errors(pass_rate, rollouts), str(function(pass_rate, rollouts))
        if given not in errors:
            raise WrongAnswerError(
                f"at p = {pass_rate}, N = {rollouts} you choose {given!r:.60}; choose one of {', '.join(errors)}"
            )
        if errors[given] > (1 + ALLOWANCE) * min(errors.values()):
            listed = ", ".join(f"{name} {error:.3g}" for name, error in errors.items())
            missing.append(f"at p = {pass_rate}, N = {rollouts} {given} has not the least error; they are: {listed}")
    if missing:
        more = f"\n({len(missing)} of {len(CASES)} are wrong)"
        raise WrongAnswerError("\n".join(missing[:2]) + more, share=1 - len(missing) / len(CASES))


def mean_squared_errors(pass_rate: float, rollouts: int) -> Mapping[str, float]:
    """Return bias^2 + variance of each estimator for grad log p, in units of |grad log p|^2.

    The policy is that of `experiments/exact/bias_variance.py`: eight answers, three of them right.
    """
    shares = [pass_rate * share for share in _RIGHT] + [(1 - pass_rate) * share for share in _WRONG]
    pi = torch.tensor(shares, dtype=torch.float64)
    rewards, scores = (torch.arange(len(pi)) < len(_RIGHT)).double(), torch.eye(len(pi), dtype=torch.float64) - pi
    target = (pi * rewards) @ scores / pass_rate
    errors = {}
    for name in CHOICES:
        mean, variance = exact.moments(name, rollouts=rollouts, probabilities=pi, scores=scores, rewards=rewards)
        errors[name] = float(((mean - target).square().sum() + variance) / target.square().sum())
    return errors
