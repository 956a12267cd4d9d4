"""Policy gradients where success is rare: silent groups are counted, not sampled, by their exact law.

An estimator whose advantages are 0 in a group without success leaves the policy as it is, so the number of silent
groups before the next one that counts is geometric, with the chance (1-p)^N of silence that dynamic programming gives.
The next group is then drawn on the condition that some rollout of it succeeds: rollouts with a given outcome are
sampled step by step with Doob's transform,

    P(a, s' | s, t, success) = pi(a|s) P(s'|s,a) v_{t+1}(s') / v_t(s)

where v_t(s) is the probability of success from s at time t. Nothing is approximated, and a pass rate of 1e-10 takes no
longer than one of 0.1. [lab]
"""

from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.specs import check_count
from maxrl_lab.tabular.rollout import Paths
from maxrl_lab.tabular.tables import Tables
from maxrl_lab.tabular.transitions import successors, true_chances


class Outcomes(NamedTuple):
    """The probabilities of success and of failure from each state at each time, (H+1, B, S) each; their sum is 1."""

    success: Tensor
    failure: Tensor

    def pass_rate(self, tables: Tables) -> Tensor:
        """Return the pass rate of each task, (B,)."""
        return (tables.start.double() * self.success[0]).sum(-1).clamp(0, 1)


class Waited(NamedTuple):
    """The next group that counts."""

    silent: Tensor
    """(B,) float64 number of groups without success before it."""
    rewards: Tensor
    """(B, N) float64, 1 for success; the order within the group is that of sampling."""
    paths: Paths
    """What its rollouts did."""


