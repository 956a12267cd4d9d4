"""Rollouts through a table: every step of every rollout of every run is a handful of look-ups.

A rollout's position is its state's flat index times A, so that adding the action gives the cell of the table, and the
next position is read from it. The action is the number of thresholds (cumulative probabilities) not above a uniform
number. Finished rollouts stand still on an absorbing state, where log-probabilities are 0.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from maxrl_lab.groups import Group

if TYPE_CHECKING:
    from envs.tabular import TabularTasks

_STEPS_BETWEEN_LOOKS = 4
"""How often the loop asks whether all rollouts have ended (on a CPU; a GPU would have to wait for the answer)."""


class Paths(NamedTuple):
    """What rollouts did: states (..., B, N, H+1), the last one repeated; actions (..., B, N, H), -1 after the end."""

    states: Tensor
    actions: Tensor


class Trace(NamedTuple):
    """Which cells of the policy table R B N rollouts used, (steps, R B N), and the flat states they ended on."""

    cells: Tensor
    last: Tensor


def draw(tasks: "TabularTasks", rollouts: int, stream: torch.Generator) -> Tensor:
    """Return the uniform numbers (U, B, N) of N rollouts a task: an action a step, a slip a step, a start."""
    count = tasks.horizon * (2 if tasks.probabilities is not None else 1) + (1 if _has_random_start(tasks) else 0)
    return torch.rand(count, tasks.shape[0], rollouts, generator=stream, device=tasks.device)


def roll_out(tasks: "TabularTasks", log_policy: Tensor, uniforms: Tensor, draws: Sequence[int]) -> tuple[Group, Trace]:
    """Return the group (R, B, N) of R policies (R, T, B, S, A), and its trace.

    Run r uses the random numbers `uniforms[draws[r]]`, of shape (U, B, N).
    """
    runs, times, _, _, actions = log_policy.shape
    tables, rollouts, horizon = tasks.shape[0] * tasks.shape[1], uniforms.shape[-1], tasks.horizon
    active = tasks.active.flatten()
    thresholds = _thresholds(log_policy.detach()).flatten()
    # one entry per cell, so that a position (a multiple of A) is an index everywhere
    is_active = active.long().repeat_interleave(actions)
    moves = _Moves(tasks)
    chosen = torch.as_tensor(list(draws), device=tasks.device)
    first_cell = torch.arange(runs, device=tasks.device).mul(times * tables * actions)
    first_cell = first_cell.repeat_interleave(uniforms.shape[2] * rollouts)
    position = _starts(tasks, uniforms)[chosen].flatten().mul(actions)
    lengths = torch.zeros_like(position)
    cells = []
    for step in range(horizon):
        alive = is_active.index_select(0, position)
        if tasks.device.type == "cpu" and step % _STEPS_BETWEEN_LOOKS == 0 and not bool(alive.any()):
            break
        lengths += alive
        row = position + first_cell
        if times > 1:
            row += step * tables * actions
        action = _count(thresholds, row, uniforms[:, step].index_select(0, chosen).flatten(), actions)
        cells.append(row + action)
        slip = uniforms[:, horizon + step].index_select(0, chosen).flatten() if moves.stochastic else None
        position = moves.next(position + action, slip)
    used = torch.stack(cells) if cells else position.new_zeros(0, len(position))
    log_probs = log_policy.masked_fill(~tasks.active[..., None], 0.0).flatten()
    shape = (runs, uniforms.shape[2], rollouts)
    last = position.div(actions, rounding_mode="floor")
    rewards = tasks.success.flatten().index_select(0, last)
    summed = log_probs.gather(0, used.flatten()).view(used.shape).sum(0)
    return Group(rewards.view(shape), summed.view(shape), lengths.view(shape)), Trace(used, last)


def paths(tasks: "TabularTasks", trace: Trace, rollouts: int) -> Paths:
    """Return the states and actions of what `roll_out` traced, with a leading axis R."""
    count, states, actions = tasks.shape
    steps = len(trace.cells)
    cells = trace.cells.remainder(count * states * actions)
    visited = torch.cat([cells.div(actions, rounding_mode="floor"), trace.last[None]])
    chosen = cells.remainder(actions).masked_fill(~tasks.active.flatten()[visited[:-1]], -1)
    # a loop that ended early stands still for the rest
    visited = torch.cat([visited, visited[-1:].expand(tasks.horizon - steps, -1)])
    chosen = torch.cat([chosen, chosen.new_full((tasks.horizon - steps, chosen.shape[1]), -1)])
    shape = (-1, count, rollouts)
    return Paths(
        visited.remainder(states).T.reshape(*shape, tasks.horizon + 1), chosen.T.reshape(*shape, tasks.horizon)
    )


def _thresholds(log_policy: Tensor) -> Tensor:
    """Cumulative probabilities, the last exactly 1 so that an impossible action is never drawn."""
    cumulative = log_policy.exp().cumsum(-1)
    return cumulative / cumulative[..., -1:]


def _count(thresholds: Tensor, row: Tensor, uniforms: Tensor, size: int) -> Tensor:
    """How many of the first size - 1 thresholds from `row` on are not above the uniform number."""
    count = torch.zeros_like(row)
    for place in range(size - 1):
        count += uniforms >= thresholds[place:].index_select(0, row)
    return count


class _Moves:
    """The dynamics, from cell to position."""

    def __init__(self, tasks: "TabularTasks") -> None:
        self.positions = tasks.next_states.mul(tasks.shape[2]).flatten()
        self.size = tasks.next_states.shape[3]
        self.stochastic = tasks.probabilities is not None
        if tasks.probabilities is not None:
            self.thresholds = _thresholds(tasks.probabilities.log()).flatten().float()

    def next(self, cell: Tensor, uniforms: Tensor | None) -> Tensor:
        if uniforms is None:
            return self.positions.index_select(0, cell)
        cell = cell * self.size
        return self.positions.index_select(0, cell + _count(self.thresholds, cell, uniforms, self.size))


def _has_random_start(tasks: "TabularTasks") -> bool:
    return bool((tasks.start.amax(1) < 1).any())


def _starts(tasks: "TabularTasks", uniforms: Tensor) -> Tensor:
    """Flat start states (D, B, N)."""
    count, states, _ = tasks.shape
    first = torch.arange(count, device=tasks.device).view(1, -1, 1) * states
    if not _has_random_start(tasks):
        return (first + tasks.start.argmax(1).view(1, -1, 1)).expand(len(uniforms), -1, uniforms.shape[-1])
    cumulative = tasks.start.cumsum(1)
    cumulative = (cumulative / cumulative[:, -1:]).expand(len(uniforms), -1, -1).contiguous()
    drawn = torch.searchsorted(cumulative, uniforms[:, -1].to(cumulative), right=True)
    return first + drawn.clamp(max=states - 1)
