"""Where the moves of tabular tasks lead, with which chances, as every dynamic programme needs it: stop states stay."""

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.tabular.tables import Tables

MOST_NUMBERS = 2**27
"""A dense table of so many transition probabilities, 1 GiB, is the largest that is made."""


def successors(tables: Tables) -> Tensor:
    """Return where the moves lead, (B, S, A, C), as numbers of states 0..S-1 within each task."""
    tasks, states, _ = tables.shape
    return tables.next_states - torch.arange(tasks, device=tables.device).view(-1, 1, 1, 1) * states


def true_chances(tables: Tables) -> Tensor:
    """Return the tasks' own chances (B, S, A, C), float64; an absorbing state has the first column alone."""
    shape = tables.next_states.shape
    if tables.probabilities is None:
        return torch.ones(shape, dtype=torch.float64, device=tables.device)
    staying = torch.zeros(shape, dtype=torch.float64, device=tables.device)
    staying[..., 0] = 1.0
    return torch.where(tables.active[..., None, None], tables.probabilities.double(), staying)


def dense_transitions(tables: Tables) -> Tensor:
    """Return P(s'|s,a) as (B, S, A, S) float64, absorbing states leading to themselves.

    Raises `InputError` for a world with more than `MOST_NUMBERS` of them.
    """
    tasks, states, actions = tables.shape
    numbers = tasks * states * actions * states
    if numbers > MOST_NUMBERS:
        raise InputError(
            f"a world for exact soft control may have at most {MOST_NUMBERS} transition probabilities, got {numbers} "
            f"({tasks} tasks x {states} states x {actions} actions x {states} states)"
        )
    dense = torch.zeros(tasks, states, actions, states, dtype=torch.float64, device=tables.device)
    return dense.scatter_add(-1, successors(tables), true_chances(tables))
