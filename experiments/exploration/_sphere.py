"""The bandits of `nonlinear_bandit`: models, actions and true models, the same for every method of a seed."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs import sphere
from envs.sphere import SphereRewards
from maxrl_lab.randomness import generator


class Case(NamedTuple):
    """One kind of bandit: seeds differ in the true model and in what is drawn; actions and models are the same."""

    name: str
    """needle, hill, phantom_bump or real_bump."""
    dimension: int
    rewards: SphereRewards
    actions: Tensor
    """(A, d)."""
    truths: Tensor
    """(seeds,) number of each seed's true model."""

    @property
    def chances(self) -> Tensor:
        """Return the true chances of success of every seed's actions, (seeds, A)."""
        return self.rewards.values(self.actions)[self.truths]


def needle(dimension: int, actions: int, threshold: float, seeds: int) -> Case:
    """Return the needles around every action, so that the truth has a right action, whatever the dimension."""
    points = sphere.points_on_sphere(actions, dimension, generator("actions", dimension))
    return Case("needle", dimension, sphere.needles(points, threshold), points, _sample("needle", actions, seeds))


def hill(dimension: int, actions: int, models: int, seeds: int) -> Case:
    """Return smooth hills in random directions."""
    points = sphere.points_on_sphere(actions, dimension, generator("actions", dimension))
    directions = sphere.points_on_sphere(models, dimension, generator("hills", dimension))
    return Case("hill", dimension, sphere.hills(directions), points, _sample("hill", models, seeds))


def bump(name: str, dimension: int, actions: int, hills: int, bumps: int, seeds: int) -> Case:
    """Return hills with at most one bump, at one of the first actions; the truth has one only as `real_bump`."""
    points = sphere.points_on_sphere(actions, dimension, generator("actions", dimension))
    directions = sphere.points_on_sphere(hills, dimension, generator("slopes", dimension))
    truths = _sample("slope", hills, seeds) * (1 + bumps)
    if name == "real_bump":
        truths = truths + 1 + _sample("bump", bumps, seeds)
    return Case(name, dimension, sphere.bumps(directions, points[:bumps]), points, truths)


def _sample(name: str, models: int, seeds: int) -> Tensor:
    drawn = [torch.randint(models, (1,), generator=generator(f"true {name}", seed)) for seed in range(seeds)]
    return torch.cat(drawn)
