"""An answer's partly filled forms: what all its orders, masks and surrogates read, 2^L of them for L places.

A form shows some places and leaves the others empty, and is numbered as a subset of the lattice is; a cell is a form
and one of its empty places, and holds the log-probability of the answer's digit there. Every surrogate of
`maxrl_lab.denoising.surrogates` is a random weighted sum of an answer's cells, so its mean and its second moment over
masks and orders are sums over cells.

Axes: X answers, F = L 2^(L-1) cells, O orders, L places, V digits, S states of the lattice.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product

import torch
from torch import Tensor

from maxrl_lab.denoising.lattice import Lattice, subsets
from maxrl_lab.denoising.surrogates import Law, Surrogate
from maxrl_lab.errors import InputError

MOST_ORDERS_PLACES = 6
"""Orders are listed, of which there are L!."""


@dataclass(frozen=True)
class Forms:
    """The cells of answers with `length` places, and the orders in which the sampler fills them, all alike likely."""

    length: int
    """The number L of places."""
    block: int | None = None
    """The number of places in a block: blocks are filled from left to right, any order inside; None for one block."""

    def __post_init__(self) -> None:
        """Check that orders can be listed and blocks fill the answer."""
        if not 1 <= self.length <= MOST_ORDERS_PLACES:
            raise InputError(f"expected 1 to {MOST_ORDERS_PLACES} places, whose orders are listed, got {self.length}")
        if self.block is not None and (self.block < 1 or self.length % self.block):
            raise InputError(f"blocks must divide the {self.length} places of an answer, got blocks of {self.block}")

    @cached_property
    def cells(self) -> Tensor:
        """(F, 2): the form and the empty place of every cell."""
        return (~subsets(self.length)).nonzero()

    @cached_property
    def orders(self) -> Tensor:
        """(O, L): the place that each step fills."""
        size = self.block or self.length
        blocks = [permutations(range(start, start + size)) for start in range(0, self.length, size)]
        return torch.tensor([sum(parts, ()) for parts in product(*blocks)])

    def number(self, empty: Tensor) -> Tensor:
        """Return the number (...) of the form that leaves places (..., L) empty."""
        return ((~empty).long() << torch.arange(self.length)).sum(-1)

    def tokens(self, lattice: Lattice, table: Tensor) -> Tensor:
        """Return the log-probabilities (B, X, F) of the cells of all answers, from a table (B, S, L, V)."""
        form, column = self.cells.T
        return lattice.token_log_probs(table)[..., form, column]

    def states(self, lattice: Lattice) -> Tensor:
        """Return the state (X, F) of the lattice in which each cell of each answer is."""
        return lattice.hidden[:, self.cells[:, 0]]

    @cached_property
    def _numbers(self) -> Tensor:
        """(2^L, L): the number of the cell of a form and a place; F where the place is not empty."""
        numbers = torch.full((2**self.length, self.length), len(self.cells))
        numbers[tuple(self.cells.T)] = torch.arange(len(self.cells))
        return numbers

    def cell_numbers(self, empty: Tensor) -> Tensor:
        """Return the number (..., L) of the cell of each place where places (..., L) are empty; F for filled places."""
        return self._numbers[self.number(empty)[..., None], torch.arange(self.length)]

    def path_log_probs(self, tokens: Tensor) -> Tensor:
        """Return the log-probabilities (..., X, O) of an answer and the order that filled it, from its cells."""
        step = torch.arange(self.length)
        rank = self.orders.argsort(1)
        left = rank[:, None] >= step[:, None]  # (O, T, L): what is empty before each step
        cells = self._numbers[self.number(left), self.orders]
        return tokens[..., cells].sum(-1) - math.log(len(self.orders))

    def coefficients(self, law: Law) -> Tensor:
        """Return the coefficients (C, O, F) of the cells, for every choice of the law and every order."""
        rank = self.orders.argsort(1)  # (O, L)
        empty = law.empty[:, :, rank].transpose(1, 2)  # (C, O, J, L) by place
        values = law.coefficients[:, :, rank].transpose(1, 2)
        cells = self.cell_numbers(empty)
        dense = torch.zeros(*values.shape[:2], len(self.cells) + 1, dtype=values.dtype)
        dense.scatter_add_(-1, cells.flatten(2), values.flatten(2))
        return dense[..., :-1]

    def moments(self, surrogate: Surrogate) -> tuple[Tensor, Tensor]:
        """Return the mean (O, F) and second moment (O, F, F) of the coefficients over masks, for every order."""
        law = surrogate.law(self.length)
        values = self.coefficients(law)
        mean = torch.einsum("c,cof->of", law.weights, values)
        second = torch.einsum("c,cof,cog->ofg", law.weights, values, values)
        product_of_means = mean[:, :, None] * mean[:, None, :]
        return mean, product_of_means + (second - product_of_means) / surrogate.samples

    def bound(self, tokens: Tensor) -> Tensor:
        """Return the exact lower bound (..., X) of log p(x) that goes with the sampler's blocks.

        In each block k of its b places are empty, those of later blocks all are, and those of earlier ones none (the
        masks of SPG and EBPO); for one block it is the mean of `elbo`. It is the mean over orders of the path's
        log-probability given the order.
        """
        path = self.path_log_probs(tokens) + math.log(len(self.orders))
        return path.mean(-1)
