"""The exact noise of a table's gradient estimate on the simplest policy there is: p = sigmoid(logit)."""

from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab import exact

SHOWN_PASS_RATES = (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9)
"""Pass rates at which a report states weight and noise."""


class Noise(NamedTuple):
    """Exact noise of one group's estimate on the one-parameter policy p = sigmoid(logit)."""

    pass_rate: float
    variance: float
    """Variance of the gradient estimate with respect to the logit."""
    relative: float
    """Standard deviation over the size of the mean; infinite where the mean is 0."""


def noise(success: Tensor, failure: Tensor) -> tuple[Noise, ...]:
    """Return the noise of the coefficients a(K), b(K), K = 0..N, at each of `SHOWN_PASS_RATES`.

    The score of this policy is r - p, so grad p = p(1-p), q1 = E[S^2 1{r=1}] = p(1-p)^2 and q0 = (1-p)p^2.
    """
    p = torch.tensor(SHOWN_PASS_RATES, dtype=torch.float64)
    gradient = p * (1 - p)
    variance = exact.table_variance(
        success,
        failure,
        pass_rate=p,
        gradient_norm_squared=gradient**2,
        success_moment=p * (1 - p) ** 2,
        failure_moment=(1 - p) * p**2,
    )
    mean = exact.table_weight(success, failure, p) * gradient
    relative = torch.where(mean != 0, variance.sqrt() / mean.abs(), float("inf"))
    return tuple(Noise(*values) for values in zip(SHOWN_PASS_RATES, variance.tolist(), relative.tolist(), strict=True))
