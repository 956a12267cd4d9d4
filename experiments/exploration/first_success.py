"""How many episodes until a policy succeeds half of the time, where an untrained one succeeds once in a million?

A group without success is silent for every estimator but one, so a policy gradient waits about 1/p episodes for the
first success. Explorers that count states do not wait: MEX (arXiv:2305.18258) plans for the table that promises most
less what the data say against it, BUMEX (arXiv:2504.05978) explores where certified bounds leave something to gain.
Neither comparison is between equals: explorers see states and may plan, policy gradients see outcomes only. Worlds are
Prim mazes with an untrained pass rate from 1e-2 to 1e-9, and FrozenLake. Silent groups are counted by their exact law,
not sampled (`maxrl_lab.exploration.waiting`). No learning rate is tuned: a group's only success moves the logits along
its path by `push`, for every estimator and N.

    maxrl-lab run first_success        (a minute)

Tables: `worlds` (a row per world and seed), `reached` (a row per method, N, world and seed), `curves` (pass rates of
one world along training), `bounds` (certified and regularised bounds of the lake along BUMEX's exploring), `handed`
(MaxRL with and without MEX's first success), `ascent` (gradient ascent on MEX's objective, a row per plan).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from experiments._shared import Readable, check_estimators
from experiments.exploration import _worlds
from experiments.exploration._climbing import Climbed, Climber, climb
from experiments.exploration._closing import closing
from experiments.exploration._curves import Curves
from experiments.exploration._exploring import Ascending, Bumex, Explored, Explorer, explore, mex
from experiments.exploration._worlds import World
from maxrl_lab import exact
from maxrl_lab.exploration import boxes
from maxrl_lab.exploration.mex import best_pass_rate
from maxrl_lab.exploration.waiting import score_sum
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, Each, Interval, Names, Positive, StrictProbability
from maxrl_lab.settings import Settings as Group
from maxrl_lab.tabular.rollout import Paths

INFINITE = float("inf")


@dataclass(frozen=True)
class Worlds(Group):
    """Worlds: mazes, and FrozenLake."""

    worlds: Annotated[tuple[str, ...], Each(Readable(_worlds.read))] = (
        "maze 7:4:8",
        "maze 7:8:16",
        "maze 9:12:24",
        "maze 11:16:32",
        "maze 11:24:36",
        "lake 4x4",
        "lake 8x8",
    )
    """Worlds, written `maze SIZE:MOVES:HORIZON`, `lake 4x4` or `lake 8x8`."""
    shown: Annotated[str, Readable(_worlds.read)] = "maze 11:16:32"
    """World whose curves are shown, and where MEX hands its first success to MaxRL; it need not be among the worlds."""
    seeds: Count = 12
    """Number of mazes of each kind; every seed has its own."""
    lake_seeds: Count = 5
    """Number of runs on each lake."""
    target: StrictProbability = 0.5
    """Exact pass rate that is to be reached."""


@dataclass(frozen=True)
class Gradients(Group):
    """Policy gradients on a table of logits."""

    estimators: Names = ("reinforce", "grpo", "maxrl")
    """Estimators that are silent where no rollout succeeds."""
    rollouts: Counts = (4, 16, 64)
    """Numbers N of rollouts in a group."""
    push: Positive = 2.0
    """How far the only success of a group moves the logits along its path; this sets every learning rate."""
    updates: Count = 120
    """Most groups with a success in them of one run."""
    spoken: Count = 16
    """Number N of rollouts in a group of the two methods that learn from silent groups as well."""
    spoken_updates: Count = 150
    """Most groups of one run of these two methods, all of which are sampled."""
    bonus: Positive = 1.0
    """Factor of the count bonus, which is added to the advantages of MaxRL."""


@dataclass(frozen=True)
class Explorers(Group):
    """Explorers that count states."""

    eta: Positive = 0.1
    """Weight of the likelihood in MEX's objective on the lakes; in mazes, whose moves are certain, it is infinite."""
    strength: Positive = 5.0
    """Strength of BUMEX's regularisation; 5 is that of its official code."""
    decay: Positive = 10.0
    """Number of episodes after which BUMEX explores with half of its moves."""
    episodes: Count = 400
    """Most episodes of an explorer."""
    growth: Annotated[float, Interval(0, 1, closed_low=True)] = 0.25
    """Share by which the episodes on a lake must grow before an explorer plans anew; in mazes it plans every one."""
    ascent_world: Annotated[str, Readable(_worlds.read)] = "maze 7:8:16"
    """World on which MEX's objective is also climbed by gradient ascent."""
    ascent_seeds: Count = 5
    """Number of its seeds that are climbed."""
    ascent_steps: Count = 30
    """Number of steps of gradient ascent for each plan."""


