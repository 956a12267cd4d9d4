"""Group estimators: rewards of a group's N rollouts in, one advantage per rollout out.

With right-or-wrong rewards, an estimator that treats rollouts alike is only a table of 2(N+1) numbers: the advantage
a(K) of every success and b(K) of every failure in a group with K successes. So each estimator below is one function
of (K, N) that returns the two columns, and all are applied by the same three lines. The gradient estimate of a group
is (1/N) sum_i A_i S_i with S_i the score (gradient of the log-probability) of rollout i.

    >>> make("maxrl")(torch.tensor([1, 0, 0, 0]))
    tensor([ 3., -1., -1., -1.])

Source: "Maximum Likelihood Reinforcement Learning", arXiv:2602.02710v1, unless a docstring says otherwise. "Order T"
means: unbiased for the gradient of `objectives.TruncatedLikelihood(T)`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.combinatorics import log_miss_probability
from maxrl_lab.errors import InputError

Columns = tuple[Tensor | float, Tensor | float]
"""a(K) and b(K): broadcastable to the shape of K. Entries that no group can reach, a(0) and b(N), are ignored."""


@dataclass(frozen=True)
class Estimator:
    """A named table of coefficients; calling it turns rewards into advantages."""

    name: str
    options: dict[str, specs.Option] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check name and options."""
        function = specs.lookup(ESTIMATORS, "estimator", self.name)
        specs.check_options(function, "estimator", self.name, self.options)
        if check := OPTION_CHECKS.get(self.name):
            check(**self.options)

    @property
    def spec(self) -> str:
        """The text form, e.g. `pkpo:k=4`."""
        return specs.format_spec(self.name, self.options)

    def __str__(self) -> str:
        return self.spec

    def coefficients(self, rollouts: int) -> tuple[Tensor, Tensor]:
        """Return (a, b), each of shape (N+1,), float64: the advantage of a success and of a failure for K = 0..N.

        The unreachable a(0) and b(N) are 0. Raises `ValueError` if `rollouts` is too small for the estimator.
        """
        specs.check_count("rollouts", rollouts)
        successes = torch.arange(rollouts + 1, dtype=torch.float64)
        columns = ESTIMATORS[self.name](successes, rollouts, **self.options)
        success, failure = (torch.as_tensor(c, dtype=torch.float64).expand(rollouts + 1).clone() for c in columns)
        success[0], failure[rollouts] = 0.0, 0.0
        return success + 0.0, failure + 0.0  # no negative zeros

    def __call__(self, rewards: Tensor) -> Tensor:
        """Return advantages (..., N) for rewards (..., N) in {0, 1}: bool, integer or float, on any device.

        The result has the rewards' dtype if that is a float type, else torch's default. (float16 ends at 65504; MaxRL's
        advantages reach N.) Raises `ValueError` for any other reward, naming it, and for a group too small.
        """
        rewards = check_rewards(rewards)
        dtype = rewards.dtype if rewards.is_floating_point() else torch.get_default_dtype()
        success, failure = (column.to(rewards.device, dtype) for column in self.coefficients(rewards.shape[-1]))
        return look_up(success, failure, rewards)


def look_up(success: Tensor, failure: Tensor, rewards: Tensor) -> Tensor:
    """Return advantages (..., N): a(K) (N+1,) where a reward of (..., N) is 1, b(K) (N+1,) where it is 0."""
    right = rewards != 0
    successes = right.sum(-1, keepdim=True)
    return torch.where(right, success[successes], failure[successes])


def check_rewards(rewards: Tensor) -> Tensor:
    """Return `rewards` as a tensor (..., N), N >= 1; `ValueError` names the first value that is not 0 or 1."""
    try:
        rewards = torch.as_tensor(rewards)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"rewards must be a tensor or array of 0 and 1, got {type(rewards).__name__}: {error}"
        ) from None
    if rewards.ndim == 0 or rewards.shape[-1] == 0:
        raise InputError(f"rewards must have shape (..., N) with N >= 1, got {tuple(rewards.shape)}")
    if rewards.dtype == torch.bool:
        return rewards
    wrong = (rewards != 0) & (rewards != 1)
    if wrong.any():
        raise InputError(f"rewards must be 0 or 1 (right or wrong), got {rewards[wrong].flatten()[0].item()}")
    return rewards


def reinforce(successes: Tensor, rollouts: int) -> Columns:  # noqa: ARG001
    """a = 1, b = 0. Unbiased for the expected reward (order 1) at every N."""
    return 1.0, 0.0


def mean_centred(successes: Tensor, rollouts: int) -> Columns:
    """A_i = r_i - mean(r), as in "Dr. GRPO". (1 - 1/N) times the expected-reward gradient: biased in scale."""
    mean = successes / rollouts
    return 1 - mean, -mean


def rloo(successes: Tensor, rollouts: int) -> Columns:
    """A_i = r_i - mean of the other rewards. Unbiased for the expected reward (order 1) at every N >= 2.

    Leave-one-out baseline of Kool et al. 2019.
    """
    _need_rollouts("rloo", rollouts, 2)
    return 1 - (successes - 1) / (rollouts - 1), -successes / (rollouts - 1)


