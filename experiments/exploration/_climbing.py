"""Policy gradients on a free table of logits: many runs at once, until each run's exact pass rate reaches a target."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab import exact
from maxrl_lab.exploration.counts import VisitCounts
from maxrl_lab.exploration.waiting import Moves, Waited, next_group, score_sum
from maxrl_lab.tabular.tasks import TabularTasks

_HOPELESS = 1e-200
"""A pass rate below which a run is given up."""


class Climber(NamedTuple):
    """How one run climbs."""

    estimator: str
    rollouts: int
    learning_rate: float
    bonus: float = 0.0
    """Factor of the count bonus, added to the advantages."""

    @property
    def name(self) -> str:
        """The estimator, and the bonus if there is one."""
        return f"{self.estimator} + counts" if self.bonus else self.estimator

    @property
    def waits(self) -> bool:
        """Whether silent groups leave the policy as it is, so that they need not be sampled."""
        return self.bonus == 0 and float(exact.coefficients(self.estimator, rollouts=self.rollouts)[1][0]) == 0


class Climbed(NamedTuple):
    """What became of R runs, (R,) each."""

    episodes: Tensor
    """Rollouts spent until the target was reached, or until the run was given up."""
    reached: Tensor
    """bool"""
    first_success: Tensor
    """Rollouts until the first success, the successful one included; NaN without one."""


Record = Callable[[Tensor, Tensor, Tensor], None]
"""Is told the numbers of the runs that go on, their rollouts spent and their exact pass rates."""


def climb(
    tasks: TabularTasks,
    climbers: Sequence[Climber],
    *,
    target: float,
    updates: int,
    stream: torch.Generator,
    start: Tensor | None = None,
    record: Record | None = None,
) -> Climbed:
    """Train run r on task r by its climber, all with one N, until its exact pass rate is at least the target.

    A run ends without it after so many updates, or if its pass rate underflows. start: logits
    (R, S, A), even by default.
    """
    rollouts, waits = climbers[0].rollouts, climbers[0].waits
    logits = torch.zeros(tasks.shape, dtype=torch.float64) if start is None else start.clone()
    tables = [exact.coefficients(climber.estimator, rollouts=rollouts) for climber in climbers]
    right, wrong = (torch.stack([table[side].double() for table in tables]) for side in (0, 1))
    rates = torch.tensor([climber.learning_rate for climber in climbers], dtype=torch.float64)
    scales = torch.tensor([climber.bonus for climber in climbers], dtype=torch.float64)
    count = len(climbers)
    result = Climbed(
        torch.zeros(count, dtype=torch.float64),
        torch.zeros(count, dtype=torch.bool),
        torch.full((count,), torch.nan, dtype=torch.float64),
    )
    visits = VisitCounts((count, tasks.shape[1] * tasks.shape[2])) if bool((scales > 0).any()) else None
    going, moves = torch.arange(count), Moves(tasks)
    for update in range(updates + 1):
        policy = logits[going].softmax(-1)
        outcomes = moves.outcomes(policy)
        p = outcomes.pass_rate(moves.tables)
        if record is not None:
            record(going, result.episodes[going], p)
        result.reached[going] = p >= target
        stays = (p < target) & (p > _HOPELESS)
        if update == updates or not bool(stays.any()):
            break
        if not bool(stays.all()):
            going, policy = going[stays], policy[stays]
            moves = Moves(tasks.select(going.tolist()))
            outcomes = type(outcomes)(outcomes.success[:, stays], outcomes.failure[:, stays])
        group = next_group(moves, policy, outcomes, rollouts, stream, wait=waits)
        _count(result, going, group)
        successes = group.rewards.sum(-1, keepdim=True).long()
        advantages = torch.where(
            group.rewards > 0, right[going].gather(1, successes), wrong[going].gather(1, successes)
        )
        if visits is not None:
            advantages = advantages + scales[going, None] * _novelty(visits, going, group, tasks.shape[2])
        logits[going] += rates[going, None, None] * score_sum(policy, group.paths, advantages / rollouts)
    return result


def _count(result: Climbed, going: Tensor, group: Waited) -> None:
    """Add a group's rollouts, and note where the first success was."""
    rollouts = group.rewards.shape[1]
    before = result.episodes[going] + rollouts * group.silent
    has = group.rewards.any(-1) & result.first_success[going].isnan()
    first = before + group.rewards.argmax(-1) + 1
    result.first_success[going] = torch.where(has, first, result.first_success[going])
    result.episodes[going] = before + rollouts


def _novelty(visits: VisitCounts, going: Tensor, group: Waited, actions: int) -> Tensor:
    """Return each rollout's mean count bonus over its steps, less that of the other rollouts, (R, N); then count it.

    The outcomes that are counted are pairs of a state and a move: whole rollouts are never seen twice.
    """
    taken = group.paths.actions >= 0
    pairs = group.paths.states[..., :-1] * actions + group.paths.actions.clamp(min=0)
    bonus = visits.bonus()[going]
    each_step = bonus.gather(1, pairs.flatten(1)).view(pairs.shape) * taken
    mean = each_step.sum(-1) / taken.sum(-1).clamp(min=1)
    for row, run in enumerate(going.tolist()):
        visits.visits[run].index_add_(0, pairs[row][taken[row]], torch.ones(int(taken[row].sum()), dtype=torch.float64))
    rollouts = mean.shape[1]
    return (mean - mean.mean(-1, keepdim=True)) * rollouts / max(1, rollouts - 1)
