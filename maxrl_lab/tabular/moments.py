"""The exact second moments of the score of tabular tasks' rollouts, by backward recursion.

With v_t(s) the probability of success from state s at time t, and S the score of what is left of the rollout [lab]:

    q_t(s) = E[|S|^2 1{success}]
           = sum_a pi(a|s) sum_s' P(s'|s,a) [ |l|^2 v_{t+1}(s') + 2 l . g_{t+1}(s') + q_{t+1}(s') ]

where l = grad log pi(a|s) and g = grad v. The gradient is a combination of scores, g_t(s) = sum_c D_t(s)[c] l_c over
the cells c = (s, a) of the table, so every product above needs the scores only through their Gram matrix
G[c, c'] = l_c . l_c'. For a softmax table that is known; for a network it is J J^T with J its Jacobian.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.tabular.dynamic_programming import occupancy
from maxrl_lab.tabular.tables import Tables

MAX_NUMBERS = 6000**2
"""Largest (S A)^2 C of one task for which moments are computed; its tables take 0.3 GB."""


class ScoreMoments(NamedTuple):
    """The moments of each task's score, (B,) float64: the keyword arguments of `exact.variance`."""

    pass_rate: Tensor
    """Pass rate p of each task."""
    gradient_norm_squared: Tensor
    """|grad p|^2."""
    success_moment: Tensor
    """E[|S|^2 1{success}]."""
    failure_moment: Tensor
    """E[|S|^2 1{failure}]."""


def score_moments(tables: Tables, log_policy: Tensor, gram: Tensor | None = None) -> ScoreMoments:
    """Return the exact moments of the score of each task's rollouts under one policy (T, B, S, A).

    gram: (B, S A, S A), the products of the gradients of log pi(a|s) for the parameters of interest; by default these
    are the policy table's own logits. Raises `InputError` if they take more than `MAX_NUMBERS` numbers, and for a Gram
    matrix with a policy that depends on time.
    """
    _check(tables, log_policy, gram)
    times, count = log_policy.shape[:2]
    policy = log_policy.detach().double().exp()
    if times > 1:
        reached = occupancy(tables, log_policy[None])[:-1, 0]
        rows = [_moments_in_time(_OneTask(tables, task), policy[:, task], reached[:, task]) for task in range(count)]
    else:
        grams = map(_softmax_gram, policy[0]) if gram is None else iter(gram.detach().double())
        rows = [_moments_of_one(_OneTask(tables, task), policy[0, task], next(grams)) for task in range(count)]
    pass_rates, *others = (torch.stack(values) for values in zip(*rows, strict=True))
    return ScoreMoments(pass_rates.clamp(max=1.0), *others)


def _check(tables: Tables, log_policy: Tensor, gram: Tensor | None) -> None:
    times, count, states, actions = log_policy.shape
    cells, successors = states * actions, tables.next_states.shape[3]
    if cells**2 * successors > MAX_NUMBERS:
        raise InputError(
            f"moments take (S A)^2 C numbers, at most {MAX_NUMBERS}, got S = {states}, A = {actions}, C = {successors}"
        )
    if gram is not None and times > 1:
        raise InputError("moments of a policy that depends on time are for its own logits, not for a Gram matrix")
    if gram is not None and gram.shape != (count, cells, cells):
        raise InputError(f"gram must have shape {(count, cells, cells)}, got {tuple(gram.shape)}")


class _OneTask:
    """The tables of one task: the next states (S, A, C) of every move and their chances (S, A, C)."""

    def __init__(self, tables: Tables, task: int) -> None:
        states = tables.shape[1]
        self.horizon = tables.horizon
        self.start = tables.start[task].double()
        self.success = tables.success[task].double()
        self.active = tables.active[task]
        self.nexts = tables.next_states[task] - task * states
        chances = tables.probabilities
        self.chances = torch.ones_like(self.nexts, dtype=torch.float64) if chances is None else chances[task].double()

    def after(self, values: Tensor) -> Tensor:
        """Return the mean over successors of per-state values, (S, ...) -> (S, A, ...)."""
        chances = self.chances.reshape(*self.chances.shape, *(1,) * (values.ndim - 1))
        return (values[self.nexts] * chances).sum(2)

    def masked(self, values: Tensor) -> Tensor:
        """Return the values with 0 on absorbing states."""
        return values * self.active.reshape(-1, *(1,) * (values.ndim - 1))


