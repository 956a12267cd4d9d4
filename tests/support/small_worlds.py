"""Tabular tasks so small that every path can be followed, and the plain loops that follow them.

Shared by the tests of the tabular tasks. The loops read the raw tables only, never what the package derives from them.
"""

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.tabular.tasks import TabularTasks


def corridor(horizon: int = 5, length: int = 3) -> TabularTasks:
    """One task: from state 0 to success at state `length`; action 0 steps back (or stays at 0), action 1 ahead."""
    states = range(length + 1)
    return TabularTasks(
        successors=torch.tensor([[[max(0, s - 1), min(length, s + 1)] for s in states]]),
        start=torch.eye(length + 1, dtype=torch.float64)[:1],
        success=torch.tensor([[s == length for s in states]]),
        failure=torch.zeros(1, length + 1, dtype=torch.bool),
        horizon=horizon,
    )


def graphs(horizon: int = 4, sizes: tuple[int, ...] = (3, 5, 4), actions: int = 3, seed: int = 0) -> TabularTasks:
    """A random deterministic graph per entry of `sizes`, padded to the largest: a pit, then success, come last.

    Start is state 0. From each state one action, at random, leads to the next one (past the pit), so there is a way.
    """
    random = torch.Generator().manual_seed(seed)
    states, count = max(sizes), len(sizes)
    successors = torch.zeros(count, states, actions, dtype=torch.long)
    success, failure = (torch.zeros(count, states, dtype=torch.bool) for _ in range(2))
    for task, size in enumerate(sizes):
        successors[task, :size] = torch.randint(size, (size, actions), generator=random)
        for state in range(size - 2):
            ahead = state + 1 if state < size - 3 else size - 1
            successors[task, state, torch.randint(actions, (1,), generator=random)] = ahead
        success[task, size - 1] = True
        failure[task, size - 2] = True
        failure[task, size:] = True
    start = torch.zeros(count, states, dtype=torch.float64)
    start[:, 0] = 1.0
    return TabularTasks(successors, start, success, failure, horizon)


def slippery(horizon: int = 4) -> TabularTasks:
    """Two stochastic tasks of 5 states, 2 actions and 3 possible successors each; state 3 is a pit, 4 is success.

    The first starts at random, on absorbing states as well; the second starts on state 1. Some successors are
    impossible, some come twice, and some moves are certain.
    """
    successors = [
        [[[1, 2, 0], [3, 2, 2]], [[0, 4, 4], [2, 1, 0]], [[4, 3, 0], [2, 4, 1]], [[0, 1, 2], [0, 1, 2]], [[0] * 3] * 2],
        [[[0, 1, 3], [1, 2, 4]], [[2, 3, 0], [0, 1, 2]], [[3, 3, 4], [1, 0, 2]], [[4, 4, 4]] * 2, [[3, 0, 1]] * 2],
    ]
    # rows that are never read, those of absorbing states, are distributions all the same
    pit, right = [[0.1, 0.2, 0.7]] * 2, [[1.0, 0.0, 0.0]] * 2
    first = [
        [[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]],
        [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]],
        [[0.6, 0.3, 0.1], [0.2, 0.0, 0.8]],
    ]
    second = [
        [[0.0, 1.0, 0.0], [0.5, 0.4, 0.1]],
        [[0.35, 0.4, 0.25], [0.0, 0.1, 0.9]],
        [[0.2, 0.3, 0.5], [0.9, 0.1, 0]],
    ]
    return TabularTasks(
        successors=torch.tensor(successors),
        start=torch.tensor([[0.4, 0.0, 0.3, 0.1, 0.2], [0.0, 1.0, 0.0, 0.0, 0.0]], dtype=torch.float64),
        success=torch.tensor([[False, False, False, False, True]] * 2),
        failure=torch.tensor([[False, False, False, True, False]] * 2),
        horizon=horizon,
        probabilities=torch.tensor([[*first, pit, right], [*second, pit, right]], dtype=torch.float64),
    )


WORLDS = {"corridor": corridor(), "graphs": graphs(), "slippery": slippery()}


def random_policy(
    tasks: TabularTasks, times: int = 1, runs: int | None = None, seed: int = 0, spread: float = 1.0
) -> Tensor:
    """Log-probabilities (T, B, S, A), or (R, T, B, S, A): every action is possible everywhere."""
    leading = (times,) if runs is None else (runs, times)
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(*leading, *tasks.shape, generator=random, dtype=torch.float64)
    return (spread * logits).log_softmax(-1)


