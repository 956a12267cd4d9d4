"""Bandits on the unit sphere: an action is a point, and its chance of success a sum of functions of angles.

    eta(theta, a) = offset + sum_l scale_l f_l(<theta_l, a>)

Three of them, after the constructions of Dong, Yang & Ma (arXiv:2102.04168); the constants are the lab's:

- `needles`: a is right if and only if <theta, a> >= c. No smooth way leads there, and e^Omega(d) pulls are needed.
- `hills`: sigma(k (<theta, a> - b)) rises everywhere towards theta.
- `bumps`: (1 + <theta_1, a>) / 4 + alpha (<theta_2, a> - c)_+ / (2 (1 - c)), alpha 0 or 1: a hill, and on it perhaps a
  bump somewhere, which must be refuted direction by direction by whoever believes in it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.exploration.geodesics import tangent, travel
from maxrl_lab.settings import Interval


class Link(NamedTuple):
    """A function of the cosine <theta, a>, and its first two derivatives where they exist."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    curvature: Callable[[Tensor], Tensor]


class Layer(NamedTuple):
    """One term of the sum, for M models."""

    directions: Tensor
    """(M, d) unit vectors theta."""
    scale: Tensor
    """(M,)."""
    link: Link


class SphereRewards(NamedTuple):
    """M models of the chance of success."""

    layers: tuple[Layer, ...]
    offset: float = 0.0

    def values(self, points: Tensor) -> Tensor:
        """Return the chances (M, P) of points (P, d)."""
        return self.offset + sum(
            (layer.scale[:, None] * layer.link.value(layer.directions @ points.T) for layer in self.layers),
            torch.zeros(()),
        )

    def gradients(self, points: Tensor) -> Tensor:
        """Return the gradients on the sphere (M, P, d): tangents, the direction of steepest ascent."""
        total = torch.zeros(len(self.layers[0].scale), *points.shape, dtype=points.dtype)
        for layer in self.layers:
            slope = layer.scale[:, None] * layer.link.slope(layer.directions @ points.T)
            total = total + slope[..., None] * tangent(points, layer.directions[:, None].expand_as(total))
        return total

    def hessians(self, points: Tensor) -> Tensor:
        """Return the second derivatives along geodesics (M, P, d, d), 0 for directions off the tangent space."""
        dimension = points.shape[1]
        flat = torch.eye(dimension, dtype=points.dtype) - points[:, :, None] * points[:, None, :]
        total = torch.zeros(len(self.layers[0].scale), len(points), dimension, dimension, dtype=points.dtype)
        for layer in self.layers:
            cosine = layer.directions @ points.T
            along = tangent(points, layer.directions[:, None].expand(-1, *points.shape))
            bend = (layer.scale[:, None] * layer.link.curvature(cosine))[..., None, None]
            fall = (layer.scale[:, None] * layer.link.slope(cosine) * cosine)[..., None, None]
            total = total + bend * along[..., :, None] * along[..., None, :] - fall * flat
        return total


def points_on_sphere(count: int, dimension: int, stream: torch.Generator) -> Tensor:
    """Return uniform random unit vectors (count, d), d >= 2, float64."""
    specs.check_count("count", count)
    specs.check_count("dimension", dimension, 2)
    points = torch.randn(count, dimension, generator=stream, dtype=torch.float64)
    unit: Tensor = points / points.norm(dim=1, keepdim=True)
    return unit


def needles(directions: Tensor, threshold: float = 0.8) -> SphereRewards:
    """Return M models that are right within the angle arccos(threshold) of theta (M, d), wrong elsewhere."""
    Interval(0, 1).check("threshold", threshold)
    link = Link(lambda z: (z >= threshold).to(z), torch.zeros_like, torch.zeros_like)
    return SphereRewards((Layer(directions, torch.ones_like(directions[:, 0]), link),))


def needle_probability(dimension: int, threshold: float = 0.8) -> float:
    """Return the chance that a uniform action is within the needle: I_{1-c^2}((d-1)/2, 1/2) / 2, in closed form."""
    from scipy import special  # only now: importing takes a second

    specs.check_count("dimension", dimension, 2)
    Interval(0, 1).check("threshold", threshold)
    return 0.5 * float(special.betainc((dimension - 1) / 2, 0.5, 1 - threshold**2))


def hills(directions: Tensor, steepness: float = 6.0, middle: float = 0.5) -> SphereRewards:
    """Return M models sigma(k (<theta, a> - b)), theta (M, d)."""
    Interval().check("steepness", steepness)

    def value(z: Tensor) -> Tensor:
        return (steepness * (z - middle)).sigmoid()

    def slope(z: Tensor) -> Tensor:
        return steepness * value(z) * (1 - value(z))

    def curvature(z: Tensor) -> Tensor:
        return steepness * slope(z) * (1 - 2 * value(z))

    return SphereRewards((Layer(directions, torch.ones_like(directions[:, 0]), Link(value, slope, curvature)),))


def bumps(hill_directions: Tensor, bump_directions: Tensor, threshold: float = 0.8) -> SphereRewards:
    """Return K (1 + L) models: every hill (K, d) without a bump, then with each of the bumps (L, d).

    Model k (1 + L) is hill k alone, model k (1 + L) + 1 + l hill k with bump l.
    """
    Interval(0, 1).check("threshold", threshold)
    hill_count, bump_count = len(hill_directions), len(bump_directions)
    line = Link(lambda z: z / 4, lambda z: torch.full_like(z, 0.25), torch.zeros_like)
    rise = 0.5 / (1 - threshold)
    ramp = Link(lambda z: rise * (z - threshold).relu(), lambda z: rise * (z > threshold), torch.zeros_like)
    with_bump = torch.cat([torch.zeros(1), torch.ones(bump_count)]).to(hill_directions).repeat(hill_count)
    second = torch.cat([bump_directions[:1], bump_directions]).repeat(hill_count, 1)
    first = hill_directions.repeat_interleave(1 + bump_count, 0)
    return SphereRewards((Layer(first, torch.ones_like(with_bump), line), Layer(second, with_bump, ramp)), offset=0.25)


def ascend(rewards: SphereRewards, weights: Tensor, points: Tensor, *, steps: int = 200, rate: float = 0.3) -> Tensor:
    """Return where gradient ascent of the mean model leads from points (R, d); weights: (R, M) of the models."""
    for _ in range(steps):
        gradient = torch.einsum("rm,mrd->rd", weights, rewards.gradients(points))
        if not bool(gradient.any()):  # a plain
            break
        points = travel(points, rate * gradient)
    return points


def steepness_at(rewards: SphereRewards, models: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient's norm and the greatest eigenvalue of the Hessian on the tangent space, (R,) each.

    models: (R,) which model is meant at points (R, d). At an inner local maximum the first is 0 and the second not
    above 0; on a plain both are 0, too.
    """
    runs = torch.arange(len(models))
    gradient, hessian = rewards.gradients(points)[models, runs], rewards.hessians(points)[models, runs]
    away = points[:, :, None] * points[:, None, :]  # the direction off the sphere is none of the tangent space
    below = hessian.norm(dim=(1, 2))[:, None, None] + 1
    return gradient.norm(dim=1), torch.linalg.eigvalsh(hessian - below * away)[:, -1]
