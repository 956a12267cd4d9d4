"""Advantage formulas of frameworks in the lab's own words: a rule for one group, and how a framework forms its groups.

A `Rule` takes the rewards (n,) of one group and returns its advantages. A `Formula` takes the groups of a batch, of any
sizes, and the number N of rollouts that the framework was told to sample, and returns the advantages of every group:
`by_prompt` and `by_position` make one from a rule, `over_batch` adds a step that pools the groups.

A guard against division by zero is added to the denominator here; whether a framework adds it, clamps with it or puts
it under the root is not told apart, since that matters only where the denominator is as small as the guard.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Rule = Callable[[Tensor], Tensor]
Formula = Callable[[Sequence[Tensor], int], list[Tensor]]


def raw(rewards: Tensor) -> Tensor:
    """Return the rewards themselves: REINFORCE."""
    return rewards


def nothing(rewards: Tensor) -> Tensor:
    """Return zeros."""
    return torch.zeros_like(rewards)


def divided(guard: float) -> Rule:
    """Return the rule r / guard: what is left of a formula whose mean and deviation were taken as 0."""
    return lambda rewards: rewards / guard


def centred(rewards: Tensor) -> Tensor:
    """Return r - mean."""
    return rewards - rewards.mean()


def leave_one_out(rewards: Tensor) -> Tensor:
    """Return r minus the mean of the others: RLOO."""
    return centred(rewards) * len(rewards) / (len(rewards) - 1)


def standardised(ddof: int, guard: float) -> Rule:
    """Return the rule (r - mean) / (standard deviation + guard), whose variance divides by n - `ddof`."""

    def rule(rewards: Tensor) -> Tensor:
        return centred(rewards) / (_deviation(rewards, ddof) + guard)

    return rule


def over_mean(guard: float, power: float = 1.0) -> Rule:
    """Return the rule (r - mean) / (mean^`power` + guard): Algorithm 1 of MaxRL with `power` 1."""

    def rule(rewards: Tensor) -> Tensor:
        return centred(rewards) / (rewards.mean() ** power + guard)

    return rule


def over_mean_if_positive(rewards: Tensor) -> Tensor:
    """Return (r - mean) / mean, and zeros where the mean is not positive."""
    return over_mean(0.0)(rewards) if rewards.mean() > 0 else nothing(rewards)


def standardised_by_others(rewards: Tensor) -> Tensor:
    """Return r minus the mean of the others over the deviation of the others, undivided where that deviation is 0."""
    count = len(rewards)
    others = rewards.expand(count, count)[~torch.eye(count, dtype=torch.bool)].reshape(count, count - 1)
    deviation = others.std(dim=1) if count > 2 else torch.zeros_like(rewards)
    return leave_one_out(rewards) / torch.where(deviation > 0, deviation + 1e-6, 1.0)


def refused(rewards: Tensor) -> Tensor:
    """Raise `ValueError`, as a framework that wants more than `rewards` in a group does."""
    raise ValueError(f"{len(rewards)} rollout in a group")


def by_size(rule: Rule, single: Rule) -> Rule:
    """Return `rule`, but `single` for a group of one."""
    return lambda rewards: single(rewards) if len(rewards) == 1 else rule(rewards)


def by_prompt(rule: Rule, single: Rule | None = None) -> Formula:
    """Return a formula that takes a prompt's rollouts, however many came back, and `single` for one alone."""
    sized = by_size(rule, single or rule)
    return lambda groups, _: [sized(group) for group in groups]


def by_position(rule: Rule, single: Rule | None = None) -> Formula:
    """Return a formula that cuts the batch's rewards into rows of N, whoever's they are, or fails to."""
    sized = by_size(rule, single or rule)
    return lambda groups, rollouts: _dealt(
        [sized(row) for row in torch.cat(list(groups)).reshape(-1, rollouts)], groups
    )


def over_batch(formula: Formula, ddof: int, guard: float, centre: bool = True) -> Formula:
    """Return a formula that divides all advantages of a batch by their common deviation, and centres them before."""

    def pooled(groups: Sequence[Tensor], rollouts: int) -> list[Tensor]:
        values = torch.cat(formula(groups, rollouts))
        shifted = centred(values) if centre else values
        return _dealt([shifted / (_deviation(values, ddof) + guard)], groups)

    return pooled


def over_reward_deviation(rule: Rule, guard: float) -> Formula:
    """Return a formula that divides by the deviation of all the batch's rewards, not of its advantages."""

    def pooled(groups: Sequence[Tensor], rollouts: int) -> list[Tensor]:
        deviation = _deviation(torch.cat(list(groups)), ddof=1)
        return [advantages / (deviation + guard) for advantages in by_position(rule)(groups, rollouts)]

    return pooled


def one_group_if_ragged(rule: Rule) -> Formula:
    """Return slime's formula: rows of N if all rollouts came back, else the whole batch as a single group."""

    def formula(groups: Sequence[Tensor], rollouts: int) -> list[Tensor]:
        rewards = torch.cat(list(groups))
        size = rollouts if len(rewards) == rollouts * len(groups) else len(rewards)
        return _dealt([rule(row) for row in rewards.split(size)], groups)

    return formula


def full_slices_only(rule: Rule, remainder: Rule) -> Formula:
    """Return AReaL's formula: slices of N by position, and `remainder` for the rollouts after the last full slice."""

    def formula(groups: Sequence[Tensor], rollouts: int) -> list[Tensor]:
        slices = torch.cat(list(groups)).split(rollouts)
        return _dealt([rule(part) if len(part) == rollouts else remainder(part) for part in slices], groups)

    return formula


def by_mean_size(rule: Rule) -> Formula:
    """Return a formula that cuts rows of the floor of the mean group size, whoever's they are, or fails to."""
    return lambda groups, _: by_position(rule)(groups, sum(map(len, groups)) // len(groups))


def by_equal_size(rule: Rule) -> Formula:
    """Return a formula that cuts the batch's rewards into as many equal rows as there are prompts, or fails to."""
    return lambda groups, _: _dealt([rule(row) for row in torch.cat(list(groups)).reshape(len(groups), -1)], groups)


def from_counts(columns: Callable[[int, int], tuple[float, float]]) -> Rule:
    """Return the rule of a table: `columns(n, successes)` is the advantage of a success and of a failure."""

    def rule(rewards: Tensor) -> Tensor:
        right = rewards > 0.5
        success, failure = columns(len(rewards), int(right.sum()))
        return torch.where(right, success, failure).to(rewards.dtype)

    return rule


def _deviation(values: Tensor, ddof: int) -> Tensor:
    """Return the standard deviation; NaN where no value is left to divide by."""
    return ((values - values.mean()).square().sum() / (len(values) - ddof)).sqrt()


def _dealt(rows: Sequence[Tensor], groups: Sequence[Tensor]) -> list[Tensor]:
    """Return the values of `rows`, one after the other, dealt to groups of the sizes of `groups`."""
    return list(torch.cat(list(rows)).split([len(group) for group in groups]))
