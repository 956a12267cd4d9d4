"""Laws of masks by hand and by the orders they stand for, their sampling, and Rényi's bound."""

import math
from itertools import permutations

import pytest
import torch

from maxrl_lab.denoising import likelihoods, surrogates
from maxrl_lab.denoising.forms import Forms
from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.samplers import Blocks, Uniform
from maxrl_lab.denoising.surrogates import Surrogate, renyi_bound, resolve
from maxrl_lab.errors import InputError
from maxrl_lab.policies.masked import PairwiseDenoiser

LENGTH = 4
NAMES = ("path", "own_step", "elbo", "two_times", "mean_field", "anchors:count=3", "coupled", "spg", "elbo:samples=3")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [1, 2, LENGTH])
def test_a_law_is_a_distribution_that_scores_only_empty_places(name, length):
    if name == "anchors:count=3" and length < 3:
        pytest.skip("there are not so many steps")
    law = resolve(name).law(length)
    assert float(law.weights.sum()) == pytest.approx(1, abs=1e-12)
    assert not ((law.coefficients != 0) & ~law.empty).any()
    # a token counts once on average; coupled-GRPO's code counts it one and a half times
    counts = torch.einsum("c,cjl->l", law.weights, law.coefficients)
    assert counts.tolist() == pytest.approx([1.5 if name == "coupled" else 1.0] * length)
    assert resolve(name).passes(length) == law.empty.shape[1] * (3 if "samples" in name else 1)


def test_laws_of_two_places_by_hand():
    path = resolve("path").law(2)
    assert path.empty.tolist() == [[[True, True], [False, True]]]  # before the first step, before the second
    assert path.coefficients.tolist() == [[[1, 0], [0, 1]]]
    bound = resolve("elbo").law(2)  # masks of one place weigh 2, the mask of both weighs 1
    assert sorted(zip(bound.coefficients[:, 0].tolist(), bound.weights.tolist(), strict=True)) == [
        ([0, 2], 0.25),
        ([1, 1], 0.5),
        ([2, 0], 0.25),
    ]
    twice = resolve("two_times").law(2)  # at step 0 it is the mean field
    assert twice.coefficients.tolist() == [[[0, 0], [1, 1]], [[1, 0], [0, 1]]]


@pytest.mark.parametrize("length", [2, 3, LENGTH])
def test_means_over_orders_are_the_likelihoods_that_know_no_order(length):
    """E over masks = E over L! orders for the bound; anchors and the two-times mean field by their closed forms."""
    forms = Forms(length)
    form, place = forms.cells.T

    def mean(name):
        return forms.moments(resolve(name))[0].mean(0)

    wanted = likelihoods.elbo_coefficients(length)[form, place]
    for name in ("elbo", "path", "own_step", f"anchors:count={length}"):
        torch.testing.assert_close(mean(name), wanted, rtol=0, atol=1e-12)
    for count in range(1, length + 1):
        closed = likelihoods.anchor_coefficients(length, count)[form, place]
        torch.testing.assert_close(mean(f"anchors:count={count}"), closed, rtol=0, atol=1e-12)
    given_nothing = mean("two_times")[form == 0]
    assert given_nothing.tolist() == pytest.approx([1 / length + (length - 1) / (2 * length)] * length)


def test_a_sampled_mask_is_the_laws_in_the_order_of_the_rollout():
    """On the path: pass j leaves empty what the rollout filled from step j on, and scores what it filled in step j."""
    orders = torch.tensor(list(permutations(range(3))))
    empty, coefficients = surrogates.sample(resolve("path").law(3), orders, 1, torch.Generator().manual_seed(0))
    for order, holes, weights in zip(orders.tolist(), empty, coefficients, strict=True):
        for step in range(3):
            assert set(holes[step].nonzero()[:, 0].tolist()) == set(order[step:])
            assert weights[step].nonzero()[:, 0].tolist() == [order[step]]


def test_sampled_masks_have_the_probabilities_of_the_law():
    """Each of 7 masks is drawn within 4.5 standard errors: a right law fails with probability below 1e-4."""
    law, draws = resolve("elbo").law(3), 20_000
    empty, coefficients = surrogates.sample(law, torch.arange(3)[None], draws, torch.Generator().manual_seed(1))
    numbers = (empty[0].long() * torch.tensor([4, 2, 1])).sum(-1)
    for mask, weight in zip(law.empty[:, 0], law.weights.tolist(), strict=True):
        share = float((numbers == int((mask.long() * torch.tensor([4, 2, 1])).sum())).double().mean())
        assert abs(share - weight) < 4.5 * math.sqrt(weight * (1 - weight) / draws)
    assert float(coefficients.sum()) == pytest.approx(3)  # k places that weigh L/k, averaged over draws


