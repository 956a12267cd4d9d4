"""The one table of estimators, and what makes one of them from its name or its text form."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.estimators.columns import Columns
from maxrl_lab.estimators.counted import CountEstimator
from maxrl_lab.estimators.expected_reward import constant_baseline, mean_centred, reinforce, rloo
from maxrl_lab.estimators.likelihood import (
    maclaurin,
    maxrl,
    maxrl_centred,
    maxrl_control_variate,
    maxrl_cross_fitted,
    maxrl_leave_one_out,
    maxrl_no_baseline,
    maxrl_order,
)
from maxrl_lab.estimators.one_sided import nsr, psr, reinforce_rej, w_reinforce
from maxrl_lab.estimators.pass_at_k import passk_training, pkpo, pkpo_centred
from maxrl_lab.estimators.power import power, rs_grpo, tsallis
from maxrl_lab.estimators.standardised import f_grpo, grpo, grpo_leave_one_out, mapo, qae

ESTIMATORS: dict[str, Callable[..., Columns]] = {
    "reinforce": reinforce,
    "mean_centred": mean_centred,
    "rloo": rloo,
    "grpo": grpo,
    "maxrl": maxrl,
    "maxrl_no_baseline": maxrl_no_baseline,
    "maxrl_control_variate": maxrl_control_variate,
    "maxrl_leave_one_out": maxrl_leave_one_out,
    "maxrl_cross_fitted": maxrl_cross_fitted,
    "maxrl_order": maxrl_order,
    "maxrl_centred": maxrl_centred,
    "pkpo": pkpo,
    "pkpo_centred": pkpo_centred,
    "constant_baseline": constant_baseline,
    "psr": psr,
    "nsr": nsr,
    "w_reinforce": w_reinforce,
    "reinforce_rej": reinforce_rej,
    "grpo_leave_one_out": grpo_leave_one_out,
    "f_grpo": f_grpo,
    "qae": qae,
    "mapo": mapo,
    "power": power,
    "tsallis": tsallis,
    "rs_grpo": rs_grpo,
    "maclaurin": maclaurin,
    "passk_training": passk_training,
}
"""Name to formula. A formula's keyword-only arguments are the estimator's options, their types say the bounds."""


@dataclass(frozen=True)
class Estimator(CountEstimator):
    """A named table of coefficients; calling it turns rewards into advantages."""

    name: str
    options: dict[str, specs.Option] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check name and options."""
        formula = specs.lookup(ESTIMATORS, "estimator", self.name)
        specs.check_options(formula, "estimator", self.name, self.options)

    @property
    def spec(self) -> str:
        """The text form, e.g. `pkpo:k=4`."""
        return specs.format_spec(self.name, self.options)

    def coefficients(self, rollouts: int) -> tuple[Tensor, Tensor]:
        """Return (a, b), each of shape (N+1,), float64: the advantage of a success and of a failure for K = 0..N.

        The unreachable a(0) and b(N) are 0. Raises `InputError` if `rollouts` is too small for the estimator.
        """
        specs.check_rollouts(rollouts)
        successes = torch.arange(rollouts + 1, dtype=torch.float64)
        columns = ESTIMATORS[self.name](successes, rollouts, **self.options)
        success, failure = (torch.as_tensor(c, dtype=torch.float64).expand(rollouts + 1).clone() for c in columns)
        success[0], failure[rollouts] = 0.0, 0.0
        return success + 0.0, failure + 0.0  # no negative zeros


def make(name: str, **options: specs.Option) -> Estimator:
    """Return the named estimator, e.g. `make("pkpo", k=4)`.

    Raises `InputError` for an unknown name (listing the choices), an unknown or missing option, or a value out of
    range.
    """
    return Estimator(name, options)


def resolve(estimator: str | Callable[..., object], rollouts: int | None = None) -> Estimator | Callable[..., object]:
    """Return an estimator from its text form (`pkpo:k=4`; `N` in a value is `rollouts`), or the callable itself."""
    if isinstance(estimator, str):
        name, options = specs.parse(estimator, rollouts)
        return make(name, **options)
    if not callable(estimator):
        raise InputError(f"expected an estimator's name or a callable, got {type(estimator).__name__}")
    return estimator
