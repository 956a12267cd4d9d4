"""Rollouts through a table: every step of every rollout of every run is a handful of look-ups.

A rollout's position is the index of its state's row in a table whose rows are W cells wide, W the power of two from A
on, so that log2 W comparisons of a uniform number with cumulative probabilities lead to the cell of its action, and the
next position is read from there. Finished rollouts stand still on an absorbing state, where log-probabilities are 0.
On a CPU the walk is NumPy's, whose look-ups cost a third of torch's where there are few; sums stay torch's.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from maxrl_lab.tabular.tables import Tables
from maxrl_lab.thresholds import part_of_step, thresholds
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
    """(steps, M) flat indices of the cells (T, R, B, S, W) of the policy table that the rollouts used."""
    last: Tensor
    """(M,) flat indices of the states that the rollouts stood on after the stretch."""


def sample_uniforms(tables: Tables, rollouts: int, stream: torch.Generator) -> Tensor:
    """Return the uniform random numbers (U, B, N) of N rollouts a task.

    A rollout uses one for each action, then one for each slip if the tasks are stochastic, then one for its start if
    the start is random.
    """
    count = tables.horizon * (2 if tables.probabilities is not None else 1) + (1 if has_random_start(tables) else 0)
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
    log_probs = wide(log_policy.masked_fill(~tables.active[..., None], 0.0).transpose(0, 1), 0.0).flatten()
    summed = log_probs.new_zeros(shape).flatten()
    for segment in segments:
        used = log_probs.index_select(0, segment.cells.flatten()).view(segment.cells.shape)
        summed = summed.index_add(0, segment.rollouts, used.sum(0))
    rewards = tables.success.flatten().index_select(0, walk.last)
    return Group(rewards.view(shape), summed.view(shape), walk.lengths.view(shape)), segments


class _Walk:
    """R B N rollouts under way. On a CPU the rollouts that have ended are left behind once they are half of all."""

    def __init__(self, tables: Tables, log_policy: Tensor, uniforms: Tensor, streams: Sequence[int]) -> None:
        runs, times, count, states, actions = log_policy.shape
        self.tables, self.step = tables, 0
        self.per_step, self.width, self.states = count * uniforms.shape[3], row_width(actions), count * states
        self.active = tables.active.flatten().repeat_interleave(self.width).repeat(runs)  # one entry a cell
        self.integer = integer_below(times * len(self.active))
        stream = torch.as_tensor(list(streams), device=tables.device)
        # from the numbers of the first task: the sum of all would take long
        parts = part_of_step(uniforms[:, :, 0]).view(-1, 1, 1, 1, 1)
        bounds = wide(thresholds(log_policy.detach().exp(), parts[stream]), 1.0).transpose(0, 1).flatten(1)
        self.choices = [_Choice(row, self.width) for row in bounds]
        self.moves = _Moves(tables, parts[stream], self.width)
        random_start = has_random_start(tables)
        self.last = start_states(tables, uniforms[:, -1], parts[:, 0, 0], random_start=random_start)[stream].flatten()
        self.lengths = torch.zeros_like(self.last)
        self.rollouts = torch.arange(len(self.last), device=tables.device)
        first_state = torch.arange(runs, device=tables.device).repeat_interleave(self.per_step) * self.states
        self.position = _array((first_state + self.last) * self.width)
        within_step = torch.arange(self.per_step, device=tables.device)
        self.numbers = _array((stream[:, None] * (uniforms.shape[1] * self.per_step) + within_step).flatten())
        self.uniforms = _array(uniforms.flatten())

    def segment(self) -> Segment | None:
        """Walk until half of the rollouts have ended, or all steps are done; None if nothing is left to do."""
        if self.step == self.tables.horizon or len(self.position) == 0:
            return None
        first_step, kept = self.step, None
        steps = self.tables.horizon - first_step
        walked = _array(torch.empty(steps, len(self.position), dtype=self.integer, device=self.tables.device))
        while self.step < self.tables.horizon and kept is None:
            cell = self.choices[self.step % len(self.choices)].of(self.position, self._uniforms(self.step))
            walked[self.step - first_step] = cell
            slip = self._uniforms(self.tables.horizon + self.step) if self.moves.slips else None
            self.position = self.moves.next(cell, slip)
            self.step += 1
            if self.tables.device.type == "cpu" and self.step % _STEPS_BETWEEN_LOOKS == 0:
                kept = self._survivors()
        segment = self._segment(first_step, torch.as_tensor(walked[: self.step - first_step]))
        if kept is not None:
            self.rollouts = self.rollouts.index_select(0, torch.from_numpy(kept))
            self.position, self.numbers = self.position.take(kept), self.numbers.take(kept)
        return segment

    def _segment(self, first_step: int, cells: Tensor) -> Segment:
        """Note where the rollouts stand and how long they have been, and return what they did."""
        last = torch.as_tensor(self.position).div(self.width, rounding_mode="floor").remainder(self.states)
        self.last[self.rollouts] = last
        # sums of 0 and 1 are exact in float32, in which torch is twenty times as fast as in bool
        active = self.active.float().index_select(0, cells.flatten()).view(cells.shape)
        self.lengths[self.rollouts] += active.sum(0).long()
        if len(self.choices) > 1:
            times = torch.arange(first_step, self.step, device=cells.device)
            cells += times[:, None] * len(self.active)
        return Segment(self.rollouts, first_step, cells, last)

    def _survivors(self) -> Any:
        """Return the indices of the rollouts that go on; None while they are more than half of all."""
        going = self.active.numpy().take(self.position)
        return going.nonzero()[0] if np.count_nonzero(going) <= len(going) // 2 else None

    def _uniforms(self, row: int) -> Any:
        return self.uniforms[row * self.per_step :].take(self.numbers)


def read_paths(tables: Tables, segments: Sequence[Segment], group: Group) -> Paths:
    """Return the states and actions of what `roll_out` did, with the group's leading axes."""
    count, states, actions = tables.shape
    total, width = group.rewards.numel(), row_width(actions)
    visited = torch.zeros(tables.horizon + 1, total, dtype=torch.long, device=tables.device)
    taken = torch.full((tables.horizon, total), -1, device=tables.device)
    for segment in segments:
        steps = slice(segment.first_step, segment.first_step + len(segment.cells))
        cells = segment.cells.long()
        at = cells.div(width, rounding_mode="floor").remainder(count * states)
        visited[steps, segment.rollouts] = at
        taken[steps, segment.rollouts] = cells.remainder(width).masked_fill(~tables.active.flatten()[at], -1)
        visited[steps.stop :, segment.rollouts] = segment.last  # rollouts that have ended stand still
    shape = group.rewards.shape
    return Paths(visited.remainder(states).T.reshape(*shape, -1), taken.T.reshape(*shape, -1))


