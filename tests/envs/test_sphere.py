"""Bandits on the sphere: chances by hand, derivatives against differences, and the needle's chance in closed form."""

import math

import pytest
import torch

from envs import sphere
from maxrl_lab.exploration.geodesics import differences, probe_points, tangent, travel
from maxrl_lab.randomness import generator

DIMENSION = 5


def points(count, seed=0, dimension=DIMENSION):
    return sphere.points_on_sphere(count, dimension, generator("points", seed))


def classes():
    return {
        "hills": sphere.hills(points(4, 1)),
        "steep_hills": sphere.hills(points(4, 1), steepness=12.0, middle=0.2),
        "bumps": sphere.bumps(points(2, 2), points(3, 3)),
    }


class TestGeodesics:
    def test_travel_stays_on_the_sphere_and_goes_as_far_as_the_tangent_is_long(self):
        start, there = points(10), points(10, 1)
        way = tangent(start, there)
        assert (way * start).sum(1).abs().max() < 1e-14
        arrived = travel(start, way)
        assert torch.allclose(arrived.norm(dim=1), torch.ones(10, dtype=torch.float64), rtol=0, atol=1e-14)
        assert torch.allclose((arrived * start).sum(1).arccos(), way.norm(dim=1), rtol=0, atol=1e-7)

    def test_no_way_is_no_step(self):
        assert torch.equal(travel(points(3), torch.zeros(3, DIMENSION, dtype=torch.float64)), points(3))

    def test_differences_of_a_quadratic_are_exact_in_the_plane(self):
        # values q(x) = 3 x1 + x1^2 + 2 x1 x2 at u, -u, u+v, u-v, v-u, -u-v with u = (h, 0), v = (0, h), h = 0.1
        def q(x, y):
            return 3 * x + x**2 + 2 * x * y

        values = torch.tensor([q(0.1, 0), q(-0.1, 0), q(0.1, 0.1), q(0.1, -0.1), q(-0.1, 0.1), q(-0.1, -0.1)])
        slope, curvature = differences(values.double(), 0.1)
        assert float(slope) == pytest.approx(3, abs=1e-5)
        assert float(curvature) == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("name", classes())
class TestDerivatives:
    def test_slopes_and_curvatures_are_those_of_differences(self, name):
        rewards, at = classes()[name], points(40, 4)
        first, second = (tangent(at, points(40, seed)) for seed in (5, 6))
        step = 3e-4
        probes = probe_points(at, first, second, step)
        values = rewards.values(probes.flatten(0, 1)).view(-1, *probes.shape[:2])
        smooth = torch.ones(values.shape[:2], dtype=torch.bool)
        if name == "bumps":  # away from the kink
            cosine = torch.stack([layer.directions @ at.T for layer in rewards.layers])
            smooth = ((cosine - 0.8).abs() > 0.01).all(0)
        slope, curvature = differences(values, step)
        by_gradient = torch.einsum("mpd,pd->mp", rewards.gradients(at), first)
        by_hessian = torch.einsum("mpde,pd,pe->mp", rewards.hessians(at), first, second)
        assert (slope - by_gradient)[smooth].abs().max() < 1e-5
        assert (curvature - by_hessian)[smooth].abs().max() < 1e-4
        assert by_hessian.abs().max() > 0.1

    def test_gradients_and_hessians_are_tangent(self, name):
        rewards, at = classes()[name], points(10, 4)
        assert torch.einsum("mpd,pd->mp", rewards.gradients(at), at).abs().max() < 1e-13
        assert torch.einsum("mpde,pd->mpe", rewards.hessians(at), at).abs().max() < 1e-12

    def test_chances_are_chances(self, name):
        values = classes()[name].values(points(500, 7))
        assert values.min() >= 0
        assert values.max() <= 1


