"""What a policy gradient can optimise: J(p) of one task's pass rate p, whose gradient is always w(p) * grad p.

Eq. 4-7 and Table 2 of "Maximum Likelihood Reinforcement Learning" (arXiv:2602.02710v1). An objective is two functions
of p: its `value` in nats (a probability, for pass@k) and its `weight` w = dJ/dp.

    >>> make("truncated_likelihood", order=8).weight(0.5)
    tensor(1.9922, dtype=torch.float64)
"""

import math
from abc import ABC, abstractmethod
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


OBJECTIVES: dict[str, type[Objective]] = {
    objective.name: objective
    for objective in (ExpectedReward, MaximumLikelihood, TruncatedLikelihood, PassAtK, GrpoLimit)
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


def make(name: str, **options: int) -> Objective:
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
    return make(name, **options)  # type: ignore[arg-type]


def as_pass_rate(pass_rate: object) -> Tensor:
    """Return float64 pass rates of any shape; `InputError` names the first value outside [0, 1]."""
    if not isinstance(pass_rate, Tensor):
        pass_rate = torch.from_numpy(np.array(pass_rate, dtype=np.float64))  # a copy, whatever the memory's layout
    p = pass_rate.to(torch.float64)
    outside = ~((p >= 0) & (p <= 1))
    if outside.any():
        raise InputError(f"a pass rate must lie in [0, 1], got {p[outside].flatten()[0].item()}")
    return p
