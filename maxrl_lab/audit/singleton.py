"""What an advantage function makes of a group of one rollout, where conventions differ."""

from typing import NamedTuple

import torch

from maxrl_lab.audit.identify import TOLERANCE
from maxrl_lab.probe import Probe

EXPLOSION = 10.0
"""An advantage beyond this at N = 1 is called an explosion, and one beyond this many times N in larger groups."""


class Singleton(NamedTuple):
    """The advantages of a success and of a failure alone in their group."""

    convention: str
    """`reward` (1 and 0), `nothing` (0 and 0), `explodes`, `refuses`, or `other`."""
    success: float
    failure: float
    reason: str = ""
    """Why the function refuses a group of one."""

    def __str__(self) -> str:
        shown = f"a success gets {self.success:.4g} and a failure {self.failure:.4g}"
        return {
            "reward": "the reward itself is the advantage, 1 or 0 (REINFORCE)",
            "nothing": "nothing is learnt: both advantages are 0",
            "refuses": f"the function raises: {self.reason}",
            "explodes": f"{shown} (a denominator of 0 or epsilon?)",
            "other": shown,
        }[self.convention]


def singleton(probed: Probe) -> Singleton:
    """Return what the function answers to one success, and to one failure, at N = 1."""
    try:
        success, failure = (float(probed.group(torch.tensor([reward], dtype=torch.float64))) for reward in (1.0, 0.0))
    except Exception as error:  # refusing N = 1 is one of the answers
        return Singleton("refuses", float("nan"), float("nan"), _first_line(error.__cause__ or error))
    return Singleton(_convention(success, failure, probed.precision), success, failure)


def _convention(success: float, failure: float, precision: float) -> str:
    if abs(success) <= precision and abs(failure) <= precision:
        return "nothing"
    if abs(success - 1) <= max(TOLERANCE, precision) and abs(failure) <= precision:
        return "reward"
    return "other" if abs(success) <= EXPLOSION and abs(failure) <= EXPLOSION else "explodes"  # as NaN does


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
