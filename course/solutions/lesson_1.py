"""Lesson 1, solved."""

import math
from fractions import Fraction


def weight(p, order):
    return 1.0 if p == 1 else -math.expm1(order * math.log1p(-p)) / p


def terms(p, error):
    if p == 1:
        return 1
    order = max(1, math.ceil(math.log(error) / math.log1p(-p)))
    left = 1 - Fraction(p)
    if 1 < order < 1000 and left ** (order - 1) <= Fraction(error):  # the quotient was a whole number, rounded up
        order -= 1
    return order


def mixture(order):
    return [1 / k for k in range(1, order + 1)]
