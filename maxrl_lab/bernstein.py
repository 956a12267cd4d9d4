"""Polynomials on [0, 1] in Bernstein form: the mean of a table of numbers under a binomial count.

A weight w_N(p) = sum_J C(n,J) p^J (1-p)^(n-J) beta_J is E[beta_J] for J ~ Binomial(n, p). All sums are of positive
probabilities, so nothing cancels that the beta_J do not cancel themselves.
"""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

_CHUNK_ELEMENTS = 2**22


def probabilities(degree: int, pass_rate: Tensor) -> Tensor:
    """Return P(J = j) for J ~ Binomial(degree, p), j = 0..degree, shape (P, degree+1), for pass rates (P,), float64."""
    chance: Tensor = log_probabilities(degree, pass_rate).exp()
    return chance


def log_probabilities(degree: int, pass_rate: Tensor) -> Tensor:
    """Return log P(J = j), shape (P, degree+1), for pass rates (P,): log C(n,j) + j log p + (n-j) log(1-p)."""
    j = torch.arange(degree + 1, dtype=torch.float64)
    log_choose = torch.cat([j.new_zeros(1), ((degree - j[:-1]) / (j[:-1] + 1)).log().cumsum(0)])
    j, log_choose = j.to(pass_rate.device), log_choose.to(pass_rate.device)
    p = pass_rate[:, None]
    log_chance: Tensor = log_choose + torch.special.xlogy(j, p) + torch.special.xlog1py(degree - j, -p)
    return log_chance


def binomial_mean(values: Tensor, pass_rate: Tensor) -> Tensor:
    """Return E[values[J]] for J ~ Binomial(n, p), n = len(values) - 1; the shape of `pass_rate`, float64.

    A block of pass rates is computed at a time.
    """
    values = values.to(pass_rate.device)
    blocks = pass_rate.flatten().split(max(1, _CHUNK_ELEMENTS // len(values)))
    return torch.cat([probabilities(len(values) - 1, p) @ values for p in blocks]).reshape(pass_rate.shape)


def elevate(coefficients: Tensor, degree: int) -> Tensor:
    """Return the Bernstein coefficients (degree+1,) of the same polynomial at a degree that is not lower.

    Every step takes averages of neighbours, so errors do not grow: beta'_J = J/n beta_{J-1} + (1 - J/n) beta_J.
    """
    for n in range(len(coefficients), degree + 1):
        share = torch.arange(1, n, dtype=coefficients.dtype) / n
        inner = share * coefficients[:-1] + (1 - share) * coefficients[1:]
        coefficients = torch.cat([coefficients[:1], inner, coefficients[-1:]])
    return coefficients


def from_chebyshev(series: Sequence[float]) -> Tensor:
    """Return the Bernstein coefficients (d+1,) of sum_k series[k] T_k(2p-1), k = 0..d, converted in exact fractions.

    T_k(2p-1) has the coefficients (-1)^(k-j) C(2k,2j) / C(k,j) at degree k. They grow like 2^k, hence the fractions.
    """
    degree = len(series) - 1
    total = [Fraction(0)] * (degree + 1)
    for k, weight in enumerate(series):
        term = [Fraction((-1) ** (k - j) * math.comb(2 * k, 2 * j), math.comb(k, j)) for j in range(k + 1)]
        for n in range(k + 1, degree + 1):
            inner = [Fraction(j, n) * term[j - 1] + Fraction(n - j, n) * term[j] for j in range(1, n)]
            term = [term[0], *inner, term[-1]]
        total = [have + Fraction(weight) * more for have, more in zip(total, term, strict=True)]
    return torch.tensor([float(value) for value in total], dtype=torch.float64)


def from_equal_steps(values: Sequence[Fraction], steps: int, degree: int) -> list[Fraction]:
    """Return the exact Bernstein coefficients, at the lowest degree, of the polynomial with P(i/steps) = values[i-1].

    The list is empty if that polynomial is of a higher degree than `degree`.

    Newton's forward differences give P in powers of p: P = D_0 + (x-1)/1 (D_1 + (x-2)/2 (D_2 + ...)) with x = steps p.
    From there beta_J = sum_{k<=J} C(J,k)/C(d,k) c_k.
    """
    differences, row = [], list(values)
    while row:
        differences.append(row[0])
        row = [high - low for low, high in itertools.pairwise(row)]
    while len(differences) > 1 and differences[-1] == 0:
        differences.pop()
    if len(differences) > degree + 1:
        return []
    powers = [differences[-1]]
    for k in reversed(range(1, len(differences))):
        lower = [-coefficient for coefficient in powers]
        raised = [Fraction(steps, k) * coefficient for coefficient in powers]
        powers = [differences[k - 1] + lower[0], *(a + b for a, b in zip(lower[1:], raised, strict=False)), raised[-1]]
    shares = [c / math.comb(len(powers) - 1, k) for k, c in enumerate(powers)]
    return [sum((math.comb(j, k) * shares[k] for k in range(j + 1)), Fraction(0)) for j in range(len(powers))]