def grpo(successes: Tensor, rollouts: int, *, ddof: int = 0, epsilon: float = 0.0) -> Columns:
    """A_i = (r_i - mean(r)) / (std(r) + epsilon), 0 in a group without spread (Shao et al. 2024).

    Unbiased for no named objective: its weight is a polynomial of its own at each N, constant (so plain RL, scaled) at
    N = 2 and N = 3, that tends to `objectives.GrpoLimit` as N grows. `ddof` is 0 (population) or 1 (sample).
    """
    if ddof:
        _need_rollouts("grpo with ddof=1", rollouts, 2)
    mean = successes / rollouts
    deviation = (mean * (1 - mean) * (rollouts / (rollouts - ddof))).sqrt()
    scale = torch.where(deviation > 0, 1 / (deviation + epsilon), 0.0)
    return (1 - mean) * scale, -mean * scale


def maxrl(successes: Tensor, rollouts: int) -> Columns:
    """A_i = (r_i - mean(r)) / mean(r), 0 in a group without success: Algorithm 1, the form that is shipped.

    Unbiased for order T = N-1, not N: without the control variate at K = 0 the last term of the series is missing.
    So it is plain RL at N = 2 and learns nothing at N = 1.
    """
    return rollouts / successes - 1, torch.where(successes > 0, -1.0, 0.0)


def maxrl_no_baseline(successes: Tensor, rollouts: int) -> Columns:
    """A_i = r_i / mean(r): the average score of the successes (Eq. 9). Order T = N, exactly (Theorem 2)."""
    return rollouts / successes, 0.0


def maxrl_control_variate(successes: Tensor, rollouts: int) -> Columns:
    """A_i = r_i / mean(r) - 1, and -1 throughout a group without success (Eq. 10). Order T = N, exactly."""
    return rollouts / successes - 1, -1.0


def maxrl_leave_one_out(successes: Tensor, rollouts: int) -> Columns:
    """A_i = r_i / mean(r) - 1{another rollout succeeded}. Order T = N, exactly; REINFORCE at N = 1; 0 at K = 0.

    The lab's: the baseline does not depend on the rollout's own reward, so it is free.
    """
    return rollouts / successes - (successes >= 2).double(), -(successes >= 1).double()


def maxrl_cross_fitted(successes: Tensor, rollouts: int) -> Columns:
    """a = N(N-K) / (K(N-1)), b = -NK / ((N-1)(K+1)). Order T = N, exactly, for N >= 2; 0 at K = 0 and at K = N.

    It is RLOO's advantage over a pass rate that is estimated without the rollout's own reward: A_i = (r_i - mean of the
    others) N / (J_i + 1), with J_i the number of successes among the others.
    """
    _need_rollouts("maxrl_cross_fitted", rollouts, 2)
    scale = rollouts / (rollouts - 1)
    return scale * (rollouts - successes) / successes, -scale * successes / (successes + 1)


def maxrl_order(successes: Tensor, rollouts: int, *, order: int) -> Columns:
    """a = (N/K) (1 - C(N-K,T)/C(N,T)), b = 0. Order T exactly, for any T from 1 (REINFORCE) to N (Eq. 9).

    It is the subset average of Eq. 9 over all T-subsets of the group; it also equals sum_{k=1..T} pkpo_k / k.
    """
    _need_rollouts(f"maxrl_order of order {order}", rollouts, order)
    return -rollouts / successes * torch.expm1(log_miss_probability(rollouts, order)), 0.0


def pkpo(successes: Tensor, rollouts: int, *, k: int) -> Columns:
    """a = k C(N-K,k-1)/C(N-1,k-1), b = 0. Unbiased for pass@k, for any k from 1 (REINFORCE) to N.

    A success counts if k-1 of the other rollouts would all have failed (Walder & Karkhanis 2025, "loo-1").
    """
    _need_rollouts(f"pkpo with k={k}", rollouts, k)
    others = log_miss_probability(rollouts - 1, k - 1).exp()
    return k * torch.cat([successes.new_zeros(1), others]), 0.0


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
    "pkpo": pkpo,
}


def make(name: str, **options: specs.Option) -> Estimator:
    """Return the named estimator, e.g. `make("pkpo", k=4)`.

    Raises `ValueError` for an unknown name (listing the choices), an unknown or missing option, or a value out of
    range.
    """
    return Estimator(name, options)


def resolve(
    estimator: "str | Callable[..., object]", rollouts: int | None = None
) -> "Estimator | Callable[..., object]":
    """Return an estimator from its text form (`pkpo:k=4`; `N` in a value is `rollouts`), or the callable itself."""
    if isinstance(estimator, str):
        name, options = specs.parse(estimator, rollouts)
        return make(name, **options)
    if not callable(estimator):
        raise InputError(f"expected an estimator's name or a callable, got {type(estimator).__name__}")
    return estimator


def _need_rollouts(what: str, rollouts: int, minimum: int) -> None:
    if rollouts < minimum:
        raise InputError(f"{what} needs at least {minimum} rollouts in a group, got N = {rollouts}")


def _check_grpo(ddof: specs.Option = 0, epsilon: specs.Option = 0.0) -> None:
    if ddof not in (0, 1):
        raise InputError(f"grpo's ddof must be 0 or 1, got {ddof}")
    if not isinstance(epsilon, int | float) or not 0 <= epsilon < float("inf"):
        raise InputError(f"grpo's epsilon must be >= 0 and finite, got {epsilon}")


OPTION_CHECKS: dict[str, Callable[..., object]] = {
    "grpo": _check_grpo,
    "maxrl_order": lambda order: specs.check_count("order", order),
    "pkpo": lambda k: specs.check_count("k", k),
}
