"""What a framework's formula does at the edges of a group: one rollout, constant, ragged and nearly constant groups."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maxrl_lab.audit.singleton import EXPLOSION
from maxrl_lab.llm.frameworks.formulas import Formula

ROLLOUTS = 8
"""Group size N at which constant and nearly constant groups are shown."""
RAGGED_ROLLOUTS = 4
RAGGED = ((4, 3), (3, 3, 2))
"""Rollouts that came back of 4 per prompt: a total that rows of 4 do not divide, and one that they do."""
NEAR = 1e-3
"""The reward that keeps a nearly constant group from being constant."""
_ZERO = 1e-6


def audited(formula: Formula, rewards: Tensor) -> Tensor:
    """Return the advantages of a batch (B, N) or a group (N,) of full groups, as the audit calls for them."""
    groups = rewards.reshape(-1, rewards.shape[-1])
    return torch.stack(formula(list(groups), groups.shape[1])).reshape(rewards.shape)


def single(formula: Formula) -> str:
    """Return the cell of a success and of a failure at N = 1, in a batch of these two prompts."""
    return _cell(formula, [torch.ones(1), torch.zeros(1)], 1)


def constant(formula: Formula) -> str:
    """Return the cell of a group without success and one of successes only, in a batch with a half right group."""
    half = (torch.arange(ROLLOUTS) < ROLLOUTS // 2).double()
    return _cell(formula, [torch.zeros(ROLLOUTS), torch.ones(ROLLOUTS), half], ROLLOUTS)


def nearly_constant(formula: Formula) -> str:
    """Return the largest advantages where all rewards are 0 but one of 0.001, and where one more is 1."""
    zeros = [0.0] * (ROLLOUTS - 2)
    groups = ([torch.tensor([tail, NEAR, *zeros], dtype=torch.float64)] for tail in (0.0, 1.0))
    return " / ".join(_number(max(map(_largest, formula(group, ROLLOUTS)))) for group in groups)


def ragged(formula: Formula) -> str:
    """Return what becomes of prompts that lost rollouts: `own n`, `refuses`, `mixes` or `explodes`."""
    words = [_ragged(formula, sizes) for sizes in RAGGED]
    return ", or ".join(dict.fromkeys(words))


def _ragged(formula: Formula, sizes: Sequence[int]) -> str:
    groups = [(torch.arange(size) < 1 + row % 2).double() for row, size in enumerate(sizes)]
    try:
        together = formula(groups, RAGGED_ROLLOUTS)
    except Exception:  # a framework may raise anything
        return "refuses"
    if max(map(_largest, together)) > EXPLOSION * RAGGED_ROLLOUTS:
        return "explodes"
    alone = [formula([group], len(group))[0] for group in groups]
    same = all(torch.allclose(one, other) for one, other in zip(together, alone, strict=True))
    return "own n" if same else "mixes"


def _cell(formula: Formula, groups: Sequence[Tensor], rollouts: int) -> str:
    """Return the advantages of the first rollouts of the first two groups, once if they are the same."""
    try:
        first, second = (_number(float(group[0])) for group in formula([g.double() for g in groups], rollouts)[:2])
    except Exception:  # a framework may raise anything
        return "refuses"
    return first if first == second else f"{first} / {second}"


def _number(value: float) -> str:
    return "0" if abs(value) < _ZERO else f"{value:.3g}"


def _largest(advantages: Tensor) -> float:
    return float(advantages.abs().max())