def row_width(size: int) -> int:
    """Return the least power of two that is not below `size`."""
    return 1 << (size - 1).bit_length()


def integer_below(count: int) -> torch.dtype:
    """Return the smallest type of cell numbers that holds those below `count`."""
    return torch.int32 if count <= 2**31 else torch.int64


def wide(table: Tensor, value: float) -> Tensor:
    """Return the table with rows as long as the next power of two, whose new cells hold `value`."""
    size = table.shape[-1]
    return pad(table, (0, row_width(size) - size), value=value) if size != row_width(size) else table


def _array(tensor: Tensor) -> Any:
    """The tensor as an array that knows `take`, `+` and `>=`: NumPy's on a CPU, torch's own elsewhere."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


class _Choice:
    """Cells chosen by uniform numbers, from rows of `width` cumulative probabilities, of which the last are 1."""

    def __init__(self, bounds: Tensor, width: int) -> None:
        halves = [1 << level for level in reversed(range(width.bit_length() - 1))]
        flat = _array(bounds)
        self.levels = [(half, flat[half - 1 :]) for half in halves]

    def of(self, first: Any, uniforms: Any) -> Any:
        """Return first + the number of thresholds, from the cell `first` on, that are not above the number.

        The thresholds of a row rise, so that the search halves it every time.
        """
        for half, bounds in self.levels:
            above = uniforms >= bounds.take(first)
            first = first + (above if half == 1 else half * above)
        return first


class _Moves:
    """The dynamics: from the cell of an action to the next position, both with the offset of the run."""

    def __init__(self, tables: Tables, parts: Tensor, width: int) -> None:
        count, states, actions, size = tables.next_states.shape
        self.size = row_width(size)
        extra = (0, self.size - size, 0, width - actions)
        first_state = torch.arange(len(parts), device=tables.device).view(-1, 1, 1, 1, 1) * (count * states)
        self.positions = _array((first_state + pad(tables.next_states, extra)).mul(width).flatten())
        self.slips = None
        if tables.probabilities is not None:
            self.slips = _Choice(pad(thresholds(tables.probabilities, parts), extra, value=1.0).flatten(), self.size)

    def next(self, cell: Any, uniforms: Any | None) -> Any:
        return self.positions.take(cell if self.slips is None else self.slips.of(cell * self.size, uniforms))


def has_random_start(tables: Tables) -> bool:
    """Return whether any task starts in more than one state."""
    return bool((tables.start.amax(1) < 1).any())


def start_states(tables: Tables, numbers: Tensor, parts: Tensor, *, random_start: bool) -> Tensor:
    """Return the flat indices of the start states, in the shape (D, B, N) of the numbers; parts: (D, 1, 1)."""
    count, states, _ = tables.shape
    first = torch.arange(count, device=tables.device).view(1, -1, 1) * states
    if not random_start:
        return (first + tables.start.argmax(1).view(1, -1, 1)).expand(numbers.shape)
    return first + torch.searchsorted(thresholds(tables.start, parts), numbers.contiguous(), right=True)
