"""From an objective to an estimator: the inverse of the audit.

A table with a(J+1) - b(J) = beta_J has the mean weight w_N(p) = E[beta_J], J ~ Binomial(N-1, p). So any polynomial of
degree N-1 or less is some table's weight, its Bernstein coefficients say which differences the table must have, and b
is free. The forms are choices of b:

success_only    b = 0
failure_only    a = 0
centred         advantages that sum to zero: a(K) = (N-K)/(N-1) gamma_{K-1}, b(K) = -K/(N-1) gamma_{K-1}, RLOO scaled by
                the coefficients gamma of the weight at degree N-2. It exists for degrees up to N-2, and is then unique.
leave_one_out   less the mean of the success-only advantages that the other N-1 rollouts would have alone:
                b(J) = -J/(N-1) gamma_{J-1}. It is the centred form up to degree N-2, and exists at degree N-1 too,
                where the others' order or k is N-1.
least_variance  the b for which the variance is smallest, at a pass rate or over a prior (`least_variance`).

All have the same mean; what differs is the noise. Thrampoulidis et al. (arXiv:2510.23049) go both ways between
advantages and objectives in the limit of large groups; at finite N the form is Bernstein's (Davis & Recht,
arXiv:2510.13651).
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from maxrl_lab import bernstein, objectives, specs
from maxrl_lab.errors import InputError
from maxrl_lab.estimators.columns import need_rollouts
from maxrl_lab.estimators.counted import CountEstimator
from maxrl_lab.estimators.least_variance import Prior, best_baseline, prior
from maxrl_lab.estimators.weights import AnyWeight, Fit, fit, weight_of
from maxrl_lab.objectives import Objective, PassAtK, TruncatedLikelihood

FORMS = ("success_only", "failure_only", "centred", "leave_one_out", "least_variance")

GROUPS = 8
"""Bias and noise of a weight that is no polynomial are weighed for a step that averages so many groups."""


@dataclass(frozen=True)
class FromObjective(CountEstimator):
    """An estimator made for an objective; calling it turns rewards into advantages, at any N."""

    objective: AnyWeight
    rollouts: int
    """The N that the estimator was made for, at which `bias` and `is_exact` are told."""
    form: str
    prior: Prior | None = None
    groups: int = GROUPS

    def __post_init__(self) -> None:
        """Check the form, and that the estimator exists at N."""
        specs.lookup(dict.fromkeys(FORMS), "form", self.form)
        specs.check_rollouts(self.rollouts)
        specs.check_count("groups", self.groups)
        if (self.form == "least_variance") != (self.prior is not None):
            needs = "needs" if self.prior is None else "alone takes"
            raise InputError(f"the form least_variance {needs} a pass rate or several, as in pass_rate=0.1")
        self.coefficients(self.rollouts)

    @property
    def spec(self) -> str:
        """The form and the objective, for people: no table of names holds it."""
        name = getattr(self.objective, "spec", None) or getattr(self.objective, "__name__", "weight")
        return f"{self.form} of {name}"

    @property
    def is_exact(self) -> bool:
        """Whether the mean at N is w(p) grad p to rounding, because w is a polynomial of low degree."""
        return _fitted(self, self.rollouts).is_exact

    def coefficients(self, rollouts: int) -> tuple[Tensor, Tensor]:
        """Return (a, b), each of shape (N+1,), float64, of the same objective and form at any N.

        Raises `GroupTooSmallError` for the centred form at N = 1.
        """
        specs.check_rollouts(rollouts)
        success, failure = _table(self, rollouts)
        return success.clone(), failure.clone()

    def weight(self, pass_rate: object) -> Tensor:
        """Return w_N(p), the exact weight of the estimator's mean; float64, the shape of `pass_rate`."""
        success, failure = _table(self, self.rollouts)
        p = objectives.as_pass_rate(pass_rate).detach()
        return bernstein.binomial_mean(success[1:] - failure[:-1], p)

    def bias(self, pass_rate: object) -> Tensor:
        """Return w_N(p) - w(p), exactly, in units of grad p; the shape of `pass_rate`."""
        return self.weight(pass_rate) - weight_of(self.objective, pass_rate)