def test_coupled_has_the_moments_of_a_uniform_ratio():
    """With t uniform in (0.2, 0.8): E[1/t^2 t^2] for a mask of both of two places, (0.2 + 0.8)/2 and so on."""
    law = resolve("coupled").law(2)
    both = law.empty[:, 1].all(1)
    assert float(law.weights[both].sum()) == pytest.approx((0.8**3 - 0.2**3) / 3 / 0.6, abs=1e-12)
    one = law.empty[:, 1, 0] & ~law.empty[:, 1, 1]
    weighed = law.weights[one] @ law.coefficients[one, 1, 0]
    assert float(weighed) == pytest.approx(0.5 * (1 - 0.5), abs=1e-12)  # E[t (1-t) / 2t]
    squared = law.weights[one] @ law.coefficients[one, 1, 0] ** 2
    assert float(squared) == pytest.approx((math.log(4) / 0.6 - 1) / 4, abs=1e-9)  # E[(1-t) / 4t]


@pytest.mark.parametrize("block", [1, 2, 4])
def test_blocks_have_their_own_bound(block):
    lattice = Lattice(LENGTH, 2)
    table = PairwiseDenoiser(LENGTH, 2, seed=3).log_probs(torch.zeros(1, 1).long(), lattice.states).detach()
    forms = Forms(LENGTH, block)
    tokens = forms.tokens(lattice, table)
    bound = likelihoods.elbo(lattice, table, block)
    torch.testing.assert_close(forms.bound(tokens), bound, rtol=0, atol=1e-12)
    log_probs = forms.path_log_probs(tokens).logsumexp(-1)
    torch.testing.assert_close(log_probs, lattice.answer_log_probs(table, Blocks(block)), rtol=0, atol=1e-12)
    assert (bound <= log_probs + 1e-12).all()
    if block == 1:
        torch.testing.assert_close(bound, log_probs, rtol=0, atol=1e-12)
    else:
        assert (log_probs - bound).max() > 0.1


@pytest.mark.parametrize("beta", [1.5, 3.0])
def test_renyis_bound_by_a_slow_loop_and_where_it_is_a_bound(beta):
    """With all masks in their shares it is above log p(x) at beta = L, by Hölder's inequality; at 1.5 it is not."""
    lattice, forms = Lattice(3, 2), Forms(3)
    table = PairwiseDenoiser(3, 2, seed=5).log_probs(torch.zeros(1, 1).long(), lattice.states).detach()
    tokens = forms.tokens(lattice, table)[0]
    law = resolve("elbo").law(3)
    repeated = (law.weights * 9).round().long()  # multiples of 1/9: three masks of each size, or one for all three
    empty = law.empty[:, 0].repeat_interleave(repeated, 0)
    assert len(empty) == 9
    cells = torch.cat([tokens, torch.zeros(len(tokens), 1)], 1)[:, forms.cell_numbers(empty)]
    values = renyi_bound(cells, empty.expand(len(tokens), -1, -1), beta)
    for answer in range(len(tokens)):
        slow = 0.0
        for place in range(3):
            mean = 0.0
            for mask in range(9):
                if empty[mask, place]:
                    size = int(empty[mask].sum())
                    mean += math.exp(beta * float(cells[answer, mask, place])) * 3 / size / 9
            slow += math.log(mean) / beta
        assert float(values[answer]) == pytest.approx(slow)
    is_above = values >= lattice.answer_log_probs(table, Uniform())[0]
    assert bool(is_above.all()) == (beta == 3)


def test_a_token_that_no_mask_holds_counts_nothing():
    tokens = torch.full((1, 1, 2), -3.0)
    empty = torch.tensor([[[True, False]]])
    assert float(renyi_bound(tokens, empty, 1.0)) == pytest.approx(-3 + math.log(2))  # k = 1 of L = 2 weighs 2


@pytest.mark.parametrize("name", NAMES)
def test_names_are_read_back(name):
    assert resolve(resolve(name).spec) == resolve(name)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: resolve("bound"), "unknown surrogate 'bound'"),
        (lambda: resolve("elbo:samples=0"), "samples must be a whole number >= 1"),
        (lambda: resolve("anchors"), "needs the option 'count'"),
        (lambda: resolve("anchors:count=5").law(4), "1 to 4 anchors for 4 places, got 5"),
        (lambda: resolve("spg:beta=0"), "beta must be positive"),
        (lambda: Surrogate("elbo").law(11), "1 to 10 places, got 11"),
        (lambda: Forms(4, 3), "blocks must divide the 4 places"),
        (lambda: Forms(7), "1 to 6 places"),
        (lambda: resolve("coupled:low=0.5"), "has no option 'low'"),
    ],
)
def test_bad_input_is_named_in_one_line(made, words):
    with pytest.raises(InputError, match=words) as caught:
        made()
    assert "\n" not in str(caught.value)
