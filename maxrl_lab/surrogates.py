"""From advantages to a loss whose gradient is minus the estimate: the plain form, and what others make of it.

A surrogate is named as an estimator is, `entropy_bonus:coefficient=0.01`; those that need more than rewards say so by
the fields of the group they read. Only `sequence_sum` keeps the estimator's objective.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.groups import Group

PLAIN = "sequence_sum"


def sequence_sum(advantages: Tensor, group: Group) -> Tensor:
    """-(1/BN) sum_i A_i log m(z_i), log-probabilities summed over the rollout, never averaged: unbiased."""
    return -(advantages * group.log_probs).mean((-2, -1))


def token_mean(advantages: Tensor, group: Group) -> Tensor:
    """-(sum_i A_i log m(z_i)) / (tokens of the batch), as in App. F: long batches count less, so it is biased."""
    return -(advantages * group.log_probs).sum((-2, -1)) / _lengths(group).sum((-2, -1))


def rollout_mean(advantages: Tensor, group: Group) -> Tensor:
    """-(1/BN) sum_i A_i log m(z_i) / length_i, as in Shao et al. 2024: long rollouts count less, so it is biased."""
    return -(advantages * group.log_probs / _lengths(group)).mean((-2, -1))


def entropy_bonus(advantages: Tensor, group: Group, *, coefficient: float) -> Tensor:
    """`sequence_sum` less `coefficient` times the mean entropy per token, in nats, of the distributions visited.

    As usual, which distributions are visited is held fixed, so this is not the gradient of the policy's entropy.
    """
    if group.entropies is None:
        raise ValueError("an entropy bonus needs the entropies of the rollouts' tokens, got none")
    entropy = group.entropies.sum((-2, -1)) / _lengths(group).sum((-2, -1))
    return sequence_sum(advantages, group) - coefficient * entropy


def differential_smoothing(advantages: Tensor, group: Group, *, gamma: float) -> Tensor:
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
        raise ValueError("the greedy gate needs to know which tasks greedy decoding solves, got nothing")
    return sequence_sum(advantages * ~group.greedy[..., None], group)


SURROGATES: dict[str, Callable[..., Tensor]] = {
    "sequence_sum": sequence_sum,
    "token_mean": token_mean,
    "rollout_mean": rollout_mean,
    "entropy_bonus": entropy_bonus,
    "differential_smoothing": differential_smoothing,
    "greedy_gate": greedy_gate,
}


def resolve(text: str) -> Callable[[Tensor, Group], Tensor]:
    """Return the surrogate of a text form; `ValueError` for an unknown one or wrong options."""
    name, options = specs.parse(text)
    function = specs.lookup(SURROGATES, "surrogate", name)
    specs.check_options(function, "surrogate", name, options)
    return lambda advantages, group: function(advantages, group, **options)


def needs_greedy(text: str) -> bool:
    """Whether the surrogate reads `Group.greedy`."""
    return specs.parse(text)[0] == "greedy_gate"


def _lengths(group: Group) -> Tensor:
    lengths = torch.ones_like(group.rewards) if group.lengths is None else group.lengths
    return lengths.to(group.log_probs)
