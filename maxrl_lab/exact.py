"""An estimator's mean, bias and variance at any finite N, without sampling.

Flip one rollout's reward from wrong to right while J of the N-1 others are right: the rollout's own advantage goes
from b(J) to a(J+1). Averaged over J ~ Binomial(N-1, p) that difference is all the first-order theory there is:

    E[g] = w_N(p) grad p,      w_N(p) = E_J[ a(J+1) - b(J) ],                                          [lab]

because E[S | r=1] = grad p / p (Theorem 1 of arXiv:2602.02710v1) and E[S | r=0] = -grad p / (1-p). The second moment
needs pairs of rollouts as well, hence Binomial(N-2, p).

"[lab]" marks what is not in the paper and was derived for this project; others published it before. Davis & Recht
(arXiv:2510.13651, October 2025) show that binary-reward algorithms climb a monotone transform of p, and that a table
of advantages is a set of Bernstein coefficients of its weight: the a(J+1) - b(J) above. RL2ML (arXiv:2605.30154, May
2026) has the Bernstein form and an exact variance decomposition for any estimator that depends on counts alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maxrl_lab import estimators, objectives, probe, specs
from maxrl_lab.bernstein import binomial_mean
from maxrl_lab.errors import InputError

AnyEstimator = str | Callable[..., Any]
"""A name such as `maxrl` or `pkpo:k=4`, a made estimator, or any callable from rewards (N,) or (B, N) to advantages."""

AnyObjective = str | objectives.Objective

AnyRollouts = int | Mapping[int, float]
"""The number N of rollouts in a group, or the share of groups with each number n: `{7: 0.25, 8: 0.75}`.

Groups lose rollouts to time-outs and truncation. Every group's estimate is divided by its own n, and the estimator is
looked up at that n, so the mean is the mixture of the w_n. A share at n = 0 stands for groups that are lost altogether
and give no gradient.
"""

_ZERO_MEAN_TOLERANCE = 1e-6


class Moments(NamedTuple):
    """A gradient estimate's exact mean, shape (d,), and variance, the trace of its covariance, shape ()."""

    mean: Tensor
    variance: Tensor


def coefficients(estimator: AnyEstimator, *, rollouts: int) -> tuple[Tensor, Tensor]:
    """Return (a, b): the advantage of a success and of a failure in a group with K = 0..N successes, (N+1,) float64.

    The unreachable a(0) and b(N) are 0. Any callable is probed with every K. Raises `InputError` if it treats rollouts
    of a group differently (the message shows the pair of inputs), returns NaN or infinity, or needs a larger N.
    """
    specs.check_rollouts(rollouts)
    success, failure = probe.coefficients(estimators.resolve(estimator, rollouts), rollouts)
    undefined = ~(success.isfinite() & failure.isfinite())
    if undefined.any():
        raise InputError(
            f"{probe.name_of(estimator)} returns an advantage that is not finite at K = {int(undefined.nonzero()[0])}"
        )
    return success, failure


def weight(estimator: AnyEstimator, *, rollouts: AnyRollouts, pass_rate: object) -> Tensor:
    """Return w_N(p), with E[gradient estimate] = w_N(p) grad p; float64, the shape of `pass_rate`.

    Relative error below 1e-9 for N up to 4096 and p from 1e-9 to 1, for estimators whose a(J+1) - b(J) does not change
    sign; relative to the largest term otherwise. Raises `InputError` for shares of n that do not sum to 1.
    """
    p = objectives.as_pass_rate(pass_rate).detach()
    mean = torch.zeros_like(p)
    for share, success, failure in _tables(estimator, rollouts):
        mean = mean + share * table_weight(success, failure, p)
    return mean


def bias(estimator: AnyEstimator, *, rollouts: AnyRollouts, objective: AnyObjective, pass_rate: object) -> Tensor:
    """Return w_N(p) - w(p): the estimator's bias for the objective, in units of grad p; the shape of `pass_rate`.

    The bias is a difference of two accurate numbers: its absolute error is about 1e-12 times w(p).
    """
    target = objectives.resolve(objective, rollouts if isinstance(rollouts, int) else None)
    return weight(estimator, rollouts=rollouts, pass_rate=pass_rate) - target.weight(pass_rate)


