"""What stands for an answer's log-likelihood in practice: the ELBO, the mean field, and anchors between the two.

All are sums of log pi(x_i | x_A), of a digit where only the places in A are visible, with coefficients c(A, i) that do
not depend on the policy; the coefficients of a place sum to 1. With the order of filling uniform and independent of
the answer:

    mean field    everything given the prompt alone                      d1 (Zhao et al. 2025, arXiv:2504.12216)
    two times     before a random step as above, from there on given the partial answer at that step
                                                                         DiFFPO (arXiv:2510.02212), a reconstruction
    m anchors     step 0 and m-1 different random steps; a digit is given the last anchor before it  [lab]
    ELBO          m = L anchors: E over orders of sum_t log pi(x_t | x_<t) <= log p(x)

`maxrl_lab.denoising.moments` has the same with the rollout's own order. Axes as in `maxrl_lab.denoising.lattice`.
"""

from math import comb

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.denoising.lattice import Lattice, subsets
from maxrl_lab.denoising.samplers import check_divides
from maxrl_lab.errors import InputError


def elbo(lattice: Lattice, table: Tensor, block: int | None = None) -> Tensor:
    """Return every answer's evidence lower bound in nats, (B, X), exactly: by the 2^L masks, differentiable.

    With k uniform on 1..L and a uniform mask M of k places, E[(L/k) sum_{i in M} log pi(x_i | x_{not M})] (Eq. 3 of
    Nie et al. 2025, arXiv:2502.09992), which is the mean over orders of the path's log-probability: a bound for the
    sampler `Uniform`. With blocks of b places, the sum over blocks of the same, given the blocks before and nothing of
    those after: a bound for `Blocks(b)`, equal to log p(x) at b = 1. `InputError` if b does not divide L.
    """
    return combine(lattice, table, elbo_coefficients(lattice.length, block))


def mean_field(lattice: Lattice, table: Tensor) -> Tensor:
    """Return the sum of every digit's log-probability given the prompt alone, (B, X), in nats: one evaluation."""
    return combine(lattice, table, anchor_coefficients(lattice.length, 1))


def two_times(lattice: Lattice, table: Tensor) -> Tensor:
    """Return the mean over orders and steps of the two-times mean field, (B, X), in nats.

    The step is uniform on 0..L-1. At step 0 it is the mean field; the coefficient of a digit given nothing is therefore
    1/L + (L-1)/(2L). This is a reconstruction of DiFFPO's surrogate.
    """
    length = lattice.length
    at_start, later = anchor_coefficients(length, 1), anchor_coefficients(length, min(2, length))
    return combine(lattice, table, at_start / length + later * (1 - 1 / length))


def anchored(lattice: Lattice, table: Tensor, anchors: int) -> Tensor:
    """Return the mean of the surrogate with m anchors, (B, X), in nats: the mean field at m = 1, the ELBO at m = L."""
    return combine(lattice, table, anchor_coefficients(lattice.length, anchors))


def combine(lattice: Lattice, table: Tensor, coefficients: Tensor) -> Tensor:
    """Return sum over A, i of c(A, i) log pi(x_i | x_A) for every answer, (B, X); coefficients (2^L, L)."""
    used = (coefficients != 0).any(1)
    rows = lattice.hidden[:, used, None]
    tokens: Tensor = table[:, rows, torch.arange(lattice.length), lattice.answers[:, None]]
    values: Tensor = (tokens * coefficients[used].to(table)).sum((-2, -1))
    return values


def elbo_coefficients(length: int, block: int | None = None) -> Tensor:
    """Return c(A, i) of the ELBO, (2^L, L) float64: 1 / (C(b, a) (b - a)) where a places of i's block are visible."""
    size = length if block is None else specs.check_count("block", block)
    check_divides(size, length)
    visible = subsets(length).unflatten(1, (-1, size))  # (2^L, blocks, size)
    counts = visible.sum(-1)
    blocks = torch.arange(visible.shape[1])
    clean_before = torch.stack([(counts[:, :index] == size).all(1) for index in blocks], 1)
    empty_after = torch.stack([(counts[:, index + 1 :] == 0).all(1) for index in blocks], 1)
    values = torch.tensor([1 / (comb(size, a) * (size - a)) for a in range(size)] + [0.0], dtype=torch.float64)
    weights = torch.where(clean_before & empty_after, values[counts], 0.0)
    coefficients: Tensor = (weights[..., None] * ~visible).flatten(1)
    return coefficients


def anchor_coefficients(length: int, anchors: int) -> Tensor:
    """Return c(A, i) of m anchors, (2^L, L) float64: the chance q_a that a digit's last anchor is step a, / C(L-1, a).

    `InputError` unless m lies in 1..L.
    """
    if specs.check_count("anchors", anchors) > length:
        raise InputError(f"anchors must be at most the length {length}, got {anchors}")
    last = torch.tensor([_last_anchor(length, anchors, step) for step in range(length)], dtype=torch.float64)
    values = last / torch.tensor([comb(length - 1, step) for step in range(length)], dtype=torch.float64)
    visible = subsets(length)
    return torch.where(visible, 0.0, torch.cat([values, values.new_zeros(1)])[visible.sum(1), None])


def _last_anchor(length: int, anchors: int, step: int) -> float:
    """Return the chance that `step` is the last anchor at or before a digit that is written at a uniform step."""
    draws = comb(length - 1, anchors - 1)
    if step == 0:
        ways = [comb(length - 1 - time, anchors - 1) for time in range(length)]
    else:
        ways = [comb(length - 2 - (time - step), anchors - 2) if anchors > 1 else 0 for time in range(step, length)]
    return sum(ways) / draws / length