class TestModels:
    def test_needles_by_hand(self):
        rewards = sphere.needles(torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64))
        at = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [-1.0, 0.0]], dtype=torch.float64)
        assert rewards.values(at).tolist() == [[1, 1, 0, 0], [0, 0, 1, 0]]
        assert not rewards.gradients(at).any()

    def test_hills_by_hand(self):
        rewards = sphere.hills(torch.tensor([[1.0, 0.0]], dtype=torch.float64), steepness=6.0, middle=0.5)
        at = torch.tensor([[0.5, 0.75**0.5], [1.0, 0.0]], dtype=torch.float64)
        assert rewards.values(at)[0].tolist() == pytest.approx([0.5, 1 / (1 + math.exp(-3))])

    def test_bumps_by_hand(self):
        axes = torch.eye(3, dtype=torch.float64)
        rewards = sphere.bumps(axes[:1], axes[1:])
        # hill alone, with a bump at the second axis, with one at the third; at the three axes
        assert torch.allclose(
            rewards.values(axes),
            torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.75, 0.25], [0.5, 0.25, 0.75]], dtype=torch.float64),
        )
        half = torch.tensor([[0.0, 0.9, 0.19**0.5]], dtype=torch.float64)
        assert rewards.values(half)[:, 0].tolist() == pytest.approx([0.25, 0.5, 0.25])

    def test_the_chance_of_a_uniform_action_in_closed_form(self):
        # the circle: an arc of 2 arccos(0.8) of 2 pi; the sphere: a cap of (1 - 0.8) / 2 of the surface
        assert sphere.needle_probability(2) == pytest.approx(math.acos(0.8) / math.pi, rel=1e-12)
        assert sphere.needle_probability(3) == pytest.approx(0.1, rel=1e-12)
        # 3 dimensions, 200,000 points each, |z| < 4: a false alarm in 2e-4 of seeds; the stream is fixed
        for dimension in (3, 4, 6):
            uniform = points(200_000, 8, dimension)
            chance = sphere.needle_probability(dimension)
            share = float(sphere.needles(uniform[:1]).values(uniform[1:]).mean())
            assert abs(share - chance) < 4 * (chance / 200_000) ** 0.5


class TestLocalMaxima:
    def test_ascent_ends_on_the_top_of_a_hill(self):
        rewards = sphere.hills(points(4, 1))
        start = travel(points(4, 1), tangent(points(4, 1), points(4, 9)))  # up to a radian away
        ends = sphere.ascend(rewards, torch.eye(4, dtype=torch.float64), start, steps=300)
        assert torch.allclose((ends * points(4, 1)).sum(1), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-6)
        gradient, eigenvalue = sphere.steepness_at(rewards, torch.arange(4), ends)
        assert gradient.max() < 1e-3
        # at the top eta falls alike in all directions: curvature -k sigma(3) (1 - sigma(3)) with k = 6
        top = 1 / (1 + math.exp(-3))
        assert eigenvalue.tolist() == pytest.approx([-6 * top * (1 - top)] * 4, rel=1e-3)

    def test_a_plain_looks_like_a_maximum(self):
        rewards, at = sphere.needles(points(3, 1)), points(3, 9)
        assert torch.equal(sphere.ascend(rewards, torch.eye(3, dtype=torch.float64), at), at)
        gradient, eigenvalue = sphere.steepness_at(rewards, torch.arange(3), at)
        assert gradient.tolist() == [0, 0, 0]
        assert eigenvalue.abs().max() < 1e-12

    def test_a_saddle_is_no_maximum(self):
        # x^2-like: two opposite hills have a valley between, where the greatest curvature is positive
        axes = torch.eye(3, dtype=torch.float64)
        hills = sphere.hills(axes[:1], steepness=6.0, middle=0.5)
        gradient, eigenvalue = sphere.steepness_at(hills, torch.tensor([0]), axes[1:2])
        assert float(gradient[0]) > 0.1
        assert float(eigenvalue[0]) > 0.5


class TestBadInput:
    def test_messages(self, refuses):
        with refuses("dimension must be a whole number >= 2, got 1"):
            points(3, dimension=1)
        with refuses("threshold must lie in (0, 1), got 1.0"):
            sphere.needle_probability(3, 1.0)
        with refuses("threshold must lie in (0, 1), got 0.0"):
            sphere.needles(points(2), 0.0)
        with refuses("steepness must be positive and finite, got -1"):
            sphere.hills(points(2), -1)
