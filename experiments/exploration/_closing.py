"""BUMEX's bounds on the best pass rate of a lake, along its own exploring, and what a mask of wrong moves is worth."""

import torch
from torch import Tensor

from experiments.exploration import _worlds
from experiments.exploration._exploring import Bumex, explore
from experiments.exploration._worlds import World
from maxrl_lab.exploration.bounds import (
    Bounds,
    certified_pass_rate,
    masked,
    pass_rate_bounds,
    provably_wrong,
    value_bounds,
)
from maxrl_lab.exploration.boxes import Experience, confident, point
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row
from maxrl_lab.tabular.tasks import TabularTasks

_GROWTH = 0.5


def closing(world: World, explorer: Bumex, *, episodes: int, confidence: float) -> list[Row]:
    """Return a row per kind of bounds, seed and number of episodes."""
    truth = value_bounds(world.mapped, point(world.mapped))
    rows: list[Row] = []

    def look(going: Tensor, spent: int, experience: Experience) -> None:
        del going  # the target is out of reach, so all tasks go on
        certified = value_bounds(world.mapped, confident(experience, confidence), experience.seen)
        for kind, bounds in (("certified", certified), ("regularised", explorer.bounds)):
            if bounds is not None:
                rows.extend(_rows(world, kind, spent, bounds, truth))

    explore(
        world.mapped,
        world.neighbours,
        explorer,
        target=2.0,
        budget=episodes,
        growth=_GROWTH,
        stream=generator("bounds", world.name),
        look=look,
    )
    return rows


def _rows(world: World, kind: str, spent: int, bounds: Bounds, truth: Bounds) -> list[Row]:
    lower, upper = certified_pass_rate(bounds) if bounds.certified else pass_rate_bounds(bounds)
    active = world.mapped.active
    wrong = provably_wrong(bounds)
    outside = (bounds.lower > truth.lower + 1e-9) | (bounds.upper < truth.upper - 1e-9)
    columns = {
        "lower": lower,
        "upper": upper,
        "best": pass_rate_bounds(truth)[0],
        "outside": _share(outside[:-1], active),
        "ruled_out": _share(wrong.double().mean(-1), active),
        "masked": _masked_rate(world.mapped, wrong),
        "untrained": world.mapped.pass_rate(_worlds.uniform(world.mapped)),
    }
    return [
        {"kind": kind, "seed": seed, "episodes": spent, **{name: float(value[seed]) for name, value in columns.items()}}
        for seed in range(len(lower))
    ]


def _share(what: Tensor, active: Tensor) -> Tensor:
    """Return the mean over times and running states, (H, B, S) -> (B,)."""
    return (what.double().mean(0) * active).sum(-1) / active.sum(-1)


def _masked_rate(tasks: TabularTasks, wrong: Tensor) -> Tensor:
    """Return the pass rate of the even policy without the moves that are ruled out, (B,)."""
    with torch.no_grad():
        return tasks.pass_rate(masked(_worlds.uniform(tasks), wrong))
