"""Families with a parameter, whose limit for large N is an objective in closed form: plug the group's mean into w(p).

Such a table is (r - mean(r)) w(mean(r)), or r w(mean(r)): exact for no finite N, and for N -> infinity unbiased for the
objective with the weight w. What it is at a finite N, `exact.weight` says.
"""

import math
from typing import Annotated

import torch
from torch import Tensor

from maxrl_lab.estimators.columns import Columns
from maxrl_lab.settings import Finite, Interval


def power(successes: Tensor, rollouts: int, *, s: Finite, t: Finite) -> Columns:
    """A_i = (r_i - q) / (q^s (1-q)^t) with q = mean(r), 0 in a group without spread. Tends to `objectives.Power`.

    (0, 0) is mean-centred, (1/2, 1/2) GRPO, (1, 0) Algorithm 1 of MaxRL, and (3/2, 1/2), the advantage of Algorithm 1
    divided by the standard deviation, is `misc:maxrl` of the official code (tajwarfahim/maxrl). BNPO (arXiv:2506.02864)
    divides by q^s (1-q)^t with exponents that follow a Beta distribution of the pass rates; the table holds for the
    exponents of one update.
    """
    mean = successes / rollouts
    mixed = (successes > 0) & (successes < rollouts)
    scale = torch.where(mixed, mean**-s * (1 - mean) ** -t, 0.0)
    return (1 - mean) * scale, -mean * scale


def tsallis(successes: Tensor, rollouts: int, *, q: Annotated[float, Interval(closed_low=True)]) -> Columns:
    """a = mean(r)^-q, b = 0: the successes alone. Tends to `objectives.Tsallis`: p^(1-q) / (1-q), log p at q = 1.

    q = 0 is REINFORCE and q = 1 the average score of the successes (Eq. 9), which is of order N exactly.
    Source: arXiv:2604.25907.
    """
    return torch.where(successes > 0, (successes / rollouts) ** -q, 0.0), 0.0


def rs_grpo(successes: Tensor, rollouts: int, *, beta: Annotated[float, Interval(0, 700)]) -> Columns:
    """A_i = (exp(beta r_i) / mean(exp(beta r)) - 1) / beta. Tends to `objectives.Tilted`: log E exp(beta r) / beta.

    It is a bridge: beta -> 0 is mean-centred, and beta times it tends to Algorithm 1 of MaxRL as beta grows, both at
    every N. Its advantages sum to zero. Source: RS-GRPO, arXiv:2509.24261.
    """
    mean = successes / rollouts
    growth = math.expm1(beta)
    scale = growth / beta / (1 + mean * growth)
    return (1 - mean) * scale, -mean * scale
