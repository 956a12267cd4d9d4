"""Does a function that is told groups by ids, or rollouts that do not count by a mask, do what it is told?"""

from collections.abc import Iterator

import torch
from torch import Tensor

from maxrl_lab import calling
from maxrl_lab.audit import roles
from maxrl_lab.audit.roles import Rollouts
from maxrl_lab.audit.signature import Call
from maxrl_lab.audit.traps import Trap, group, same
from maxrl_lab.probe import Probe, short

_SPARSE = torch.tensor([7, -3])
"""Ids of two groups that counting from 0 does not reach."""


def columns(alone: Probe, rollouts: int) -> Iterator[Trap]:
    """Yield what goes wrong with the ids and the mask of a function that takes them; its groups are not pooled."""
    if not isinstance(alone.function, Call) or rollouts < 2:
        return
    names = set(alone.function.names)
    if names & set(roles.GROUPS):
        yield from _ids(alone, rollouts, by_size=bool(names & set(roles.SIZES)))
    if names & {*roles.MASKS, *roles.TOKEN_MASKS}:
        yield from _masks(alone, rollouts)


def _ids(alone: Probe, rollouts: int, *, by_size: bool) -> Iterator[Trap]:
    rewards = torch.cat([group(1, rollouts), group(rollouts - 1, rollouts)])
    groups = torch.arange(2).repeat_interleave(rollouts)
    expected = torch.cat([alone.group(rows) for rows in rewards.split(rollouts)])
    order = torch.arange(2 * rollouts).reshape(2, rollouts).T.flatten()  # one row of the first group, one of the second
    shuffled = _asked(alone, rewards[order], groups[order], rollouts)
    if not _is(alone, shuffled, expected[order]):
        message = f"rows of two groups in turn get {_shown(shuffled)}, but {short(expected[order])} group by group"
        yield Trap(
            "ids_ignored", False, f"{message}: the groups are taken from the rows' positions, not from their ids"
        )
        return
    sparse = _asked(alone, rewards, _SPARSE[groups], rollouts)
    if not _is(alone, sparse, expected):
        message = f"with the ids 7 and -3 in place of 0 and 1 it gives {_shown(sparse)} instead of {short(expected)}"
        yield Trap("sparse_ids", False, f"{message}: number the groups from 0")
    if rollouts > 2 and not by_size:
        yield from _unequal(alone, rewards, groups, rollouts)


def _unequal(alone: Probe, rewards: Tensor, groups: Tensor, rollouts: int) -> Iterator[Trap]:
    """Is a group what it is alone beside one that has lost a rollout?"""
    lost = _asked(alone, rewards[:-1], groups[:-1], rollouts)
    expected = torch.cat([alone.group(rewards[:rollouts]), alone.group(rewards[rollouts:-1])])
    if not _is(alone, lost, expected):
        message = f"groups of {rollouts} and {rollouts - 1} rollouts get {_shown(lost)}, but {short(expected)} alone"
        yield Trap("unequal_groups", False, f"{message}: a lost or truncated rollout changes every group of the batch")


def _masks(alone: Probe, rollouts: int) -> Iterator[Trap]:
    """Does a rollout that its mask leaves out still count, and what happens where the mask leaves nobody?"""
    rewards = torch.cat([group(1, rollouts - 1), torch.ones(1, dtype=torch.float64)])
    kept = torch.ones(rollouts, dtype=torch.float64)
    kept[-1] = 0.0
    one_group = torch.zeros(rollouts, dtype=torch.int64)
    masked, without = _asked(alone, rewards, one_group, rollouts, kept), alone.group(rewards[:-1])
    if isinstance(masked, str) or not _is(alone, masked[:-1], without):
        message = f"rewards {short(rewards)} with a mask that leaves out the last get {_shown(masked)}, but without it"
        yield Trap("masked_rows_count", False, f"{message} {short(without)}: it still counts in K and N")
    elif not _is(alone, masked[-1:], torch.zeros(1, dtype=torch.float64)):
        message = f"a rollout that the mask leaves out does not count, and still gets an advantage of {masked[-1]:.4g}"
        yield Trap("masked_rows_count", False, message)
    nobody = _asked(alone, rewards, one_group, rollouts, torch.zeros(rollouts, dtype=torch.float64))
    if isinstance(nobody, str) or not bool(nobody.isfinite().all()):
        yield Trap("empty_mask", False, f"a group of which the mask leaves nobody gets {_shown(nobody)}")


def _asked(alone: Probe, rewards: Tensor, groups: Tensor, rollouts: int, kept: Tensor | None = None) -> Tensor | str:
    """Return the advantages of the rows, float64, or the error of a function that does not take them."""
    everyone = torch.ones_like(rewards)
    given = Rollouts(rewards, groups, everyone if kept is None else kept, rollouts)
    try:
        answer = alone.function.ask(given, alone.container)  # type: ignore[attr-defined]
        return torch.zeros_like(rewards) if answer is None else _double(answer, rewards)
    except Exception as error:  # a foreign function may raise anything
        return f"{type(error).__name__}: {error}"


def _double(answer: object, rewards: Tensor) -> Tensor:
    advantages = calling.as_tensor(answer).detach().to("cpu", torch.float64)
    return calling.shaped(advantages, rewards) if advantages.numel() else torch.zeros_like(rewards)


def _is(alone: Probe, answer: Tensor | str, expected: Tensor) -> bool:
    return not isinstance(answer, str) and same(alone, answer, expected)


def _shown(answer: Tensor | str) -> str:
    return f"an error ({answer})" if isinstance(answer, str) else short(answer)
