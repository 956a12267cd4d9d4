"""Weights for tokens that one policy wrote and another one scores: min(C, surrogate / policy), as DiFFPO takes them.

A digit is written from the distribution given the partial answer z_t, and scored given an anchor before it. DiFFPO
(arXiv:2510.02212; a reconstruction from summaries, in which the reading of the denominator is likely and not certain)
multiplies the score of every token by

    w_t = min(C, pi_old(x_t | anchor) / pi_old(x_t | z_t))

The mean of an uncapped weight is 1, and that of its score 0. It corrects the token given z_t, and not the distribution
of z_t. Here the policy is the one that wrote the answers: all ratios to the old policy are 1. The factor 1/L of the
loss is left out. Exact, over all answers, orders and anchors.

Axes: X answers, O orders, C choices of anchors, F cells of an answer, L places and steps.
"""

import math

import torch
from torch import Tensor

from maxrl_lab.denoising.moments import Problem, ScoreMoments
from maxrl_lab.denoising.surrogates import Law, path, resolve
from maxrl_lab.errors import InputError


def weighted_moments(problem: Problem, anchors: str, cap: float = math.inf) -> ScoreMoments:
    """Return the moments of a surrogate's gradient where its tokens are weighted, with the weights held fixed.

    anchors: a surrogate that scores every token once, such as `two_times` or `anchors:count=2`. cap: C > 0, infinity
    for none. Raises `InputError` for other surrogates and caps.
    """
    law = _scored_once(problem, anchors)
    weights = token_weights(problem, cap)
    means, squares = torch.zeros_like(problem.tokens), torch.zeros_like(problem.answers)
    for chance, scored in zip(law.weights, problem.forms.coefficients(law), strict=True):
        values = weights * scored
        means += chance * torch.einsum("xo,xof->xf", problem.posterior, values)
        squares += chance * (problem.posterior * (values @ problem.products * values).sum(-1)).sum(1)
    return problem.combine(means, squares)


def token_weights(problem: Problem, cap: float = math.inf) -> Tensor:
    """Return min(C, pi(x_i | cell) / pi(x_i | z_t)) for every cell and the order that wrote the answer, (X, O, F)."""
    if not cap > 0:
        raise InputError(f"cap must be positive, got {cap}")
    return _log_ratios(problem).exp().clamp(max=cap)


def divergences(problem: Problem, anchors: str) -> Tensor:
    """Return KL(pi(. | z_t) || pi(. | anchor)) in nats at each step t of the rollouts, (L,), averaged over rollouts.

    The mean of log pi(x_t | z_t) - log pi(x_t | anchor) over what the policy writes is that divergence.
    """
    return -_by_step(problem, anchors, _log_ratios(problem))


def mean_weights(problem: Problem, anchors: str, cap: float = math.inf) -> Tensor:
    """Return the mean weight of the token of each step, (L,): 1 where nothing is capped."""
    return _by_step(problem, anchors, token_weights(problem, cap))


def _log_ratios(problem: Problem) -> Tensor:
    """Return log pi(x_i | cell) - log pi(x_i | z_t) of every cell, given the order that wrote the answer, (X, O, F)."""
    forms = problem.forms
    written = forms.coefficients(path(forms.length))[0]  # (O, F): 1 where a token was written
    places = forms.cells[:, 1]
    is_same = (places[:, None] == places).to(problem.tokens)
    at_writing = torch.einsum("xf,of,fg->xog", problem.tokens, written, is_same)
    return problem.tokens[:, None] - at_writing


def _by_step(problem: Problem, anchors: str, values: Tensor) -> Tensor:
    """Return the mean over rollouts and anchors of values (X, O, F) of the cell that scores each step, (L,)."""
    law, forms = _scored_once(problem, anchors), problem.forms
    scored = torch.einsum("c,cof->of", law.weights, forms.coefficients(law))
    step = forms.orders.argsort(1)[:, forms.cells[:, 1]]  # (O, F)
    at_step = (step[..., None] == torch.arange(forms.length)).to(scored)
    rollouts = problem.answers[:, None] * problem.posterior
    return torch.einsum("xof,oft->t", rollouts[..., None] * values, scored[..., None] * at_step)


def _scored_once(problem: Problem, anchors: str) -> Law:
    """Return the surrogate's law; `InputError` unless every token has the coefficient 1 in one cell, once."""
    surrogate, forms = resolve(anchors), problem.forms
    law = surrogate.law(forms.length)
    values = forms.coefficients(law)
    is_once = bool(((values == 0) | (values == 1)).all()) and bool((values.sum(-1) == forms.length).all())
    if surrogate.samples > 1 or not is_once:
        raise InputError(f"expected a surrogate that scores every token once, got {anchors!r}")
    return law
