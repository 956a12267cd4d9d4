"""From advantages to a loss whose gradient is minus the estimate: the plain form, and what others make of it.

A surrogate is named as an estimator is, `entropy_bonus:coefficient=0.01`; those that need more than rewards say so by
the fields of the group they read. Only `sequence_sum` keeps the estimator's objective.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.settings import Finite
from maxrl_lab.training.groups import Group

PLAIN = "sequence_sum"


def sequence_sum(advantages: Tensor, group: Group) -> Tensor:
    """-(1/BN) sum_i A_i log m(z_i), log-probabilities summed over the rollout, never averaged: unbiased."""
    return -_mean(advantages * group.log_probs, group)


def token_mean(advantages: Tensor, group: Group) -> Tensor:
    """-(sum_i A_i log m(z_i)) / (tokens of the batch), as in App. F: long batches count less, so it is biased."""
    return -_sum(advantages * group.log_probs, group) / _sum(_lengths(group), group)


def rollout_mean(advantages: Tensor, group: Group) -> Tensor:
    """-(1/BN) sum_i A_i log m(z_i) / length_i, as in Shao et al. 2024: long rollouts count less, so it is biased."""
    return -_mean(advantages * group.log_probs / _lengths(group), group)


def entropy_bonus(advantages: Tensor, group: Group, *, coefficient: Finite) -> Tensor:
    """`sequence_sum` less `coefficient` times the mean entropy per token, in nats, of the distributions visited.

    As usual, which distributions are visited is held fixed, so this is not the gradient of the policy's entropy.
    """
    if group.entropies is None:
        raise InputError("an entropy bonus needs the entropies of the rollouts' tokens, got none")
    entropy = _sum(group.entropies, group) / _sum(_lengths(group), group)
    return sequence_sum(advantages, group) - coefficient * entropy


def differential_smoothing(advantages: Tensor, group: Group, *, gamma: Finite) -> Tensor:
    """`sequence_sum` with A_i - gamma l_i for right rollouts and A_i + gamma l_i for wrong ones.

    l_i is the mean log-probability of the rollout's tokens, held fixed: rare right answers are reinforced more, rare
    wrong ones punished more (Gai et al. 2025, arXiv:2511.19942; here the shift is on advantages).
    """
    mean = group.log_probs.detach() / _lengths(group)
    return sequence_sum(advantages + gamma * torch.where(group.rewards != 0, -mean, mean), group)


def greedy_gate(advantages: Tensor, group: Group) -> Tensor:
    """`sequence_sum` over the tasks that greedy decoding does not solve; the others have advantage 0.

    After SELF (Nguyen et al. 2025, arXiv:2510.02230), which trains on the problems whose likeliest answer is wrong.
    """
    if group.greedy is None:
        raise InputError("the greedy gate needs to know which tasks greedy decoding solves, got nothing")
    return sequence_sum(advantages * ~group.greedy[..., None], group)


SURROGATES: dict[str, Callable[..., Tensor]] = {
    "sequence_sum": sequence_sum,
    "token_mean": token_mean,
    "rollout_mean": rollout_mean,
    "entropy_bonus": entropy_bonus,
    "differential_smoothing": differential_smoothing,
    "greedy_gate": greedy_gate,
}


@dataclass(frozen=True)
class Surrogate:
    """A named loss; calling it with advantages and their group returns the loss of each run, shape (...)."""

    name: str
    options: dict[str, specs.Option] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check name and options."""
        function = specs.lookup(SURROGATES, "surrogate", self.name)
        specs.check_options(function, "surrogate", self.name, self.options)

    @property
    def spec(self) -> str:
        """The text form, e.g. `entropy_bonus:coefficient=0.01`."""
        return specs.format_spec(self.name, self.options)

    def __str__(self) -> str:
        return self.spec

    @property
    def needs_greedy(self) -> bool:
        """Whether the loss reads `Group.greedy`."""
        return self.name == "greedy_gate"

    def __call__(self, advantages: Tensor, group: Group) -> Tensor:
        """Return the loss (...) of advantages (..., B, N)."""
        return SURROGATES[self.name](advantages, group, **self.options)


def resolve(surrogate: "str | Surrogate") -> Surrogate:
    """Return a surrogate from its text form or itself; `InputError` for an unknown one or wrong options."""
    if isinstance(surrogate, Surrogate):
        return surrogate
    name, options = specs.parse(surrogate)
    return Surrogate(name, options)


def _sum(values: Tensor, group: Group) -> Tensor:
    """Return the sum of values (..., B, N) over the rollouts of all tasks, (...)."""
    return (values if group.counts is None else values * group.counts).sum((-2, -1))


def _mean(values: Tensor, group: Group) -> Tensor:
    """Return the mean of values (..., B, N) over the rollouts of all tasks, (...)."""
    if group.counts is None:
        return values.mean((-2, -1))
    return _sum(values, group) / (values.shape[-2] * group.rollouts)


def _lengths(group: Group) -> Tensor:
    lengths = torch.ones_like(group.rewards) if group.lengths is None else group.lengths
    return lengths.to(group.log_probs)
