"""Exercise 4.3: what do 2,400 rollouts a level buy? The grader trains, with fixed seeds, on hidden levels."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from course.checks.numbers import Lookup
from course.parameters import Parameters
from course.wrong import WrongAnswerError
from envs.gridworld.levels import Level, make_levels
from envs.gridworld.tables import tasks
from maxrl_lab.errors import InputError
from maxrl_lab.tabular.batch import TabularBatch
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.training.methods import Sampled, parse_method
from maxrl_lab.training.step import run_losses

ROLLOUTS_IN_ALL = 2400
"""Rollouts of each level that a training may spend: N times the number of updates."""
FEWEST_ROLLOUTS = 4
"""Least N: fewer would take the grader too many updates."""
HIDDEN_SEED, PRACTICE_SEED = 2602, 0
"""Seeds of the levels that are graded, and of those that a student may practise on."""
TRAINING_SEEDS = (0, 1, 2, 3)
THRESHOLDS = {0.7: 0.25, 0.9: 0.5, 0.98: 1.0}
"""Mean pass rate to share of the points."""
_SIZE, _HORIZON, _DISTANCES = 9, 32, (6, 8, 10, 12)


def budget(answer: Lookup, asked: Parameters) -> None:  # noqa: ARG001
    """4.3: estimator, N, learning rate and updates within the budget; points by the mean pass rate."""
    method, rate, updates = read(answer("budget")())
    mean = mean_pass_rate(method, rate, updates, HIDDEN_SEED)
    missed = [threshold for threshold in THRESHOLDS if mean < threshold]
    if missed:
        share = max((share for threshold, share in THRESHOLDS.items() if mean >= threshold), default=0.0)
        raise WrongAnswerError(
            f"{method.name} at N = {method.rollouts}, rate {rate:g}, {updates} updates reaches a mean pass rate of "
            f"{mean:.3f} on the hidden levels (untrained {untrained(HIDDEN_SEED):.4f}); the next threshold is "
            f"{missed[0]:g}",
            share,
        )


def read(plan: Any) -> tuple[Sampled, float, int]:
    """Return method, learning rate and updates of a plan; raise `WrongAnswerError` if it is none, or too dear."""
    names = ("estimator", "rollouts", "learning_rate", "updates")
    if not isinstance(plan, Mapping) or set(plan) != set(names):
        raise WrongAnswerError(f"expected a dict with {', '.join(names)}, got {plan!r:.80}")
    rollouts, updates, rate = plan["rollouts"], plan["updates"], plan["learning_rate"]
    if not all(isinstance(number, int) and number >= 1 for number in (rollouts, updates)):
        raise WrongAnswerError(f"rollouts and updates are whole numbers, got {rollouts!r:.20} and {updates!r:.20}")
    if not (isinstance(rate, int | float) and 0 < rate <= 1e6):
        raise WrongAnswerError(f"learning_rate is a positive number, got {rate!r:.20}")
    if rollouts < FEWEST_ROLLOUTS:
        raise WrongAnswerError(f"rollouts must be at least {FEWEST_ROLLOUTS}, got {rollouts}")
    if rollouts * updates > ROLLOUTS_IN_ALL:
        raise WrongAnswerError(
            f"{rollouts} rollouts x {updates} updates are {rollouts * updates}, over {ROLLOUTS_IN_ALL} a level"
        )
    try:
        return parse_method(str(plan["estimator"]), rollouts), float(rate), updates
    except InputError as error:
        raise WrongAnswerError(f"estimator: {error}") from None


def mean_pass_rate(method: Sampled, rate: float, updates: int, seed: int) -> float:
    """Return the exact pass rate after training, the mean over levels and `TRAINING_SEEDS`.

    The policy is a table of logits for each level, which begins at 0; a step is plain SGD with `rate` on each level's
    estimate. A training that diverges counts as 0.
    """
    world, runs = levels_of(seed), len(TRAINING_SEEDS)
    count, states, actions = world.next_states.shape[:3]
    logits = torch.zeros(runs, 1, count, states, actions, requires_grad=True)
    try:
        for update in range(updates):
            batch = TabularBatch(world, logits.log_softmax(-1), TRAINING_SEEDS, update)
            (slope,) = torch.autograd.grad(run_losses(batch, [method] * runs).sum(), logits)
            # by hand, for an optimiser of torch takes four seconds to import; the loss is a mean over levels
            logits = (logits - rate * count * slope).detach().requires_grad_()
    except InputError:
        return 0.0
    return float(world.pass_rate(logits.detach().log_softmax(-1)).nan_to_num(0.0).mean())


def untrained(seed: int) -> float:
    """Return the mean pass rate of the policy that moves at random."""
    world = levels_of(seed)
    count, states, actions = world.next_states.shape[:3]
    return float(world.pass_rate(torch.zeros(count, states, actions).log_softmax(-1)).mean())


@lru_cache(maxsize=2)
def levels_of(seed: int) -> TabularTasks:
    """Return eight Prim mazes, two at each distance from start to goal."""
    levels: list[Level] = []
    for distance in _DISTANCES:
        levels += make_levels("prim", _SIZE, count=2, distance=distance, seed=seed)
    return tasks(levels, horizon=_HORIZON, radius=None)
