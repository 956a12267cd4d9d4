"""Where does a table of advantages first leave an objective? Asked of one rollout that is flipped from wrong to right.

An estimator's weight is w_N(p) = E_J[a(J+1) - b(J)], J ~ Binomial(N-1, p). The binomial family is complete, so the
weight equals an objective's at every p if and only if each *flip* d(J) = a(J+1) - b(J) does. The first J at which it
does not is a counterexample of two groups that differ in one rollout, and no smaller one exists.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxrl_lab import exact
from maxrl_lab.estimators.from_weight import from_objective

CLOSE = 1e-5
"""Flips this close, relatively, count as equal: answers may be computed in float32."""


def flips_of(objective: str, rollouts: int) -> Tensor:
    """Return the flips d(J), J = 0..N-1, of every table that is unbiased for an objective: (N,) float64.

    They are the advantages of the successes where failures get 0.
    """
    success, _ = from_objective(objective, rollouts).coefficients(rollouts)
    return success[1:]


@dataclass(frozen=True)
class Counterexample:
    """Two groups of N that differ in their first rollout, J of the others being right."""

    rollouts: int
    others_right: int
    before: float
    after: float
    wanted: float

    def text(self) -> str:
        """Say it in four lines."""
        rest = [1] * self.others_right + [0] * (self.rollouts - 1 - self.others_right)
        flip = self.after - self.before
        return (
            f"  rewards {[0, *rest]} give the first rollout the advantage {self.before:.6g}\n"
            f"  rewards {[1, *rest]} give it {self.after:.6g}\n"
            f"  so getting it right is worth {flip:.6g};\n"
            f"  with J = {self.others_right} of the other {self.rollouts - 1} right it must be worth {self.wanted:.6g}"
        )


def first_counterexample(function: Callable[..., Any], objective: str, sizes: Iterable[int]) -> Counterexample | None:
    """Return the counterexample with the smallest N, then the smallest J; None if there is none at these N."""
    for rollouts in sizes:
        success, failure = exact.coefficients(function, rollouts=rollouts)
        flips, wanted = success[1:] - failure[:-1], flips_of(objective, rollouts)
        off = (flips - wanted).abs() > CLOSE * wanted.abs().clamp(min=1.0)
        if bool(off.any()):
            others = int(off.nonzero()[0])
            return Counterexample(rollouts, others, *(float(v[others]) for v in (failure, success[1:], wanted)))
    return None


def uniform_policy(answers: int, right: int) -> dict[str, float]:
    """Return what `exact.table_variance` needs of a softmax policy with equally likely answers, some of them right.

    The score of answer v is the unit vector of v less the probabilities.
    """
    pass_rate, square = right / answers, 1 - 1 / answers
    return {
        "pass_rate": pass_rate,
        "gradient_norm_squared": pass_rate * (1 - pass_rate) / answers,
        "success_moment": pass_rate * square,
        "failure_moment": (1 - pass_rate) * square,
    }


def quietest(objective: str, rollouts: int, moments: dict[str, float]) -> tuple[Tensor, float]:
    """Return the b(J), J = 0..N-1, of least variance among the tables that are unbiased and have b(0) = 0, and that.

    The variance is a quadratic in b, so one Newton step from anywhere is the exact minimum.
    """
    flips = flips_of(objective, rollouts)

    def spread(free: Tensor) -> Tensor:
        b = torch.cat([free.new_zeros(1), free])
        return exact.table_variance(torch.cat([b.new_zeros(1), b + flips]), torch.cat([b, b.new_zeros(1)]), **moments)

    zero = torch.zeros(rollouts - 1, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(spread, zero)
    best = -torch.linalg.solve(torch.autograd.functional.hessian(spread, zero), slope)
    return torch.cat([zero[:1], best]), float(spread(best))
