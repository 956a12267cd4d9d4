"""Which rollouts to compare before anybody has said what is right: REGIME on tables, a reconstruction.

Reward-agnostic preference-based RL (Zhan, Uehara, Sun and Lee, arXiv:2305.18505). The reward of a rollout is linear in
its features, r = <theta, phi>. Pairs of policies are chosen without any label, each the pair that the comparisons so
far say least about; all labels are asked for at once; then theta is fitted, and the policy is greedy for it:

    (pi0, pi1) = argmax |phi(pi0) - phi(pi1)|_{Sigma^-1},      Sigma = lambda I + sum of outer products.

Here phi is the one-hot state on which a rollout ends, so that theta = s 1{goal} makes the reward the outcome: a rollout
is right if it ends on the goal. The paper's formulas are known from its abstract and its reviews. What departs from it:
the argmax is over one policy for each target state (it is convex in phi, and in general no dynamic programme solves
it), rewards are fitted with a ridge instead of in a ball, and the model of the world is a table of counts.

Axes: R runs, S states, A actions, H steps, C candidates, D features (D = S here).
"""

from bisect import bisect
from dataclasses import dataclass

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.feedback.preferences import check_positive
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.tabular.transitions import dense_transitions


@dataclass(frozen=True, eq=False)
class Model:
    """A finite decision process without rewards, dense; `InputError` unless its rows are distributions."""

    transitions: Tensor
    """(S, A, S) float64 probabilities."""
    start: Tensor
    """(S,) float64 start distribution."""
    horizon: int
    """H, the number of steps; every rollout makes all of them."""

    def __post_init__(self) -> None:
        """Check shapes and distributions."""
        states = len(self.start)
        if self.transitions.ndim != 3 or (len(self.transitions), self.transitions.shape[2]) != (states, states):
            got = f"{tuple(self.transitions.shape)} and {tuple(self.start.shape)}"
            raise InputError(f"expected transitions (S, A, S) and start (S,), got {got}")
        specs.check_count("horizon", self.horizon)
        for name in ("transitions", "start"):
            rows = getattr(self, name)
            worst = float((rows.sum(-1) - 1).abs().max())
            if worst > 1e-9 or float(rows.min()) < 0:
                raise InputError(f"{name} must be >= 0 and sum to 1, got a sum off by {worst:g}, least {rows.min():g}")

    def best(self, rewards: Tensor) -> Tensor:
        """Return actions (C, H, S) that maximise the mean of rewards (C, S) of the last state; the first of equals."""
        value, actions = rewards.double(), []
        for _ in range(self.horizon):
            value, action = torch.einsum("sat,ct->csa", self.transitions, value).max(-1)
            actions.append(action)
        return torch.stack(actions[::-1], 1)

    def features(self, actions: Tensor) -> Tensor:
        """Return phi (C, S), the distribution of the last state, of policies given by their actions (C, H, S)."""
        at, rows = self.start.expand(len(actions), -1), torch.arange(len(self.start))
        for step in range(actions.shape[1]):
            at = torch.einsum("cs,cst->ct", at, self.transitions[rows, actions[:, step]])
        return at

    def candidates(self) -> Tensor:
        """Return for each state the actions most likely to end on it, (S, H, S); of equals, the first."""
        return self.best(torch.eye(len(self.start), dtype=torch.float64))

    def uniform_features(self) -> Tensor:
        """Return phi (S,) of the policy that takes every action equally often."""
        at, mean = self.start, self.transitions.mean(1)
        for _ in range(self.horizon):
            at = at @ mean
        return at


def model_of(tasks: TabularTasks, task: int = 0) -> tuple[Model, Tensor]:
    """Return a task's dynamics on the states that its start can reach, and the (S,) indices of these states."""
    count, states, _ = tasks.shape
    if not 0 <= task < count:
        raise InputError(f"task must lie in 0..{count - 1}, got {task}")
    dense = dense_transitions(tasks.select([task]))[0]
    reached = tasks.start[task] > 0
    for _ in range(states):
        reached = reached | (dense[reached].sum((0, 1)) > 0)
    kept = reached.nonzero().flatten()
    return Model(dense[kept][:, :, kept], tasks.start[task, kept].double(), tasks.horizon), kept


def estimated(visits: Tensor, start: Tensor, horizon: int) -> Model:
    """Return the model of maximum likelihood from counts (S, A, S) of transitions; moves never tried stay in place."""
    tried = visits.sum(-1, keepdim=True)
    staying = torch.eye(len(start), dtype=torch.float64)[:, None].expand(visits.shape)
    return Model(torch.where(tried > 0, visits / tried.clamp(min=1), staying), start, horizon)


