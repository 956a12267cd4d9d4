"""Learning from demonstrations, offline: three maximum likelihoods on slippery mazes.

Of actions (behaviour cloning), of demonstrations through a reward (`feedback.demonstrations`), of outcomes (MaxRL, in
the world and in the learnt model). An expert shows a few ways; random transitions teach the model. All
results are exact pass rates, in the world (`pass_rate`) and in the learnt model (`believed`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.gridworld.levels import make_levels
from envs.gridworld.tables import tasks as level_tasks
from maxrl_lab.feedback.demonstrations import DemonstrationLikelihood, behaviour_cloning, demonstrated_visits
from maxrl_lab.feedback.offline_model import count_penalty, learnt_model, path_counts, sample_transitions
from maxrl_lab.feedback.soft_control import soft_value_iteration
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row
from maxrl_lab.tabular.batch import TabularBatch
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.tabular.transitions import dense_transitions
from maxrl_lab.training.groups import Group
from maxrl_lab.training.methods import Sampled
from maxrl_lab.training.step import run_losses, take_step

SIZE, SLIP, HORIZON = 9, 0.1, 30
TEMPERATURE, EXPERT_REWARD = 0.3, 2.0
LANDMARKS = 6
WEIGHT_DECAY, LITTLE_DECAY = 10.0, 0.1
"""Of the reward: what holds it near the size of the penalty, and what leaves it as free as demonstrations want it."""
ROLLOUTS, LEARNING_RATE = 16, 0.1


@dataclass(frozen=True)
class Demonstrated:
    """Mazes, one a seed, what an expert showed in them, and what is known of them."""

    truth: TabularTasks
    visits: Tensor
    """(H, B, S, A) of the demonstrations."""
    counts: Tensor
    """(B, S, A, S) of the transitions in the data set, the demonstrations' among them."""
    model: TabularTasks
    landmarks: Tensor
    """(B, S, 6) which cells the reward is linear in: the goal and others at random."""


def mazes(seeds: int, *, single_start: bool = False) -> TabularTasks:
    """Return a Prim maze a seed, without its walls: S = 31 free cells, starts uniform over all but the goal.

    With `single_start` the start is the level's own.
    """
    levels = make_levels("prim", SIZE, count=seeds, seed=7)
    full = level_tasks(levels, horizon=HORIZON, slip=SLIP, radius=None)
    free = torch.stack([torch.from_numpy(~level.walls.flatten()) for level in levels])
    cells = free.nonzero()[:, 1].view(seeds, -1)
    number = free.long().cumsum(1) - 1
    states, width = cells.shape[1], full.successors.shape[2:]
    index = cells[..., None, None].expand(-1, -1, *width)
    successors = number.gather(1, full.successors.gather(1, index).flatten(1)).view(seeds, states, *width)
    success = full.success.gather(1, cells)
    start = full.start.gather(1, cells) if single_start else (~success).double() / (states - 1)
    chances = full.probabilities
    return TabularTasks(
        successors=successors,
        start=start,
        success=success,
        failure=torch.zeros_like(success),
        horizon=HORIZON,
        probabilities=None if chances is None else chances[:, :states].contiguous(),
    )


def expert(truth: TabularTasks) -> Tensor:
    """Return the soft-optimal policy (H, B, S, A) for a reward of 2 a step on the goal."""
    rewards = (EXPERT_REWARD * truth.success.double())[..., None].expand(truth.shape).contiguous()
    made = soft_value_iteration(dense_transitions(truth), rewards, horizon=HORIZON, temperature=TEMPERATURE)
    return made.log_policy


def demonstrate(truth: TabularTasks, demonstrations: int, transitions: int) -> Demonstrated:
    """Return what is seen: so many demonstrations, and so many transitions of random cells and moves."""
    _, paths = truth.paths(expert(truth), demonstrations, generator("demonstrations", demonstrations))
    seen = sample_transitions(truth, transitions, generator("transitions", transitions))
    counts = seen + path_counts(truth, paths.states, paths.actions)
    visits = demonstrated_visits(truth, paths.states, paths.actions)
    return Demonstrated(truth, visits, counts, learnt_model(truth, counts), landmark_cells(truth))


def landmark_cells(truth: TabularTasks) -> Tensor:
    """Return one-hot features (B, S, 6): the goal, and five other cells at random."""
    order = torch.rand(truth.shape[:2], generator=generator("landmarks"), dtype=torch.float64)
    cells = (order + truth.success).argsort(1, descending=True)[:, :LANDMARKS]
    return torch.nn.functional.one_hot(cells, truth.shape[1]).double().transpose(1, 2).contiguous()


