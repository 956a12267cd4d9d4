"""Virtual ascent with an online model learner (ViOL), for bandits with right-or-wrong outcomes: a reconstruction.

There are M models of the chance of success eta(theta, a), and A actions, which are points of the unit sphere. A learner
holds weights w over the models, equal at first. In every round

    a_t = argmax_a sum_m w_m eta(theta_m, a)             virtual ascent: no bonus, no optimism
    w_m <- w_m exp(-loss_m) / sum                        exponential weights

With values alone the loss is the log loss of the outcomes at a_t, and the weights are Bayes' posterior. With
`derivatives` a model also pays the log loss of outcomes at a_{t-1}, and for how far its slope along u and its curvature
along u and v are off the measured ones at a_{t-1}, for random tangents u, v: a model that predicts value, slope and
curvature of what is visited turns virtual progress into real progress. On every run

    -sum_t log sum_m w_m exp(-loss_m)  <=  cumulative loss of the true model + log M.

Source: Dong, Yang & Ma, arXiv:2102.04168; its abstract was read, its targets and losses are from general knowledge. It
is for real-valued rewards and any model class. Here outcomes are right or wrong, so slope and curvature are central
differences of N pulls a point, and every pull counts; a model is judged by its own differences at the same points, so
that their step brings no bias; a squared error is divided by twice the greatest variance of the difference and clipped
at `clip` standard deviations; models and actions are finite sets, so the argmax is a look-up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maxrl_lab.exploration.geodesics import PROBES, differences, probe_points, tangent
from maxrl_lab.exploration.pulling import Play, Rewards, Rounds, Trace
from maxrl_lab.settings import Positive, Settings

WITH_DERIVATIVES = 2 + PROBES
"""Points of a round with derivatives: a_t, a_{t-1}, and those of the central differences; a round without has one."""


@dataclass(frozen=True)
class Derivatives(Settings):
    """Derivatives: how slopes and curvatures are measured and judged."""

    step: Positive = 0.3
    """Step of the central differences: the angle in radians that stands for a tangent of length 1."""
    clip: Positive = 3.0
    """Error of a difference, in its greatest standard deviations, above which a model pays no more."""


def viol(
    rewards: Rewards,
    actions: Tensor,
    truths: Tensor,
    play: Play,
    *,
    seeds: Sequence[int],
    derivatives: Derivatives | None = None,
) -> Trace:
    """Return what R runs do whose true models are `truths` (R,), among actions (A, d).

    A round takes N pulls with values alone, 8 N with derivatives. Raises `InputError` for a budget below one round.
    """
    rounds = Rounds(rewards, actions, truths, play, 1 if derivatives is None else WITH_DERIVATIVES)
    uniforms, normal = rounds.randomness(seeds)
    log_weights = torch.full((len(truths), rounds.models), -math.log(rounds.models), dtype=torch.float64)
    mixture, truth = (torch.zeros(len(truths), dtype=torch.float64) for _ in range(2))
    before = (log_weights.exp() @ rounds.table).argmax(1)
    for index in range(rounds.count):
        action = (log_weights.exp() @ rounds.table).argmax(1) if index else before
        others = None if derivatives is None else _others(actions[before], normal[:, index], derivatives)
        values, successes = rounds.pull(action, others, uniforms[:, index])
        loss = rounds.log_loss(values[..., :2], successes[:, :2])
        if derivatives is not None:
            loss = loss + derivative_loss(values[..., 2:], successes[:, 2:] / play.pulls, play.pulls, derivatives)
        paid = log_weights - loss
        mixture = mixture - paid.logsumexp(1)
        truth = truth + loss[rounds.runs, truths]
        log_weights, before = paid.log_softmax(1), action
    return rounds.trace(log_weights.exp(), mixture, truth)


def _others(before: Tensor, normal: Tensor, derivatives: Derivatives) -> Tensor:
    """Return the points (R, 7, d) beside a_t: a_{t-1} (R, d), and those of the differences along normal (R, 2, d)."""
    first, second = tangent(before[:, None], normal).unbind(1)
    return torch.cat([before[:, None], probe_points(before, first, second, derivatives.step)], 1)


def derivative_loss(values: Tensor, rates: Tensor, pulls: int, derivatives: Derivatives) -> Tensor:
    """Return what models pay for slopes and curvatures, (R, M): half the squared errors in variances, clipped.

    values: (R, M, 6) of the models, rates: (R, 6) of success over `pulls` pulls. The variance of a rate is at most
    1 / (4 pulls), that of a slope half of it over step^2, that of a curvature a quarter of it over step^4.
    """
    loss = torch.zeros(values.shape[:2], dtype=torch.float64)
    step = derivatives.step
    spreads = (8 * step**2 * pulls) ** -0.5, (16 * step**4 * pulls) ** -0.5
    for modelled, seen, spread in zip(differences(values, step), differences(rates, step), spreads, strict=True):
        error = (modelled - seen[:, None]).abs() / spread
        loss = loss + error.clamp(max=derivatives.clip).square() / 2
    return loss
