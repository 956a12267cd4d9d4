"""Does a function answer the same when it is asked the same: twice, or with its rollouts in another order?

Randomness, memory and dependence on the order all leave a function without a table of coefficients.
"""

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.audit.traps import Trap, group, same
from maxrl_lab.probe import NotEquivariantError, Probe, RaisedError, read_coefficients, short

NOISE = 1e-5
"""Differences up to this share of the largest advantage are noise on top of a table."""
MARGIN = 10.0
"""The table is read to this many times the largest difference that was seen, which is still below the tolerance."""
TRIED = 4
"""How often each question is asked."""
ASKED = 10
"""How often the question is asked whose answers differ most."""
Table = tuple[Tensor, Tensor]
"""a(K) and b(K), each (N+1,)."""


class Settled(NamedTuple):
    """What repeated questions have shown."""

    probe: Probe
    """The probe, with the precision that its noise leaves."""
    table: Table | None
    """The coefficients; None if the function has none."""
    traps: tuple[Trap, ...]


def settled(probe: Probe, rollouts: int) -> Settled:
    """Return the coefficients of a function that answers the same when it is asked the same, or why there are none.

    The question is a group of rights and wrongs, all wrong, or all right: noise on the rewards shows most where a
    division by their deviation blows it up.
    """
    questions = [group(count, rollouts) for count in (max(1, rollouts // 2), 0, rollouts)]
    try:
        asked = [torch.stack([probe.group(rewards) for _ in range(TRIED)]) for rewards in questions]
        if all(same(probe, answers[0], answer) for answers in asked for answer in answers[1:]):
            return _read(probe, rollouts)
        worst = max(range(len(questions)), key=lambda index: _spread(asked[index]))
        answers = [*asked[worst], *(probe.group(questions[worst]) for _ in range(ASKED - TRIED))]
    except RaisedError as error:
        return Settled(probe, None, (Trap("raises", True, str(error)),))
    return _unsettled(probe, torch.stack(answers), questions[worst], rollouts)


def _spread(answers: Tensor) -> float:
    return float((answers - answers[0]).abs().nan_to_num(nan=torch.inf).max())


def _unsettled(probe: Probe, answers: Tensor, rewards: Tensor, rollouts: int) -> Settled:
    """Return the same for a function whose answers to one question differ."""
    spread = _spread(answers)
    shown = f"{ASKED} calls with rewards {short(rewards)} gave"
    if _drifts(answers):
        message = (
            f"{shown} advantages that drift, from {short(answers[0])} to {short(answers[-1])}: the function keeps "
            "something between calls, such as a running baseline. Audit it at a frozen state: set what it keeps to a "
            "constant, or hand over a function that makes a new one for each call"
        )
        return Settled(probe, None, (Trap("remembers", True, message),))
    size = float(answers.abs().max().clamp(min=1.0))
    if spread <= NOISE * size:
        quiet = _read(replace(probe, precision=max(probe.precision, MARGIN * spread / size)), rollouts)
        trap = Trap("noise", False, f"{shown} advantages that differ by up to {spread:.1e}: the table is read to that")
        return quiet._replace(traps=(trap, *quiet.traps))
    message = f"{shown} different advantages, by up to {spread:.2g}; seed it in each call"
    return Settled(probe, None, (Trap("random", True, message),))


def _drifts(answers: Tensor) -> bool:
    """Return whether answers move ever less, or ever by as much in one direction, as those of a memory do.

    Ten answers of a random function have ever smaller steps in one case of 9! = 362,880.
    """
    steps = answers.diff(dim=0)
    sizes = [float(step.abs().max()) for step in steps]
    if sizes[0] == 0 and max(sizes) > 0:
        return False
    one_way = all(bool((one * other >= 0).all()) for one, other in pairwise(steps))
    return all(one >= other for one, other in pairwise(sizes)) or (one_way and sizes[0] > 0)


def _read(probe: Probe, rollouts: int) -> Settled:
    try:
        return Settled(probe, read_coefficients(probe, rollouts), ())
    except NotEquivariantError as error:
        trap = Trap("order_dependent", True, str(error))
    except RaisedError as error:
        trap = Trap("raises", True, str(error))
    return Settled(probe, None, (trap,))