class Moves:
    """The moves of some tasks as pairs of an action and a successor, prepared once for many walks."""

    def __init__(self, tables: Tables) -> None:
        tasks, states, actions = tables.shape
        self.tables, self.actions = tables, actions
        nexts = successors(tables)
        self.width = nexts.shape[-1]
        self.nexts = nexts.reshape(tasks, states, -1)
        self.flat_nexts = self.nexts.flatten(1)
        self.chances = true_chances(tables)
        self.active = tables.active

    def joint(self, policy: Tensor) -> Tensor:
        """Return the probability of each pair, (B, S, A C), of a policy of probabilities (B, S, A)."""
        return (policy.double()[..., None] * self.chances).flatten(2)

    def outcomes(self, policy: Tensor) -> Outcomes:
        """Return the chances of both outcomes under a stationary policy of probabilities (B, S, A)."""
        joint = self.joint(policy)
        right = self.tables.success.double()
        both = torch.stack([right, 1 - right])
        rows = [both]
        at = self.flat_nexts.expand(2, *self.flat_nexts.shape)
        for _ in range(self.tables.horizon):
            ahead = both.gather(2, at).view(2, *joint.shape)
            both = torch.where(self.active, (joint * ahead).sum(-1), both)
            rows.append(both)
        stacked = torch.stack(rows[::-1])
        return Outcomes(stacked[:, 0], stacked[:, 1])

    def walk(self, policy: Tensor, rewards: Tensor, outcomes: Outcomes, stream: torch.Generator) -> Paths:
        """Return rollouts (B, N) under the policy on the condition that they have the outcomes `rewards` (B, N)."""
        joint, right = self.joint(policy), rewards > 0
        start = self.tables.start.double()
        state = self._pick(self._hope(start[:, None].expand(-1, right.shape[1], -1), right, outcomes, 0), stream)
        task = torch.arange(len(right))[:, None].expand_as(state)
        states, actions = [state], []
        for step in range(1, self.tables.horizon + 1):
            pairs, active = self.nexts[task, state], self.active[task, state]
            if not bool(active.any()):
                states += [state] * (self.tables.horizon + 1 - step)
                actions += [torch.full_like(state, -1)] * (self.tables.horizon + 1 - step)
                break
            ahead = torch.where(
                right[..., None],
                outcomes.success[step].gather(1, pairs.flatten(1)).view(pairs.shape),
                outcomes.failure[step].gather(1, pairs.flatten(1)).view(pairs.shape),
            )
            pair = self._pick(joint[task, state] * ahead, stream)
            actions.append(torch.where(active, pair // self.width, -1))
            state = torch.where(active, pairs.gather(-1, pair[..., None])[..., 0], state)
            states.append(state)
        return Paths(torch.stack(states, -1), torch.stack(actions, -1))

    @staticmethod
    def _hope(weights: Tensor, right: Tensor, outcomes: Outcomes, step: int) -> Tensor:
        """Return the weights (B, N, S) of states times their chance of the wanted outcome."""
        return weights * torch.where(right[..., None], outcomes.success[step][:, None], outcomes.failure[step][:, None])

    @staticmethod
    def _pick(weights: Tensor, stream: torch.Generator) -> Tensor:
        """Return an index of the last axis with probability in proportion to its weight."""
        mass = weights.cumsum(-1)
        threshold = torch.rand(weights.shape[:-1], generator=stream, dtype=torch.float64)[..., None] * mass[..., -1:]
        return (threshold >= mass).sum(-1).clamp(max=weights.shape[-1] - 1)


def next_group(
    moves: Moves, policy: Tensor, outcomes: Outcomes, rollouts: int, stream: torch.Generator, *, wait: bool = True
) -> Waited:
    """Return the next group of N rollouts with a success in it; `outcomes` are those of the policy (B, S, A).

    Without `wait` the next group is returned whatever its outcomes, for estimators that learn from silent groups, too.
    Raises `InputError` if a task's pass rate is 0, so that the wait would have no end.
    """
    check_count("rollouts", rollouts)
    p = outcomes.pass_rate(moves.tables)
    silent, first = torch.zeros_like(p), torch.full(p.shape, rollouts + 1 if not wait else 0)
    if wait:
        if bool((p <= 0).any()):
            raise InputError(f"the wait for a success has no end: the pass rate of task {int(p.argmin())} is 0")
        silent, first = waits(p, rollouts, stream)
    uniform = torch.rand(len(p), rollouts, generator=stream, dtype=torch.float64)
    number = torch.arange(1, rollouts + 1)
    after_first = number > first[:, None] if wait else torch.ones_like(uniform, dtype=torch.bool)
    rewards = ((uniform < p[:, None]) & after_first | (number == first[:, None])).double()
    return Waited(silent, rewards, moves.walk(policy, rewards, outcomes, stream))


def waits(pass_rates: Tensor, rollouts: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return of groups of N rollouts how many are silent before the next (B,), and its first success 1..N (B,).

    The number of silent groups has the law (1-q)^g q with q = 1 - (1-p)^N; the position of the first success has the
    geometric law cut at N.
    """
    uniforms = torch.rand(2, len(pass_rates), generator=stream, dtype=torch.float64).clamp(min=1e-300)
    log_failure = torch.log1p(-pass_rates.double().clamp(max=1 - 1e-15))
    silent = (uniforms[0].log() / (rollouts * log_failure)).floor()
    some = -torch.expm1(rollouts * log_failure)
    first = (torch.log1p(-uniforms[1] * some) / log_failure).ceil().clamp(1, rollouts)
    return silent, first.long()


def score_sum(policy: Tensor, paths: Paths, weights: Tensor) -> Tensor:
    """Return sum_i w_i (score of rollout i) for the logits of a softmax policy (B, S, A), weights (B, N).

    The score of a step at s with move a is e_a - pi(.|s) at s, and 0 elsewhere.
    """
    tasks, states, actions = policy.shape
    taken = paths.actions >= 0
    at = paths.states[..., :-1] + torch.arange(tasks).view(-1, 1, 1) * states
    amount = weights.double()[..., None].expand_as(taken)[taken]
    pulled = torch.zeros(tasks * states * actions, dtype=torch.float64)
    pulled.index_add_(0, at[taken] * actions + paths.actions[taken], amount)
    pulled = pulled.view(policy.shape)
    return pulled - policy.double() * pulled.sum(-1, keepdim=True)
