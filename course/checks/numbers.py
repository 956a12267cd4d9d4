"""Exercises whose answer is a number: the first input at which it is wrong, and the mistake that gives this number."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from course.parameters import Parameters
from course.wrong import WrongAnswerError, check_parts
from maxrl_lab import bernstein, exact, objectives

Function = Callable[..., Any]
Lookup = Callable[[str], Function]
"""The student's function of a name; raises `WrongAnswerError` if there is none."""
Inputs = Sequence[tuple[Any, ...]]
Guesses = Mapping[str, Function]
"""What a mistake is called, and the function that makes it."""

_TINY = 1e-300


def close(function: Function, reference: Function, inputs: Inputs, tolerance: float, guesses: Guesses) -> None:
    """Raise `WrongAnswerError` at the first input where the function differs, relatively, by more than the tolerance.

    If a guess gives the student's values at every input, the message says which.
    """
    answers = [_numbers(function, given) for given in inputs]
    for given, answer in zip(inputs, answers, strict=True):
        wanted = np.asarray(reference(*given), dtype=np.float64)
        if not _agree(answer, wanted, tolerance):
            by = _mistake(answers, inputs, guesses)
            raise WrongAnswerError(f"at ({_shown(given)}) you return {_short(answer)}, right is {_short(wanted)}{by}")


def equal(function: Function, reference: Function, inputs: Inputs, guesses: Guesses) -> None:
    """Raise `WrongAnswerError` at the first input where the function does not return the right whole number."""
    close(function, reference, inputs, 0.0, guesses)


def _numbers(function: Function, given: tuple[Any, ...]) -> NDArray[np.float64]:
    value = function(*given)
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise WrongAnswerError(f"at ({_shown(given)}) you return {value!r:.60}; asked are numbers") from None


def _agree(answer: NDArray[np.float64], wanted: NDArray[np.float64], tolerance: float) -> bool:
    if answer.shape != wanted.shape:
        return False
    return bool((np.abs(answer - wanted) <= tolerance * np.maximum(np.abs(wanted), _TINY)).all())


def _mistake(answers: Sequence[NDArray[np.float64]], inputs: Inputs, guesses: Guesses) -> str:
    for name, guess in guesses.items():
        wanted = (np.asarray(guess(*given), dtype=np.float64) for given in inputs)
        if all(_agree(*pair, 1e-9) for pair in zip(answers, wanted, strict=True)):
            return f".\n{name}"
    return ""


def _shown(given: Iterable[Any]) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) if isinstance(v, int) else _short(v) for v in given)


def _short(values: Any) -> str:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0:
        return f"{float(array):.10g}"
    dots = ", ..." if array.size > 6 else ""
    return "[" + ", ".join(f"{value:.6g}" for value in array.flatten()[:6]) + dots + "]"


_ORDERS = (1, 2, 7, 64, 1024, 10**6)
_PASS_RATES = (1e-12, 1e-9, 1e-6, 1e-3, 0.1, 0.5, 0.9, 1.0)


def _truncated(pass_rate: float, order: int) -> float:
    return float(objectives.TruncatedLikelihood(order).weight(pass_rate))


def weight(answer: Lookup, asked: Parameters) -> None:  # noqa: ARG001
    """1.1: w_T(p) = (1 - (1-p)^T) / p, to nine digits."""
    guesses: Guesses = {
        "1 - (1-p)**T subtracts two numbers that are nearly equal where p T is small: see math.expm1 and log1p": (
            lambda p, order: (1 - (1 - p) ** order) / p
        ),
        "that is the weight of order T - 1": lambda p, order: _truncated(p, order - 1) if order > 1 else 0.0,
        "that is the weight of order T + 1": lambda p, order: _truncated(p, order + 1),
        "that is the weight of the likelihood, 1 / p, of which order T leaves out (1-p)^T": lambda p, order: 1 / p,  # noqa: ARG005
        "that is the weight of pass@T, the last term of the series alone": lambda p, order: float(
            objectives.PassAtK(order).weight(p)
        ),
        "that is w p, the gradient with respect to log p": lambda p, order: _truncated(p, order) * p,
    }
    close(answer("weight"), _truncated, [(p, order) for order in _ORDERS for p in _PASS_RATES], 1e-9, guesses)


