"""Polynomials in Bernstein form: by hand, in exact fractions, and against numpy's."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl_lab import bernstein


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def test_probabilities_by_hand():
    found = bernstein.probabilities(2, double([0.25, 0.0, 1.0]))
    torch.testing.assert_close(found, double([[9 / 16, 6 / 16, 1 / 16], [1, 0, 0], [0, 0, 1]]))


def test_elevation_by_hand():
    """p is (0, 1) at degree 1, (0, 1/2, 1) at degree 2 and (0, 1/3, 2/3, 1) at degree 3."""
    torch.testing.assert_close(bernstein.elevate(double([0, 1]), 2), double([0, 1 / 2, 1]))
    torch.testing.assert_close(bernstein.elevate(double([0, 1]), 3), double([0, 1 / 3, 2 / 3, 1]))
    assert bernstein.elevate(double([5]), 3).tolist() == [5, 5, 5, 5]
    assert bernstein.elevate(double([2, 3]), 1).tolist() == [2, 3]


@settings(max_examples=40)
@given(
    values=st.lists(st.floats(-3, 3), min_size=1, max_size=6),
    more=st.integers(0, 60),
    p=st.floats(0, 1),
)
def test_an_elevated_polynomial_is_the_same_polynomial(values, more, p):
    low, high = double(values), bernstein.elevate(double(values), len(values) - 1 + more)
    assert len(high) == len(values) + more
    found, expected = (bernstein.binomial_mean(column, double(p)) for column in (high, low))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_chebyshev_polynomials_by_hand():
    """T_0 = 1, T_1 = 2p-1 = (-1, 1), T_2 = 2(2p-1)^2 - 1 = 8p^2 - 8p + 1 = (1, -3, 1)."""
    assert bernstein.from_chebyshev([1.0]).tolist() == [1]
    assert bernstein.from_chebyshev([0.0, 1.0]).tolist() == [-1, 1]
    assert bernstein.from_chebyshev([0.0, 0.0, 1.0]).tolist() == [1, -3, 1]
    assert bernstein.from_chebyshev([2.0, 3.0, 1.0]).tolist() == [2 - 3 + 1, 2 - 3, 2 + 3 + 1]


@pytest.mark.parametrize("degree", [1, 7, 20])
def test_chebyshev_series_against_fractions(degree):
    """The value at p = 2/7 in exact fractions, of both forms of one series."""
    series = [Fraction(1, k + 1) * (-1) ** k for k in range(degree + 1)]
    x = Fraction(4, 7) - 1
    terms = [Fraction(1), x]
    while len(terms) <= degree:
        terms.append(2 * x * terms[-1] - terms[-2])
    expected = float(sum(c * t for c, t in zip(series, terms, strict=False)))
    coefficients = bernstein.from_chebyshev([float(c) for c in series])
    assert len(coefficients) == degree + 1
    assert float(bernstein.binomial_mean(coefficients, double(2 / 7))) == pytest.approx(expected, rel=1e-9)
    numpys = np.polynomial.chebyshev.chebval(float(x), [float(c) for c in series])
    assert expected == pytest.approx(numpys, rel=1e-12)


@settings(max_examples=40)
@given(powers=st.lists(st.fractions(-5, 5, max_denominator=9), min_size=1, max_size=8), more=st.integers(0, 5))
def test_interpolation_in_fractions_is_exact(powers, more):
    """P given by its powers, at equal steps: the Bernstein form, evaluated in fractions, is P again."""
    steps = len(powers) + more + 1

    def polynomial(p):
        return sum((c * p**k for k, c in enumerate(powers)), Fraction(0))

    values = [polynomial(Fraction(i, steps)) for i in range(1, steps)]
    beta = bernstein.from_equal_steps(values, steps, len(powers) - 1)
    assert len(beta) == 1 + max((k for k, c in enumerate(powers) if c), default=0)
    assert len(beta) == 1 or bernstein.from_equal_steps(values, steps, len(beta) - 2) == []
    n, p = len(beta) - 1, Fraction(3, 11)
    assert sum(math.comb(n, j) * p**j * (1 - p) ** (n - j) * b for j, b in enumerate(beta)) == polynomial(p)