def from_objective(
    objective: str | AnyWeight,
    rollouts: int,
    form: str = "success_only",
    *,
    pass_rate: object = None,
    mass: object = 1.0,
    gradient_norm_squared: object = None,
    success_moment: object = None,
    failure_moment: object = None,
    groups: int = GROUPS,
) -> FromObjective:
    """Return the estimator of a `form` whose mean at N = `rollouts` is w(p) grad p, or as near as a polynomial gets.

    `objective` is a text form (`truncated_likelihood:order=N-1`; `N` is `rollouts`), a made objective, or a function
    from a float64 tensor of pass rates (P,) to weights w(p) (P,). The mean is exact, to rounding, if w is a polynomial
    of degree N-1 or less (centred: N-2). Else it is the best fit of `weights.least_squares`, in which `groups` is the
    number of groups averaged in a step, and `bias` of the returned estimator is what remains.

    The form least_variance takes a `pass_rate` () or several (P,) with `mass`, and the moments of the scores there
    (`least_variance.prior`). Raises `InputError` for an unknown form, a weight that is not finite, and N = 1 where the
    form is centred.
    """
    target = objectives.resolve(objective, rollouts) if isinstance(objective, str) else objective
    if not callable(target) and not isinstance(target, Objective):
        raise InputError(f"expected an objective or a function of the pass rate, got {type(objective).__name__}")
    over = None
    if pass_rate is not None:
        over = prior(
            pass_rate,
            mass,
            gradient_norm_squared=gradient_norm_squared,
            success_moment=success_moment,
            failure_moment=failure_moment,
        )
    return FromObjective(target, rollouts, form, over, groups)


@lru_cache(maxsize=256)
def _fitted(estimator: FromObjective, rollouts: int) -> Fit:
    """Return the polynomial of degree N-1 whose coefficients are a(J+1) - b(J)."""
    if estimator.form != "centred":
        return fit(estimator.objective, rollouts - 1, estimator.groups)
    need_rollouts("the centred form", rollouts, 2)
    lower = fit(estimator.objective, rollouts - 2, estimator.groups)
    return Fit(bernstein.elevate(lower.coefficients, rollouts - 1), lower.is_exact)


@lru_cache(maxsize=256)
def _table(estimator: FromObjective, rollouts: int) -> tuple[Tensor, Tensor]:
    weight = _fitted(estimator, rollouts).coefficients
    baseline = _baseline(estimator, weight)
    zero = weight.new_zeros(1)
    return torch.cat([zero, weight + baseline]) + 0.0, torch.cat([baseline, zero]) + 0.0  # no negative zeros


def _baseline(estimator: FromObjective, weight: Tensor) -> Tensor:
    """Return b(0..N-1) of the form."""
    rollouts = len(weight)
    if estimator.form == "failure_only":
        return -weight
    if estimator.form == "least_variance" and estimator.prior is not None:
        return best_baseline(weight, estimator.prior)
    if estimator.form == "success_only" or rollouts == 1:
        return torch.zeros_like(weight)
    is_centred = estimator.form == "centred"  # its gamma is the weight that `_fitted` elevates: else no sum is zero
    target = estimator.objective if is_centred else _for_the_others(estimator.objective, rollouts - 1)
    gamma = fit(target, rollouts - 2, estimator.groups).coefficients
    counts = torch.arange(1, rollouts, dtype=torch.float64)
    return torch.cat([weight.new_zeros(1), -counts / (rollouts - 1) * gamma])


def _for_the_others(objective: AnyWeight, rollouts: int) -> AnyWeight:
    """Return the objective with an order or k of at most the number of the other rollouts."""
    if isinstance(objective, TruncatedLikelihood):
        return TruncatedLikelihood(min(objective.order, rollouts))
    if isinstance(objective, PassAtK):
        return PassAtK(min(objective.k, rollouts))
    return objective
