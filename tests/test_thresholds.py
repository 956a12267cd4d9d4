"""Choices by uniform numbers of 24 bits: every item has its probability, wherever it stands and however rare it is."""

import pytest
import torch

from maxrl_lab.thresholds import part_of_step, thresholds

STEP = 2.0**-24
PARTS = (torch.arange(4096, dtype=torch.float64)[:, None] + 0.5) / 4096


def chances(probabilities):
    """The exact chances of each item: a uniform number is below a step's multiple with that probability."""
    table = thresholds(torch.as_tensor(probabilities, dtype=torch.float64), PARTS).double()
    assert torch.equal(table, (table / STEP).round() * STEP)  # on the steps of a uniform number
    return table.mean(0).diff(prepend=torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("p", [0.3, 2.0**-20, 2.0**-24, 3 * 2.0**-26, 2.0**-25, 2.0**-30, 1e-10])
def test_an_item_has_its_probability_wherever_it_stands(p, place):
    wanted = torch.full((4,), (1 - p) / 3, dtype=torch.float64)
    wanted[place] = p
    assert torch.allclose(chances(wanted), wanted, rtol=0, atol=STEP / 4000)


def test_what_is_impossible_is_never_chosen_and_something_always_is():
    probabilities = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0], dtype=torch.float64)
    table = thresholds(probabilities, PARTS)
    assert (table[:, 0] == 0).all()
    assert torch.equal(table[:, 1], table[:, 2])
    assert (table[:, 3:] == 1).all()


def test_what_is_no_distribution_chooses_its_first_item():
    table = thresholds(torch.full((3,), torch.nan), PARTS)
    assert (table == 1).all()
    uniforms = torch.rand(len(PARTS), 5, generator=torch.Generator().manual_seed(0))
    assert torch.searchsorted(table, uniforms, right=True).eq(0).all()


def test_probabilities_of_single_precision_are_summed_in_double():
    probabilities = torch.full((1000,), 1e-3)
    probabilities[-1] = 2.0**-26
    exact = probabilities.double().cumsum(-1)
    found = thresholds(probabilities, torch.tensor(0.5)).double()
    assert ((found - exact / exact[-1]).abs() <= STEP / 2).all()


def test_the_part_of_a_step_is_uniform_and_independent_of_each_number():
    uniforms = torch.rand(20_000, 3, 1, generator=torch.Generator().manual_seed(0))
    parts = part_of_step(uniforms)
    assert parts.min() >= 0
    assert parts.max() < 1
    assert torch.histc(parts, 10, 0, 1).sub(2000).abs().max() < 4.5 * 1800**0.5
    for number in uniforms[:, :, 0].T:
        joint = torch.stack([(number >= 0.5).long(), (parts >= 0.5).long()]).T @ torch.tensor([2, 1])
        joint = joint.bincount(minlength=4)
        assert joint.sub(5000).abs().max() < 4.5 * 3750**0.5


def test_the_part_of_a_step_is_the_streams_own():
    uniforms = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(part_of_step(uniforms)[1:2], part_of_step(uniforms[1:2]))


def test_the_part_of_a_step_keeps_every_digit_of_a_long_stream():
    # 2^20 + 1 numbers of 1 - 2^-24 each: their sum is a whole number less (2^20 + 1) 2^-24
    part = part_of_step(torch.full((1, 2**20 + 1), 1 - 2.0**-24))
    assert part.dtype == torch.float64
    assert part.item() == 1 - (2**20 + 1) * 2.0**-24
