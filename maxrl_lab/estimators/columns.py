"""What every formula of an estimator returns, and what it needs of a group."""

from torch import Tensor

from maxrl_lab.errors import InputError

Columns = tuple[Tensor | float, Tensor | float]
"""a(K) and b(K): broadcastable to the shape of K. Entries that no group can reach, a(0) and b(N), are ignored."""


class GroupTooSmallError(InputError):
    """The group has too few rollouts for the estimator."""


def need_rollouts(what: str, rollouts: int, minimum: int) -> None:
    """Raise `GroupTooSmallError` for a group that is too small for `what`."""
    if rollouts < minimum:
        raise GroupTooSmallError(f"{what} needs at least {minimum} rollouts in a group, got N = {rollouts}")
