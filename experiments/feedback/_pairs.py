"""Panel 1 of `feedback`: labels of pairs of rollouts in mazes, chosen before any label, after it, or not at all.

A rollout makes all its steps, so that nothing in it tells where the goal is; it is right if it ends on the goal, which
is a dead end, so that no way leads through it. What is compared is where a rollout ends; what is learnt is a reward for
each cell, and the policy that is best for it in the model. MaxRL, on outcomes, has it easier: its rollouts end on the
goal when they reach it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from envs.gridworld import levels
from envs.gridworld.levels import Level
from envs.gridworld.mazes import MOVES
from envs.gridworld.tables import tasks
from maxrl_lab.errors import InputError
from maxrl_lab.feedback import design
from maxrl_lab.feedback.design import Model
from maxrl_lab.feedback.preferences import fit_rewards, preference
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row
from maxrl_lab.settings import Count, Counts, Each, Interval, Positive, Probability, Settings, Whole
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.training.methods import sampled_loss

Scales = Annotated[tuple[float, ...], Each(Interval())]
EXPLORERS = ("uniform", "optimistic")
_LEVELS_TRIED = 12
"""Levels that are made for each dead end that is wanted."""


@dataclass(frozen=True)
class Pairs(Settings):
    """Preferences between rollouts: Prim mazes whose goal is a dead end."""

    scales: Scales = (1.0, 4.0)
    """Scales s of the preferences: an answer that is right is preferred to a wrong one with probability sigma(s)."""
    size: Annotated[int, Whole(levels.MIN_SIZE, levels.MAX_SIZE)] = 9
    """Number of cells along a side of a maze, walls included; it is odd."""
    distance: Count = 11
    """Number of moves from start to goal."""
    horizon: Count = 20
    """Number of steps of a rollout."""
    slip: Probability = 0.1
    """Probability that a move is one of the four at random."""
    mazes: Count = 20
    """Number of mazes; a maze is a seed."""
    labels: Count = 1024
    """Most labels where pairs are chosen."""
    passive_labels: Count = 8192
    """Most labels where pairs come from the uniform policy, and most outcomes that MaxRL sees."""
    episodes: Counts = (40, 160)
    """Numbers of episodes without feedback from which a model of the maze is estimated."""
    optimism: Positive = 4.0
    """Weight of the count bonus, about two standard errors of a fitted reward, where pairs are chosen after labels."""
    pair_round: Count = 8
    """Number of labels between two fits of the rewards, where pairs are chosen after labels."""
    maze_rollouts: Count = 64
    """Number N of rollouts in an update of MaxRL on the outcomes."""
    maze_rates: Annotated[tuple[float, ...], Each(Interval())] = (0.1, 0.3, 1.0)
    """Learning rates of Adam for MaxRL, swept on other mazes."""
    sweep_mazes: Count = 10
    """Number of mazes of that sweep; none of them is reported."""

    def __post_init__(self) -> None:
        """Check also that the goal is within the horizon."""
        super().__post_init__()
        if self.distance > self.horizon:
            raise InputError(f"distance must be within the horizon of {self.horizon} steps, got {self.distance}")


@dataclass(frozen=True)
class Maze:
    """A maze as its exact model, with the index of its goal."""

    model: Model
    goal: int


def worlds(settings: Pairs, count: int, skip: int = 0) -> tuple[TabularTasks, list[Maze]]:
    """Return mazes whose goal is a dead end, behind the first `skip` of them; `InputError` if there are too few."""
    made = levels.make_levels(
        "prim", settings.size, count=_LEVELS_TRIED * (skip + count), distance=settings.distance, seed=0
    )
    ends = [level for level in made if _is_dead_end(level)][skip : skip + count]
    if len(ends) < count:
        raise InputError(f"expected {skip + count} mazes whose goal is a dead end, got {skip + len(ends)}")
    tables = tasks(ends, horizon=settings.horizon, slip=settings.slip, radius=None)
    return tables, [_maze(level, settings) for level in ends]


def _maze(level: Level, settings: Pairs) -> Maze:
    """Return a level whose goal is a cell like any other: rollouts go on there."""
    cells = np.argwhere(~level.walls)
    index = {tuple(cell): state for state, cell in enumerate(cells.tolist())}
    moves = torch.zeros(len(cells), len(MOVES), len(cells), dtype=torch.float64)
    for (row, col), state in index.items():
        for action, (down, right) in enumerate(MOVES):
            moves[state, action, index.get((row + down, col + right), state)] = 1
    transitions = (1 - settings.slip) * moves + settings.slip * moves.mean(1, keepdim=True)
    start = torch.zeros(len(cells), dtype=torch.float64)
    start[index[level.start]] = 1
    return Maze(Model(transitions, start, settings.horizon), index[level.goal])


def _is_dead_end(level: Level) -> bool:
    row, col = level.goal
    return sum(not level.walls[row + down, col + right] for down, right in MOVES) == 1


def rows_of_scale(settings: Pairs, scale: float) -> list[Row]:
    """Return a row per method, maze and number of labels at one scale, with the exact model."""
    _, mazes = worlds(settings, settings.mazes)
    study = _Study(settings, scale, mazes, [maze.model for maze in mazes])
    return study.passive() + study.candidates("random") + study.candidates("designed") + study.adaptive()


def rows_of_explorers(settings: Pairs, explorer: str) -> list[Row]:
    """Return a row per model, maze and number of labels, with models that episodes without feedback have made."""
    _, mazes = worlds(settings, settings.mazes)
    made: list[Row] = []
    for episodes in settings.episodes:
        models = [_estimate(maze, index, episodes, explorer) for index, maze in enumerate(mazes)]
        study = _Study(settings, max(settings.scales), mazes, models, f"{explorer}:{episodes}")
        made += study.candidates("designed")
    return made


def _estimate(maze: Maze, seed: int, episodes: int, explorer: str) -> Model:
    stream = generator("exploring", explorer, seed, episodes)
    visits = design.explore(maze.model, episodes, stream, optimistic=explorer == "optimistic")
    return design.estimated(visits, maze.model.start, maze.model.horizon)


class _Study:
    """One scale, and one model of every maze in which policies are planned."""

    def __init__(
        self, settings: Pairs, scale: float, mazes: Sequence[Maze], models: Sequence[Model], name: str = "exact"
    ) -> None:
        self.settings, self.scale, self.mazes, self.models, self.name = settings, scale, mazes, models, name
        self.ridge = 1 / scale
        policies = [model.candidates() for model in models]
        self.planned = torch.stack([model.features(actions) for model, actions in zip(models, policies, strict=True)])
        self.true = torch.stack([maze.model.features(actions) for maze, actions in zip(mazes, policies, strict=True)])
        self.theta = torch.zeros(self.true.shape[::2], dtype=torch.float64)
        for run, maze in enumerate(mazes):
            self.theta[run, maze.goal] = scale

    def passive(self) -> list[Row]:
        """Pairs of rollouts of the uniform policy."""
        chances = torch.stack([maze.model.uniform_features() for maze in self.mazes])
        ends = torch.multinomial(chances, 2 * self.settings.passive_labels, True, generator=self._stream("passive"))
        return self._learn("passive", ends.view(len(self.mazes), -1, 2))

    def candidates(self, method: str) -> list[Row]:
        """Pairs of candidates, at random or designed, without any label."""
        stream, labels = self._stream(method), self.settings.labels
        if method == "random":
            pairs = _distinct_pairs(len(self.mazes), labels, self.true.shape[1], stream)
        else:
            pairs = design.designed_pairs(self.planned, labels, self.ridge, stream)
        return self._learn(method, self._ends(pairs, stream))

    def adaptive(self) -> list[Row]:
        """Pairs of the two candidates of largest fitted reward plus count bonus, with labels every few pairs."""
        stream, settings = self._stream("adaptive"), self.settings
        runs = torch.arange(len(self.mazes))
        gram = self.planned @ self.planned.mT / self.ridge
        wins = torch.zeros(*self.theta.shape, self.theta.shape[1], dtype=torch.float64)
        ends: list[Tensor] = []
        while len(ends) * settings.pair_round < settings.labels:
            fitted = torch.einsum("rcd,rd->rc", self.planned, fit_rewards(wins, self.ridge))
            pairs = []
            for _ in range(settings.pair_round):
                noise = 1e-9 * torch.rand(fitted.shape, generator=stream, dtype=torch.float64)
                bonus = gram.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
                pair = (fitted + settings.optimism * bonus + noise).topk(2, 1).indices
                gram = design.compared(gram, pair, runs)
                pairs.append(pair)
            ends.append(self._labelled(self._ends(torch.stack(pairs, 1), stream), stream))
            wins += _wins(ends[-1], self.theta.shape[1])
        return self._evaluate("adaptive", torch.cat(ends, 1)[:, : settings.labels])

    def _stream(self, method: str) -> torch.Generator:
        return generator("pairs", method, self.name, int(1000 * self.scale))

    def _ends(self, pairs: Tensor, stream: torch.Generator) -> Tensor:
        """Return where the rollouts of pairs (R, n, 2) of candidates end, (R, n, 2), in the true mazes."""
        chances = self.true[torch.arange(len(pairs))[:, None, None], pairs]
        return torch.multinomial(chances.flatten(0, 2), 1, generator=stream).view(pairs.shape)

    def _learn(self, method: str, ends: Tensor) -> list[Row]:
        return self._evaluate(method, self._labelled(ends, self._stream(f"{method} labels")))

    def _labelled(self, ends: Tensor, stream: torch.Generator) -> Tensor:
        """Return the pairs (R, n, 2) in another order: the end that was preferred first."""
        theta = self.theta[torch.arange(len(ends))[:, None, None], ends] / self.scale
        chance = preference(theta[..., 0] - theta[..., 1], self.scale)
        first = torch.rand(chance.shape, generator=stream, dtype=torch.float64) < chance
        return torch.where(first[..., None], ends, ends.flip(-1))

    def _evaluate(self, method: str, labelled: Tensor) -> list[Row]:
        """Return a row per maze and number of labels 1, 2, 4, ...: the exact pass rate of the policy that is best."""
        counts = powers(labelled.shape[1])
        wins = torch.stack([_wins(labelled[:, :count], self.theta.shape[1]) for count in counts], 1)
        theta = fit_rewards(wins, self.ridge)
        made = []
        for run, (maze, model) in enumerate(zip(self.mazes, self.models, strict=True)):
            features = maze.model.features(model.best(theta[run]))
            bounds = self._bounds(run, wins[run], theta[run], features)
            unequal = (labelled[run] == maze.goal).sum(-1) == 1
            for index, count in enumerate(counts):
                row = {
                    "scale": self.scale,
                    "method": method,
                    "model": self.name,
                    "seed": run,
                    "labels": count,
                    "pass_rate": float(features[index, maze.goal]),
                    "informative": int(unequal[:count].sum()),
                }
                made.append(row | bounds[index])
        return made

    def _bounds(self, run: int, wins: Tensor, theta: Tensor, features: Tensor) -> list[Row]:
        """Return the regret <theta*, phi* - phi> and its bound, where the model is exact; else nothing is promised.

        wins: (K, D, D), theta and features: (K, D), after K numbers of labels.
        """
        if self.name != "exact":
            return [{"regret": None, "bound": None}] * len(theta)
        model, truth = self.mazes[run].model, self.theta[run]
        best = model.features(model.best(truth[None]))
        compared = wins + wins.mT
        sigma = torch.diag_embed(compared.sum(-1) + self.ridge) - compared
        gap, error = (best - features)[..., None], (theta - truth)[..., None]
        squares = (gap.mT @ torch.linalg.solve(sigma, gap)) * (error.mT @ sigma @ error)
        regrets = (best - features) @ truth
        columns = zip(regrets.tolist(), squares.flatten().sqrt().tolist(), strict=True)
        return [{"regret": regret, "bound": bound} for regret, bound in columns]


def powers(most: int) -> list[int]:
    """Return 1, 2, 4, ... below `most`, and `most`."""
    return [2**power for power in range(most.bit_length()) if 2**power < most] + [most]


def _wins(labelled: Tensor, items: int) -> Tensor:
    """Return how often an item was preferred to another, (R, D, D), from pairs (R, n, 2) with the preferred first."""
    index = labelled[..., 0] * items + labelled[..., 1]
    wins = torch.zeros(len(labelled), items * items, dtype=torch.float64)
    return wins.scatter_add_(1, index, torch.ones(index.shape, dtype=torch.float64)).view(-1, items, items)


def _distinct_pairs(runs: int, labels: int, count: int, stream: torch.Generator) -> Tensor:
    first = torch.randint(count, (runs, labels), generator=stream)
    offset = torch.randint(1, count, (runs, labels), generator=stream)
    return torch.stack([first, (first + offset) % count], -1)


def rows_of_outcomes(settings: Pairs) -> list[Row]:
    """Return what a verifier buys: of the candidates one after the other, and of the rollouts of MaxRL."""
    tables, mazes = worlds(settings, settings.mazes)
    other, _ = worlds(settings, settings.sweep_mazes, skip=settings.mazes)
    scores = {rate: _maxrl(settings, other, rate, "sweep")[-1].mean() for rate in settings.maze_rates}
    best = max(scores, key=lambda rate: float(scores[rate]))
    counts = _updates(settings)
    curves = _maxrl(settings, tables, best, "report")
    made = [
        _outcome_row("maxrl", seed, count * settings.maze_rollouts, float(curves[index, seed]), best)
        for index, count in enumerate(counts)
        for seed in range(len(mazes))
    ]
    return made + [row for seed, maze in enumerate(mazes) for row in _verified(settings, maze, seed)]


def _outcome_row(method: str, seed: int, labels: int, rate: float, learning_rate: float | None = None) -> Row:
    row: Row = {"scale": None, "method": method, "model": "exact", "seed": seed, "labels": labels, "pass_rate": rate}
    return row | {"informative": None, "regret": None, "bound": None, "learning_rate": learning_rate}


def _updates(settings: Pairs) -> list[int]:
    """Return after which numbers of updates MaxRL is measured."""
    return powers(max(1, settings.passive_labels // settings.maze_rollouts))


def _maxrl(settings: Pairs, tables: TabularTasks, rate: float, purpose: str) -> Tensor:
    """Return the exact pass rates (updates, B) of one table of logits a maze, trained with MaxRL on its outcomes."""
    logits = torch.zeros(tables.shape, dtype=torch.float64, requires_grad=True)
    optimiser, counts, measured = torch.optim.Adam([logits], rate), _updates(settings), []
    for update in range(1, counts[-1] + 1):
        optimiser.zero_grad()
        stream = generator("outcomes", purpose, update)
        group = tables.rollout(logits.log_softmax(-1), settings.maze_rollouts, stream)
        (sampled_loss(group, "maxrl") * len(logits)).backward()
        optimiser.step()
        if update in counts:
            measured.append(tables.pass_rate(logits.detach().log_softmax(-1)))
    return torch.stack(measured)


def _verified(settings: Pairs, maze: Maze, seed: int) -> list[Row]:
    """Return the pass rate after the outcomes of so many candidates, tried in a random order until one is right.

    The first success tells where the goal is; without one, the next candidate is what is played.
    """
    stream, model = generator("verified", seed), maze.model
    chances = model.features(model.candidates())[:, maze.goal]
    order = torch.randperm(len(chances), generator=stream)[torch.arange(settings.labels + 1) % len(chances)]
    right = torch.rand(settings.labels, generator=stream, dtype=torch.float64) < chances[order[:-1]]
    solved = right.cumsum(0) > 0
    return [
        _outcome_row("verified", seed, count, float(chances[maze.goal if solved[count - 1] else order[count]]))
        for count in powers(settings.labels)
    ]
