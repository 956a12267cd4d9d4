"""What a policy gradient can optimise: J(p) of one task's pass rate p, whose gradient is always w(p) * grad p.

Eq. 4-7 and Table 2 of "Maximum Likelihood Reinforcement Learning" (arXiv:2602.02710v1). An objective is two functions
of p: its `value` in nats (a probability, for pass@k) and its `weight` w = dJ/dp.

    >>> make("truncated_likelihood", order=8).weight(0.5)
    tensor(1.9922, dtype=torch.float64)
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError

SMALLEST_PASS_RATE = 1e-30
"""A value is the same to 1e-12 at this pass rate as at 0, for every finite order up to 1e6."""
_SUBNORMAL = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Objective(ABC):
    """J(p) and w(p) = dJ/dp, elementwise; p is a pass rate in [0, 1] of any shape, results are float64."""

    name: ClassVar[str]

    def value(self, pass_rate: object) -> Tensor:
        """Return J(p). Differentiable: the gradient with respect to p is exactly `weight(p)`.

        Raises `InputError` if a pass rate lies outside [0, 1].
        """
        p = as_pass_rate(pass_rate)
        value: Tensor = _WithSlope.apply(p, self._value(p.detach()), self._weight(p.detach()))
        return value

    def weight(self, pass_rate: object) -> Tensor:
        """Return w(p) = dJ/dp, without a graph. Raises `InputError` if a pass rate lies outside [0, 1]."""
        return self._weight(as_pass_rate(pass_rate).detach())

    def log_slope(self, log_pass_rate: Tensor) -> Tensor:
        """Return dJ / d log p = w(p) p, float64: accurate also where p itself would round to 0 or 1.

        A log p rounded above 0 counts as 0.
        """
        return self._log_slope(log_pass_rate.detach().to(torch.float64).clamp(max=0.0))

    def _log_slope(self, log_p: Tensor) -> Tensor:
        p = log_p.exp()
        return self._weight(p) * p

    @abstractmethod
    def _value(self, p: Tensor) -> Tensor: ...

    @abstractmethod
    def _weight(self, p: Tensor) -> Tensor: ...

    @property
    def spec(self) -> str:
        """The text form, e.g. `pass_at_k:k=4`."""
        return specs.format_spec(self.name, asdict(self))

    def __str__(self) -> str:
        return self.spec


@dataclass(frozen=True)
class ExpectedReward(Objective):
    """J = p, w = 1: what REINFORCE optimises (Eq. 4)."""

    name = "expected_reward"

    def _value(self, p: Tensor) -> Tensor:
        return p.clone()

    def _weight(self, p: Tensor) -> Tensor:
        return torch.ones_like(p)


@dataclass(frozen=True)
class MaximumLikelihood(Objective):
    """J = log p, w = 1/p: the log-likelihood of a right answer (Eq. 5)."""

    name = "maximum_likelihood"

    def _value(self, p: Tensor) -> Tensor:
        return p.log()

    def _weight(self, p: Tensor) -> Tensor:
        return p.reciprocal()

    def _log_slope(self, log_p: Tensor) -> Tensor:
        return torch.ones_like(log_p)


@dataclass(frozen=True)
class TruncatedLikelihood(Objective):
    """J = -sum_{k=1..T} (1-p)^k / k, w = (1 - (1-p)^T) / p: MaxRL of order T (Eq. 7).

    T = 1 is the expected reward less 1; T -> infinity is log p. The relative distance to the likelihood gradient is
    exactly (1-p)^T. Accurate to 1e-12 relative for p from 1e-12 to 1 and T up to 1e6, at a cost independent of T.
    """

    name = "truncated_likelihood"
    order: int

    def __post_init__(self) -> None:
        """Check the order."""
        specs.check_count("order", self.order)

    def _value(self, p: Tensor) -> Tensor:
        # J = -int_p^1 w(u) du = -int_0^{-log p} (1 - (1-e^-x)^T) dx. In x the integrand falls from 1 to 0 within a few
        # units around x = log T and is entire, so 20 Gauss-Legendre nodes on panels of length <= 2 are exact to 1e-15.
        length = -p.clamp(min=SMALLEST_PASS_RATE).log()
        panels = max(1, math.ceil(float(length.max()) / 2)) if length.numel() else 1
        roots, masses = (torch.from_numpy(array).to(p) for array in np.polynomial.legendre.leggauss(20))
        nodes = ((torch.arange(panels).to(p)[:, None] + (roots + 1) / 2) / panels).flatten()
        x = length[..., None] * nodes
        integrand = -torch.expm1(float(self.order) * torch.log1p(-(-x).exp()))
        return -(integrand * (masses / 2 / panels).repeat(panels)).sum(-1) * length

    def _weight(self, p: Tensor) -> Tensor:
        return torch.where(p > _SUBNORMAL, -torch.expm1(float(self.order) * torch.log1p(-p)) / p, float(self.order))


@dataclass(frozen=True)
class PassAtK(Objective):
    """J = 1 - (1-p)^k, w = k (1-p)^(k-1): the chance that one of k rollouts is right (Table 2)."""

    name = "pass_at_k"
    k: int

    def __post_init__(self) -> None:
        """Check k."""
        specs.check_count("k", self.k)

    def _value(self, p: Tensor) -> Tensor:
        return -torch.expm1(float(self.k) * torch.log1p(-p))

    def _weight(self, p: Tensor) -> Tensor:
        weight: Tensor = float(self.k) * torch.special.xlog1py(float(self.k - 1), -p).exp()
        return weight


@dataclass(frozen=True)
class GrpoLimit(Objective):
    """J = 2 arcsin sqrt(p), w = 1 / sqrt(p (1-p)): GRPO's population limit (Table 2; the value is the lab's)."""

    name = "grpo_limit"

    def _value(self, p: Tensor) -> Tensor:
        return 2 * torch.atan2(p.sqrt(), (1 - p).sqrt())  # arcsin sqrt(p), without its cancellation near p = 1

    def _weight(self, p: Tensor) -> Tensor:
        return (p * (1 - p)).rsqrt()

    def _log_slope(self, log_p: Tensor) -> Tensor:
        odds = log_p.exp() / -torch.expm1(log_p)
        return torch.where(
            log_p < 0, odds.sqrt(), 0.0
        )  # at p = 1, log p has no gradient left: the product's limit is 0


@dataclass(frozen=True)
class Power(Objective):
    """J = int_{1/2}^p u^-s (1-u)^-t du, w = p^-s (1-p)^-t: an incomplete beta function, 0 at p = 1/2.

    (0, 0) is the expected reward, (1, 0) the likelihood and (1/2, 1/2) the limit of GRPO, each less a constant; J is
    infinite at p = 0 for s >= 1 and at p = 1 for t >= 1. Accurate to 1e-12 for exponents up to 3 in size.
    """

    name = "power"
    s: float
    t: float

    def __post_init__(self) -> None:
        """Check the exponents."""
        _check_number("s", self.s)
        _check_number("t", self.t)

    def _value(self, p: Tensor) -> Tensor:
        low = _power_integral(p.clamp(max=0.5), self.s, self.t)
        return _power_integral((1 - p).clamp(max=0.5), self.t, self.s) - low

    def _weight(self, p: Tensor) -> Tensor:
        return p**-self.s * (1 - p) ** -self.t

    def _log_slope(self, log_p: Tensor) -> Tensor:
        slope = ((1 - self.s) * log_p).exp() * (-torch.expm1(log_p)) ** -self.t
        return torch.where((log_p < 0) | (self.t <= 0), slope, 0.0)  # at p = 1, log p has no gradient left


@dataclass(frozen=True)
class Tilted(Objective):
    """J = log(1 + p (e^beta - 1)) / beta, w = (e^beta - 1) / (beta (1 + p (e^beta - 1))): log E exp(beta r) / beta.

    The limit of `estimators.power.rs_grpo` (RS-GRPO, arXiv:2509.24261): beta -> 0 is the expected reward, and
    beta (J - 1) tends to log p as beta grows. 0 < beta <= 700.
    """

    name = "tilted"
    beta: float

    def __post_init__(self) -> None:
        """Check beta."""
        _check_number("beta", self.beta, low=0.0, high=700.0)

    def _value(self, p: Tensor) -> Tensor:
        return torch.log1p(p * math.expm1(self.beta)) / self.beta

    def _weight(self, p: Tensor) -> Tensor:
        growth = math.expm1(self.beta)
        return growth / self.beta / (1 + p * growth)


@dataclass(frozen=True)
class Tsallis(Objective):
    """J = (p^(1-q) - 1) / (1-q), log p at q = 1, and w = p^-q: the q-logarithm of p (arXiv:2604.25907).

    q = 0 is the expected reward less 1; q = 1 is the likelihood.
    """

    name = "tsallis"
    q: float

    def __post_init__(self) -> None:
        """Check q."""
        _check_number("q", self.q)

    def _value(self, p: Tensor) -> Tensor:
        return _power_difference(p, 1.0, 1.0 - self.q)

    def _weight(self, p: Tensor) -> Tensor:
        return p**-self.q

    def _log_slope(self, log_p: Tensor) -> Tensor:
        return ((1 - self.q) * log_p).exp()


@dataclass(frozen=True)
class ArcsinePassAtK(Objective):
    """J = 2 arcsin sqrt(pass@k), w = k (1-p)^(k/2-1) / sqrt(1 - (1-p)^k): pass@k divided by its standard deviation.

    The limit of k times `estimators.pass_at_k.passk_training` (arXiv:2508.10751); at k = 1 it is the limit of GRPO.
    """

    name = "arcsine_pass_at_k"
    k: int

    def __post_init__(self) -> None:
        """Check k."""
        specs.check_count("k", self.k)

    def _value(self, p: Tensor) -> Tensor:
        log_miss = float(self.k) * torch.log1p(-p)
        return 2 * torch.atan2((-torch.expm1(log_miss)).sqrt(), (log_miss / 2).exp())

    def _weight(self, p: Tensor) -> Tensor:
        root = (-torch.expm1(float(self.k) * torch.log1p(-p))).sqrt()
        return float(self.k) * (1 - p) ** (self.k / 2 - 1) / root

    def _log_slope(self, log_p: Tensor) -> Tensor:
        p = log_p.clamp(min=-700.0).exp()  # the slope is about sqrt(k p) there, and p must not round to 0
        log_fail = torch.where(p < 0.5, torch.log1p(-p), (-torch.expm1(log_p)).log())
        root = (-torch.expm1(float(self.k) * log_fail)).sqrt()
        slope = float(self.k) * p * log_fail.exp() ** (self.k / 2 - 1) / root
        return torch.where((log_p < 0) | (self.k > 1), slope, 0.0)  # at p = 1, log p has no gradient left


@dataclass(frozen=True)
class ResampledGrpo(Objective):
    """w = E[sigma | 0 < K < N] / (p (1-p)), sigma the standard deviation of a group of N: GRPO on mixed groups alone.

    It is what GRPO optimises if each task is sampled anew until its group of N = `rollouts` holds both right and wrong
    answers: its weight at N, divided by the chance of such a group, 1 - p^N - (1-p)^N. At small p the weight is about
    sqrt(N-1) / (N p): like the likelihood's, and not like GRPO's. J = 0 at p = 1/2.

    The idea is the dynamic sampling of DAPO (arXiv:2503.14476). DAPO drops a silent group and fills the batch with
    other tasks, which rescales the step and leaves the objective as it is; this is the objective of its other reading.
    """

    name = "resampled_grpo"
    rollouts: int

    def __post_init__(self) -> None:
        """Check the number of rollouts."""
        specs.check_count("rollouts", self.rollouts, 2)

    def _value(self, p: Tensor) -> Tensor:
        # dJ = E[sigma | mixed] d logit(p): even in logit(p), smooth, and about sqrt(N-1) / N at both ends. Ten Gauss-
        # Legendre nodes a unit of logit(p) are exact to 1e-15: whole units once for all, and a part of one for each p.
        inside = p.clamp(min=SMALLEST_PASS_RATE, max=1 - torch.finfo(torch.float64).eps / 2)
        length = torch.logit(inside).abs()
        units = torch.arange(math.floor(float(length.max()))).to(p) if length.numel() else p.new_zeros(0)
        whole = torch.cat([p.new_zeros(1), self._integral(units, torch.ones_like(units)).cumsum(0)])
        size = whole[length.floor().long()] + self._integral(length.floor(), length.frac())
        return torch.where((p > 0) & (p < 1), size, torch.inf).copysign(p - 0.5)

    def _integral(self, start: Tensor, width: Tensor) -> Tensor:
        """Return the integral of E[sigma | mixed] over logit(p) from `start` to `start` + `width`, width <= 1."""
        roots, masses = (torch.from_numpy(array).to(start) for array in np.polynomial.legendre.leggauss(10))
        nodes = start[..., None] + width[..., None] * (roots + 1) / 2
        return (self._deviation(nodes.sigmoid()) * masses / 2).sum(-1) * width

    def _weight(self, p: Tensor) -> Tensor:
        return self._deviation(p) / (p * (1 - p))

    def _log_slope(self, log_p: Tensor) -> Tensor:
        return torch.where(log_p < 0, self._deviation(log_p.exp()) / -torch.expm1(log_p), 0.0)

    def _deviation(self, p: Tensor) -> Tensor:
        """E[sigma | 0 < K < N], by the binomial probabilities of K = 1..N-1 relative to the most likely of them."""
        n = self.rollouts
        counts = torch.arange(1, n, dtype=torch.float64).to(p)
        log_choose = math.lgamma(n + 1) - torch.lgamma(counts + 1) - torch.lgamma(n - counts + 1)
        inside = p.clamp(min=_SUBNORMAL, max=1 - torch.finfo(torch.float64).eps / 2)[..., None]
        chances = (log_choose + counts * inside.log() + (n - counts) * torch.log1p(-inside)).softmax(-1)
        return (chances * (counts * (n - counts)).sqrt() / n).sum(-1)


def _check_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise `InputError` unless `value` is a finite number above `low` and not above `high`."""
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not (math.isfinite(value) and low < value <= high)
    ):
        bounds = "be finite" if low == -math.inf else f"lie in ({low:g}, {high:g}]"
        raise InputError(f"{name} must {bounds}, got {value!r}")


