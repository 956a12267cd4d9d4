"""Rollouts through a table: every step of every rollout of every run is a handful of look-ups.

A rollout's position is its state's flat index times A, so that adding the action gives the cell of the table, and the
next position is read from it. The action is the number of thresholds (cumulative probabilities) not above a uniform
number. Finished rollouts stand still on an absorbing state, where log-probabilities are 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.tabular.tables import Tables
from maxrl_lab.training.groups import Group

_STEPS_BETWEEN_LOOKS = 4
"""On a CPU the loop asks after so many steps how many rollouts have ended; a GPU would have to wait for the answer."""


class Paths(NamedTuple):
    """What rollouts did: states (..., B, N, H+1), the last one repeated; actions (..., B, N, H), -1 after the end."""

    states: Tensor
    actions: Tensor


class Segment(NamedTuple):
    """A stretch of steps of the M rollouts that had not ended when it began."""

    rollouts: Tensor
    """(M,) flat indices of the rollouts in (R, B, N)."""
    first_step: int
    cells: Tensor
    """(steps, M) flat indices of the cells of the policy table that the rollouts used."""
    last: Tensor
    """(M,) flat indices of the states that the rollouts stood on after the stretch."""


def sample_uniforms(tables: Tables, rollouts: int, stream: torch.Generator) -> Tensor:
    """Return the uniform random numbers (U, B, N) of N rollouts a task.

    A rollout uses one for each action, then one for each slip if the tasks are stochastic, then one for its start if
    the start is random.
    """
    count = tables.horizon * (2 if tables.probabilities is not None else 1) + (1 if _has_random_start(tables) else 0)
    return torch.rand(count, tables.shape[0], rollouts, generator=stream, device=tables.device)


def roll_out(
    tables: Tables, log_policy: Tensor, uniforms: Tensor, streams: Sequence[int]
) -> tuple[Group, list[Segment]]:
    """Return the group (R, B, N) of R policies (R, T, B, S, A), and what they did.

    Run r uses the random numbers `uniforms[streams[r]]`, of shape (U, B, N).
    """
    walk = _Walk(tables, log_policy, uniforms, streams)
    shape = (len(log_policy), uniforms.shape[2], uniforms.shape[3])
    segments: list[Segment] = []
    while (segment := walk.segment()) is not None:
        segments.append(segment)
    log_probs = log_policy.masked_fill(~tables.active[..., None], 0.0).flatten()
    summed = log_probs.new_zeros(shape).flatten()
    for segment in segments:
        used = log_probs.gather(0, segment.cells.flatten()).view(segment.cells.shape)
        summed = summed.index_add(0, segment.rollouts, used.sum(0))
    rewards = tables.success.flatten().index_select(0, walk.last)
    return Group(rewards.view(shape), summed.view(shape), walk.lengths.view(shape)), segments


class _Walk:
    """R B N rollouts under way. On a CPU the rollouts that have ended are left behind once they are half of all."""

    def __init__(self, tables: Tables, log_policy: Tensor, uniforms: Tensor, streams: Sequence[int]) -> None:
        runs, times, count, states, self.actions = log_policy.shape
        self.tables, self.uniforms, self.step = tables, uniforms.flatten(), 0
        self.per_step = count * uniforms.shape[3]
        self.per_time = count * states * self.actions if times > 1 else 0
        # one entry per cell, so that a position (a multiple of A) is an index everywhere
        self.active = tables.active.flatten().long().repeat_interleave(self.actions)
        self.thresholds = _thresholds(log_policy.detach().exp()).flatten()
        self.moves = _Moves(tables)
        stream = torch.as_tensor(list(streams), device=tables.device)
        self.last = _starts(tables, uniforms)[stream].flatten()
        self.lengths = torch.zeros_like(self.last)
        within_step = torch.arange(self.per_step, device=tables.device)
        self.rollouts = torch.arange(len(self.last), device=tables.device)
        self.numbers = (stream[:, None] * (uniforms.shape[1] * self.per_step) + within_step).flatten()
        first_cell = torch.arange(runs, device=tables.device) * (times * count * states * self.actions)
        self.first_cell = first_cell.repeat_interleave(self.per_step)

    def segment(self) -> Segment | None:
        """Walk until half of the rollouts have ended, or all steps are done; None if nothing is left to do."""
        position = self.last.index_select(0, self.rollouts) * self.actions
        if self.step == self.tables.horizon or len(position) == 0:
            return None
        first_step, cells = self.step, []
        lengths = torch.zeros_like(position)
        kept = None
        while self.step < self.tables.horizon and kept is None:
            alive = self.active.index_select(0, position)
            lengths += alive
            row = position + self.first_cell
            if self.per_time:
                row += self.step * self.per_time
            action = _count(self.thresholds, row, self._uniforms(self.step), self.actions)
            cells.append(row + action)
            slip = self._uniforms(self.tables.horizon + self.step) if self.moves.stochastic else None
            position = self.moves.next(position + action, slip)
            self.step += 1
            if self.tables.device.type == "cpu" and self.step % _STEPS_BETWEEN_LOOKS == 0:
                kept = self._survivors(position)
        last = position.div(self.actions, rounding_mode="floor")
        segment = Segment(self.rollouts, first_step, torch.stack(cells), last)
        self.last[self.rollouts] = last
        self.lengths[self.rollouts] += lengths
        if kept is not None:
            self.rollouts = self.rollouts.index_select(0, kept)
            self.numbers = self.numbers.index_select(0, kept)
            self.first_cell = self.first_cell.index_select(0, kept)
        return segment

    def _survivors(self, position: Tensor) -> Tensor | None:
        """Return the indices of the rollouts that go on; None while they are more than half of all."""
        going = self.active.index_select(0, position)
        return going.nonzero().flatten() if int(going.sum()) <= len(going) // 2 else None

    def _uniforms(self, row: int) -> Tensor:
        return self.uniforms.index_select(0, self.numbers + row * self.per_step)


def read_paths(tables: Tables, segments: Sequence[Segment], group: Group) -> Paths:
    """Return the states and actions of what `roll_out` did, with the group's leading axes."""
    count, states, actions = tables.shape
    total = group.rewards.numel()
    visited = torch.zeros(tables.horizon + 1, total, dtype=torch.long, device=tables.device)
    taken = torch.full((tables.horizon, total), -1, device=tables.device)
    for segment in segments:
        steps = slice(segment.first_step, segment.first_step + len(segment.cells))
        cells = segment.cells.remainder(count * states * actions)
        at = cells.div(actions, rounding_mode="floor")
        visited[steps, segment.rollouts] = at
        taken[steps, segment.rollouts] = cells.remainder(actions).masked_fill(~tables.active.flatten()[at], -1)
        visited[steps.stop :, segment.rollouts] = segment.last  # rollouts that have ended stand still
    shape = group.rewards.shape
    return Paths(visited.remainder(states).T.reshape(*shape, -1), taken.T.reshape(*shape, -1))


