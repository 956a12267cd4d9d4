"""Tables whose advantages sum to zero in every group: for each weight there is at most one.

Let w_N(p) = sum_J Bin(J; N-1, p) beta_J, with the Bernstein coefficients beta_J = a(J+1) - b(J). Zero sum means that
K a(K) + (N-K) b(K) = 0, hence

    a(J+1) = beta_J - J / (N-J) a(J)   for J < N,      a(N) = 0,      b(K) = -K / (N-K) a(K).

So beta_0 decides a(1), and so on to a(N), which has to be 0: that holds if and only if
sum_J (-1)^J C(N-1, J) beta_J = 0, that is, if and only if w_N is of degree N-2 or less. RLOO is the zero-sum table of
order 1 and Algorithm 1 of MaxRL that of order N-1; `likelihood.maxrl_centred` has all orders between them.  [lab]
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeVar

from maxrl_lab.errors import InputError

Number = TypeVar("Number", float, Fraction)


def zero_sum(bernstein: Sequence[Number]) -> tuple[list[Number], list[Number], Number]:
    """Return (a, b, gap): the zero-sum table of the weight with the N Bernstein coefficients `bernstein`, N >= 2.

    a and b have N+1 entries, for K = 0..N, with 0 where no group comes: a(0) and b(N). The numbers may be floats or,
    for exact results, fractions. The recursion runs upwards from a(1) and downwards from a(N) = 0 and meets in the
    middle: both ways no step enlarges the error before it, so a table of floats is right to rounding at any N.

    `gap` is what the table's middle coefficient, at J = (N-1) // 2, has too much. It is 0 if the weight is of degree
    N-2 or less. A weight of degree N-1 has no zero-sum table; then the mean of the returned one is
    w(p) + gap C(N-1, J) p^J (1-p)^(N-1-J), and C(N-1, J) |gap| = |sum_J (-1)^J C(N-1, J) beta_J|: the mean is wrong by
    about 2^(1-N) times this sum at most. Raises `InputError` for N = 1.
    """
    rollouts = len(bernstein)
    if rollouts < 2:
        raise InputError(f"a zero-sum table needs at least 2 rollouts in a group, got N = {rollouts}")
    zero = bernstein[0] * 0
    success = [zero] * (rollouts + 1)
    middle = (rollouts + 1) // 2
    for others in range(middle - 1):
        success[others + 1] = bernstein[others] - others * success[others] / (rollouts - others)
    for successes in range(rollouts - 1, middle - 1, -1):
        success[successes] = (bernstein[successes] - success[successes + 1]) * (rollouts - successes) / successes
    failure = [-k * success[k] / (rollouts - k) for k in range(rollouts)] + [zero]
    gap = success[middle] - failure[middle - 1] - bernstein[middle - 1]
    return success, failure, gap
