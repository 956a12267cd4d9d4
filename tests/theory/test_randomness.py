"""A stream of random numbers depends on its key, all of its key, and nothing else."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from maxrl_lab.randomness import generator


def draw(*key: str | int, count: int = 8) -> torch.Tensor:
    return torch.rand(count, generator=generator(*key), dtype=torch.float64)


def test_a_stream_depends_on_its_key_alone():
    first = draw(3, 1, 4)
    torch.manual_seed(99)
    torch.rand(1000)
    draw(3, 1, 5, count=1000)
    other_use_of_the_key = generator(3, 1, 4)
    torch.rand(7, generator=other_use_of_the_key)
    assert torch.equal(draw(3, 1, 4), first)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    draw(1, 2, 3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_streams_of_different_keys_differ():
    # 10 seeds x 3 purposes x 20 steps; a stream is told by its first 8 doubles, 8 x 53 random bits.
    streams = [tuple(draw(*key).tolist()) for key in itertools.product(range(10), range(3), range(20))]
    assert len(set(streams)) == 600


def test_the_order_of_the_key_matters():
    assert not torch.equal(draw(1, 2), draw(2, 1))


@pytest.mark.parametrize(
    ("key", "other"),
    [
        pytest.param((1,), (1, 0), id="a zero at the end"),
        pytest.param((0,), (0, 0, 0), id="only zeros"),
        pytest.param((2**32 + 5,), (5, 1), id="a number beyond 32 bits"),
    ],
)
def test_keys_of_different_length_have_different_streams(key, other):
    assert not torch.equal(draw(*key), draw(*other))


def test_two_keys_whose_64_bit_seeds_agree_in_the_lowest_32_bits_differ():
    # Found by search among (seed < 300, step < 1000, 1): 300,000 keys hold 11 such pairs, as the birthday bound says.
    assert not torch.equal(draw(281, 648, 1), draw(108, 797, 1))


@pytest.mark.parametrize("key", [(-1,), (3, -2)])
def test_a_negative_key_is_refused(key):
    with pytest.raises(ValueError, match="non-negative"):
        generator(*key)


def test_first_numbers_over_neighbouring_keys_are_uniform():
    # Kolmogorov-Smirnov over 2000 keys (seed, step); false-alarm rate 1e-4, fixed keys.
    firsts = [draw(seed, step, count=1).item() for seed in range(20) for step in range(100)]
    assert stats.kstest(firsts, "uniform").pvalue > 1e-4


def test_streams_of_neighbouring_steps_are_uncorrelated():
    # The product of two independent centred uniforms has mean 0 and variance 1/144. |z| < 4: false-alarm rate 6e-5.
    pairs = [(draw(0, step, count=500) - 0.5) * (draw(0, step + 1, count=500) - 0.5) for step in range(0, 100, 2)]
    products = torch.cat(pairs)
    assert abs(products.mean().item()) * 12 * math.sqrt(len(products)) < 4


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint32])
def test_numpy_numbers_are_the_numbers_they_are(kind):
    assert torch.equal(draw("rollouts", kind(3), 1, kind(4)), draw("rollouts", 3, 1, 4))
    with pytest.raises(ValueError, match="a key holds names and non-negative numbers, got -1"):
        generator(np.int64(-1))
