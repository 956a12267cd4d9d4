"""Samplers by hand, and denoising runs against the exact lattice."""

import math

import pytest
import torch
from scipy import stats

from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.samplers import (
    Blocks,
    EntropyBounded,
    MostConfident,
    Rollouts,
    Uniform,
    path_log_probs,
    sample,
)

LATTICE = Lattice(4, 2)
SAMPLERS = [Uniform(), MostConfident(), Blocks(2), Blocks(1), EntropyBounded(0.0), EntropyBounded(0.9)]
EMPTY = 2


def random_table(prompts=2, seed=0):
    """Log-probabilities of a policy without structure, float64."""
    stream = torch.Generator().manual_seed(seed)
    logits = torch.randn(prompts, LATTICE.size, 4, 2, generator=stream, dtype=torch.float64)
    return (2 * logits).log_softmax(-1)


def runs(table, sampler, rollouts, seed=0):
    """Denoising runs of the policy of a table."""
    stream = torch.Generator().manual_seed(seed)
    policy = LATTICE.look_up(table)
    return sample(policy, sampler, prompts=len(table), rollouts=rollouts, length=4, base=2, stream=stream)


class TestByHand:
    # four places with chances .5, .9, .6, .8 of digit 0: entropies 0.693, 0.325, 0.673, 0.500 nats
    LOG_PROBS = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.6, 0.4], [0.8, 0.2]], dtype=torch.float64).log()

    def chances(self, sampler, state):
        return sampler.chances(torch.tensor(state), self.LOG_PROBS).tolist()

    def test_uniform(self):
        assert self.chances(Uniform(), [EMPTY] * 4) == [0.25] * 4
        assert self.chances(Uniform(), [EMPTY, 0, 1, EMPTY]) == [0.5, 0, 0, 0.5]
        assert self.chances(Uniform(), [0, 0, 1, 0]) == [0] * 4

    def test_most_confident(self):
        assert self.chances(MostConfident(), [EMPTY] * 4) == [0, 1, 0, 0]
        assert self.chances(MostConfident(), [EMPTY, 0, EMPTY, EMPTY]) == [0, 0, 0, 1]
        assert self.chances(MostConfident(), [0, 0, 1, 0]) == [0] * 4

    def test_blocks(self):
        assert self.chances(Blocks(2), [EMPTY] * 4) == [0.5, 0.5, 0, 0]
        assert self.chances(Blocks(2), [0, EMPTY, EMPTY, EMPTY]) == [0, 1, 0, 0]
        assert self.chances(Blocks(2), [0, 1, EMPTY, EMPTY]) == [0, 0, 0.5, 0.5]
        assert self.chances(Blocks(1), [0, EMPTY, EMPTY, EMPTY]) == [0, 1, 0, 0]
        assert self.chances(Blocks(4), [0, EMPTY, EMPTY, EMPTY]) == self.chances(Uniform(), [0, EMPTY, EMPTY, EMPTY])
        assert self.chances(Blocks(2), [0, 1, 1, 0]) == [0] * 4

    def test_entropy_bounded(self):
        # in ascending order 0.325 (place 1), 0.500 (3), 0.673 (2), 0.693 (0); all but the largest are summed
        for gamma, filled in (
            (0.0, [0, 1, 0, 0]),
            (0.32, [0, 1, 0, 0]),
            (0.33, [0, 1, 0, 1]),
            (0.82, [0, 1, 0, 1]),
            (0.83, [0, 1, 1, 1]),
            (1.49, [0, 1, 1, 1]),
            (1.5, [1, 1, 1, 1]),
            (math.inf, [1, 1, 1, 1]),
        ):
            assert self.chances(EntropyBounded(gamma), [EMPTY] * 4) == filled
        assert self.chances(EntropyBounded(0.51), [EMPTY, 1, EMPTY, EMPTY]) == [0, 0, 1, 1]
        assert self.chances(EntropyBounded(math.inf), [0, 1, EMPTY, 0]) == [0, 0, 1, 0]
        assert self.chances(EntropyBounded(math.inf), [0, 1, 1, 0]) == [0] * 4

    def test_bad_samplers(self, refuses):
        with refuses("the size of a block must divide the length 4, got 3"):
            self.chances(Blocks(3), [EMPTY] * 4)
        with refuses("size must be a whole number >= 1, got 0"):
            Blocks(0)
        with refuses("gamma must not be negative, got -0.1"):
            EntropyBounded(-0.1)
        with refuses("gamma must not be negative, got nan"):
            EntropyBounded(math.nan)


