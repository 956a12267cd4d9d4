"""The exact pass rate of a policy on tabular tasks, and the exact second moments of its score, by backward recursion.

With v_t(s) the probability of success from state s at time t, and S the score of what is left of the rollout:

    v_t(s) = sum_a pi(a|s) sum_s' P(s'|s,a) v_{t+1}(s')
    q_t(s) = E[|S|^2 1{success}]
           = sum_a pi(a|s) sum_s' P(s'|s,a) [ |l|^2 v_{t+1}(s') + 2 l . g_{t+1}(s') + q_{t+1}(s') ]           [lab]

where l = grad log pi(a|s) and g = grad v. The gradient is a combination of scores, g_t(s) = sum_c D_t(s)[c] l_c over
the cells c = (s, a) of the table, so every product above needs the scores only through their Gram matrix
G[c, c'] = l_c . l_c'. For a softmax table that is known; for a network it is J J^T with J its Jacobian.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from maxrl_lab.errors import InputError

if TYPE_CHECKING:
    from maxrl_lab.tabular.tasks import TabularTasks

MAX_NUMBERS = 6000**2
"""Largest (S A)^2 C of one task for moments, 0.3 GB."""


class ScoreMoments(NamedTuple):
    """Of each task, shape (B,), float64: the keyword arguments of `exact.variance`."""

    pass_rate: Tensor
    """p."""
    gradient_norm_squared: Tensor
    """|grad p|^2."""
    success_moment: Tensor
    """E[|S|^2 1{success}]."""
    failure_moment: Tensor
    """E[|S|^2 1{failure}]."""


def pass_rate(tasks: "TabularTasks", log_policy: Tensor) -> Tensor:
    """Return the probability of success (R, B) of policies (R, T, B, S, A), differentiable, float64.

    O(R B S A C H) look-ups. The run axis comes last inside, so that a look-up copies a row of R numbers.
    """
    runs, times, count, states, actions = log_policy.shape
    nexts = tasks.next_states.flatten()
    policy = log_policy.double().exp().permute(1, 2, 3, 4, 0).reshape(times, count * states, actions, runs)
    value = tasks.success.double().flatten()[:, None].expand(-1, runs)
    active = tasks.active.flatten()[:, None]
    for step in reversed(range(tasks.horizon)):
        after = _mean_over_successors(tasks, value.index_select(0, nexts)).view(count * states, actions, runs)
        value = torch.where(active, (policy[step % times] * after).sum(1), value)
    rates = torch.einsum("bs,bsr->rb", tasks.start.double(), value.view(count, states, runs))
    return rates.clamp(max=1.0)  # a sum of rounded probabilities may exceed 1 by 1e-16


def occupancy(tasks: "TabularTasks", log_policy: Tensor) -> Tensor:
    """Return the probability of standing on each state after t = 0..H steps, (H+1, R, B, S), float64."""
    runs, times, count, states, _ = log_policy.shape
    nexts = tasks.next_states.flatten().expand(runs, -1)
    policy = log_policy.detach().double().exp()
    chances = torch.ones(1, dtype=torch.float64) if tasks.probabilities is None else tasks.probabilities.double()
    at = tasks.start.double().expand(runs, -1, -1)
    reached = [at]
    for step in range(tasks.horizon):
        moving = (at * tasks.active)[..., None] * policy[:, step % times]
        flow = (moving[..., None] * chances.to(at.device)).flatten(1)
        resting = (at * ~tasks.active).flatten(1)
        at = resting.scatter_add(1, nexts, flow).view(runs, count, states)
        reached.append(at)
    return torch.stack(reached)


def _mean_over_successors(tasks: "TabularTasks", values: Tensor) -> Tensor:
    """(B S A C, R) -> (B S A, R)."""
    if tasks.probabilities is None:
        return values
    chances = tasks.probabilities.double()
    return (values.view(-1, chances.shape[-1], values.shape[-1]) * chances.view(-1, chances.shape[-1], 1)).sum(1)


def moments(tasks: "TabularTasks", log_policy: Tensor, gram: Tensor | None = None) -> ScoreMoments:
    """Return the exact moments of the score of each task's rollouts under one policy (T, B, S, A).

    gram: (B, S A, S A), the products of the gradients of log pi(a|s) for the parameters of interest; by default these
    are the policy table's own logits. Raises `ValueError` if they take more than `MAX_NUMBERS` numbers, and for a Gram
    matrix with a policy that depends on time.
    """
    times, count, states, actions = log_policy.shape
    successors = tasks.next_states.shape[3]
    if (states * actions) ** 2 * successors > MAX_NUMBERS:
        raise InputError(
            f"moments take (S A)^2 C numbers, at most {MAX_NUMBERS}, got S = {states}, A = {actions}, C = {successors}"
        )
    if gram is not None and times > 1:
        raise InputError("moments of a policy that depends on time are for its own logits, not for a Gram matrix")
    cells = states * actions
    if gram is not None and gram.shape != (count, cells, cells):
        raise InputError(f"gram must have shape {(count, cells, cells)}, got {tuple(gram.shape)}")
    policy = log_policy.detach().double().exp()
    if times > 1:
        reached = occupancy(tasks, log_policy[None])[:-1, 0]
        found = [_moments_in_time(_OneTask(tasks, task), policy[:, task], reached[:, task]) for task in range(count)]
    else:
        grams = map(_softmax_gram, policy[0]) if gram is None else iter(gram.detach().double())
        found = [_moments_of_one(_OneTask(tasks, task), policy[0, task], next(grams)) for task in range(count)]
    pass_rates, *others = (torch.stack(values) for values in zip(*found, strict=True))
    return ScoreMoments(pass_rates.clamp(max=1.0), *others)


class _OneTask:
    """The tables of one task: transition (S, A, S) as successors and chances (S, A, C)."""

    def __init__(self, tasks: "TabularTasks", task: int) -> None:
        states = tasks.shape[1]
        self.horizon = tasks.horizon
        self.start = tasks.start[task].double()
        self.success = tasks.success[task].double()
        self.active = tasks.active[task]
        self.nexts = tasks.next_states[task] - task * states
        chances = tasks.probabilities
        self.chances = torch.ones_like(self.nexts, dtype=torch.float64) if chances is None else chances[task].double()

    def after(self, values: Tensor) -> Tensor:
        """Mean over successors of per-state values (S, ...) -> (S, A, ...)."""
        chances = self.chances.reshape(*self.chances.shape, *(1,) * (values.ndim - 1))
        return (values[self.nexts] * chances).sum(2)

    def masked(self, values: Tensor) -> Tensor:
        """0 on absorbing states."""
        return values * self.active.reshape(-1, *(1,) * (values.ndim - 1))


def _moments_of_one(task: _OneTask, pi: Tensor, gram: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four moments of one task under a stationary policy (S, A)."""
    states, actions = pi.shape
    squares = gram.diagonal().view(states, actions)
    own = torch.arange(states * actions, device=pi.device).view(states, actions)
    slopes = pi.new_zeros(states, states * actions)
    odds, right, wrong = _Odds(task), pi.new_zeros(states), pi.new_zeros(states)
    for _ in range(task.horizon):
        cross = 2 * task.after(slopes @ gram).view(states, actions, -1).gather(2, own[..., None]).squeeze(2)
        success_after, failure_after, gap = odds.step(pi)
        right = task.masked((pi * (squares * success_after + cross + task.after(right))).sum(1))
        wrong = task.masked((pi * (squares * failure_after - cross + task.after(wrong))).sum(1))
        slopes = task.masked((pi[..., None] * task.after(slopes)).sum(1).scatter_add(1, own, pi * gap))
    slope = task.start @ slopes
    return task.start @ odds.success, slope @ gram @ slope, task.start @ right, task.start @ wrong


def _moments_in_time(task: _OneTask, policy: Tensor, reached: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same for a table with logits of their own at each time (H, S, A): their scores have no products.

    `reached` (H, S) is the probability of standing on each state at each time.
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
    """Probabilities (S,) of success and of failure from each state, each by itself: neither is rounded near 0."""

    def __init__(self, task: _OneTask) -> None:
        self.task, self.success, self.failure = task, task.success, 1 - task.success

    def step(self, pi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Go one step back; return both after each action (S, A), and how much better than the mean an action is.

        The gradient needs that gap only, as the scores of a state have mean 0; it is taken where it is not rounded.
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
    """G of the logits of a table: only cells of one state have a product."""
    scores = _scores(policy)
    gram: Tensor = torch.block_diag(*(scores @ scores.transpose(1, 2)))
    return gram
