"""A classification batch: classes are sampled exactly as their probabilities say, from addressed random numbers."""

import math

import pytest
import torch
from scipy import stats

from maxrl_lab.classification import ClassificationBatch
from maxrl_lab.randomness import generator
from maxrl_lab.training.methods import Inverse, Sampled, sampled_loss
from maxrl_lab.training.step import run_losses

CLASSES = 1000

# Two inputs with different distributions; classes of probability 0 first, last and in between.
PROBABILITIES = torch.tensor([[0.0, 0.1, 0.2, 0.0, 0.4, 0.3, 0.0], [0.5, 0.0, 0.04, 0.06, 0.0, 0.1, 0.3]])
LABELS = torch.tensor([4, 6])


def batch_of(probabilities, labels, seeds, step=0):
    """The same inputs for every run."""
    runs = len(seeds)
    log_probs = probabilities.log().expand(runs, *probabilities.shape)
    return ClassificationBatch(log_probs, labels.expand(runs, -1), seeds, step)


class TestRollout:
    def test_class_frequencies_are_the_probabilities(self):
        # 20,000 rollouts of each input, told apart by their probability; chi-square, false-alarm rate 1e-4 an input.
        group = batch_of(PROBABILITIES, LABELS, [3]).rollout([0], 20_000)
        assert group.rewards.shape == group.log_probs.shape == (1, 2, 20_000)
        for probabilities, log_probs in zip(PROBABILITIES, group.log_probs[0], strict=True):
            possible = probabilities[probabilities > 0]
            counts = log_probs.exp()[:, None].isclose(possible, rtol=1e-3).sum(0)
            assert counts.sum() == 20_000  # a class of probability 0 is never drawn
            assert stats.chisquare(counts, 20_000 * possible.double() / possible.double().sum()).pvalue > 1e-4

    def test_a_reward_says_that_the_label_was_drawn(self):
        group = batch_of(PROBABILITIES, LABELS, [3]).rollout([0], 1000)
        # Within an input, 0.4 and 0.3 are the probabilities of the label alone.
        assert torch.equal(group.rewards[0], group.log_probs[0].exp().isclose(torch.tensor([[0.4], [0.3]])))

    def test_successes_of_a_group_are_binomial(self):
        # 20,000 groups of 4 rollouts at p = 0.3: K ~ Binomial(4, 0.3) only if rollouts and inputs are independent.
        # Chi-square, false-alarm rate 1e-4.
        inputs = 20_000
        batch = batch_of(PROBABILITIES[1].expand(inputs, -1), torch.full((inputs,), 6), [5])
        successes = batch.rollout([0], 4).rewards[0].sum(-1).bincount(minlength=5).double()
        wanted = inputs * torch.tensor([math.comb(4, k) * 0.3**k * 0.7 ** (4 - k) for k in range(5)])
        assert stats.chisquare(successes, wanted * (inputs / wanted.sum())).pvalue > 1e-4

    def test_probabilities_that_sum_to_nearly_1_are_drawn_from_in_full(self):
        # A cumulative sum in float32 ends a little off 1 (here 1% off, to show): the last class must not get the rest.
        # It is drawn about 400 times in 400,000; exact binomial test, false-alarm rate 1e-4.
        log_probs = torch.zeros(1, 1, CLASSES).log_softmax(-1) - 0.01  # sums to 0.99
        batch = ClassificationBatch(log_probs, torch.tensor([[CLASSES - 1]]), [0], 0)
        successes = int(batch.rollout([0], 400_000).rewards.sum())
        assert stats.binomtest(successes, 400_000, 1 / CLASSES).pvalue > 1e-4

    def test_the_ends_of_the_random_range_draw_a_possible_class(self, monkeypatch):
        # 0 and the largest float32 below 1 both occur once in 2^24 numbers. Input 0 has no probability on its first
        # and last class: its lowest possible class is 1 (p = 0.1), its highest 5 (0.3); input 1's are 0 and 6.
        for extreme, wanted in ((0.0, [0.1, 0.5]), (1 - 2**-24, [0.3, 0.3])):
            monkeypatch.setattr(torch, "rand", lambda shape, extreme=extreme, **_options: torch.full(shape, extreme))
            log_probs = batch_of(PROBABILITIES, LABELS, [0]).rollout([0], 1).log_probs
            assert log_probs.exp().flatten().tolist() == pytest.approx(wanted)

    def test_log_probabilities_are_differentiable_and_those_of_the_policy(self):
        logits = torch.randn(1, 2, 7, generator=generator(0), dtype=torch.float64).requires_grad_()
        group = ClassificationBatch(logits.log_softmax(-1), LABELS[None], [0], 0).rollout([0], 5)
        group.log_probs.sum().backward()
        # The score of a class is its indicator less the probabilities; over 5 rollouts these sum to 0 in every row.
        assert logits.grad.sum(-1) == pytest.approx(torch.zeros(1, 2), abs=1e-12)
        counts = logits.grad + 5 * logits.detach().softmax(-1)
        assert torch.allclose(counts, counts.round(), atol=1e-12)
        assert counts.gather(-1, LABELS[None, :, None]).squeeze(-1).round().equal(group.rewards.sum(-1).double())