def _least_order(pass_rate: float, error: float) -> int:
    """The least T >= 1 with (1-p)^T <= error; where T is small, decided with fractions."""
    if pass_rate == 1:
        return 1
    order = max(1, math.ceil(math.log(error) / math.log1p(-pass_rate)))
    if order < 200:
        left = 1 - Fraction(pass_rate)
        while left**order > Fraction(error):
            order += 1
        while order > 1 and left ** (order - 1) <= Fraction(error):
            order -= 1
    return order


_TERMS = [(p, error) for p in (1.0, 0.5, 0.25, 0.1, 0.01, 1e-4, 1e-9) for error in (0.5, 0.25, 0.1, 0.01, 1e-6)]


def terms(answer: Lookup, asked: Parameters) -> None:  # noqa: ARG001
    """1.2: the least order T whose gradient is within a relative error of the likelihood's."""
    guesses: Guesses = {
        "that is one term too few": lambda p, error: _least_order(p, error) - 1,
        "that is one term too many": lambda p, error: _least_order(p, error) + 1,
        "that is one term too many where (1-p)^T is the error exactly: asked is the least T with <=": (
            lambda p, error: 1 if p == 1 else math.floor(math.log(error) / math.log1p(-p)) + 1
        ),
        "log(1-p) is rounded where p is small: see math.log1p": lambda p, error: (
            1 if p == 1 else max(1, math.ceil(math.log(error) / math.log(1 - p)))
        ),
        "that is 1 / error terms, whatever p is": lambda p, error: math.ceil(1 / error),  # noqa: ARG005
    }
    equal(answer("terms"), _least_order, _TERMS, guesses)


_MIXTURE_ORDERS = (1, 2, 3, 8, 32)


def mixture(answer: Lookup, asked: Parameters) -> None:  # noqa: ARG001
    """1.3: the coefficients of pass@1 .. pass@T in the objective of order T."""
    function, p = answer("mixture"), torch.linspace(0.02, 0.97, 20, dtype=torch.float64)
    given: list[NDArray[np.float64]] = []
    for order in _MIXTURE_ORDERS:
        coefficients = _numbers(function, (order,))
        if coefficients.shape != (order,):
            raise WrongAnswerError(
                f"at T = {order} you return {_short(coefficients)}; asked are the {order} numbers c_1 .. c_T"
            )
        given.append(coefficients)
    for order, coefficients in zip(_MIXTURE_ORDERS, given, strict=True):
        weights = torch.stack([objectives.PassAtK(k).weight(p) for k in range(1, order + 1)])
        mixed, wanted = torch.from_numpy(coefficients) @ weights, objectives.TruncatedLikelihood(order).weight(p)
        off = ~torch.isclose(mixed, wanted, rtol=1e-9, atol=0)
        if bool(off.any()):
            first = int(off.nonzero()[0])
            raise WrongAnswerError(
                f"at T = {order}, p = {float(p[first]):g} your mixture has the weight {float(mixed[first]):.6g}, order "
                f"T has {float(wanted[first]):.6g}{_mixture_mistake(given)}"
            )


def _mixture_mistake(given: Sequence[NDArray[np.float64]]) -> str:
    guesses: Guesses = {
        "c_k = 1 counts every pass@k the same; the series divides the k-th term by k": lambda t: np.ones(t),
        "c_k = k multiplies where the series divides: -log p = sum (1-p)^k / k": lambda t: np.arange(1, t + 1.0),
        "c_k = 1/T is the mean of pass@1 .. pass@T; the k-th term of the series has 1/k": lambda t: np.full(t, 1 / t),
        "c_k begins at k = 1, not at 2": lambda t: 1 / np.arange(2, t + 2.0),
        "c_T = 1 alone is pass@T": lambda t: np.eye(t)[-1],
        "the signs do not alternate: that is the series of log(1 + x)": (
            lambda t: (-1.0) ** np.arange(t) / np.arange(1, t + 1.0)
        ),
    }
    return _mistake(given, [(order,) for order in _MIXTURE_ORDERS], guesses)


