"""Random worlds: the exact pass rate of a policy, and the share of its sampled successes, against a plain loop."""

import contextlib
from random import Random

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.tabular.tasks import TabularTasks
from torture.forks import Tally, stream

TOLERANCE, ROLLOUTS, DEVIATIONS = 1e-10, 256, 6.5
"""Of exact pass rates; and standard errors that a sampled share may be off, which 1 of 10^10 worlds is by chance."""


def random_worlds(tries: int, seed: int = 0) -> list[Tally]:
    """Compare so many random worlds of up to 9 states, 4 actions, 3 successors and 12 steps."""
    random = stream("worlds", seed)
    exact = Tally(f"a random world: the pass rate is a plain loop's to {TOLERANCE:g}")
    sampled = Tally(f"a random world: the share of {ROLLOUTS} rollouts is within {DEVIATIONS} standard errors")
    for index in range(tries):
        tasks, policy = _solvable(random)
        wanted = _plainly(tasks, policy.exp().tolist())
        got = float(tasks.pass_rate(policy)[0])
        exact.add(None if abs(got - wanted) < TOLERANCE else f"world {index}: {got} for {wanted}")
        rewards = tasks.rollout(policy, ROLLOUTS, torch.Generator().manual_seed(index)).rewards.double()
        error = abs(float(rewards.mean()) - wanted)
        bound = DEVIATIONS * max(wanted * (1 - wanted) / ROLLOUTS, 1 / ROLLOUTS**2) ** 0.5
        sampled.add(None if error < bound else f"world {index}: {float(rewards.mean())} for {wanted}")
    return [exact, sampled]


def _solvable(random: Random) -> tuple[TabularTasks, Tensor]:
    """Return the first world that can be solved; others are refused."""
    while True:
        with contextlib.suppress(InputError):
            return _world(random)


def _world(random: Random) -> tuple[TabularTasks, Tensor]:
    """Return a world whose moves may slip, and the log-probabilities (T, 1, S, A) of a policy that changes in time."""
    states, actions, slips = random.randint(2, 9), random.randint(1, 4), random.randint(1, 3)
    horizon = random.randint(1, 12)
    times = random.choice((1, horizon))
    dice = torch.Generator().manual_seed(random.randrange(2**31))

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=dice, dtype=torch.float64)

    chances = (uniform(1, states, actions, slips) + 0.01) * (uniform(1, states, actions, slips) < 0.7)
    chances[..., 0] += 0.01
    ends = torch.randint(3, (1, states), generator=dice)
    start = uniform(1, states) + 0.01
    tasks = TabularTasks(
        successors=torch.randint(states, (1, states, actions, slips), generator=dice),
        start=start / start.sum(),
        success=ends == 1,
        failure=(ends == 2) & (uniform(1, states) < 0.5),
        horizon=horizon,
        probabilities=chances / chances.sum(-1, keepdim=True),
    )
    logits = 3 * torch.randn(times, 1, states, actions, generator=dice, dtype=torch.float64)
    return tasks, logits.log_softmax(-1)


def _plainly(tasks: TabularTasks, policy: list) -> float:
    """Return the pass rate by following the chance of every state, one move at a time."""
    _, states, actions = tasks.shape
    success, failure = tasks.success[0].tolist(), tasks.failure[0].tolist()
    successors, chances = tasks.successors[0].tolist(), tasks.probabilities[0].tolist()
    now = tasks.start[0].tolist()
    for step in range(tasks.horizon):
        after = [0.0] * states
        for state in range(states):
            if success[state] or failure[state]:
                after[state] += now[state]
                continue
            for action in range(actions):
                move = now[state] * policy[step % len(policy)][0][state][action]
                for chance, following in zip(chances[state][action], successors[state][action], strict=True):
                    after[following] += move * chance
        now = after
    return sum(chance for chance, good in zip(now, success, strict=True) if good)
