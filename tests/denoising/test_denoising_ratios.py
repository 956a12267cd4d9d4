"""BGPO and VRPO: on-policy they are one, off-policy BGPO is below, and their means over masks are exact."""

from itertools import product

import pytest
import torch

from maxrl_lab.denoising.ratios import bgpo, bgpo_terms, expected_bgpo, expected_vrpo, vrpo
from maxrl_lab.errors import InputError

ADVANTAGES = torch.tensor([1.5, 0.0, -0.7, 3.0, -2.0], dtype=torch.float64)


def differences(masks, scale, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return scale * torch.randn(len(ADVANTAGES), masks, generator=stream, dtype=torch.float64)


@pytest.mark.parametrize("masks", [1, 2, 16])
def test_on_policy_both_are_the_advantage_times_the_mean_slope(masks):
    """Value A and gradient A mean_j grad l_j where no l_j has moved, for every set of masks, to 1e-12."""
    slopes = differences(masks, 1.0)[..., None] * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for objective in (vrpo, bgpo):
        theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        values = objective(ADVANTAGES, slopes @ theta)
        torch.testing.assert_close(values.detach(), ADVANTAGES, rtol=0, atol=1e-12)
        for row in range(len(ADVANTAGES)):
            (gradient,) = torch.autograd.grad(values[row], theta, retain_graph=True)
            wanted = ADVANTAGES[row] * slopes[row].mean(0)
            torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(5))
def test_bgpo_is_below_vrpo(scale, seed):
    moved = differences(8, scale, seed)
    assert (bgpo(ADVANTAGES, moved) <= vrpo(ADVANTAGES, moved) + 1e-12).all()


def test_a_ratio_below_zero_has_no_logarithm_and_is_no_nan():
    """1 + d is formed directly: a term with d < -1 is negative."""
    moved = torch.tensor([[-3.0]])
    assert bgpo(torch.tensor([2.0]), moved).tolist() == [-4.0]
    assert bgpo(torch.tensor([-1.0]), moved).item() == pytest.approx(-(2.718281828**-3))
    assert bgpo_terms(torch.tensor([2.0]), torch.tensor([[-3.0, 1.0]])).tolist() == [[-4.0, 4.0]]


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_means_over_masks_are_those_of_all_sets_of_masks(samples):
    """By enumeration: VRPO's depends on n, BGPO's does not."""
    moved, weights = differences(4, 0.8), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    sums = {vrpo: torch.zeros(len(ADVANTAGES)), bgpo: torch.zeros(len(ADVANTAGES))}
    for chosen in product(range(4), repeat=samples):
        for objective in sums:
            sums[objective] = sums[objective] + weights[list(chosen)].prod() * objective(ADVANTAGES, moved[:, chosen])
    torch.testing.assert_close(expected_vrpo(ADVANTAGES, moved, weights, samples), sums[vrpo])
    torch.testing.assert_close(expected_bgpo(ADVANTAGES, moved, weights), sums[bgpo])


def test_vrpo_comes_from_above_to_the_ratio_of_the_bounds():
    """For A > 0 the mean falls with n, to A exp(E d), by about A exp(E d) Var(d) / 2n."""
    moved, weights = differences(4, 0.5)[:1], torch.full((4,), 0.25, dtype=torch.float64)
    limit = ADVANTAGES[:1] * (moved @ weights).exp()
    excess = [float(expected_vrpo(ADVANTAGES[:1], moved, weights, n) - limit) for n in (1, 4, 16, 256)]
    assert excess == sorted(excess, reverse=True)
    assert min(excess) > 0
    spread = float((moved**2 @ weights - (moved @ weights) ** 2) * limit / 2)
    assert excess[-1] * 256 == pytest.approx(spread, rel=0.01)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"differences \(..., masks\), got \(5,\) and \(4, 2\)"):
        vrpo(ADVANTAGES, torch.zeros(4, 2))
