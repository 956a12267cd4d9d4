"""Preferences between answers that are right or wrong: who prefers what, rewards from it, and DPO's loss.

Of two answers with outcomes r and r' the first is preferred with probability sigma(s (r - r')), Bradley and Terry's
model at scale s. So **a pair of two failures is a fair coin**: where no rollout succeeds preferences say as little as
outcomes do. A ranking of N answers follows Plackett and Luce's model, of which every pair obeys Bradley and Terry's.

Axes: any leading ones (R runs, B tasks), N answers, D items that are compared (answers, or features that are one-hot).
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from maxrl_lab import estimators
from maxrl_lab.errors import InputError

_NEWTON_STEPS = 100
_TOLERANCE = 1e-9


def preference(difference: Tensor, scale: float) -> Tensor:
    """Return sigma(s d), the probability that an answer is preferred to one whose reward is lower by d = `difference`.

    Raises `InputError` unless the scale is positive.
    """
    return (check_positive("scale", scale) * difference).sigmoid()


def best_and_worst(rewards: Tensor, scale: float, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the indices (...) of the first and the last of a random ranking of rewards (..., N) in {0, 1}.

    The ranking sorts s r_i + G_i with independent Gumbel numbers G_i (Plackett and Luce), so equal outcomes are ranked
    at random. Raises `InputError` for fewer than two answers and for a scale that is not positive.
    """
    right = estimators.check_rewards(rewards).double()
    if rewards.shape[-1] < 2:
        raise InputError(f"a ranking needs at least two answers, got {rewards.shape[-1]}")
    uniform = torch.rand(right.shape, generator=stream, dtype=torch.float64)
    utilities = check_positive("scale", scale) * right - (-uniform.clamp(min=1e-300).log()).log()
    return utilities.argmax(-1), utilities.argmin(-1)


def tied(rewards: Tensor) -> Tensor:
    """Return which groups of rewards (..., N) hold one outcome alone, (...) bool: every pair in them is a coin flip."""
    right = estimators.check_rewards(rewards) != 0
    return right.all(-1) | ~right.any(-1)


def dpo_loss(best: Tensor, worst: Tensor, best_reference: Tensor, worst_reference: Tensor, beta: float) -> Tensor:
    """Return -log sigma(beta (Delta_w - Delta_l)) with Delta = log pi - log pi_ref, elementwise (Rafailov et al. 2023).

    `best` and `worst` are log-probabilities of the answers that were preferred and not, differentiable, in nats.
    """
    margin = (best - best_reference) - (worst - worst_reference)
    return -logsigmoid(check_positive("beta", beta) * margin)


def fit_rewards(wins: Tensor, ridge: float) -> Tensor:
    """Return the rewards (..., D) that maximise sum_ij W_ij log sigma(theta_i - theta_j) - (ridge / 2) |theta|^2.

    wins: (..., D, D), how often item i was preferred to item j; float64. The ridge makes the maximum unique, and the
    rewards' sum 0. Newton's method with halved steps, until no gradient exceeds 1e-9 of the number of comparisons.
    Raises `InputError` for another shape, negative numbers, or a ridge that is not positive.
    """
    if wins.ndim < 2 or wins.shape[-1] != wins.shape[-2]:
        raise InputError(f"wins must have shape (..., D, D), got {tuple(wins.shape)}")
    if bool((wins < 0).any()):
        raise InputError(f"wins must not be negative, got {float(wins.min()):g}")
    check_positive("ridge", ridge)
    wins = wins.double()
    theta = wins.new_zeros(wins.shape[:-1])
    enough = _TOLERANCE * (1 + wins.sum((-2, -1), keepdim=False)[..., None])
    for _ in range(_NEWTON_STEPS):
        slope, curvature = _derivatives(wins, theta, ridge)
        if bool((slope.abs() <= enough).all()):
            break
        theta = _better(wins, theta, torch.linalg.solve(curvature, slope), ridge)
    return theta


def log_likelihood(wins: Tensor, theta: Tensor, ridge: float = 0.0) -> Tensor:
    """Return the penalised log-likelihood (...) of wins (..., D, D) under rewards (..., D), in nats."""
    margins = theta[..., :, None] - theta[..., None, :]
    return (wins * logsigmoid(margins)).sum((-2, -1)) - ridge / 2 * theta.square().sum(-1)


def check_positive(name: str, value: float) -> float:
    """Return the number; raise `InputError` unless it is positive and finite."""
    if not 0 < value < float("inf"):
        raise InputError(f"{name} must be positive and finite, got {value}")
    return value


def _derivatives(wins: Tensor, theta: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Return the gradient (..., D), and minus the Hessian (..., D, D): the Laplacian of p (1-p) n, plus the ridge."""
    chance = (theta[..., :, None] - theta[..., None, :]).sigmoid()
    surprise = wins * (1 - chance)
    slope = surprise.sum(-1) - surprise.sum(-2) - ridge * theta
    weights = (wins + wins.mT) * chance * (1 - chance)
    curvature = torch.diag_embed(weights.sum(-1) + ridge) - weights
    return slope, curvature


def _better(wins: Tensor, theta: Tensor, step: Tensor, ridge: float) -> Tensor:
    """Return theta + t step with the largest t of 1, 1/2, 1/4, ... that does not lower the likelihood."""
    before = log_likelihood(wins, theta, ridge)
    size = torch.ones_like(before)
    for _ in range(30):
        worse = log_likelihood(wins, theta + size[..., None] * step, ridge) < before - 1e-12 * before.abs()
        if not bool(worse.any()):
            break
        size = torch.where(worse, size / 2, size)
    return theta + size[..., None] * step
