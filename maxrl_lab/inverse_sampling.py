"""Inverse sampling: draw until m rollouts have succeeded, average the successes' scores.  [lab]

This is the classical way to estimate a reciprocal without bias (Haldane 1945). Each success's score has mean grad p / p
(Theorem 1 of arXiv:2602.02710v1), and when to stop depends on rewards alone, so the average is an unbiased estimate of
grad log p, maximum likelihood itself, at the random cost of m / p rollouts on average. With at most `cap` rollouts, and
0 if all of them fail, the mean is

    E[g] = (1 - (1-p)^cap) grad log p,

MaxRL's objective of order T = cap, whatever m: the cap's bias is exactly (1-p)^cap, relatively.
"""

import numpy as np
import torch
from scipy import special
from torch import Tensor

from maxrl_lab import estimators, objectives, specs
from maxrl_lab.errors import InputError


def advantages(rewards: Tensor, *, successes: int) -> Tensor:
    """Return A with (1/cap) sum_i A_i S_i the average score of the first m successes; float64, (..., cap).

    Rollouts are in the order drawn; those after the m-th success count as not drawn, and get 0.
    """
    specs.check_count("successes", successes)
    right = estimators.check_rewards(rewards) != 0
    counted = right & (right.cumsum(-1) <= successes)
    return counted.double() * right.shape[-1] / counted.sum(-1, keepdim=True).clamp(min=1)


def cost(rewards: Tensor, *, successes: int) -> Tensor:
    """Return how many rollouts (...,) were drawn, of at most cap, until the m-th success."""
    right = (estimators.check_rewards(rewards) != 0).long()
    before = right.cumsum(-1) - right
    return (before < specs.check_count("successes", successes)).sum(-1)


def expected_cost(pass_rate: object, *, successes: int, cap: int) -> Tensor:
    """Return the mean number of rollouts drawn, sum_{n < cap} P(Binomial(n, p) < m); float64, shape of `pass_rate`."""
    p = objectives.as_pass_rate(pass_rate).detach()
    specs.check_count("successes", successes)
    draws = np.arange(specs.check_count("cap", cap))
    chances = special.bdtr(successes - 1, draws, p.cpu().numpy()[..., None])
    return torch.from_numpy(np.where(draws < successes, 1.0, chances)).sum(-1).to(p.device)


def weight(pass_rate: object, *, cap: int) -> Tensor:
    """Return w(p) with E[g] = w(p) grad p: (1 - (1-p)^cap) / p; float64, shape of `pass_rate`."""
    return objectives.TruncatedLikelihood(cap).weight(pass_rate)


def variance(
    *, successes: int, cap: int, pass_rate: object, gradient_norm_squared: object, success_moment: object
) -> Tensor:
    """Return the exact variance (trace of the covariance) of one estimate, shape of `pass_rate`.

        E|g|^2 = E[1/K; K>=1] M1 + (P(K>=1) - E[1/K; K>=1]) |mu1|^2,     K = min(m, Binomial(cap, p))

    with M1 = `success_moment` / p = E[|S|^2 | r=1] and mu1 = grad p / p; all broadcast, as in `exact.variance`.
    Raises `InputError` for a pass rate of 0, where there is no success to condition on.
    """
    p = objectives.as_pass_rate(pass_rate).detach()
    if bool((p == 0).any()):
        raise InputError("the variance of inverse sampling needs pass rates above 0, got 0")
    norm, q1 = (torch.as_tensor(value, dtype=torch.float64) for value in (gradient_norm_squared, success_moment))
    most = min(specs.check_count("successes", successes), specs.check_count("cap", cap))
    at_least = torch.from_numpy(special.bdtrc(np.arange(most), cap, p.cpu().numpy()[..., None])).to(p.device)
    # 1/K telescopes over the events K >= j: 1 at j = 1, then 1/j - 1/(j-1)
    j = torch.arange(1, most + 1, dtype=torch.float64, device=p.device)
    reciprocal = at_least @ torch.cat([j[:1], 1 / j[1:] - 1 / (j[1:] - 1)])
    any_success = at_least[..., 0]
    mean_squared = norm / p**2
    return reciprocal * q1 / p + (any_success - reciprocal - any_success**2) * mean_squared
