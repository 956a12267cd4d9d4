"""The tables that the official code of MaxRL has beside its `maxrl`, in the lab's own words.

`columns(n, K)` returns the advantages of a success and of a failure where K of n rollouts are right and F are wrong.
The official code divides most of these tables by n, but not its `maxrl`: a learning rate fits one or the other.
"""

from collections.abc import Sequence
from math import comb, nan, prod

from torch import Tensor

from maxrl_lab.llm.frameworks.formulas import Rule, by_prompt, centred, divided, from_counts, standardised

_GUARD, _FLOOR = 1e-6, 1 / 8


def misc(rule: Rule) -> Rule:
    """Return the rule of an `advantage_type`, which sees whether a reward is above 0.5."""
    return lambda rewards: rule((rewards > 0.5).to(rewards.dtype))


def over_deviation_and_mean(rewards: Tensor) -> Tensor:
    """Return (r - mean) / deviation / mean."""
    return standardised(0, _GUARD)(rewards) / (rewards.mean() + _GUARD)


def conditional_expectation(rewards: Tensor) -> Tensor:
    """Return r / mean."""
    return rewards / (rewards.mean() + _GUARD)


def maclaurin(order: int) -> Rule:
    """Return 1 for a success, minus sum_{k=2..order} C(F-1,k-1)/C(n-1,k-1) for a failure, all over n."""

    def columns(count: int, successes: int) -> tuple[float, float]:
        failures = count - successes
        terms = (comb(failures - 1, k - 1) / comb(count - 1, k - 1) for k in _orders(order, failures))
        return 1 / count, -sum(terms) / count

    return from_counts(columns)


def maclaurin_baseline(order: int) -> Rule:
    """Return `maclaurin` minus, for every k-tuple, the share of wrong ones among the n-over-k minus 1 other tuples.

    The other tuples share rollouts with the tuple itself. The term k = n, of a single tuple, has no baseline.
    """

    def columns(count: int, successes: int) -> tuple[float, float]:
        failures, success, failure = count - successes, 1 / count, 0.0
        for k in _orders(min(order, count - 1), failures):
            share = comb(failures, k) / (comb(count, k) - 1)
            success, failure = success + share / count, failure + share * (1 / count - 1 / failures)
        return success, failure - (1 / count if order >= count > 1 and failures == count else 0.0)

    return from_counts(columns)


def cross_fitted_maclaurin(order: int) -> Rule:
    """Return `maclaurin` minus, for every k-tuple, the share of wrong ones among the k-tuples without its rollouts.

    Terms with 2k > n have no such tuples, and no baseline.
    """

    def columns(count: int, successes: int) -> tuple[float, float]:
        failures, success, failure = count - successes, 1 / count, 0.0
        for k in range(2, min(order, count) + 1):
            tuples = k * comb(count, k)
            failure -= _ways((failures - 1, k - 1)) / tuples
            if count >= 2 * k:
                tuples *= comb(count - k, k)
                for t in range(k):  # wrong rollouts among the k - 1 others of the tuple
                    failure += _ways((failures - 1, t), (successes, k - 1 - t), (failures - 1 - t, k)) / tuples
                    success += _ways((failures, t), (successes - 1, k - 1 - t), (failures - t, k)) / tuples
        return success, failure

    return from_counts(columns)


def oversample_subset(order: int) -> Rule:
    """Return MaxRL's mean over all subsets of `order` rollouts, 1/K' for a success in a subset with K', minus 1/n."""

    def columns(count: int, successes: int) -> tuple[float, float]:
        failures = count - successes
        subsets = comb(count, order)
        if not subsets:
            raise ValueError(f"subsets of {order} of {count} rollouts")
        terms = (_ways((successes - 1, k - 1), (failures, order - k)) / k for k in range(1, order + 1))
        return sum(terms) / subsets - 1 / count, -1 / count

    return from_counts(columns)


def vr_cond(count: int, successes: int) -> tuple[float, float]:
    """Return n/K - 1 for a success and -1 for a failure, over n, also in a group without success."""
    return (1 / successes - 1 / count if successes else 0.0), -1 / count


def pkpo(k: int) -> Rule:
    """Return a(K) = C(F,k-1)/C(n-1,k-1) for a success, 0 for a failure, minus the mean of these over the others."""

    def columns(count: int, successes: int) -> tuple[float, float]:
        if count < k:
            return nan, nan
        success = _ways((count - successes, k - 1)) / comb(count - 1, k - 1)
        if count == 1:
            return success, 0.0
        return success * (count - successes) / (count - 1), -success * successes / (count - 1)

    return from_counts(columns)


def clipped_pnorm(groups: Sequence[Tensor], rollouts: int) -> list[Tensor]:
    """Return the formula (r - mean) / max(mean, 1/8), over the size of the first group; r / (1/8) for one rollout."""
    advantages = by_prompt(_over_clipped_mean, divided(_FLOOR))(groups, rollouts)
    return [group / len(groups[0]) for group in advantages]


def _over_clipped_mean(rewards: Tensor) -> Tensor:
    return centred(rewards) / rewards.mean().clamp(min=_FLOOR)


def _orders(order: int, failures: int) -> range:
    return range(2, min(order, failures) + 1)


def _ways(*pairs: tuple[int, int]) -> int:
    """Return the product of binomial coefficients, 0 where one of them has a negative argument."""
    return prod(comb(size, k) if size >= 0 and k >= 0 else 0 for size, k in pairs)
