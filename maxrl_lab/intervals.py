"""Confidence intervals: over seeds by Student's t, of a share by Wilson's score, over problems by the bootstrap.

How often a 95% t interval covers the true mean, by a million simulated data sets each (`tests/theory/test_intervals.py`
repeats it with fewer):

| seeds | normal | exponential | lognormal | differences of two exponentials | of two lognormals |
|---|---|---|---|---|---|
| 3 | 0.950 | 0.885 | 0.838 | 0.967 | 0.974 |
| 5 | 0.950 | 0.883 | 0.821 | 0.966 | 0.975 |
| 10 | 0.950 | 0.900 | 0.839 | 0.959 | 0.968 |

It is calibrated for normal values only; skewed ones are covered too seldom, by any method that knows no more than a few
seeds. The difference of two paired runs is not skewed where both have the same distribution, and then the interval
covers at least what it says: compare methods by `paired_difference`.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np

from maxrl_lab import specs
from maxrl_lab.errors import InputError

_BOOTSTRAP_BATCH = 500


class Interval(NamedTuple):
    """A mean with the bounds of its confidence interval."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def t_interval(values: object, confidence: float = 0.95, *, single_allowed: bool = False) -> Interval:
    """Return mean and t interval over seeds (first axis of `values`), elementwise over the other axes.

    The bounds are the mean -+ t s / sqrt(n), with the standard deviation s of the n seeds (ddof 1) and the quantile t
    of n - 1 degrees of freedom. How often they cover the mean stands in the module's docstring. One seed has a mean but
    no interval: it is refused, or with `single_allowed` its two bounds are NaN, for pictures that show a mean without a
    band. Raises `InputError` for values that are not finite, naming the first.
    """
    data = _check(values, confidence, single_allowed)
    mean, seeds = data.mean(0), len(data)
    if seeds == 1:
        return _without_bounds(mean)
    from scipy import special  # only now: most commands draw no interval

    reach = special.stdtrit(seeds - 1, (1 + confidence) / 2) * data.std(0, ddof=1) / math.sqrt(seeds)
    return Interval(mean, mean - reach, mean + reach)


def paired_difference(ours: object, theirs: object, confidence: float = 0.95) -> Interval:
    """Return the mean of `ours - theirs` and its t interval, the seed (first axis) being the pair.

    Runs of one seed share what they can (base, problems, random numbers), so their difference varies less than the runs
    do. Raises `InputError` for other shapes, and where `t_interval` does.
    """
    left, right = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if left.shape != right.shape:
        raise InputError(f"expected a pair of values for each seed, got shapes {left.shape} and {right.shape}")
    return t_interval(left - right, confidence)


def wilson_interval(successes: object, trials: object, confidence: float = 0.95) -> Interval:
    """Return the share of successes and Wilson's score interval, elementwise (Wilson 1927).

    It has a width at shares of 0 and 1, where a bootstrap has none: 0 of n is at most z^2 / (n + z^2), about 3.8/n at
    95%, near the rule of three. Raises `InputError` unless 0 <= successes <= trials and trials >= 1, whole numbers.
    """
    _check_confidence(confidence)
    right, count = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    wrong = ~((right >= 0) & (right <= count) & (count >= 1) & (right == np.floor(right)) & (count == np.floor(count)))
    if wrong.any():
        first = f"{right[wrong].flat[0]:g} of {count[wrong].flat[0]:g}"
        raise InputError(f"expected whole numbers 0 <= successes <= trials with trials >= 1, got {first}")
    from scipy import special

    square = special.ndtri((1 + confidence) / 2) ** 2
    share = right / count
    centre = (share + square / (2 * count)) / (1 + square / count)
    reach = np.sqrt(square * (share * (1 - share) + square / (4 * count)) / count) / (1 + square / count)
    return Interval(share, np.clip(centre - reach, 0, share), np.clip(centre + reach, share, 1))


def bootstrap_interval(
    values: object,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
    *,
    single_allowed: bool = False,
) -> Interval:
    """Return mean and bootstrap interval over units such as problems (first axis), elementwise over the other axes.

    Percentile bootstrap of the mean, expanded for few units as in Hesterberg (2015, "What Teachers Should Know about
    the Bootstrap", sec. 4.3): the plain percentile interval of 5 normal values covers the mean in about 84% of cases
    instead of 95%, the expanded one in about 92%, with exponential values in 86%, with lognormal ones in 81%. It is for
    many units (the problems of an evaluation); a few seeds have `t_interval`. One unit has no interval, as there.
    Raises `InputError` for values that are not finite, naming the first.
    """
    data = _check(values, confidence, single_allowed)
    mean, units = data.mean(0), len(data)
    if units == 1:
        return _without_bounds(mean)
    from scipy import stats  # only now: it takes a second to import

    reach = stats.t.ppf((1 + confidence) / 2, units - 1) * math.sqrt(units / (units - 1))
    level = 1 - 2 * stats.norm.sf(reach)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # equal values have an interval of width 0
        low, high = stats.bootstrap(
            (data,),
            np.mean,
            axis=0,
            n_resamples=specs.check_count("resamples", resamples),
            batch=_BOOTSTRAP_BATCH,
            confidence_level=level,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return Interval(mean, low, high)


def _without_bounds(mean: np.ndarray) -> Interval:
    return Interval(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence}")


def _check(values: object, confidence: float, single_allowed: bool) -> np.ndarray:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim == 0 or len(data) == 0:
        raise InputError(f"expected values of at least one seed on the first axis, got shape {data.shape}")
    undefined = np.argwhere(~np.isfinite(data))
    if len(undefined):
        index = tuple(undefined[0].tolist())
        raise InputError(f"an interval needs finite values, got {data[index]} from seed {index[0]} (at index {index})")
    if len(data) == 1 and not single_allowed:
        raise InputError("an interval needs values of at least two seeds, got one: its mean has no interval")
    _check_confidence(confidence)
    return data
