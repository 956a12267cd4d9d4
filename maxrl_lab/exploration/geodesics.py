"""Walking on the unit sphere: tangents, geodesics, and central differences of a function along them."""

import torch
from torch import Tensor

PROBES = 6
"""Points of the central differences: two for a slope, four for a curvature."""


def tangent(points: Tensor, vectors: Tensor) -> Tensor:
    """Return the parts of vectors (..., d) that are orthogonal to unit vectors `points` (..., d)."""
    return vectors - (vectors * points).sum(-1, keepdim=True) * points


def travel(points: Tensor, tangents: Tensor) -> Tensor:
    """Return where geodesics from `points` (..., d) with velocities `tangents` (..., d) are at time 1, unit vectors."""
    angle = tangents.norm(dim=-1, keepdim=True)
    direction = tangents / angle.clamp(min=1e-300)
    arrived: Tensor = angle.cos() * points + angle.sin() * direction
    return arrived


def probe_points(points: Tensor, first: Tensor, second: Tensor, step: float) -> Tensor:
    """Return the points (..., 6, d) whose values `differences` takes, around `points` (..., d).

    first, second: tangents u and v. The points lie at u, -u, u+v, u-v, v-u and -u-v, times the step.
    """
    ways = torch.stack([first, -first, first + second, first - second, second - first, -first - second], -2)
    return travel(points[..., None, :], step * ways)


def differences(values: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Return central differences of values (..., 6) at `probe_points`: slope along u, curvature along u and v, (...).

    They are <grad, u> and u^T Hessian v of a function on the sphere, up to terms of the order of the step squared.
    """
    ahead, behind, both, one, other, neither = values.unbind(-1)
    return (ahead - behind) / (2 * step), (both - one - other + neither) / (4 * step**2)