def _moments_of_one(task: _OneTask, pi: Tensor, gram: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four moments of one task under a stationary policy (S, A)."""
    states, actions = pi.shape
    squares = gram.diagonal().view(states, actions)
    cells = torch.arange(states * actions, device=pi.device).view(states, actions)
    slopes = pi.new_zeros(states, states * actions)
    odds, right, wrong = _Odds(task), pi.new_zeros(states), pi.new_zeros(states)
    for _ in range(task.horizon):
        cross = 2 * task.after(slopes @ gram).view(states, actions, -1).gather(2, cells[..., None]).squeeze(2)
        success_after, failure_after, gap = odds.step(pi)
        right = task.masked((pi * (squares * success_after + cross + task.after(right))).sum(1))
        wrong = task.masked((pi * (squares * failure_after - cross + task.after(wrong))).sum(1))
        slopes = task.masked((pi[..., None] * task.after(slopes)).sum(1).scatter_add(1, cells, pi * gap))
    slope = task.start @ slopes
    return task.start @ odds.success, slope @ gram @ slope, task.start @ right, task.start @ wrong


def _moments_in_time(task: _OneTask, policy: Tensor, reached: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four moments of one task under a table with separate logits for each time, (H, S, A).

    The scores of different times then have no products. `reached` (H, S) is the probability of standing on each state
    at each time.
    """
    odds, right, wrong = _Odds(task), torch.zeros_like(task.success), torch.zeros_like(task.success)
    slopes = []
    for pi, at in zip(policy.flip(0), reached.flip(0), strict=True):
        squares = _scores(pi).square().sum(2)
        success_after, failure_after, gap = odds.step(pi)
        slopes.append((at * task.active)[:, None] * pi * gap)
        right = task.masked((pi * (squares * success_after + task.after(right))).sum(1))
        wrong = task.masked((pi * (squares * failure_after + task.after(wrong))).sum(1))
    norm = torch.stack(slopes).square().sum()
    return task.start @ odds.success, norm, task.start @ right, task.start @ wrong


class _Odds:
    """Probabilities (S,) of success and of failure from each state.

    Each has a recursion without subtraction: 1 - success would lose the digits of a small probability of failure.
    """

    def __init__(self, task: _OneTask) -> None:
        self.task, self.success, self.failure = task, task.success, 1 - task.success

    def step(self, pi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Go one step back; return both after each action (S, A), and how much better than the mean an action is.

        The gradient needs only that gap, because the scores of a state have mean 0. It is the difference of the smaller
        of the two probabilities, which has more correct digits.
        """
        success_after, failure_after = self.task.after(self.success), self.task.after(self.failure)
        success, failure = (pi * success_after).sum(1), (pi * failure_after).sum(1)
        gap = torch.where(
            (success < failure)[:, None], success_after - success[:, None], failure[:, None] - failure_after
        )
        self.success = torch.where(self.task.active, success, self.success)
        self.failure = torch.where(self.task.active, failure, self.failure)
        return success_after, failure_after, gap


def _scores(policy: Tensor) -> Tensor:
    """Scores of each state's own logits, (S, A, A): 1{a=a'} - pi(a'), where 1 - pi(a) is the sum of the others."""
    actions = policy.shape[1]
    others = 1 - torch.eye(actions, dtype=policy.dtype, device=policy.device)
    return torch.diag_embed(policy @ others) - policy[:, None, :] * others


def _softmax_gram(policy: Tensor) -> Tensor:
    """Gram matrix of the logits of a table (S A, S A): only cells of one state have a product that is not 0."""
    scores = _scores(policy)
    gram: Tensor = torch.block_diag(*(scores @ scores.transpose(1, 2)))
    return gram
