"""Graded rewards in [0, 1] for any table of right-or-wrong rewards, in two exact ways.

threshold    A_i = integral over t in [0, 1] of [1{r_i >= t} a(K_t) + 1{r_i < t} b(K_t)],  K_t = #{j: r_j >= t}.
             Every t turns the rewards into right and wrong; the estimate is unbiased for the integral of J(P(r >= t)),
             where the table is unbiased for J. With REINFORCE that is E[r] again; with MaxRL it is the integrated log
             tail, "TailRL"; with PKPO it is the expected best of k rewards, max@k.
independent  A_i = r_i E[a(1 + J_i)] + (1 - r_i) E[b(J_i)],  J_i ~ sum of Bernoulli(r_j) over the other rollouts.
             A reward is read as the probability of being right, as a soft verifier gives it; the estimate is unbiased
             for J(E[r]), here the same as averaging the table over all ways in which the verdicts could have come out.

The two agree on right-or-wrong rewards, with each other and with the table. GRPO's division of graded rewards by their
standard deviation is neither.  [lab]
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.estimators.counted import CountEstimator, by_size, left_by
from maxrl_lab.estimators.table import resolve


@dataclass(frozen=True)
class Graded:
    """An estimator for rewards in [0, 1]; on rewards of 0 and 1 it is the table that it is made of."""

    estimator: CountEstimator
    how: str

    def __post_init__(self) -> None:
        """Check the extension's name."""
        specs.lookup(EXTENSIONS, "extension to graded rewards", self.how)

    def __str__(self) -> str:
        return f"graded({self.estimator}, {self.how})"

    def __call__(self, rewards: Any, mask: Any = None) -> Tensor:
        """Return advantages (..., N) for rewards (..., N) in [0, 1]: any numbers, on any device.

        `mask` is as for every estimator: true where a rollout is left. The result has the rewards' dtype if that is a
        float type, else torch's default; sums are taken in float64. Raises `InputError` for any other reward, naming
        it, and for a group too small.
        """
        if mask is None:
            given = graded_rewards(rewards)
            return self._one_size(given.reshape(-1, given.shape[-1])).reshape(given.shape)
        given, kept = left_by(mask, rewards, graded_rewards)
        return by_size(given, kept, self._one_size)

    def _one_size(self, rewards: Tensor, group: int | None = None) -> Tensor:
        size = rewards.shape[-1]
        table = self.estimator.coefficients(size) if group is None else self.estimator.left_table(size, group)
        success, failure = (column.to(rewards.device) for column in table)
        advantages = EXTENSIONS[self.how](success, failure, rewards.to(torch.float64))
        return advantages.to(rewards.dtype if rewards.is_floating_point() else torch.get_default_dtype())


def graded(estimator: str | CountEstimator, how: str = "threshold") -> Graded:
    """Return the estimator for rewards in [0, 1]; `how` is `threshold` or `independent` (see the module).

    Raises `InputError` for another `how`, and for an estimator that is no table of counts.
    """
    made = resolve(estimator)
    if not isinstance(made, CountEstimator):
        raise InputError(f"expected an estimator's name or a made estimator, got {type(made).__name__}")
    return Graded(made, how)


def graded_rewards(rewards: Any) -> Tensor:
    """Return rewards as a tensor (..., N), N >= 1; `InputError` names the first that is no number in [0, 1]."""
    try:
        tensor = torch.as_tensor(rewards)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"rewards must be numbers in [0, 1], got {type(rewards).__name__}: {error}") from None
    if tensor.ndim == 0 or tensor.shape[-1] == 0:
        raise InputError(f"rewards must have shape (..., N) with N >= 1, got {tuple(tensor.shape)}")
    outside = ~((tensor >= 0) & (tensor <= 1))
    if outside.any():
        raise InputError(f"rewards must lie in [0, 1], got {tensor[outside][0].item()}")
    return tensor


def threshold(success: Tensor, failure: Tensor, rewards: Tensor) -> Tensor:
    """Return advantages (B, N) of a common threshold that is uniform on [0, 1], for rewards (B, N).

    Between two neighbours of the sorted rewards K_t is constant, so the integral is a sum of N+1 terms.
    """
    ordered, order = rewards.sort(-1)
    ends = torch.cat([torch.zeros_like(ordered[:, :1]), ordered, torch.ones_like(ordered[:, :1])], -1)
    lengths = ends.diff(dim=-1)  # (B, N+1): entry j is passed by the N-j largest rewards
    passed = (lengths * success.flip(0)).cumsum(-1)[:, :-1]
    missed = (lengths * failure.flip(0)).flip(-1).cumsum(-1).flip(-1)[:, 1:]
    return torch.empty_like(rewards).scatter_(-1, order, passed + missed)


def independent(success: Tensor, failure: Tensor, rewards: Tensor) -> Tensor:
    """Return advantages (B, N) averaged over independent verdicts, each right with the probability of its reward.

    For rollout i, `before` is the distribution of the right verdicts among the rollouts before i, and `after` the mean
    advantage for each such number, over the verdicts of those behind i: N steps of the Poisson-binomial recursion in
    each direction. Every step takes averages, so errors do not grow.
    """
    batch, rollouts = rewards.shape
    after = torch.stack([success[1:], failure[:-1]]).expand(batch, 2, rollouts)
    tails = []
    for i in reversed(range(rollouts)):
        tails.append(after)
        chance = rewards[:, i, None, None]
        after = chance * after[..., 1:] + (1 - chance) * after[..., :-1]
    before = rewards.new_ones(batch, 1)
    columns = []
    for i, tail in enumerate(reversed(tails)):
        chance = rewards[:, i, None]
        right, wrong = (before[:, None] * tail).sum(-1).unbind(-1)
        columns.append(chance[:, 0] * right + (1 - chance[:, 0]) * wrong)
        nothing = torch.zeros_like(before[:, :1])
        before = torch.cat([before * (1 - chance), nothing], -1) + torch.cat([nothing, before * chance], -1)
    return torch.stack(columns, -1)


EXTENSIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "threshold": threshold,
    "independent": independent,
}
"""Name to function of (a, b, rewards)."""
