"""What changes when a function gets several groups at once: are tasks kept apart, or are their successes pooled?"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from maxrl_lab import calling
from maxrl_lab.audit.traps import Trap, group, same
from maxrl_lab.calling import PRECISION
from maxrl_lab.errors import InputError
from maxrl_lab.probe import Probe, short

EVERY_COUNT = 16
"""Up to this N the shift is checked at every number of successes, beyond it at a few."""


def pooled(alone: Probe, success: Tensor, failure: Tensor) -> Iterator[Trap]:
    """Does a group's result change with the other groups of its batch, and if so, does the mean gradient?"""
    rollouts = len(success) - 1
    # The batch holds one group of each K, and a second group of successes only. Without the second one the batch would
    # be half right, and so would its group with K = N/2: pooling would leave that group's advantages as they are.
    groups = torch.stack([group(successes, rollouts) for successes in (*range(1, rollouts + 1), rollouts, 0)])
    together = _together(alone, groups)
    if together is None:
        return
    for rewards, advantages in zip(groups, together, strict=True):
        single = alone.group(rewards)
        if not same(alone, single, advantages):
            shown = f"rewards {short(rewards)} -> {short(single)} alone, but {short(advantages)} in a batch (B, N)"
            yield _shifted(shown) if _only_shifts(alone, success, failure) else _pooling(shown)
            return


def _together(alone: Probe, groups: Tensor) -> Tensor | None:
    """Return the advantages (B, N) of a batch; zeros for groups that are left out; None for one group at a time."""
    try:
        return replace(alone, batched=True).call(groups)
    except Exception:  # the function takes one group at a time: nothing to pool; or it leaves groups out
        kept = torch.tensor([not alone.leaves_out(rewards) for rewards in groups])
        if bool(kept.all()):
            return None
    try:
        left = calling.as_tensor(replace(alone, batched=True).answer(groups)).detach().double()
        together = torch.zeros_like(groups)
        together[kept] = left.reshape(int(kept.sum()), groups.shape[1])
    except Exception:  # what is left is not the groups that have an answer of their own
        return None
    return together


def _shifted(shown: str) -> Trap:
    message = (
        f"{shown} with other groups: their successes shift its advantages by the same amount whatever its own rewards "
        "are, which adds noise and leaves the mean gradient"
    )
    return Trap("pooled_groups", False, message)


def _pooling(shown: str) -> Trap:
    message = (
        f"{shown} with other groups: a group's advantages must not depend on other tasks (pooling their successes "
        "optimises log E[p], not E[log p]); if the function is only ever given one group, say batched=False "
        "(--single-group)"
    )
    return Trap("pooled_groups", True, message)


def _only_shifts(alone: Probe, success: Tensor, failure: Tensor) -> bool:
    """Return whether a(J+1) - b(J) is the same, up to one factor a batch size, whatever the other groups hold.

    The weight of a group's mean gradient is a mean of these differences over J, the successes of the N-1 others of its
    group: other groups that only shift advantages leave it as it is.
    """
    rollouts = len(success) - 1
    alone = replace(alone, precision=max(alone.precision, PRECISION[torch.float32]))  # a mean may be of float32 numbers
    counts = range(rollouts) if rollouts <= EVERY_COUNT else {0, 1, rollouts // 4, rollouts // 2, rollouts - 1}
    differences = torch.stack([success[count + 1] - failure[count] for count in counts])
    size = differences.abs().max()
    factors: dict[int, Tensor] = {}
    for others in _surroundings(rollouts):
        try:
            batch = torch.stack([_difference(alone, count, others, rollouts) for count in counts])
        except InputError:  # it raises, or leaves groups out
            return False
        factor = factors.setdefault(len(others), (batch @ differences) / (differences @ differences))
        if not bool(factor > 0) or not same(alone, batch / factor / size, differences / size):
            return False
    return True


def _surroundings(rollouts: int) -> Iterator[Tensor]:
    """Yield other groups of a batch: one, and two, that are wrong, right, or half and half."""
    kinds = [group(count, rollouts) for count in (0, max(1, rollouts // 2), rollouts)]
    for size in (1, 2):
        for others in product(kinds, repeat=size):
            yield torch.stack(others)


def _difference(alone: Probe, count: int, others: Tensor, rollouts: int) -> Tensor:
    """Return the rise of one rollout's advantage as its reward goes from 0 to 1, with J = `count` right ones beside."""
    failed, right = group(count, rollouts), group(count + 1, rollouts)
    batches = (torch.cat([rewards[None], others]) for rewards in (right, failed))
    after, before = (replace(alone, batched=True).call(batch)[0, count] for batch in batches)
    return after - before
