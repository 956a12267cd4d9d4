"""Lesson 1: an objective is a weight. Every objective J(p) of a pass rate p has the gradient w(p) grad p."""

import math


def weight(p, order):
    """Exercise 1.1 (2 points). Return w_T(p) = (1 - (1-p)^T) / p as a float, right to nine digits.

    p is a float in (0, 1], as small as 1e-12; order is the whole number T, up to a million.
    """
    raise NotImplementedError


def terms(p, error):
    """Exercise 1.2 (2 points). Return the least whole T >= 1 with (1-p)^T <= error.

    (1-p)^T is the relative distance of the gradient of order T to the likelihood's. p is a float in (0, 1], error a
    float in (0, 1).
    """
    raise NotImplementedError


def mixture(order):
    """Exercise 1.3 (2 points). Return the numbers [c_1, ..., c_T] with which order T is a sum of pass@k:

        grad J_T = c_1 grad pass@1 + ... + c_T grad pass@T

    J_T = -sum_{k=1..T} (1-p)^k / k and pass@k = 1 - (1-p)^k.
    """
    raise NotImplementedError
