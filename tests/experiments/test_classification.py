"""Three digits side by side: real pictures, split by picture, labelled with the number they show, sampled exactly."""

import math

import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits

from envs.digits import CLASSES, PIXELS, ClassificationBatch, three_digits
from maxrl_lab.policies.stack import mlp, seeded
from maxrl_lab.randomness import generator

SPLITS = ("train", "test")


def raw(standardised):
    """Whole brightness 0..16, undoing (x / 16 - 0.305) / 0.376."""
    brightness = (standardised.double() * 0.376 + 0.305) * 16
    assert (brightness - brightness.round()).abs().max() < 1e-4
    return brightness.round().to(torch.uint8)


@pytest.fixture(scope="module")
def source():
    """The data set as shipped: each picture's bytes -> (its place, its digit)."""
    pictures, digits = load_digits(return_X_y=True)
    return {
        picture.astype("uint8").tobytes(): (place, int(digit))
        for place, (picture, digit) in enumerate(zip(pictures, digits, strict=True))
    }


def places(source, split):
    return [source[picture.numpy().tobytes()][0] for picture in raw(three_digits(split).pictures)]


class TestPictures:
    def test_the_data_set_holds_no_picture_twice(self, source):
        # So "disjoint" below can mean content, without exceptions.
        assert len(source) == 1797

    def test_every_picture_is_used_exactly_once_in_one_split(self, source):
        train, test = places(source, "train"), places(source, "test")
        assert sorted(train + test) == list(range(1797))
        assert (len(train), len(test)) == (1198, 599)

    def test_a_third_of_every_digits_pictures_is_for_testing(self):
        # 174 to 183 pictures a digit, and every third one over all digits in order: within one picture of a third.
        counts = {split: three_digits(split).first.diff() for split in SPLITS}
        assert (counts["test"] * 3 - (counts["train"] + counts["test"])).abs().max() <= 2

    @pytest.mark.parametrize("split", SPLITS)
    def test_pictures_are_sorted_by_digit_as_first_says(self, source, split):
        stream = three_digits(split)
        digits = [source[picture.numpy().tobytes()][1] for picture in raw(stream.pictures)]
        for digit in range(10):
            assert digits[stream.first[digit] : stream.first[digit + 1]] == [digit] * int(stream.first.diff()[digit])
        assert stream.first[10] == len(digits)

    def test_pixels_are_standardised(self):
        # By constants of three decimals, so up to 0.0005 / 0.376 off.
        pixels = torch.cat([three_digits(split).pictures for split in SPLITS]).double()
        assert abs(pixels.mean()) < 2e-3
        assert abs(pixels.std() - 1) < 2e-3

    def test_an_unknown_split_is_refused(self):
        with pytest.raises(ValueError, match="Test"):
            three_digits("Test")


class TestSample:
    @pytest.mark.parametrize("split", SPLITS)
    def test_labels_are_the_digits_shown(self, source, split):
        images, labels = three_digits(split).sample(500, generator(0))
        assert images.shape == (500, PIXELS)
        assert labels.shape == (500,)
        for image, label in zip(raw(images), labels.tolist(), strict=True):
            # The image as a reader sees it: 8 rows of 24 pixels, one digit in each third.
            shown = image.reshape(8, 24)
            digits = [source[shown[:, 8 * place : 8 * place + 8].numpy().tobytes()][1] for place in range(3)]
            assert label == 100 * digits[0] + 10 * digits[1] + digits[2]

    def test_samples_of_the_splits_share_no_picture(self, source):
        used = {}
        for split in SPLITS:
            images, _ = three_digits(split).sample(2000, generator(1))
            pictures = raw(images).reshape(-1, 8, 3, 8).transpose(1, 2).reshape(-1, 64)
            used[split] = {source[picture.numpy().tobytes()][0] for picture in pictures}
        assert not used["train"] & used["test"]

    def test_every_picture_and_every_class_turns_up(self, source):
        # 20,000 images: each class 20 times, each of 1198 pictures 50 times in the mean. The chance that one of them
        # is missing is about 1000 exp(-20) + 1198 exp(-50) = 2e-6; the stream is fixed.
        images, labels = three_digits("train").sample(20_000, generator(2))
        pictures = raw(images).reshape(-1, 8, 3, 8).transpose(1, 2).reshape(-1, 64).unique(dim=0)
        assert {source[picture.numpy().tobytes()][0] for picture in pictures} == set(places(source, "train"))
        assert labels.unique().tolist() == list(range(CLASSES))

    def test_classes_are_uniform(self):
        # Chi-square over 1000 classes; false-alarm rate 1e-4, fixed stream.
        _, labels = three_digits("train").sample(50_000, generator(3))
        assert stats.chisquare(labels.bincount(minlength=CLASSES).numpy()).pvalue > 1e-4

    def test_the_three_digits_are_independent_pictures(self):
        # In 000, 111, ... 999 two places show the same picture about once in 120 times (118 to 122 pictures a digit);
        # about 200 such numbers among 20,000, so 10% or more has a chance below 1e-14.
        images, labels = three_digits("train").sample(20_000, generator(4))
        left, middle, right = raw(images).reshape(-1, 8, 3, 8).transpose(1, 2).reshape(-1, 3, 64).unbind(1)
        repeated = labels % 111 == 0
        assert repeated.sum() > 100
        for one, other in ((left, middle), (middle, right), (left, right)):
            assert (one[repeated] == other[repeated]).all(-1).double().mean() < 0.1

    def test_the_stream_alone_decides(self):
        digits = three_digits("train")
        images, labels = digits.sample(50, generator(7, 1))
        torch.manual_seed(0)
        again_images, again_labels = three_digits("train").sample(50, generator(7, 1))
        assert torch.equal(images, again_images)
        assert torch.equal(labels, again_labels)
        assert not torch.equal(digits.sample(50, generator(7, 2))[1], labels)

    def test_an_untrained_policy_is_right_about_once_in_1000(self):
        images, labels = three_digits("train").sample(2000, generator(5))
        for seed in range(3):
            with torch.no_grad():
                log_probs = seeded(lambda: mlp([PIXELS, 128, CLASSES]), seed)(images).log_softmax(-1)
            pass_rates = log_probs.gather(-1, labels[:, None]).exp()
            assert pass_rates.mean() == pytest.approx(1e-3, rel=0.05)
            assert pass_rates.min() > 2e-4
            assert pass_rates.max() < 5e-3


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