def explore(model: Model, episodes: int, stream: torch.Generator, *, optimistic: bool) -> Tensor:
    """Return counts (S, A, S) of the transitions of episodes in a world, which are no feedback.

    Actions are uniform, or optimistic: towards the pairs of state and action that were never tried, at random among
    equals, along the transitions seen so far.
    """
    visits = torch.zeros_like(model.transitions)
    actions, starts = model.transitions.shape[1], model.start.cumsum(0).tolist()
    thresholds = model.transitions.cumsum(-1).tolist()
    for _ in range(specs.check_count("episodes", episodes, minimum=0)):
        noise = torch.rand(model.horizon + 1, actions + 1, generator=stream, dtype=torch.float64)
        scores = noise[1:, :-1] if not optimistic else _towards_untried(visits, model.horizon)
        plan = (scores[:, None] if scores.ndim == 2 else scores + 1e-6 * noise[1:, None, :-1]).argmax(-1).tolist()
        draws = noise[:, -1].tolist()
        state, moves = _state_at(starts, draws[0]), []
        for step in range(model.horizon):
            action = plan[step][state if optimistic else 0]
            after = _state_at(thresholds[state][action], draws[step + 1])
            moves.append((state * actions + action) * len(starts) + after)
            state = after
        visits.view(-1).index_add_(0, torch.tensor(moves), torch.ones(len(moves), dtype=torch.float64))
    return visits


def designed_pairs(features: Tensor, labels: int, ridge: float, stream: torch.Generator) -> Tensor:
    """Return pairs (R, labels, 2) of candidates with features (R, C, D), chosen before any label, greedily.

    Each pair maximises |phi_i - phi_j|^2 in the metric of Sigma^-1, at random among equals; then Sigma takes up the
    outer product of its difference. Only the Gram matrix Phi Sigma^-1 Phi^T is kept, and updated by rank one. Raises
    `InputError` for fewer than two candidates or a ridge that is not positive.
    """
    if features.ndim != 3 or features.shape[1] < 2:
        raise InputError(f"features must have shape (R, C, D) with C >= 2, got {tuple(features.shape)}")
    gram = features @ features.mT / check_positive("ridge", ridge)
    runs, count = torch.arange(len(features)), features.shape[1]
    pairs = []
    for _ in range(specs.check_count("labels", labels)):
        gap = spread(gram)
        noise = torch.rand(gap.shape, generator=stream, dtype=torch.float64)
        index = (gap * (1 + 1e-9 * noise)).flatten(1).argmax(1)
        pair = torch.stack([index // count, index % count], 1)
        gram = compared(gram, pair, runs)
        pairs.append(pair)
    return torch.stack(pairs, 1)


def spread(gram: Tensor) -> Tensor:
    """Return |phi_i - phi_j|^2 in the metric of Sigma^-1, (R, C, C), from the Gram matrix (R, C, C)."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    return (diagonal[:, :, None] + diagonal[:, None] - 2 * gram).clamp(min=0)


def compared(gram: Tensor, pair: Tensor, runs: Tensor) -> Tensor:
    """Return the Gram matrix (R, C, C) after Sigma has taken up the difference of a pair (R, 2) in every run."""
    difference = gram[runs, :, pair[:, 0]] - gram[runs, :, pair[:, 1]]
    gap = difference[runs, pair[:, 0]] - difference[runs, pair[:, 1]]
    return gram - difference[:, :, None] * difference[:, None] / (1 + gap)[:, None, None]


def information(first: Tensor, second: Tensor, theta: Tensor) -> Tensor:
    """Return the Fisher information (D, D) of one label about theta (D,).

    The rollouts of the pair end on states with distributions first and second (D,), independently:

        I = sum_ij q0_i q1_j sigma'(theta_i - theta_j) (e_i - e_j) (e_i - e_j)^T.

    In the direction of a goal g with theta = s e_g it is sigma'(s) (q0_g (1 - q1_g) + q1_g (1 - q0_g)): for two
    rollouts of one policy 2 p (1-p) sigma'(s), for a pair one of which ends on the goal surely sigma'(s).
    """
    chance = (theta[:, None] - theta[None]).sigmoid()
    weights = first[:, None] * second[None] * chance * (1 - chance)
    weights = weights + weights.mT
    weights = weights - torch.diag(weights.diagonal())
    return torch.diag(weights.sum(1)) - weights


def _towards_untried(visits: Tensor, horizon: int) -> Tensor:
    """Return by time the chance (H, S, A) of reaching a pair that was never tried, along the seen transitions."""
    tried = visits.sum(-1)
    seen = visits / tried.clamp(min=1)[..., None]
    value, plan = torch.zeros(len(visits), dtype=torch.float64), []
    for _ in range(horizon):
        chance = torch.where(tried > 0, seen @ value, 1.0)
        plan.append(chance)
        value = chance.max(-1).values
    return torch.stack(plan[::-1])


def _state_at(cumulative: list[float], uniform: float) -> int:
    """Return the first index whose cumulative probability is above the uniform number."""
    return min(bisect(cumulative, uniform), len(cumulative) - 1)