def variance(
    estimator: AnyEstimator,
    *,
    rollouts: AnyRollouts,
    pass_rate: object,
    gradient_norm_squared: object,
    success_moment: object,
    failure_moment: object,
) -> Tensor:
    """Return the exact variance (trace of the covariance) of one group's gradient estimate.  [lab]

        E|g|^2 = (1/N) E_{J~Bin(N-1,p)}[ a(J+1)^2 q1 + b(J)^2 q0 ]
                 + (1-1/N) |grad p|^2 E_{J~Bin(N-2,p)}[ a(J+2)^2 + b(J)^2 - 2 a(J+1) b(J+1) ]

    with q1 = E[|S|^2 1{r=1}] (`success_moment`), q0 = E[|S|^2 1{r=0}] (`failure_moment`) and |grad p|^2
    (`gradient_norm_squared`), all broadcast against `pass_rate`. Regular at p = 0 and p = 1.
    """
    p, norm = objectives.as_pass_rate(pass_rate).detach(), torch.as_tensor(gradient_norm_squared, dtype=torch.float64)
    mean, second_moment = torch.zeros_like(p), torch.zeros_like(p)
    for share, success, failure in _tables(estimator, rollouts):
        spread = table_variance(
            success,
            failure,
            pass_rate=p,
            gradient_norm_squared=norm,
            success_moment=success_moment,
            failure_moment=failure_moment,
        )
        if share == 1:
            return spread
        part = table_weight(success, failure, p)
        mean, second_moment = mean + share * part, second_moment + share * (spread + part**2 * norm)
    return (second_moment - mean**2 * norm).clamp(min=0.0)


def moments(
    estimator: AnyEstimator, *, rollouts: AnyRollouts, probabilities: Tensor, scores: Tensor, rewards: Tensor
) -> Moments:
    """Return the exact mean (d,) and variance () of the gradient estimate of one group, for an enumerable policy.

    `probabilities` (V,) of the V possible rollouts, their `scores` (V, d) and `rewards` (V,) in {0, 1}. Raises
    `InputError` for shapes that do not fit, probabilities that are not a distribution, and scores whose mean is not 0
    (they are then not gradients of these log-probabilities).
    """
    pi, score, right = _enumerated(probabilities, scores, rewards)
    drift = float((pi @ score).norm() / (pi @ score.norm(dim=1)).clamp(min=1e-300))
    if not drift <= _ZERO_MEAN_TOLERANCE:
        raise InputError(f"the mean score must be 0 under the policy, got a relative norm of {drift:.3g}")
    pass_rate = (pi @ right).clamp(0.0, 1.0)
    gradient = (pi * right) @ score
    squares = score.square().sum(1)
    spread = variance(
        estimator,
        rollouts=rollouts,
        pass_rate=pass_rate,
        gradient_norm_squared=gradient.square().sum(),
        success_moment=(pi * right) @ squares,
        failure_moment=(pi * (1 - right)) @ squares,
    )
    return Moments(weight(estimator, rollouts=rollouts, pass_rate=pass_rate) * gradient, spread)


def surrogate_moments(
    estimator: AnyEstimator,
    *,
    rollouts: AnyRollouts,
    probabilities: Tensor,
    scores: Tensor,
    rewards: Tensor,
    squares: Tensor | None = None,
) -> Moments:
    """Return what `moments` does where a surrogate l(x) stands for log pi(x): scores need not have mean 0.  [lab]

        E[g] = E_J[a(J+1)] E[grad l 1{r=1}] + E_J[b(J)] E[grad l 1{r=0}]
             = w_N(p) p (1-p) (s1 - s0) + m E[grad l],      m = p E_J[a(J+1)] + (1-p) E_J[b(J)]

    with s1, s0 the mean of grad l among right and wrong rollouts: the weight w_N(p) outlives any surrogate, and m, the
    mean advantage, is 0 for tables that sum to zero. `scores` (V, d) holds grad l of the V possible rollouts, or its
    mean where l is random; `squares` (V,) is then the mean of |grad l|^2, and |scores|^2 if it is left out.
    """
    pi, score, right = _enumerated(probabilities, scores, rewards)
    square = score.square().sum(1) if squares is None else torch.as_tensor(squares, dtype=torch.float64)
    if square.shape != pi.shape:
        raise InputError(f"expected squares of the scores {tuple(pi.shape)}, got {tuple(square.shape)}")
    p = (pi @ right).clamp(0.0, 1.0)
    of_right, of_wrong = (pi * right) @ score, (pi * (1 - right)) @ score
    products = torch.stack([of_right @ of_right, 2 * of_right @ of_wrong, of_wrong @ of_wrong])
    mean, second_moment = torch.zeros_like(of_right), torch.zeros_like(p)
    for share, success, failure in _tables(estimator, rollouts):
        size = len(success) - 1
        mean = mean + share * (binomial_mean(success[1:], p) * of_right + binomial_mean(failure[:-1], p) * of_wrong)
        alone = binomial_mean(success[1:] ** 2, p) * ((pi * right) @ square)
        alone = alone + binomial_mean(failure[:-1] ** 2, p) * ((pi * (1 - right)) @ square)
        second_moment = second_moment + share * alone / size
        if size > 1:
            tables = (success[2:] ** 2, success[1:-1] * failure[1:-1], failure[:-2] ** 2)
            pairs = torch.stack([binomial_mean(table, p) for table in tables])
            second_moment = second_moment + share * (1 - 1 / size) * (pairs @ products)
    return Moments(mean, (second_moment - mean @ mean).clamp(min=0.0))