class TestRuns:
    @pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
    def test_frequencies(self, sampler):
        """Chi-square of 4000 answers to one prompt; the false-alarm rate is 1e-6 for each of the six samplers."""
        table = random_table(1)
        exact = LATTICE.answer_log_probs(table, sampler).exp()[0]
        answers = runs(table, sampler, 4000).answers[0]
        counts = torch.bincount((answers * torch.tensor([8, 4, 2, 1])).sum(-1), minlength=16)
        rare = 4000 * exact < 5
        observed, expected = ([*values[~rare], values[rare].sum()] for values in (counts.double(), 4000 * exact))
        if expected[-1] == 0:
            observed, expected = observed[:-1], expected[:-1]
        statistic = sum((o - e) ** 2 / max(e, 1e-9) for o, e in zip(observed, expected, strict=True))
        assert float(statistic) < stats.chi2.ppf(1 - 1e-6, len(observed) - 1)

    @pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
    def test_every_step_is_one_that_the_sampler_takes(self, sampler):
        table = random_table()
        done = runs(table, sampler, 20)
        for prompt, run in ((b, n) for b in range(2) for n in range(20)):
            answer, steps = done.answers[prompt, run], done.steps[prompt, run]
            assert done.evaluations[prompt, run] == steps.max() + 1 == len(steps.unique())
            for step in steps.unique():
                state = torch.where(steps < step, answer, EMPTY)
                chances = sampler.chances(state, table[prompt, LATTICE.index(state)])
                filled = steps == step
                assert (chances[filled] > 0).all()
                assert filled.sum() == 1 if sampler.one_place else torch.equal(filled, chances > 0)

    def test_evaluations_of_an_answer(self):
        table, sampler = random_table(), EntropyBounded(0.9)
        done = runs(table, sampler, 50)
        rows = (done.answers * torch.tensor([8, 4, 2, 1])).sum(-1)
        assert torch.equal(done.evaluations, LATTICE.decode(table, sampler).evaluations.gather(1, rows))
        assert len(done.evaluations.unique()) > 1

    def test_orders(self):
        done = Rollouts(torch.zeros(1, 2, 4), torch.tensor([[[3, 0, 2, 1], [1, 0, 0, 1]]]))
        assert done.orders.tolist() == [[[1, 3, 2, 0], [1, 2, 0, 3]]]
        assert done.evaluations.tolist() == [[4, 2]]

    def test_same_stream_same_runs(self):
        table = random_table()
        assert torch.equal(runs(table, Uniform(), 5).steps, runs(table, Uniform(), 5).steps)
        assert not torch.equal(runs(table, Uniform(), 5).answers, runs(table, Uniform(), 5, seed=1).answers)


class TestPaths:
    @pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
    def test_path_by_a_loop(self, sampler):
        table = random_table().requires_grad_()
        done = runs(table, sampler, 6)
        values = path_log_probs(LATTICE.look_up(table), done, 2)
        for prompt, run in ((b, n) for b in range(2) for n in range(6)):
            answer, steps = done.answers[prompt, run], done.steps[prompt, run]
            total = 0.0
            for place in range(4):
                state = torch.where(steps < steps[place], answer, EMPTY)
                total += table[prompt, LATTICE.index(state), place, answer[place]].item()
            assert float(values[prompt, run]) == pytest.approx(total, rel=1e-12)
        assert torch.autograd.grad(values.sum(), table)[0].sum() == pytest.approx(2 * 6 * 4)

    @pytest.mark.parametrize("sampler", [MostConfident(), Blocks(1), EntropyBounded(0.9)], ids=str)
    def test_one_path_to_an_answer(self, sampler):
        """Where the state decides what is filled, the path's score is that of the answer."""
        table = random_table()
        done = runs(table, sampler, 30)
        rows = (done.answers * torch.tensor([8, 4, 2, 1])).sum(-1)
        answers = LATTICE.answer_log_probs(table, sampler).gather(1, rows)
        assert torch.allclose(path_log_probs(LATTICE.look_up(table), done, 2), answers, rtol=1e-12)
