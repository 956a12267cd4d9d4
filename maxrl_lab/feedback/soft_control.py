"""Soft-optimal control over a finite horizon: values, policies and visits of a table, exact and by recursion.

With rewards r(s,a) and temperature tau > 0,

    Q_t(s,a) = r(s,a) + sum_s' P(s'|s,a) V_{t+1}(s')        V_t(s) = tau log sum_a exp(Q_t(s,a) / tau)
    log pi_t(a|s) = (Q_t(s,a) - V_t(s)) / tau                V_H = 0

is the policy that maximises the expected sum of rewards over H steps plus tau times its entropy (maximum-entropy
control: Ziebart 2010; the exact lower level of arXiv:2302.07457). An absorbing state goes on collecting its reward and
the entropy tau log A of A equal actions until the horizon, as if each of its actions led back to it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.settings import Interval


class SoftControl(NamedTuple):
    """The soft-optimal policy and its values."""

    log_policy: Tensor
    """(H, B, S, A), as `TabularTasks` takes it."""
    values: Tensor
    """(H+1, B, S) V_t, V_H = 0."""


def soft_value_iteration(transitions: Tensor, rewards: Tensor, *, horizon: int, temperature: float) -> SoftControl:
    """Return the soft-optimal policy of rewards (B, S, A) and its values, differentiable in the rewards.

    transitions: (B, S, A, S). Raises `InputError` for other shapes and for a temperature that is not positive.
    """
    check_temperature(temperature)
    if transitions.ndim != 4 or rewards.shape != transitions.shape[:3]:
        got = f"{tuple(rewards.shape)} and {tuple(transitions.shape)}"
        raise InputError(f"expected rewards (B, S, A) and transitions (B, S, A, S), got {got}")
    value = rewards.new_zeros(rewards.shape[:2])
    values, policies = [value], []
    for _ in range(horizon):
        scaled = (rewards + expected_after(transitions, value)) / temperature
        policies.append(scaled.log_softmax(-1))
        value = temperature * scaled.logsumexp(-1)
        values.append(value)
    return SoftControl(torch.stack(policies[::-1]), torch.stack(values[::-1]))


def expected_after(transitions: Tensor, values: Tensor) -> Tensor:
    """Return sum_s' P(s'|s,a) V(s') as (B, S, A) of values (B, S)."""
    tasks, states, actions, _ = transitions.shape
    return torch.bmm(transitions.view(tasks, states * actions, states), values[..., None]).view(tasks, states, actions)


def visits(transitions: Tensor, start: Tensor, log_policy: Tensor) -> Tensor:
    """Return the probability of standing on s and doing a at t = 0..H-1, (H, B, S, A), of a policy (H, B, S, A).

    start: (B, S) distribution of the first state. Absorbing states are visited until the horizon.
    """
    tasks, states, actions, _ = transitions.shape
    flat, at, reached = transitions.view(tasks, states * actions, states), start, []
    for policy in log_policy.exp():
        acting = at[..., None] * policy
        reached.append(acting)
        at = torch.bmm(acting.view(tasks, 1, states * actions), flat).squeeze(1)
    return torch.stack(reached)


def check_temperature(temperature: float) -> None:
    """Raise `InputError` unless the temperature is positive and finite."""
    Interval().check("temperature", temperature)