def panel_rows(
    seeds: int,
    transitions: tuple[int, ...] = (100, 300, 1000, 3000),
    penalties: tuple[float, ...] = (0.0, 1.0, 4.0, 16.0),
    *,
    demonstrations: int = 3,
    updates: int = 200,
) -> list[Row]:
    """Return a row per method, weight of the penalty, reward, start, number of transitions and seed.

    The columns are `method` (ml_irl, bc, maxrl_world, maxrl_model, expert), `penalty` (the weight lambda), `reward`
    (landmarks or cells: what the reward is linear in), `weight_decay` (of the reward), `start` (every or single cell),
    `transitions` (steps in the world besides the demonstrations), `seed`, `pass_rate` in the world, and `believed`, in
    the learnt model; None where there is none. `maxrl_world` has its rows at the steps that its rollouts took so far.
    Every weight of the penalty is tried on landmarks that decay; the ends of the list also on freer rewards.
    """
    rows: list[Row] = []
    for single in (False, True):
        truth = mazes(seeds, single_start=single)
        parts = [_fixed(truth, demonstrations, transitions)]
        if not single:
            parts.append(_maxrl_in_the_world(truth, updates))
        for count in transitions:
            seen = demonstrate(truth, demonstrations, count)
            parts.append(_inverse(seen, count, penalties, "landmarks", WEIGHT_DECAY))
            ends = tuple(dict.fromkeys((penalties[0], penalties[-1])))
            parts.append(_inverse(seen, count, ends, "cells", WEIGHT_DECAY))
            parts += [_inverse(seen, count, ends, reward, LITTLE_DECAY) for reward in ("landmarks", "cells")]
            if not single:
                parts.append(_maxrl_in_the_model(seen, count, updates))
        rows += [{"start": "single" if single else "every", **row} for part in parts for row in part]
    return rows


def _rows(seen: TabularTasks | None, truth: TabularTasks, policy: Tensor, **named: object) -> list[Row]:
    """Return a row a seed of a policy: its pass rate in the world, and what the learnt model makes one believe."""
    rates = truth.pass_rate(policy).tolist()
    believed = [None] * len(rates) if seen is None else seen.pass_rate(policy).tolist()
    columns = zip(rates, believed, strict=True)
    blank = {"penalty": None, "reward": None, "weight_decay": None}
    return [
        {**blank, **named, "seed": seed, "pass_rate": rate, "believed": belief}
        for seed, (rate, belief) in enumerate(columns)
    ]


def _fixed(truth: TabularTasks, demonstrations: int, transitions: tuple[int, ...]) -> list[Row]:
    """Return what needs no model, at every number of transitions: the expert and behaviour cloning."""
    visits = demonstrate(truth, demonstrations, 0).visits
    policies = {"expert": expert(truth), "bc": behaviour_cloning(visits)}
    return [
        row
        for method, policy in policies.items()
        for count in transitions
        for row in _rows(None, truth, policy, method=method, transitions=count)
    ]


def _inverse(seen: Demonstrated, count: int, penalties: tuple[float, ...], reward: str, decay: float) -> list[Row]:
    """Return the rows of inverse reinforcement learning with every penalty, all fitted in one batch."""
    tasks = len(seen.visits[0])
    index = [task for _ in penalties for task in range(tasks)]
    cells = torch.eye(seen.truth.shape[1], dtype=torch.float64).expand(tasks, -1, -1)
    likelihood = DemonstrationLikelihood(
        model=seen.model.select(index),
        features=(seen.landmarks if reward == "landmarks" else cells)[index],
        demonstrations=seen.visits[:, index],
        penalty=torch.cat([count_penalty(seen.truth, seen.counts, weight) for weight in penalties]),
        temperature=TEMPERATURE,
    )
    policies = likelihood.fit(weight_decay=decay).control.log_policy.split(tasks, 1)
    named = {"method": "ml_irl", "reward": reward, "weight_decay": decay, "transitions": count}
    return [
        row
        for weight, policy in zip(penalties, policies, strict=True)
        for row in _rows(seen.model, seen.truth, policy, penalty=weight, **named)
    ]


def _maxrl_in_the_world(truth: TabularTasks, updates: int) -> list[Row]:
    """Return the rows of MaxRL on rollouts in the world after 1, 2, 4, ... updates and the last.

    `transitions` is the mean number of steps that the rollouts of a maze took until then.
    """
    rows: list[Row] = []
    for update, used, policy in _train(truth, updates):
        if update & (update - 1) == 0 or update == updates:
            named = {"method": "maxrl_world", "transitions": round(used)}
            rows += _rows(None, truth, policy, **named)
    return rows


def _maxrl_in_the_model(seen: Demonstrated, count: int, updates: int) -> list[Row]:
    """Return the rows of MaxRL on rollouts in the learnt model, which cost no step in the world."""
    *_, (_, _, policy) = _train(seen.model, updates)
    named = {"method": "maxrl_model", "transitions": count}
    return _rows(seen.model, seen.truth, policy, **named)


def _train(tasks: TabularTasks, updates: int) -> Iterator[tuple[int, float, Tensor]]:
    """Train a table of logits (B, S, A) by MaxRL and yield the update, the mean steps taken so far, and the policy."""
    logits = torch.zeros(1, 1, *tasks.shape, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=LEARNING_RATE)
    used = 0.0
    for update in range(1, updates + 1):
        batch = _Counting(tasks, logits.log_softmax(-1), [0], update)
        take_step(run_losses(batch, [Sampled("maxrl", ROLLOUTS)]), optimiser)
        used += batch.steps
        yield update, used, logits.detach().log_softmax(-1)[0]


class _Counting(TabularBatch):
    """Tabular tasks that count the mean steps which a task's rollouts took."""

    steps = 0.0

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return the rollouts, and add up their steps."""
        group = super().rollout(runs, rollouts)
        if group.lengths is not None:
            self.steps += float(group.lengths.double().sum(-1).mean())
        return group
