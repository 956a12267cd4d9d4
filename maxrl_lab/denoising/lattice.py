"""All partly filled answers of L places in base V: what a denoising policy writes, with which probability, exactly.

A denoising run is a rollout in a finite world: its states are the S = (V+1)^L partly filled answers, ordered by how
many places are filled. From a policy's log-probabilities in all of them, a `table` (B, S, L, V), and a sampler
(`maxrl_lab.denoising.samplers`) follow, by dynamic programming, the probability of every answer summed over the orders
in which it may be written, the pass rate, and the number of evaluations of the network.

Axes: B prompts, S states, X = V^L answers, L places, V digits. Word V is the empty place. States and answers are
numbered as numbers in base V+1 and V are, most significant place first.
"""

from collections.abc import Callable
from functools import cached_property
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.denoising.samplers import Sampler
from maxrl_lab.errors import InputError

MOST_STATES = 50_000
"""Largest number of states of a lattice: its tables have S L V numbers a prompt."""
NEVER = -1e4
"""Stands for the logarithm of 0: infinite numbers would make gradients undefined, and exp(-1e4) is 0."""


class Level(NamedTuple):
    """The states with one number t of filled places, and how they are reached from those with t - 1."""

    states: Tensor
    """(n,) numbers of the states."""
    before: Tensor
    """(n, t) the state before each filled place was filled."""
    places: Tensor
    """(n, t) the filled places."""
    digits: Tensor
    """(n, t) the digits in them."""


class Decoded(NamedTuple):
    """What a sampler makes of every answer, (B, X) each."""

    log_probs: Tensor
    """Log-probability in nats that the sampler writes the answer, differentiable in the table."""
    evaluations: Tensor
    """Number of evaluations of the network until the answer is written."""