def _thresholds(probabilities: Tensor) -> Tensor:
    """Cumulative probabilities, the last exactly 1, so that what is impossible is never sampled."""
    cumulative = probabilities.cumsum(-1)
    return cumulative / cumulative[..., -1:]


def _count(thresholds: Tensor, row: Tensor, uniforms: Tensor, size: int) -> Tensor:
    """Number of the first size - 1 thresholds from `row` on that are not above the uniform number."""
    count = torch.zeros_like(row)
    for offset in range(size - 1):
        count += uniforms >= thresholds[offset:].index_select(0, row)
    return count


class _Moves:
    """The dynamics: from the cell of an action to the next position."""

    def __init__(self, tables: Tables) -> None:
        self.positions = tables.next_states.mul(tables.shape[2]).flatten()
        self.size = tables.next_states.shape[3]
        self.stochastic = tables.probabilities is not None
        if tables.probabilities is not None:
            self.thresholds = _thresholds(tables.probabilities).flatten().float()

    def next(self, cell: Tensor, uniforms: Tensor | None) -> Tensor:
        if uniforms is None:
            return self.positions.index_select(0, cell)
        cell = cell * self.size
        return self.positions.index_select(0, cell + _count(self.thresholds, cell, uniforms, self.size))


def _has_random_start(tables: Tables) -> bool:
    return bool((tables.start.amax(1) < 1).any())


def _starts(tables: Tables, uniforms: Tensor) -> Tensor:
    """Flat indices of the start states (D, B, N), for D streams of uniform numbers."""
    count, states, _ = tables.shape
    first = torch.arange(count, device=tables.device).view(1, -1, 1) * states
    if not _has_random_start(tables):
        return (first + tables.start.argmax(1).view(1, -1, 1)).expand(len(uniforms), -1, uniforms.shape[-1])
    cumulative = _thresholds(tables.start).expand(len(uniforms), -1, -1).contiguous()
    sampled = torch.searchsorted(cumulative, uniforms[:, -1].to(cumulative), right=True)
    return first + sampled.clamp(max=states - 1)