def _enumerated(probabilities: Tensor, scores: Tensor, rewards: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities (V,), scores (V, d) and rewards (V,) in float64, all checked."""
    pi, score = (torch.as_tensor(value, dtype=torch.float64) for value in (probabilities, scores))
    right = estimators.check_rewards(rewards).to(torch.float64)
    if pi.ndim != 1 or score.ndim != 2 or not len(pi) == len(score) == len(right) or right.ndim != 1:
        shapes = ", ".join(str(tuple(value.shape)) for value in (pi, score, right))
        raise InputError(f"expected probabilities (V,), scores (V, d) and rewards (V,), got {shapes}")
    if not (bool((pi >= 0).all()) and abs(float(pi.sum()) - 1) <= _ZERO_MEAN_TOLERANCE):
        got = f"the sum {float(pi.sum())} and the smallest {float(pi.min())}"
        raise InputError(f"probabilities must be >= 0 and sum to 1, got {got}")
    return pi, score, right


def _tables(estimator: AnyEstimator, rollouts: AnyRollouts) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Yield (share, a, b) for each number n of rollouts that a group may have, but 0."""
    for size, share in _shares(rollouts).items():
        if size > 0 and share > 0:
            yield (share, *coefficients(estimator, rollouts=size))


def _shares(rollouts: AnyRollouts) -> dict[int, float]:
    if not isinstance(rollouts, Mapping):
        specs.check_rollouts(rollouts)
        return {rollouts: 1.0}
    shares = {specs.check_count("a number of rollouts", n, minimum=0): float(share) for n, share in rollouts.items()}
    total = math.fsum(shares.values())
    if not (all(share >= 0 for share in shares.values()) and abs(total - 1) <= 1e-9):
        raise InputError(
            f"shares of the numbers of rollouts must be >= 0 and sum to 1, got {shares} with sum {total:g}"
        )
    return shares


def table_weight(success: Tensor, failure: Tensor, pass_rate: Tensor) -> Tensor:
    """Return w_N(p) of the coefficients a(K), b(K), K = 0..N; see `weight`."""
    return binomial_mean(success[1:] - failure[:-1], pass_rate)


def table_variance(
    success: Tensor,
    failure: Tensor,
    *,
    pass_rate: object,
    gradient_norm_squared: object,
    success_moment: object,
    failure_moment: object,
) -> Tensor:
    """Return the variance of the coefficients a(K), b(K), K = 0..N; see `variance`."""
    rollouts = len(success) - 1
    p = objectives.as_pass_rate(pass_rate).detach()
    norm, q1, q0 = (
        torch.as_tensor(value, dtype=torch.float64) for value in (gradient_norm_squared, success_moment, failure_moment)
    )
    squares = binomial_mean(success[1:] ** 2, p) * q1 + binomial_mean(failure[:-1] ** 2, p) * q0
    second_moment = squares / rollouts
    if rollouts > 1:
        pairs = success[2:] ** 2 + failure[:-2] ** 2 - 2 * success[1:-1] * failure[1:-1]
        second_moment = second_moment + (1 - 1 / rollouts) * norm * binomial_mean(pairs, p)
    # where every group gives the same gradient the variance is 0, and rounding may bring the difference below it
    return (second_moment - table_weight(success, failure, p) ** 2 * norm).clamp(min=0.0)