class TestTally:
    """Groups larger than the number of classes, counted by class: the same rollouts in another form."""

    def batches(self, logits, seeds=(1, 2, 1), step=3):
        labels = torch.arange(logits.shape[1]).expand(len(seeds), -1) % logits.shape[-1]
        log_probs = logits.log_softmax(-1)
        return [ClassificationBatch(log_probs, labels, seeds, step, tally=tally) for tally in (False, True)]

    @pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
    def test_counts_are_those_of_the_same_rollouts(self, scale):
        # Seven classes, 500 rollouts: classes are told apart by their log-probabilities.
        plain, tallied = self.batches(scale * torch.randn(3, 5, 7, generator=generator("logits")))
        every, counted = plain.rollout([2, 0, 1], 500), tallied.rollout([2, 0, 1], 500)
        wanted = (every.log_probs[..., None] == plain.log_probs[[2, 0, 1], :, None]).sum(-2)
        assert torch.equal(counted.counts, wanted)
        assert counted.rollouts == every.rollouts == 500
        assert torch.equal((counted.rewards * counted.counts).sum(-1), every.rewards.sum(-1))

    @pytest.mark.parametrize("estimator", ["mean_centred", "grpo", "maxrl", "maxrl_no_baseline"])
    def test_the_gradient_is_the_same(self, estimator):
        logits = torch.randn(3, 5, 7, generator=generator("logits"), dtype=torch.float64).requires_grad_()
        gradients = []
        for batch in self.batches(logits):
            loss = run_losses(batch, [Sampled(estimator, 64)] * 3).sum()
            (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
            gradients.append(gradient)
        assert gradients[0].abs().max() > 1e-3
        assert torch.allclose(*gradients, rtol=1e-12, atol=1e-15)

    def test_a_group_that_is_no_larger_than_the_classes_stays_as_it_is(self):
        plain, tallied = self.batches(torch.randn(3, 5, 7, generator=generator("logits")))
        every, same = plain.rollout([0, 1, 2], 7), tallied.rollout([0, 1, 2], 7)
        assert same.counts is None
        assert torch.equal(every.log_probs, same.log_probs)
        assert tallied.rollout([0, 1, 2], 8).counts is not None

    def test_a_class_without_probability_counts_for_nothing(self):
        batch = ClassificationBatch(PROBABILITIES.log()[None], LABELS[None], [3], 0, tally=True)
        group = batch.rollout([0], 20_000)
        assert group.counts[0][PROBABILITIES == 0].eq(0).all()
        assert group.log_probs.isfinite().all()
        assert sampled_loss(group, "grpo").isfinite().all()

    def test_a_run_that_has_diverged_stays_nan_and_alone(self):
        logits = torch.randn(3, 5, 7, generator=generator("logits"))
        logits[1, 2, 3] = float("nan")
        _, tallied = self.batches(logits)
        losses = run_losses(tallied, [Sampled("maxrl", 64)] * 3)
        assert losses.isfinite().tolist() == [True, False, True]

    def test_inverse_sampling_needs_the_order(self, refuses):
        _, tallied = self.batches(torch.randn(3, 5, 7, generator=generator("logits")))
        with refuses("inverse sampling needs rollouts in their order, got a group of counts (tally=True?)"):
            Inverse(2, 64).loss(tallied, [0])


class TestRandomNumbers:
    def rewards(self, seeds, step=0, runs=None, rollouts=64):
        batch = batch_of(PROBABILITIES, LABELS, seeds, step)
        return batch.rollout(range(len(seeds)) if runs is None else runs, rollouts).rewards

    def test_runs_with_one_seed_draw_the_same(self):
        rewards = self.rewards([1, 2, 1])
        assert torch.equal(rewards[0], rewards[2])
        assert not torch.equal(rewards[0], rewards[1])

    def test_runs_may_be_asked_for_in_any_order_and_number(self):
        everyone = self.rewards([1, 2, 3])
        assert torch.equal(self.rewards([1, 2, 3], runs=[2, 0]), everyone[[2, 0]])
        assert torch.equal(self.rewards([2]), everyone[[1]])

    def test_another_step_draws_other_numbers_and_the_same_step_the_same(self):
        assert torch.equal(self.rewards([1], step=4), self.rewards([1], step=4))
        assert not torch.equal(self.rewards([1], step=4), self.rewards([1], step=5))

    def test_inputs_and_rollouts_do_not_share_numbers(self):
        # Both inputs alike: they must not succeed together.
        batch = batch_of(PROBABILITIES[:1].expand(2, -1), LABELS[:1].expand(2), [1])
        first, second = batch.rollout([0], 64).rewards[0]
        assert not torch.equal(first, second)


class TestBatch:
    def test_log_pass_rate_is_that_of_the_right_class(self):
        probabilities = torch.tensor([[[0.1, 0.9], [0.6, 0.4]], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.5], [0.25, 0.75]]])
        labels = torch.tensor([[0, 1], [1, 1], [0, 0]])
        batch = ClassificationBatch(probabilities.log(), labels, [0, 0, 0], 0)
        assert batch.log_pass_rate([2, 0]).exp().flatten().tolist() == pytest.approx([0.5, 0.25, 0.1, 0.4])

    @pytest.mark.parametrize(
        ("log_probs", "labels", "seeds"),
        [
            ((2, 3, 7), (2, 4), 2),
            ((2, 3, 7), (3,), 2),
            ((2, 3, 7), (2, 3), 1),
            ((3, 7), (3,), 3),
        ],
        ids=["inputs", "no run axis", "seeds", "log_probs without a run axis"],
    )
    def test_shapes_that_do_not_fit_are_refused(self, log_probs, labels, seeds):
        with pytest.raises(ValueError, match=r"expected log_probs \(R, B, V\), labels \(R, B\) and R seeds, got"):
            ClassificationBatch(torch.zeros(log_probs), torch.zeros(labels, dtype=torch.long), [0] * seeds, 0)