def table_weight(answer: Lookup, asked: Parameters) -> None:  # noqa: ARG001
    """3.1: the weight of a table at a pass rate, to nine digits up to N = 2048."""
    inputs = []
    for name, rollouts in (("rloo", 2), ("maxrl", 3), ("grpo", 8), ("maxrl_cross_fitted", 64), ("maxrl", 2048)):
        columns = [column.numpy() for column in exact.coefficients(name, rollouts=rollouts)]
        inputs += [(*columns, p) for p in (1e-6, 0.01, 0.3, 0.9)]
    close(answer("table_weight"), _table_weight, inputs, 1e-9, _TABLE_MISTAKES)


def _table_weight(success: Any, failure: Any, pass_rate: float, shift: int = 1) -> float:
    """E[a(J+1) - b(J)], J ~ Binomial(N-1, p); with shift 0, E[a(J) - b(J)]."""
    a, b = torch.from_numpy(success), torch.from_numpy(failure)
    flips = a[1:] - b[:-1] if shift else (a - b)[:-1]
    return _mean(flips, pass_rate)


def _mean(values: Tensor, pass_rate: float) -> float:
    """E[values[J]], J binomial."""
    return float(bernstein.binomial_mean(values, torch.tensor(pass_rate, dtype=torch.float64)))


_TABLE_MISTAKES: Guesses = {
    "that is E[a(K) - b(K)] over K ~ Binomial(N, p); a flip compares a(J+1) with b(J), J of the OTHER N-1": (
        lambda a, b, p: _mean(torch.from_numpy(a - b), p)
    ),
    "that is E[a(J) - b(J)]: after the flip J + 1 rollouts are right": lambda a, b, p: _table_weight(a, b, p, 0),
    "that is E[a(J+1)]: the failures' b(J) is missing": lambda a, b, p: _table_weight(a, 0 * b, p),
    "p is the chance of a success, not of a failure": lambda a, b, p: _table_weight(a, b, 1 - p),
    "the mean of the flips is taken without the chances of J": lambda a, b, p: float((a[1:] - b[:-1]).mean()),  # noqa: ARG005
}


def chances(answer: Lookup, asked: Parameters) -> None:  # noqa: ARG001
    """4.2: three closed forms about groups without success."""
    check_parts({"blind": _blind, "rollouts_needed": _rollouts_needed, "first_success": _first_success}, answer)


def _blind(function: Function) -> None:
    inputs = [(p, n) for p in (0.0, 1e-9, 0.01, 0.5, 1.0) for n in (1, 2, 8, 1024)]
    guesses: Guesses = {
        "that is the chance of at least one success": lambda p, n: 1 - (1 - p) ** n,
        "that is the chance of successes only": lambda p, n: p**n,
        "that is one rollout too few": lambda p, n: (1 - p) ** (n - 1),
        "that counts the groups without a failure as well": lambda p, n: (1 - p) ** n + p**n,
    }
    close(function, lambda p, n: (1 - p) ** n, inputs, 1e-9, guesses)


def _rollouts_needed(function: Function) -> None:
    inputs = [(p, chance) for p in (1.0, 0.5, 0.1, 0.01, 1e-6) for chance in (0.5, 0.75, 0.9, 0.99)]
    guesses: Guesses = {
        "that is the mean number of rollouts, 1/p": lambda p, chance: math.ceil(1 / p),  # noqa: ARG005
        "that is enough for a chance of 1 - `chance`, not of `chance`": lambda p, chance: _least_order(p, chance),
        "that is one rollout too few": lambda p, chance: _least_order(p, 1 - chance) - 1,
        "that is chance / p, as if successes could not come together": lambda p, chance: math.ceil(chance / p),
    }
    equal(function, lambda p, chance: _least_order(p, 1 - chance), inputs, guesses)


def _first_success(function: Function) -> None:
    guesses: Guesses = {
        "that is the mean number of failures before it": lambda p: (1 - p) / p,
        "that is the median": lambda p: float(_least_order(p, 0.5)),
    }
    close(function, lambda p: 1 / p, [(p,) for p in (1.0, 0.5, 0.1, 1e-3, 1e-9)], 1e-9, guesses)
