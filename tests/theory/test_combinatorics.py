"""The binomial ratio C(n-K, T) / C(n, T) against exact fractions and 50-digit arithmetic."""

import math
from fractions import Fraction

import mpmath
import pytest
import torch

from maxrl_lab.combinatorics import log_miss_probability


@pytest.mark.parametrize("samples", range(9))
def test_every_small_ratio_against_exact_fractions(samples):
    for draws in range(samples + 1):
        # math.comb(m, draws) is 0 for m < draws, where the logarithm must be -inf
        exact = [
            float(Fraction(math.comb(samples - successes, draws), math.comb(samples, draws)))
            for successes in range(samples + 1)
        ]
        found = log_miss_probability(samples, draws)
        assert found[0] == 0
        assert found.isneginf().tolist() == [ratio == 0 for ratio in exact]
        torch.testing.assert_close(found.exp(), torch.tensor(exact, dtype=torch.float64), rtol=1e-14, atol=0)


def test_a_hand_worked_row():
    # 2 draws of 4 rollouts miss all of K successes: C(4,2)/6 = 1, C(3,2)/6 = 1/2, C(2,2)/6 = 1/6, then impossible
    found = log_miss_probability(4, 2)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.exp(), torch.tensor([1, 1 / 2, 1 / 6, 0, 0], dtype=torch.float64))


def log_choose(n, k):
    return mpmath.loggamma(n + 1) - mpmath.loggamma(k + 1) - mpmath.loggamma(n - k + 1)


@pytest.mark.parametrize(("samples", "draws"), [(100_000, 1), (100_000, 1_000), (4_096, 4_000)])
def test_large_ratios_against_fifty_digits(samples, draws):
    found = log_miss_probability(samples, draws)
    assert found.shape == (samples + 1,)
    assert found[samples - draws].isfinite()
    assert found[samples - draws + 1 :].isneginf().all()
    with mpmath.workdps(50):
        for successes in (1, 2, 17, (samples - draws) // 2, samples - draws):
            exact = log_choose(samples - successes, draws) - log_choose(samples, draws)
            assert float(found[successes]) == pytest.approx(float(exact), rel=1e-12)