def outcomes(tasks: TabularTasks, task: int, state: int, action: int) -> list[tuple[float, int]]:
    """[(probability, next state)] of one move, read from the raw tables."""
    after = tasks.successors[task, state, action]
    if tasks.probabilities is None:
        return [(1.0, int(after))]
    chances = tasks.probabilities[task, state, action]
    return [(float(chance), int(s)) for chance, s in zip(chances, after, strict=True) if chance > 0]


class Paths(NamedTuple):
    """Every path of one task: V of them, equal ones merged."""

    keys: list[tuple[tuple[int, ...], tuple[int, ...]]]
    """(H+1 states, the last one repeated; H actions, -1 after the end)."""
    chances: Tensor
    """(V,) probability of its start and its slips, whatever the policy does."""
    counts: Tensor
    """(V, T, S, A) how often it uses each cell of the policy's table."""
    rewards: Tensor
    """(V,) bool"""
    lengths: Tensor
    """(V,) actions before the end."""

    def probabilities(self, log_policy: Tensor) -> Tensor:
        """(V,) under a policy (T, S, A) that gives every action a chance; differentiable."""
        return self.chances * (self.counts.flatten(1) @ log_policy.flatten()).exp()


@lru_cache(maxsize=64)
def every_path(tasks: TabularTasks, task: int, times: int = 1) -> Paths:
    """All paths of one task, by following every start, action and slip one at a time."""
    horizon, (_, states, actions) = tasks.horizon, tasks.shape
    ends = [bool(r) or bool(w) for r, w in zip(tasks.success[task], tasks.failure[task], strict=True)]
    table = [[outcomes(tasks, task, s, a) for a in range(actions)] for s in range(states)]
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}

    def follow(visited: tuple[int, ...], taken: tuple[int, ...], chance: float) -> None:
        if len(taken) == horizon:
            found[visited, taken] = found.get((visited, taken), 0.0) + chance
        elif ends[visited[-1]]:
            follow((*visited, visited[-1]), (*taken, -1), chance)
        else:
            for action in range(actions):
                for slip, after in table[visited[-1]][action]:
                    follow((*visited, after), (*taken, action), chance * slip)

    for state in range(states):
        if tasks.start[task, state] > 0:
            follow((state,), (), float(tasks.start[task, state]))
    counts = torch.zeros(len(found), times, states, actions, dtype=torch.float64)
    for path, (visited, taken) in enumerate(found):
        for step, action in enumerate(taken):
            if action >= 0:
                counts[path, step % times, visited[step], action] += 1
    return Paths(
        list(found),
        torch.tensor(list(found.values()), dtype=torch.float64),
        counts,
        torch.tensor([bool(tasks.success[task, visited[-1]]) for visited, _ in found]),
        torch.tensor([sum(action >= 0 for action in taken) for _, taken in found]),
    )


def enumerated_pass_rate(tasks: TabularTasks, log_policy: Tensor) -> Tensor:
    """(B,) of a policy (T, B, S, A): the summed probability of all paths that end on success; differentiable."""
    rates = []
    for task in range(tasks.shape[0]):
        paths = every_path(tasks, task, len(log_policy))
        rates.append(paths.probabilities(log_policy[:, task])[paths.rewards].sum())
    return torch.stack(rates)


def scores_of_logits(paths: Paths, log_policy: Tensor) -> Tensor:
    """(V, T S A) the gradient of each path's log-probability for the logits of the table (T, S, A)."""
    used = paths.counts.sum(-1, keepdim=True)
    return (paths.counts - used * log_policy.exp()).flatten(1)


def all_groups(probabilities: Tensor, rewards: Tensor, scores: Tensor, rollouts: int, advantages) -> tuple:
    """Mean (d,) and variance () of a group's gradient estimate, from every possible group of N paths."""
    paths = range(len(probabilities))
    members = torch.tensor(list(product(paths, repeat=rollouts)))
    chances = probabilities[members].prod(1)
    estimates = (advantages(rewards[members].double())[..., None] * scores[members]).mean(1)
    mean = chances @ estimates
    return mean, chances @ estimates.square().sum(1) - mean.square().sum()
