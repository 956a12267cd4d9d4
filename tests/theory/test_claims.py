"""Verdicts against a table of intervals worked by hand, and what a claim refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest

from maxrl_lab import claims, intervals
from maxrl_lab.claims import Claim

CLAIM = Claim("rises", "Fig. 3", "It rises.", estimate=0.5, low=0.2, high=0.8, seeds=5)


@pytest.mark.parametrize(
    ("low", "high", "boundary", "direction", "verdict"),
    [
        (0.2, 0.8, 0.1, "above", "holds"),
        (0.2, 0.8, 0.2, "above", "undecided"),  # the interval reaches the boundary
        (0.2, 0.8, 0.5, "above", "undecided"),
        (0.2, 0.8, 0.8, "above", "undecided"),
        (0.2, 0.8, 0.9, "above", "fails"),
        (0.2, 0.8, 0.9, "below", "holds"),
        (0.2, 0.8, 0.5, "below", "undecided"),
        (0.2, 0.8, 0.1, "below", "fails"),
        (0.2, 0.8, 0.9, "within", "holds"),  # |estimate| is at most 0.8
        (-0.8, -0.2, 0.9, "within", "holds"),
        (-0.5, 0.8, 0.7, "within", "undecided"),
        (-0.8, 0.5, 0.7, "within", "undecided"),
        (0.2, 0.8, 0.1, "within", "fails"),  # |estimate| is at least 0.2
        (-0.8, -0.2, 0.1, "within", "fails"),
        (-0.2, 0.2, 0.1, "within", "undecided"),
    ],
)
def test_verdicts(low, high, boundary, direction, verdict):
    middle = (low + high) / 2
    claim = replace(CLAIM, estimate=middle, low=low, high=high, boundary=boundary, direction=direction)
    assert claim.verdict == verdict


@pytest.mark.parametrize(("value", "verdict"), [(0.1, "holds"), (-0.1, "fails"), (0.0, "undecided")])
def test_an_exact_claim_is_decided_by_its_value(value, verdict):
    claim = Claim("exact", "", "It is.", estimate=value, low=value, high=value)
    assert claim.verdict == verdict
    assert claim.text() == claims.number(value)


def test_what_diverged_or_has_one_seed_decides_nothing():
    assert replace(CLAIM, estimate=math.nan, low=math.nan, high=math.nan).verdict == "undecided"
    one = replace(CLAIM, low=math.nan, high=math.nan, seeds=1)
    assert (one.verdict, one.text()) == ("undecided", "0.5 [no interval]")


def test_bounds_in_the_wrong_order_are_refused(refuses):
    with refuses("rises: expected low <= estimate <= high, got 0.5 [0.6, 0.8]"):
        replace(CLAIM, low=0.6)
    with refuses("rises: an exact estimate has no interval, got 0.5"):
        replace(CLAIM, seeds=None)
    with refuses("rises: expected a positive distance from 0, got 0.0"):
        replace(CLAIM, direction="within")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (1e-15, "1e-15"),
        (2.5e-07, "2.5e-7"),
        (1234.5, "1,234"),
        (2e7, "2e+7"),
        (math.nan, "nan"),
        (0, "0"),
    ],
)
def test_numbers(value, text):
    assert claims.number(value) == text


def test_verdicts_that_are_wrong_by_chance():
    exact = Claim("exact", "", "It is.", estimate=1, low=1, high=1)
    assert claims.wrong_by_chance([CLAIM] * 12 + [exact] * 30) == (12, pytest.approx(0.6))


def test_verdicts_at_the_boundary_are_wrong_as_often_as_said():
    """20,000 runs of 5 normal seeds whose true mean is the boundary: any verdict but `undecided` is wrong, in 5%.

    The standard deviation of the share is 0.15%, the tolerance 4 of them; the seed is fixed.
    """
    found = intervals.t_interval(np.random.default_rng(12).normal(size=(5, 20_000)))
    verdicts = [
        replace(CLAIM, estimate=mean, low=low, high=high).verdict for mean, low, high in zip(*found, strict=True)
    ]
    assert verdicts.count("holds") / 20_000 == pytest.approx(0.025, abs=0.0045)
    assert verdicts.count("fails") / 20_000 == pytest.approx(0.025, abs=0.0045)
