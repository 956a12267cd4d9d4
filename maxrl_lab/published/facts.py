"""What a method's table says of it at N rollouts: everything here is computed from the coefficients a(K), b(K)."""

from typing import NamedTuple

import torch

from maxrl_lab import estimators, exact, specs
from maxrl_lab.audit import identify
from maxrl_lab.audit.limit import limit
from maxrl_lab.probe import probe
from maxrl_lab.published.methods import Method

PASS_RATES = (0.01, 0.5)
"""Pass rates at which the noise is told."""
_ZERO = 1e-12


class Facts(NamedTuple):
    """A row of the index."""

    method: str
    source: str
    estimator: str
    objective: str | None
    """The objective that it is unbiased for at N, up to `scale`; None if it is none of the known ones."""
    scale: float
    """The factor between its weight and that of the objective, or of `nearest`."""
    nearest: str
    """The known objective with the nearest weight."""
    residual: float
    """The largest relative deviation of the two weights."""
    limit: str | None
    """The objective it tends to as N grows; None if that is not known."""
    sums_to_zero: bool
    silent_without_success: bool
    """Whether all advantages are 0 where every rollout is wrong."""
    silent_without_failure: bool
    """Whether all advantages are 0 where every rollout is right."""
    noise: tuple[float, ...]
    """Variance of one group's estimate over the squared norm of its mean, at each of `PASS_RATES`."""


def facts_of(method: Method, rollouts: int) -> Facts:
    """Return the row of a method; raise `InputError` if its estimator does not exist at N = `rollouts`."""
    name, options = specs.parse(method.estimator, rollouts)
    made = estimators.make(name, **options)
    success, failure = made.coefficients(rollouts)
    p = identify.grid(rollouts)
    match = identify.nearest(exact.table_weight(success, failure, p), p, rollouts)
    named = match.residual <= identify.tolerance(rollouts) and match.scale > 0
    tends = limit(probe(made, rollouts), success, failure)
    counts = torch.arange(rollouts + 1)
    return Facts(
        method=method.name,
        source=method.source,
        estimator=method.estimator,
        objective=match.objective if named else None,
        scale=match.scale,
        nearest=match.objective,
        residual=match.residual,
        limit=tends.objective if tends else method.limit,
        sums_to_zero=bool((counts * success + (rollouts - counts) * failure).abs().max() < _ZERO * rollouts),
        silent_without_success=failure[0].item() == 0,
        silent_without_failure=success[rollouts].item() == 0,
        noise=tuple(_noise(made, rollouts, rate) for rate in PASS_RATES),
    )


def _noise(estimator: estimators.Estimator, rollouts: int, pass_rate: float) -> float:
    """Return variance / |mean|^2 for a softmax policy with two right and two wrong answers, each two equally likely."""
    probabilities = torch.tensor([pass_rate, pass_rate, 1 - pass_rate, 1 - pass_rate], dtype=torch.float64) / 2
    scores = torch.eye(4, dtype=torch.float64) - probabilities
    moments = exact.moments(
        estimator,
        rollouts=rollouts,
        probabilities=probabilities,
        scores=scores,
        rewards=torch.tensor([1, 1, 0, 0]),
    )
    return float(moments.variance / moments.mean.square().sum())
