"""The canvas: verifiers by hand and by listing answers, splits, and solutions with and without noise."""

import itertools

import pytest
import torch

from envs.canvas import Canvas

CANVAS = Canvas(length=4, base=5)
# the words of sum, running and pairs are 6, 7 and 8; the digits are 3 1 4 4
PROMPTS = torch.tensor([[6, 3, 1, 4, 4], [7, 3, 1, 4, 4], [8, 3, 1, 4, 4]])


def every_answer(canvas):
    return torch.tensor(list(itertools.product(range(canvas.base), repeat=canvas.length)))


class TestVerifiers:
    def test_by_hand(self):
        # the sum is 12 = 2; the running sums are 3 4 3 2; the differences are 1 - 3 = 3 and 4 - 4 = 0
        answers = torch.tensor([[0, 0, 0, 2], [3, 4, 3, 2], [2, 0, 1, 1], [4, 2, 3, 3], [0, 0, 0, 0]])
        right = CANVAS.right(PROMPTS, answers.expand(3, -1, -1))
        assert right.tolist() == [
            [True, True, False, True, False],
            [False, True, False, False, False],
            [False, False, True, True, False],
        ]

    def test_number_of_right_answers(self):
        right = CANVAS.right(PROMPTS, every_answer(CANVAS).expand(3, -1, -1))
        assert right.sum(1).tolist() == [125, 1, 25]

    def test_digits_of_right_sums_and_pairs_are_uniform_one_by_one(self):
        for row, count in ((0, 25), (2, 5)):
            right = every_answer(CANVAS)[CANVAS.right(PROMPTS, every_answer(CANVAS).expand(3, -1, -1))[row]]
            for place in range(4):
                assert right[:, place].bincount().tolist() == [count] * 5

    def test_more_axes(self):
        answers = every_answer(CANVAS).view(25, 25, 4).expand(3, -1, -1, -1)
        flat = CANVAS.right(PROMPTS, answers.flatten(1, 2))
        assert torch.equal(CANVAS.right(PROMPTS, answers).flatten(1), flat)
        assert torch.equal(CANVAS.right(PROMPTS, answers[:, 0, 0]), flat[:, 0])

    def test_names(self):
        assert CANVAS.verifier_of(PROMPTS) == ["sum", "running", "pairs"]
        assert (CANVAS.words, CANVAS.prompt_length) == (9, 5)


class TestProblems:
    def test_verifiers_take_turns_and_share_digits(self):
        prompts = CANVAS.problems(8)
        assert prompts[:, 0].tolist() == [6, 7, 8, 6, 7, 8, 6, 7]
        assert torch.equal(prompts[:3, 1:], prompts[:1, 1:].expand(3, -1))
        assert len(prompts.unique(dim=0)) == 8
        one = Canvas(("pairs",), 4, 5).problems(8)
        assert one[:, 0].tolist() == [8] * 8
        assert len(one.unique(dim=0)) == 8

    def test_splits_share_no_digits(self):
        train, test = (
            Canvas(("sum",), 3, 4).problems(count, split=split) for count, split in ((48, "train"), (16, "test"))
        )
        assert len(torch.cat([train, test]).unique(dim=0)) == 64

    def test_seeds_and_steps(self):
        assert torch.equal(CANVAS.problems(9, seed=1), CANVAS.problems(9, seed=1))
        assert not torch.equal(CANVAS.problems(9, seed=1), CANVAS.problems(9, seed=2))
        assert not torch.equal(CANVAS.problems(9, step=1), CANVAS.problems(9, step=2))


class TestSolutions:
    @pytest.mark.parametrize("verifier", ["sum", "running", "pairs"])
    def test_right_and_uniform(self, verifier):
        """Chi-square of 4096 solutions over the right answers of one prompt; the false-alarm rate is below 1e-6."""
        canvas = Canvas((verifier,), 2, 4)
        prompts = canvas.problems(1).expand(4096, -1)
        answers = canvas.solutions(prompts, torch.Generator().manual_seed(0))
        assert canvas.right(prompts, answers).all()
        counts = answers.unique(dim=0, return_counts=True)[1].double()
        assert len(counts) == (1 if verifier == "running" else 4)
        expected = 4096 / len(counts)
        assert float(((counts - expected) ** 2 / expected).sum()) < 31  # chi-square with 3 degrees: P(> 31) < 1e-6

    def test_noise(self):
        """A digit is spoilt with probability 0.5 * 4/5; 20,000 digits, six standard deviations of 0.0035."""
        prompts = Canvas(("running",), 4, 5).problems(400).repeat(13, 1)[:5000]
        canvas = Canvas(("running",), 4, 5)
        stream = torch.Generator().manual_seed(0)
        spoilt = canvas.solutions(prompts, stream, 0.5) != canvas.solutions(prompts, stream)
        assert abs(float(spoilt.double().mean()) - 0.4) < 6 * 0.0035


class TestBadInput:
    def test_settings(self, refuses):
        with refuses("the verifier 'pairs' needs an even length, got 3"):
            Canvas(length=3)
        with refuses("a canvas has at most 1048576 different rows of digits, got 10^7 = 10000000"):
            Canvas(("sum",), 7, 10)
        with refuses("unknown verifiers 'product'; choose one of: sum, running, pairs"):
            Canvas(("product",))
        with refuses("base must be a whole number >= 2, got 1"):
            Canvas(base=1)

    def test_problems(self, refuses):
        with refuses("the split 'test' has 468 problems, got a request for 469"):
            CANVAS.problems(469, split="test")
        with refuses("split must be 'train' or 'test', got 'dev'"):
            CANVAS.problems(1, split="dev")

    def test_answers(self, refuses):
        with refuses("expected answers (3, '...', 4), got (3, 2, 5)"):
            CANVAS.right(PROMPTS, torch.zeros(3, 2, 5, dtype=torch.long))
        with refuses("expected answers of digits in 0..4, got 0..5"):
            CANVAS.right(PROMPTS, torch.tensor([[[0, 1, 2, 5]]] * 3))
        with refuses("expected prompts (B, 5), got (3, 4)"):
            CANVAS.right(PROMPTS[:, 1:], torch.zeros(3, 2, 4, dtype=torch.long))
        with refuses("expected prompts that begin with one of [6], got [6, 7, 8]"):
            Canvas(("sum",)).right(PROMPTS, torch.zeros(3, 2, 4, dtype=torch.long))
        with refuses("noise must lie in [0, 1], got 1.5"):
            CANVAS.solutions(PROMPTS, torch.Generator(), 1.5)