def _power_difference(p: Tensor, start: float, exponent: float) -> Tensor:
    """Return int_start^p u^(exponent - 1) du = (p^c - start^c) / c, which is log(p / start) at c = 0."""
    ratio = (p / start).log()
    if exponent == 0:
        return ratio
    return torch.expm1(exponent * ratio) * (math.pow(start, exponent) / exponent)


def _power_integral(p: Tensor, s: float, t: float) -> Tensor:
    """Return int_p^(1/2) u^-s (1-u)^-t du for p <= 1/2, by the binomial series of (1-u)^-t."""
    total, factor = torch.zeros_like(p), 1.0
    for k in range(80):  # the terms fall like 2^-k
        total -= factor * _power_difference(p, 0.5, k + 1 - s)
        factor *= (t + k) / (k + 1)
    return torch.where((p == 0) & (s >= 1), torch.inf, total)


OBJECTIVES: dict[str, type[Objective]] = {
    objective.name: objective
    for objective in (
        ExpectedReward,
        MaximumLikelihood,
        TruncatedLikelihood,
        PassAtK,
        GrpoLimit,
        Power,
        Tilted,
        Tsallis,
        ArcsinePassAtK,
        ResampledGrpo,
    )
}


class _WithSlope(torch.autograd.Function):
    """A value whose gradient with respect to p is given, here w(p)."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, value: Tensor, slope: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradient * slope, None, None


def make(name: str, **options: float) -> Objective:
    """Return the named objective, e.g. `make("pass_at_k", k=8)`; `InputError` for an unknown name or option."""
    kind = specs.lookup(OBJECTIVES, "objective", name)
    try:
        return kind(**options)
    except TypeError:
        wanted = ", ".join(field.name for field in fields(kind)) or "none"
        raise InputError(
            f"objective {name!r} takes the options: {wanted}; got: {', '.join(options) or 'none'}"
        ) from None


def resolve(objective: "str | Objective", rollouts: int | None = None) -> Objective:
    """Return an objective from its text form or itself; `rollouts` gives `N` in `truncated_likelihood:order=N-1`."""
    if isinstance(objective, Objective):
        return objective
    if not isinstance(objective, str):
        raise InputError(f"expected an objective's name or a made objective, got {type(objective).__name__}")
    name, options = specs.parse(objective, rollouts)
    return make(name, **options)


def as_double(values: object) -> Tensor:
    """Return a tensor, an array, a column of a data frame, a list or a number as a float64 tensor of its shape."""
    if isinstance(values, Tensor):
        return values.to(torch.float64)
    if isinstance(values, Sequence) and any(isinstance(value, Tensor) for value in values):
        return torch.as_tensor(values, dtype=torch.float64)  # also from a GPU, which numpy cannot read
    return torch.from_numpy(np.array(values, dtype=np.float64))  # a copy, whatever the memory's layout


def as_pass_rate(pass_rate: object) -> Tensor:
    """Return float64 pass rates of any shape; `InputError` names the first value outside [0, 1]."""
    p = as_double(pass_rate)
    outside = ~((p >= 0) & (p <= 1))
    if outside.any():
        raise InputError(f"a pass rate must lie in [0, 1], got {p[outside].flatten()[0].item()}")
    return p
