"""The lattice of partly filled answers against loops over orders, steps and answers."""

import itertools
import math

import pytest
import torch

from maxrl_lab.denoising.lattice import Lattice, subsets
from maxrl_lab.denoising.samplers import Blocks, EntropyBounded, MostConfident, Uniform

SMALL = Lattice(3, 2)
ORDERS = [Uniform(), MostConfident(), Blocks(1), Blocks(3)]
SETS = [EntropyBounded(0.0), EntropyBounded(0.5), EntropyBounded(math.inf)]


def random_table(lattice, prompts=2, seed=0, scale=2.0):
    """Log-probabilities of a policy without structure, float64."""
    stream = torch.Generator().manual_seed(seed)
    logits = torch.randn(prompts, lattice.size, lattice.length, lattice.base, generator=stream, dtype=torch.float64)
    return (scale * logits).log_softmax(-1)


def runs(lattice, table, prompt, sampler):
    """Yield (probability, answer, steps) of every denoising run, by recursion over what the sampler may do."""

    def go(state, probability, steps):
        if lattice.base not in state:
            yield probability, state, steps
            return
        row = table[prompt, int(lattice.index(torch.tensor(state)))]
        chances = sampler.chances(torch.tensor(state), row).tolist()
        if sampler.one_place:
            moves = [((place,), chance) for place, chance in enumerate(chances) if chance > 0]
        else:
            moves = [(tuple(place for place, chance in enumerate(chances) if chance > 0), 1.0)]
        for places, chance in moves:
            for digits in itertools.product(range(lattice.base), repeat=len(places)):
                after, weight = list(state), probability * chance
                for place, digit in zip(places, digits, strict=True):
                    after[place] = digit
                    weight *= math.exp(row[place, digit])
                yield from go(tuple(after), weight, steps + 1)

    yield from go((lattice.base,) * lattice.length, 1.0, 0)


class TestStates:
    def test_numbers(self):
        assert SMALL.size == 27 == len(SMALL.states)
        assert torch.equal(SMALL.index(SMALL.states), torch.arange(27))
        assert SMALL.states[-1].tolist() == [2, 2, 2]
        assert SMALL.answers.tolist() == [list(answer) for answer in itertools.product((0, 1), repeat=3)]

    def test_filled(self):
        for state, place, digit in itertools.product(range(27), range(3), range(2)):
            words = SMALL.states[state].tolist()
            after = int(SMALL.filled[state, place, digit])
            if words[place] == 2:
                words[place] = digit
                assert SMALL.states[after].tolist() == words
            else:
                assert after == -1

    def test_hidden(self):
        for answer, subset in itertools.product(range(8), range(8)):
            words = [digit if subset >> place & 1 else 2 for place, digit in enumerate(SMALL.answers[answer].tolist())]
            assert SMALL.states[SMALL.hidden[answer, subset]].tolist() == words
            assert subsets(3)[subset].tolist() == [bool(subset >> place & 1) for place in range(3)]

    def test_too_many_states(self, refuses):
        with refuses("a lattice has at most 50000 states (base + 1)^length, got 11^5 = 161051"):
            Lattice(5, 10)
        with refuses("base must be a whole number >= 2, got 1"):
            Lattice(3, 1)

    def test_table_of_another_shape(self, refuses):
        with refuses("expected a table (B, 27, 3, 2), got (2, 26, 3, 2)"):
            SMALL.answer_log_probs(torch.zeros(2, 26, 3, 2), Uniform())
        with refuses("expected right (B, X) (2, 8), got (2, 27)"):
            SMALL.pass_rate(random_table(SMALL), Uniform(), torch.ones(2, 27))


class TestDecoding:
    @pytest.mark.parametrize("sampler", ORDERS + SETS, ids=str)
    def test_every_run(self, sampler):
        table = random_table(SMALL)
        decoded = SMALL.decode(table, sampler)
        for prompt in range(2):
            probabilities, evaluations = torch.zeros(8, dtype=torch.float64), torch.zeros(8)
            for probability, answer, steps in runs(SMALL, table, prompt, sampler):
                index = int(torch.tensor(answer) @ torch.tensor([4, 2, 1]))
                probabilities[index] += probability
                evaluations[index] = steps
            assert torch.allclose(decoded.log_probs[prompt].exp(), probabilities, rtol=1e-12)
            assert torch.equal(decoded.evaluations[prompt].float(), evaluations)

    @pytest.mark.parametrize("sampler", ORDERS + SETS, ids=str)
    @pytest.mark.parametrize(("length", "base"), [(1, 3), (2, 4), (4, 3)])
    def test_answers_sum_to_one(self, sampler, length, base):
        lattice = Lattice(length, base)
        if isinstance(sampler, Blocks):
            sampler = Blocks(length if sampler.size > 1 else 1)
        total = lattice.answer_log_probs(random_table(lattice), sampler).exp().sum(1)
        assert torch.allclose(total, torch.ones_like(total), rtol=1e-12)

    @pytest.mark.parametrize("sampler", [*ORDERS, Blocks(2), *SETS], ids=str)
    def test_pass_rate_is_the_sum_over_right_answers(self, sampler):
        lattice = Lattice(4 if sampler == Blocks(2) else 3, 3)
        table = random_table(lattice).requires_grad_()
        right = torch.rand(2, len(lattice.answers), generator=torch.Generator().manual_seed(1)) < 0.3
        rate = lattice.pass_rate(table, sampler, right)
        summed = (lattice.answer_log_probs(table, sampler).exp() * right).sum(1)
        assert torch.allclose(rate, summed, rtol=1e-12)
        ours, theirs = (torch.autograd.grad(value.sum(), table)[0] for value in (rate, summed))
        assert torch.allclose(ours, theirs, atol=1e-13)

    def test_gradients_by_finite_differences(self):
        lattice = Lattice(2, 2)
        for sampler in (Uniform(), MostConfident(), Blocks(1), EntropyBounded(0.5)):
            table = random_table(lattice, prompts=1).requires_grad_()
            assert torch.autograd.gradcheck(lambda table, s=sampler: lattice.answer_log_probs(table, s), table)

    def test_a_bound_for_every_prompt(self):
        table = random_table(SMALL)
        together = SMALL.decode(table, EntropyBounded(torch.tensor([0.0, math.inf])))
        for row, gamma in enumerate((0.0, math.inf)):
            alone = SMALL.decode(table[row : row + 1], EntropyBounded(gamma))
            assert torch.equal(together.log_probs[row : row + 1], alone.log_probs)
            assert torch.equal(together.evaluations[row : row + 1], alone.evaluations)