class Lattice:
    """The states of answers of `length` places in base `base`; `InputError` for more than `MOST_STATES` of them."""

    def __init__(self, length: int, base: int) -> None:
        self.length, self.base = specs.check_count("length", length), specs.check_count("base", base, minimum=2)
        self.size = (base + 1) ** length
        if self.size > MOST_STATES:
            got = f"{base + 1}^{length} = {self.size}"
            raise InputError(f"a lattice has at most {MOST_STATES} states (base + 1)^length, got {got}")
        self.states = torch.tensor(list(product(range(base + 1), repeat=length)))
        self.answers = torch.tensor(list(product(range(base), repeat=length)))
        self.weights = (base + 1) ** torch.arange(length - 1, -1, -1)

    def index(self, states: Tensor) -> Tensor:
        """Return the numbers (...) of states (..., L)."""
        return (states * self.weights).sum(-1)

    @cached_property
    def filled(self) -> Tensor:
        """The number of the state after a digit is written into an empty place, (S, L, V); -1 where none is empty."""
        after = torch.arange(self.size)[:, None] - self.base * self.weights
        after = after[..., None] + self.weights[:, None] * torch.arange(self.base)
        return torch.where((self.states == self.base)[..., None], after, -1)

    @cached_property
    def hidden(self) -> Tensor:
        """The number of each answer's state when only a subset A of its places is visible, (X, 2^L).

        Subset number A has place i if (A >> i) & 1.
        """
        shown = subsets(self.length)
        words = torch.where(shown, self.answers[:, None], self.base)
        return self.index(words)

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The levels t = 1..L; level 0 is the empty answer, state S - 1."""
        is_filled = self.states != self.base
        counts = is_filled.sum(1)
        levels = []
        for count in range(1, self.length + 1):
            rows = (counts == count).nonzero()[:, 0]
            places = is_filled[rows].nonzero()[:, 1].view(-1, count)
            digits = self.states[rows].gather(1, places)
            before = rows[:, None] + (self.base - digits) * self.weights[places]
            levels.append(Level(rows, before, places, digits))
        return tuple(levels)

    def token_log_probs(self, table: Tensor) -> Tensor:
        """Return log pi(x_i | x_A), (B, X, 2^L, L): of every place's digit where only the places in A are visible.

        Places in A have 0. Differentiable in the table (B, S, L, V).
        """
        self.check(table)
        rows = self.hidden[:, :, None]
        columns = torch.arange(self.length)
        values = table[:, rows, columns, self.answers[:, None]]
        return values.masked_fill(subsets(self.length), 0.0)

    def decode(self, table: Tensor, sampler: Sampler) -> Decoded:
        """Return every answer's log-probability, summed over the orders that the sampler may write it in, and its cost.

        A sampler that fills one place at a time needs a sum over orders: from the mass of the states with t - 1 filled
        places follows that with t. One that fills sets of places, which the state alone decides, has one path to each
        answer. What the sampler decides by the policy's confidence is held fixed in gradients, which is right almost
        everywhere. Costs are whole numbers.
        """
        self.check(table)
        chances = sampler.chances(self.states, table.detach())
        if sampler.one_place:
            log_probs = self._log_masses(table, chances)[:, self.index(self.answers)]
            return Decoded(log_probs, torch.full_like(log_probs, self.length, dtype=torch.long))
        return self._walk(table, chances)

    def answer_log_probs(self, table: Tensor, sampler: Sampler) -> Tensor:
        """Return the log-probability in nats that the sampler writes each answer, (B, X); see `decode`."""
        return self.decode(table, sampler).log_probs

    def pass_rate(self, table: Tensor, sampler: Sampler, right: Tensor) -> Tensor:
        """Return the probability (B,) that the sampler writes a right answer: right (B, X) bool; differentiable.

        By backward recursion over the states: v(s) is the mean of v over the next states, where one place at a time is
        filled, and the sum over right answers elsewhere.
        """
        if right.shape != (len(table), len(self.answers)):
            raise InputError(f"expected right (B, X) {(len(table), len(self.answers))}, got {tuple(right.shape)}")
        if not sampler.one_place:
            return (self.answer_log_probs(table, sampler).exp() * right).sum(-1)
        self.check(table)
        chances = sampler.chances(self.states, table.detach()).expand(len(table), -1, -1)
        values = table.new_zeros(len(table), self.size)
        values = values.index_copy(1, self.index(self.answers), right.to(table))
        for level in reversed(self.levels):
            moves = chances[:, level.before, level.places] * table[:, level.before, level.places, level.digits].exp()
            parts = (moves * values[:, level.states, None]).flatten(1)
            values = values.index_add(1, level.before.flatten(), parts)
        return values[:, -1]

    def judged(self, verify: Callable[[Tensor, Tensor], Tensor], prompts: Tensor) -> Tensor:
        """Return which of all answers are right, (B, X) bool, by a verifier of prompts (B, P) and answers (B, X, L)."""
        return verify(prompts, self.answers.expand(len(prompts), -1, -1))

    def look_up(self, table: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the policy of a table: a function from states (B, M, L) to log-probabilities (B, M, L, V)."""
        self.check(table)
        prompts = torch.arange(len(table))[:, None]
        return lambda states: table[prompts, self.index(states)]

    def check(self, table: Tensor) -> None:
        """Raise `InputError` unless the table has the shape (B, S, L, V)."""
        wanted = (self.size, self.length, self.base)
        if table.ndim != 4 or tuple(table.shape[1:]) != wanted:
            raise InputError(f"expected a table (B, {', '.join(map(str, wanted))}), got {tuple(table.shape)}")

    def _log_masses(self, table: Tensor, chances: Tensor) -> Tensor:
        """Return the log-probability (B, S) that a run comes through each state, where it fills one place at a time."""
        log_chances = chances.to(table).log().clamp(min=NEVER).expand(len(table), -1, -1)
        start = torch.full((len(table), self.size), NEVER, dtype=table.dtype)
        masses = start.index_fill(1, torch.tensor([self.size - 1]), 0.0)
        for level in self.levels:
            steps = log_chances[:, level.before, level.places] + table[:, level.before, level.places, level.digits]
            masses = masses.index_copy(1, level.states, (masses[:, level.before] + steps).logsumexp(-1))
        return masses

    def _walk(self, table: Tensor, sets: Tensor) -> Decoded:
        """Return what becomes of every answer where the state alone decides which set of places is filled next."""
        prompts, columns = torch.arange(len(table))[:, None, None], torch.arange(self.length)
        sets = sets.bool().expand(len(table), -1, -1)
        now = torch.full((len(table), len(self.answers)), self.size - 1)
        log_probs, evaluations = table.new_zeros(now.shape), torch.zeros_like(now)
        for _ in range(self.length):
            filling = sets[prompts[..., 0], now]
            tokens = table[prompts, now[..., None], columns, self.answers]
            log_probs = log_probs + tokens.where(filling, 0.0).sum(-1)
            evaluations = evaluations + filling.any(-1)
            now = now - (filling * (self.base - self.answers) * self.weights).sum(-1)
        return Decoded(log_probs, evaluations)


def subsets(length: int) -> Tensor:
    """Return the subsets of L places, (2^L, L) bool; number A has place i if (A >> i) & 1."""
    return (torch.arange(2**length)[:, None] >> torch.arange(length) & 1).bool()