@dataclass(frozen=True)
class Closing(Group):
    """Bounds that close."""

    bounds_world: Annotated[str, Readable(_worlds.read)] = "lake 4x4"
    """World whose bounds are shown."""
    bounds_episodes: Count = 20_000
    """Number of episodes that BUMEX explores for them."""
    bounds_seeds: Count = 5
    """Number of runs."""
    confidence: StrictProbability = 0.95
    """Probability with which all of a run's certified bounds hold."""


@dataclass(frozen=True)
class Settings(Closing, Explorers, Gradients, Worlds):
    """Worlds, policy gradients, explorers and bounds."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at every N, and is silent without a success."""
        super().__post_init__()
        check_estimators(self.estimators, self.rollouts)

    def climber(self, estimator: str, rollouts: int, bonus: float = 0.0) -> Climber:
        """Return how a run climbs whose first success moves the logits along its path by `push`."""
        first = float(exact.coefficients(estimator, rollouts=rollouts)[0][1])
        return Climber(estimator, rollouts, self.push * rollouts / first, bonus)

    def make(self, world: str) -> World:
        """Return a world with its seeds."""
        return _worlds.make(world, self.lake_seeds if world.startswith("lake") else self.seeds)


PRESETS = {
    "smoke": Settings(
        worlds=("maze 5:2:4", "maze 7:4:8"),
        shown="maze 7:4:8",
        seeds=3,
        rollouts=(4, 16),
        spoken_updates=20,
        episodes=60,
        ascent_world="maze 5:2:4",
        ascent_seeds=2,
        ascent_steps=10,
        bounds_world="maze 5:2:4",
        bounds_episodes=20,
        bounds_seeds=2,
    ),
    "quick": Settings(
        worlds=("maze 7:4:8", "maze 7:8:16", "maze 9:12:24", "maze 11:16:32", "lake 4x4"),
        seeds=6,
        updates=80,
        spoken_updates=60,
        episodes=250,
        bounds_episodes=2000,
        bounds_seeds=2,
        ascent_seeds=2,
        ascent_steps=20,
    ),
    "standard": Settings(),
    "full": Settings(
        worlds=(*Settings().worlds, "maze 11:20:40", "maze 11:28:42"),
        seeds=50,
        lake_seeds=20,
        updates=1000,
        spoken_updates=3000,
        episodes=10_000,
        bounds_episodes=500_000,
        growth=0.02,
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the worlds, who reached the target when, curves, bounds, and what a first success is worth."""
    tables: Tables = {}
    listed = dict.fromkeys((*settings.worlds, settings.shown))
    for name in context.progress("first_success")(listed):
        world = settings.make(name)
        curves = Curves(name, world.tasks) if name == settings.shown else None
        rows, explored = _reached(world, settings, curves)
        if name in settings.worlds:
            append(tables, {"worlds": _world_rows(world), "reached": rows})
        if curves is not None:
            append(tables, {"curves": curves.rows(), "handed": _handed(world, settings, explored)})
    append(tables, {"ascent": _ascent(settings), "bounds": _bounds(settings)})
    return tables


def _world_rows(world: World) -> list[Row]:
    """Return a row per seed: how hard the world is for an untrained policy."""
    untrained = world.tasks.pass_rate(_worlds.uniform(world.tasks))
    columns = zip(untrained.tolist(), best_pass_rate(world.tasks).tolist(), strict=True)
    return [{"world": world.name, "seed": seed, "untrained": p, "best": best} for seed, (p, best) in enumerate(columns)]


def _reached(world: World, settings: Settings, curves: Curves | None) -> tuple[list[Row], Explored]:
    """Return a row per method and seed, and what MEX found first."""
    rows: list[Row] = []
    for climbers in _climbers(settings):
        seeds = world.tasks.shape[0]
        tasks = world.tasks.select([seed for _ in climbers for seed in range(seeds)])
        heads = [_head(climber, seed) for climber in climbers for seed in range(seeds)]
        result = climb(
            tasks,
            [climber for climber in climbers for _ in range(seeds)],
            target=settings.target,
            updates=settings.updates if climbers[0].waits else settings.spoken_updates,
            stream=generator("climb", world.name, climbers[0].rollouts, *(climber.name for climber in climbers)),
            record=curves.recorder(heads) if curves else None,
        )
        rows += _rows(world.name, heads, result)
    by_mex: list[Explored] = []
    for name, box, on_map, explorer in _explorers(world, settings):
        heads = [{"method": name, "rollouts": 1, "seed": seed} for seed in range(world.tasks.shape[0])]
        explored = explore(
            world.mapped if on_map else world.tasks,
            box,
            explorer,
            target=settings.target,
            budget=settings.episodes,
            growth=settings.growth if world.slippery else 0.0,
            stream=generator("explore", world.name, name),
            record=curves.recorder(heads) if curves else None,
        )
        rows += _rows(world.name, heads, explored.result)
        by_mex += [explored] if name == "mex" else []
    return rows, by_mex[0]


def _climbers(settings: Settings) -> Iterator[list[Climber]]:
    """Yield climbers that can be trained together: one N, and either all wait or none does."""
    for rollouts in settings.rollouts:
        yield [settings.climber(name, rollouts) for name in settings.estimators]
    yield [settings.climber("maxrl_control_variate", settings.spoken)]
    yield [settings.climber("maxrl", settings.spoken, settings.bonus)]


def _explorers(world: World, settings: Settings) -> Iterator[tuple[str, boxes.Box, bool, Explorer]]:
    """Yield the name of each explorer, what it knows beforehand, whether it acts on the whole map, and itself."""
    eta = settings.eta if world.slippery else INFINITE
    anything = boxes.anything(world.tasks)
    yield "mex", anything, False, mex(eta)
    if world.slippery:
        yield "mex_trusting", anything, False, mex(INFINITE)
    yield "mex_neighbours", world.neighbours, True, mex(eta)
    yield "bumex", world.neighbours, True, Bumex(settings.strength, settings.decay)


def _head(climber: Climber, seed: int) -> Row:
    return {"method": climber.name, "rollouts": climber.rollouts, "seed": seed}


def _rows(world: str, heads: list[Row], result: Climbed) -> list[Row]:
    columns = zip(heads, result.episodes.tolist(), result.reached.tolist(), result.first_success.tolist(), strict=True)
    return [
        {"world": world, **head, "episodes": episodes, "reached": reached, "first_success": first}
        for head, episodes, reached, first in columns
    ]


def _handed(world: World, settings: Settings, by_mex: Explored) -> list[Row]:
    """Return curves of MaxRL from nothing, and after the step that MEX's first success would have made its own."""
    seeds = [seed for seed, action in enumerate(by_mex.actions[:, 0].tolist()) if action >= 0]
    tasks, climber = world.tasks.select(seeds), settings.climber("maxrl", settings.spoken)
    even = torch.full(tasks.shape, 1 / tasks.shape[2], dtype=torch.float64)
    paths = Paths(by_mex.states[seeds][:, None], by_mex.actions[seeds][:, None])
    step = settings.push * score_sum(even, paths, torch.ones(len(seeds), 1))
    rows = []
    for name, start, spent in (("alone", None, 0.0), ("after_mex", step, by_mex.result.first_success[seeds])):
        curves = Curves(world.name, tasks, spent)
        climb(
            tasks,
            [climber] * len(seeds),
            target=settings.target,
            updates=settings.updates,
            stream=generator("handed", world.name),
            start=start,
            record=curves.recorder([{"method": name, "rollouts": settings.spoken, "seed": seed} for seed in seeds]),
        )
        rows += curves.rows()
    return rows


def _bounds(settings: Settings) -> list[Row]:
    """Return the bounds of one world along BUMEX's exploring."""
    return closing(
        _worlds.make(settings.bounds_world, settings.bounds_seeds),
        Bumex(settings.strength, settings.decay),
        episodes=settings.bounds_episodes,
        confidence=settings.confidence,
    )


def _ascent(settings: Settings) -> list[Row]:
    """Return for each plan of MEX by gradient ascent its objective, and the truth's, which the maximum is not below."""
    world = _worlds.make(settings.ascent_world, settings.ascent_seeds)
    eta = settings.eta if world.slippery else 1.0
    explorer = Ascending(eta, settings.ascent_steps)
    box, best = boxes.everywhere(world.tasks), best_pass_rate(world.tasks)
    rows: list[Row] = []

    def look(going: Tensor, spent: int, experience: boxes.Experience) -> None:
        truth = explorer.truth(world.tasks.select(going.tolist()), experience, best[going])
        columns = zip(going.tolist(), explorer.objective.tolist(), truth.tolist(), strict=True)
        rows.extend(
            {"seed": seed, "episodes": spent, "objective": reached, "truth": least} for seed, reached, least in columns
        )

    result = explore(
        world.tasks,
        box,
        explorer,
        target=settings.target,
        budget=settings.episodes,
        growth=0.0,
        stream=generator("ascent", world.name),
        look=look,
    ).result
    ends = dict(enumerate(zip(result.episodes.tolist(), result.reached.tolist(), strict=True)))
    return [
        {**row, "world": world.name, "ended": ends[row["seed"]][0], "reached": ends[row["seed"]][1]} for row in rows
    ]
