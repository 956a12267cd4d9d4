"""Table rollouts and their gradient, captured: the group of `maxrl_lab.tabular.rollout.roll_out`, as two replays.

On a GPU `roll_out` never asks how many rollouts have ended, so that all H steps are the same few look-ups; what is left
to wait for is Python, which starts them. Rewards, lengths and cells are the same, from the same random numbers;
log-probabilities and their gradient up to rounding. Axes as in `maxrl_lab.tabular.tables`; U, the random numbers of a
rollout, as in `sample_uniforms`; D, the streams of random numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from maxrl_lab.captured import Captured, Kept, Outputs
from maxrl_lab.errors import InputError
from maxrl_lab.tabular.rollout import has_random_start, integer_below, row_width, start_states, wide
from maxrl_lab.tabular.tables import Tables
from maxrl_lab.thresholds import part_of_step, thresholds
from maxrl_lab.training.groups import Group


class CapturedRollouts:
    """Rollouts through some tables; of every number of runs and rollouts the walk is captured once."""

    def __init__(self, tables: Tables, most: int = 4) -> None:
        self.tables = tables
        self.random_start = has_random_start(tables)
        self.walks: Kept[_Replays] = Kept(most)

    def roll_out(self, log_policy: Tensor, uniforms: Tensor, streams: Sequence[int]) -> Group:
        """Return the group (R, B, N) of R policies (R, T, B, S, A), of which run r uses `uniforms[streams[r]]`.

        uniforms: (D, U, B, N). `log_probs` are differentiable until the next rollout of the same shapes, after which
        `backward` raises `InputError`.
        """
        key = (log_policy.shape, log_policy.dtype, uniforms.shape)
        walk = self.walks.get(key, lambda: self._make(log_policy, uniforms))
        stream = torch.tensor(list(streams), device=log_policy.device)
        log_probs, rewards, lengths = _Replayed.apply(log_policy, uniforms, stream, walk)
        return Group(rewards, log_probs, lengths)

    def _make(self, log_policy: Tensor, uniforms: Tensor) -> "_Replays":
        """Return what walks such policies with so many random numbers."""
        walk = _Walk(self.tables, log_policy, uniforms, random_start=self.random_start)
        forward = Captured(walk.walk, reads=lambda: [walk.cells], most=1)
        return _Replays(forward, Captured(walk.scatter, reads=lambda: [walk.cells], most=1))


@dataclass
class _Replays:
    """A walk and its gradient."""

    forward: Captured
    backward: Captured
    turn: int = 0
    """Number of walks so far: a gradient must be asked for before the next."""


class _Replayed(torch.autograd.Function):
    """Rollouts by one replay, and the gradient of their log-probabilities by another."""

    @staticmethod
    def forward(ctx: Any, log_policy: Tensor, uniforms: Tensor, stream: Tensor, walk: _Replays) -> Any:
        rewards, lengths, log_probs = (part.clone() for part in walk.forward(log_policy, uniforms, stream))
        walk.turn += 1
        ctx.walk, ctx.turn = walk, walk.turn
        ctx.mark_non_differentiable(rewards, lengths)
        return log_probs, rewards, lengths

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        if ctx.walk.turn != ctx.turn:
            raise InputError("these rollouts were followed by others of the same shapes: call backward before the next")
        return ctx.walk.backward(slopes[0])[0].clone(), None, None, None


class _Walk:
    """R B N rollouts of one shape. The rows of the policy's table are W cells wide, as in `rollout`."""

    def __init__(self, tables: Tables, log_policy: Tensor, uniforms: Tensor, *, random_start: bool) -> None:
        self.tables, self.random_start = tables, random_start
        self.runs, times, count, states, actions = self.shape = log_policy.shape
        self.dtype, self.width, self.states = log_policy.dtype, row_width(actions), count * states
        self.active = tables.active.flatten().repeat_interleave(self.width).repeat(self.runs)  # one entry a cell
        starts = torch.arange(self.runs, device=tables.device) * self.states
        nexts = starts.view(-1, 1, 1, 1, 1) + tables.next_states
        self.fan = row_width(nexts.shape[-1])
        extra = (0, self.fan - nexts.shape[-1], 0, self.width - actions)
        self.positions = pad(nexts, extra).mul(self.width).flatten()
        self.first_state = starts.view(-1, 1, 1)
        rollouts = self.runs * count * uniforms.shape[3]
        cells = integer_below(times * len(self.active))
        self.cells = torch.zeros(tables.horizon, rollouts, dtype=cells, device=tables.device)

    def walk(self, log_policy: Tensor, uniforms: Tensor, stream: Tensor) -> Outputs:
        """Return rewards, lengths and log-probabilities (R, B, N), and note the cells; this is what is captured."""
        with torch.no_grad():
            tables, horizon = self.tables, self.tables.horizon
            parts = part_of_step(uniforms[:, :, 0])[stream].view(-1, 1, 1, 1, 1)
            bounds = self._by_time(thresholds(log_policy.exp(), parts), 1.0)
            slips = None
            if tables.probabilities is not None:
                extra = (0, self.fan - tables.probabilities.shape[-1], 0, self.width - log_policy.shape[-1])
                slips = pad(thresholds(tables.probabilities, parts), extra, value=1.0).flatten()
            numbers = (uniforms if len(uniforms) == self.runs == 1 else uniforms[stream]).transpose(0, 1)
            last = start_states(tables, numbers[-1], parts[:, 0, 0], random_start=self.random_start)
            shape, position = last.shape, ((self.first_state + last) * self.width).flatten()
            numbers = numbers.flatten(1)
            for step in range(horizon):
                time = step % len(bounds)
                cell = _choose(bounds[time], position, numbers[step], self.width)
                self.cells[step] = cell + time * len(self.active)
                if slips is not None:
                    cell = _choose(slips, cell * self.fan, numbers[horizon + step], self.fan)
                position = self.positions.index_select(0, cell)
            last = position.div(self.width, rounding_mode="floor").remainder(self.states)
            rewards = tables.success.flatten().index_select(0, last)
            # sums of 0 and 1 are exact in float32
            lengths = self._sum(self.active.float().repeat(len(bounds))).long()
            log_probs = self._sum(self._by_time(self._masked(log_policy), 0.0).flatten())
            return rewards.view(shape), lengths.view(shape), log_probs.view(shape)

    def scatter(self, slopes: Tensor) -> Outputs:
        """Return the gradient (R, T, B, S, A) of the sum of slopes (R, B, N) times log-probabilities; captured."""
        with torch.no_grad():
            runs, times, count, states, _ = self.shape
            spread = slopes.flatten().expand(self.cells.shape).flatten()
            table = torch.zeros(times * len(self.active), dtype=self.dtype, device=slopes.device)
            table.index_add_(0, self.cells.flatten(), spread)
            by_cell = table.view(times, runs, count, states, self.width)[..., : self.shape[-1]]
            return (self._masked(by_cell.transpose(0, 1)),)

    def _masked(self, table: Tensor) -> Tensor:
        """Return a table (R, T, B, S, A) that is 0 where no action is taken."""
        return table.masked_fill(~self.tables.active[..., None], 0.0)

    def _by_time(self, table: Tensor, value: float) -> Tensor:
        """Return a table (R, T, B, S, A) as T rows of cells (T, R B S W), with `value` in the new ones."""
        return wide(table, value).transpose(0, 1).flatten(1)

    def _sum(self, table: Tensor) -> Tensor:
        """Return the sums over the steps of what stands in the rollouts' cells, (R B N,)."""
        return table.index_select(0, self.cells.flatten()).view(self.cells.shape).sum(0)


def _choose(bounds: Tensor, first: Tensor, numbers: Tensor, width: int) -> Tensor:
    """Return first + the number of thresholds, of the `width` from the cell `first` on, that are not above the number.

    The thresholds of a row rise, and the last is 1, so that the search halves it every time.
    """
    half = width // 2
    while half:
        first = first + half * (numbers >= bounds[half - 1 :].take(first))
        half //= 2
    return first
