"""A model of the world from counted transitions, and the penalty for what was counted too seldom.

    P^(s'|s,a) = (n(s,a,s') + 1/S) / (n(s,a) + 1)        U(s,a) = -lambda / sqrt(n(s,a) + 1)

A pair that was never tried leads anywhere, with equal probability, so also to where the reward is: a learner that
trusts such a model exploits it, and the penalty is to keep it from there. That absorbing states absorb is known. The
smoothing and the penalty are the lab's; the source (arXiv:2302.07457) has an ensemble of networks and its spread.
"""

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.settings import Interval
from maxrl_lab.tabular.tables import Tables
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.tabular.transitions import dense_transitions


def sample_transitions(tables: Tables, count: int, stream: torch.Generator) -> Tensor:
    """Return the counts (B, S, A, S) of so many transitions whose states and actions are uniform over those that act.

    A larger count with the same stream is another sample, not a longer one.
    """
    specs.check_count("count", count, minimum=0)
    tasks, states, actions = tables.shape
    counts = torch.zeros(tasks, states * actions * states, dtype=torch.float64)
    if count:
        pairs = (
            tables.active.double().repeat_interleave(actions, 1).multinomial(count, replacement=True, generator=stream)
        )
        rows = dense_transitions(tables).view(tasks, states * actions, states)
        reached = rows.gather(1, pairs[..., None].expand(-1, -1, states))
        nexts = reached.flatten(0, 1).multinomial(1, generator=stream).view(tasks, count)
        counts.scatter_add_(1, pairs * states + nexts, torch.ones_like(pairs, dtype=torch.float64))
    return counts.view(tasks, states, actions, states)


def path_counts(tables: Tables, states: Tensor, actions: Tensor) -> Tensor:
    """Return the counts (B, S, A, S) of the transitions on paths: states (B, N, H+1), actions (B, N, H) or -1."""
    tasks, number, width = tables.shape
    moving = actions >= 0
    cells = (states[..., :-1] * width + actions.clamp(min=0)) * number + states[..., 1:]
    counts = torch.zeros(tasks, number * width * number, dtype=torch.float64)
    counts.scatter_add_(1, cells.flatten(1), moving.double().flatten(1))
    return counts.view(tasks, number, width, number)


def learnt_model(tables: Tables, counts: Tensor) -> TabularTasks:
    """Return the world with P^ for P: the same starts, outcomes and horizon; its pass rates are what one believes.

    counts: (B, S, A, S) of seen transitions. Raises `InputError` for another shape or negative counts.
    """
    _check_counts(tables, counts)
    tasks, states, actions = tables.shape
    return TabularTasks(
        successors=torch.arange(states).expand(tasks, states, actions, states).contiguous(),
        start=tables.start,
        success=tables.success,
        failure=tables.failure,
        horizon=tables.horizon,
        probabilities=(counts + 1 / states) / (counts.sum(-1, keepdim=True) + 1),
    )


def count_penalty(tables: Tables, counts: Tensor, weight: float) -> Tensor:
    """Return U(s,a) = -weight / sqrt(n(s,a) + 1), (B, S, A), and 0 on absorbing states; `weight` is lambda >= 0."""
    _check_counts(tables, counts)
    Interval(closed_low=True).check("weight", weight)
    return -weight * (counts.sum(-1) + 1).rsqrt() * tables.active[..., None]


def _check_counts(tables: Tables, counts: Tensor) -> None:
    tasks, states, actions = tables.shape
    if counts.shape != (tasks, states, actions, states) or bool((counts < 0).any()):
        got = f"{tuple(counts.shape)} with the smallest {float(counts.min()):g}"
        raise InputError(f"counts must be ({tasks}, {states}, {actions}, {states}) and nowhere below 0, got {got}")
