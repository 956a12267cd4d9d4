"""Three digits side by side: real pictures, split by picture, labelled with the number they show."""

import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits

from envs.digits import CLASSES, PIXELS, three_digits
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
