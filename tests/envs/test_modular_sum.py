"""Modular sums: what counts as the answer, with and without a scratchpad, by hand, by a loop and by listing answers."""

import itertools

import numpy as np
import pytest
import torch

from envs.modular_sum import ModularSum
from maxrl_lab.tokens.decoding import EOS, PAD

DIRECT, PAD_4_7 = ModularSum(4, 7), ModularSum(4, 7, scratchpad=True)
# 3 + 6 + 0 + 5 = 14, which is 0 modulo 7; its running sums are 3, 9 = 2, 2, 14 = 0.
CONTENT = np.array([[3, 6, 0, 5]])


def written(task, rows):
    """Answers in words, B lists of N, as tensors."""
    lengths = torch.tensor([[len(answer.split()) for answer in row] for row in rows])
    answers = torch.full((*lengths.shape, int(lengths.max())), PAD)
    for b, row in enumerate(rows):
        for n, answer in enumerate(row):
            answers[b, n, : lengths[b, n]] = torch.tensor(task.vocabulary.encode(answer.split()))
    return answers, lengths


def every_answer(task, problems):
    """All sequences of tokens, one row for each problem, with their lengths: up to the first <eos>, or all."""
    tokens = itertools.product(range(len(task.vocabulary)), repeat=task.answer_length)
    answers = torch.tensor(list(tokens)).expand(problems, -1, -1)
    is_end = (answers == EOS).long()
    return answers, torch.where(is_end.any(2), is_end.argmax(2) + 1, task.answer_length)


def final(task, ids):
    """The answer that token ids give, by comparing words, or None."""
    words = task.vocabulary.decode(ids)
    if "<eos>" not in words:
        return None
    words = words[: words.index("<eos>")]
    if task.scratchpad and (len(words) < 2 or words[-2] != "ANSWER"):
        return None
    if not task.scratchpad and len(words) != 1:
        return None
    return int(words[-1]) if words[-1].isdigit() else None


class TestProblems:
    def test_prompts_by_hand(self):
        for task in (DIRECT, PAD_4_7):
            prompts, lengths = task.encode(CONTENT)
            assert task.vocabulary.decode(prompts[0]) == ["<bos>", "3", "6", "0", "5", "="]
            assert lengths.tolist() == [6] == [task.prompt_length]

    def test_vocabularies(self):
        assert DIRECT.vocabulary.words[3:] == ("0", "1", "2", "3", "4", "5", "6", "=")
        assert PAD_4_7.vocabulary.words[3:] == ("0", "1", "2", "3", "4", "5", "6", "=", "ANSWER")

    def test_digits_are_uniform(self):
        # 4000 digits, 571 of each: standard deviation 22; six of them: false alarm below 1e-7.
        drawn = np.bincount(DIRECT.sample(1000, np.random.default_rng(0)).ravel(), minlength=7)
        assert len(drawn) == 7
        assert abs(drawn - 4000 / 7).max() < 6 * 22.2

    def test_with_and_without_a_scratchpad_they_are_the_same(self):
        for split in ("train", "test"):
            first, second = (task.problems(50, split=split, seed=1, step=2).content for task in (DIRECT, PAD_4_7))
            np.testing.assert_array_equal(first, second)

    def test_streams(self):
        first, again, other = (DIRECT.problems(20, seed=seed).content.tolist() for seed in (3, 3, 4))
        assert first == again != other

    def test_all_are_in_one_split(self):
        task = ModularSum(2, 5)
        found = {
            split: {tuple(each) for each in task.problems(600, split=split).content} for split in ("train", "test")
        }
        assert not found["train"] & found["test"]
        assert found["train"] | found["test"] == set(itertools.product(range(5), repeat=2))
        # nor is one in the other split with its digits in another order
        assert {tuple(reversed(each)) for each in found["test"]} == found["test"]
        sorts = {tuple(sorted(each)) for each in found["test"]}
        with pytest.raises(
            ValueError, match=rf"\Afound {len(sorts)} of 25 distinct test problems of modular_sum 2 5\Z"
        ):
            task.problems(25, split="test", distinct=True)


MIXED = ModularSum(4, 7, scratchpad=True, shortest=2)
# 3 + 6 + 0 + 5 = 14, 5 + 4 = 9, 6 + 6 + 6 = 18 modulo 7
SHORTER = np.array([[3, 6, 0, 5], [5, 4, -1, -1], [6, 6, 6, -1]])


class TestSeveralLengths:
    def test_prompts_and_solutions_by_hand(self):
        prompts, lengths = MIXED.encode(SHORTER)
        words = [MIXED.vocabulary.decode(prompt[:length]) for prompt, length in zip(prompts, lengths, strict=True)]
        assert words == [["<bos>", "3", "6", "0", "5", "="], ["<bos>", "5", "4", "="], ["<bos>", "6", "6", "6", "="]]
        assert prompts[1, 4:].tolist() == [PAD, PAD]
        answers, lengths = MIXED.solutions(SHORTER, np.random.default_rng(0))
        words = [MIXED.vocabulary.decode(answer[:length]) for answer, length in zip(answers, lengths, strict=True)]
        assert words == [
            line.split() for line in ("3 2 2 0 ANSWER 0 <eos>", "5 2 ANSWER 2 <eos>", "6 5 4 ANSWER 4 <eos>")
        ]
        assert MIXED.verify(SHORTER, answers[:, None], lengths[:, None]).all()
        assert MIXED.solutions(SHORTER[1:], np.random.default_rng(0))[0].shape == (2, 6)  # of the longest

    def test_answered_at_once(self):
        task = ModularSum(4, 7, shortest=2)
        answers, lengths = task.solutions(SHORTER, np.random.default_rng(0))
        assert [task.vocabulary.decode(answer) for answer in answers] == [
            ["0", "<eos>"],
            ["2", "<eos>"],
            ["4", "<eos>"],
        ]
        assert lengths.tolist() == [2, 2, 2]

    def test_lengths_are_equally_frequent(self):
        # 3000 sums, 1000 of each length: standard deviation 26; six of them: false alarm below 1e-8
        content = MIXED.sample(3000, np.random.default_rng(0))
        counts = np.bincount((content >= 0).sum(1), minlength=5)
        assert counts[:2].tolist() == [0, 0]
        assert abs(counts[2:] - 1000).max() < 6 * 26
        MIXED.encode(content)  # -1 stands behind the digits alone

    def test_problems_of_one_length_are_what_they_were(self):
        assert ModularSum(4, 7, shortest=4).key == DIRECT.key != MIXED.key

    def test_the_order_of_digits_makes_no_other_problem(self):
        first, second, third = MIXED.digests(np.array([[5, 4, -1, -1], [4, 5, -1, -1], [5, 4, 0, -1]]))
        assert first == second != third

    @pytest.mark.parametrize("content", [[5, -1, 4, -1], [5, -1, -1, -1], [-1, -1, 5, 4]])
    def test_gaps_and_sums_that_are_too_short_are_refused(self, content, refuses):
        with refuses("expected at least 2 digits and -1 behind the last one, got another"):
            MIXED.encode(np.array([content]))


class TestVerify:
    @pytest.mark.parametrize(
        ("answer", "decoded"),
        [
            ("0 <eos>", 0),
            ("1 <eos>", 1),
            ("6 <eos>", 6),
            ("= <eos>", None),
            ("<pad> <eos>", None),
            ("<bos> <eos>", None),
            ("<eos>", None),
            ("0", None),  # cut off
            ("0 0", None),
        ],
    )
    def test_at_once(self, answer, decoded):
        tensors = written(DIRECT, [[answer]])
        assert DIRECT.decoded(CONTENT, *tensors) == [[decoded]]
        assert DIRECT.verify(CONTENT, *tensors).tolist() == [[decoded == 0]]

    @pytest.mark.parametrize(
        ("answer", "decoded"),
        [
            ("3 2 2 0 ANSWER 0 <eos>", 0),  # the running sums
            ("5 5 4 0 ANSWER 0 <eos>", 0),  # the running sums from behind
            ("1 1 1 1 ANSWER 0 <eos>", 0),  # nonsense
            ("ANSWER 0 <eos>", 0),  # nothing
            ("= <pad> <bos> ANSWER 0 <eos>", 0),
            ("ANSWER 4 ANSWER 0 <eos>", 0),  # what it says last
            ("ANSWER 0 ANSWER 4 <eos>", 4),
            ("3 2 2 0 ANSWER 1 <eos>", 1),
            ("3 2 2 0 ANSWER <eos>", None),
            ("3 2 2 ANSWER 0 0 <eos>", None),  # something after the answer
            ("0 ANSWER <eos>", None),
            ("3 2 2 0 <eos>", None),
            ("0 <eos>", None),
            ("<eos>", None),
            ("ANSWER ANSWER <eos>", None),
            ("ANSWER = <eos>", None),
            ("3 2 2 0 ANSWER 0", None),  # cut off
            ("3 2 2 0 0 ANSWER 0", None),
        ],
    )
    def test_after_a_scratchpad(self, answer, decoded):
        tensors = written(PAD_4_7, [[answer]])
        assert PAD_4_7.decoded(CONTENT, *tensors) == [[decoded]]
        assert PAD_4_7.verify(CONTENT, *tensors).tolist() == [[decoded == 0]]

    @pytest.mark.parametrize("rubbish", [PAD, EOS, 3])
    def test_nothing_counts_after_the_end(self, rubbish):
        answers, lengths = written(PAD_4_7, [["ANSWER 0 <eos>", "ANSWER 1 <eos>", "<eos>"]])
        longer = torch.full((1, 3, 7), rubbish)
        for n, length in enumerate(lengths[0]):
            longer[0, n, :length] = answers[0, n, :length]
        assert PAD_4_7.verify(CONTENT, longer, lengths).tolist() == [[True, False, False]]

    @pytest.mark.parametrize(
        ("length", "modulus", "scratchpad", "answer_length"), [(3, 5, False, 3), (2, 2, True, 4), (2, 2, True, 3)]
    )
    def test_every_answer(self, length, modulus, scratchpad, answer_length):
        task = ModularSum(length, modulus, scratchpad, answer_length)
        content = task.problems(3).content
        answers, lengths = every_answer(task, 3)
        decoded = [final(task, ids) for ids in answers[0].tolist()]
        assert task.decoded(content, answers, lengths) == [decoded] * 3
        for digits, found in zip(content, task.verify(content, answers, lengths), strict=True):
            assert found.tolist() == [answer == sum(digits) % modulus for answer in decoded]

    def test_how_many_answers_of_four_tokens_are_right(self):
        # Modulus 2: 7 words, 6 of them not <eos>. ANSWER s <eos> and any of 7 after it; any of 6, ANSWER s <eos>.
        task = ModularSum(2, 2, scratchpad=True, answer_length=4)
        assert task.verify(task.problems(1).content, *every_answer(task, 1)).sum() == 7 + 6


class TestSolutions:
    def test_by_hand(self):
        random = np.random.default_rng(0)
        answers, lengths = DIRECT.solutions(CONTENT, random)
        assert DIRECT.vocabulary.decode(answers[0]) == ["0", "<eos>"]
        assert lengths.tolist() == [2]
        answers, lengths = PAD_4_7.solutions(CONTENT, random)
        assert PAD_4_7.vocabulary.decode(answers[0]) == ["3", "2", "2", "0", "ANSWER", "0", "<eos>"]
        assert lengths.tolist() == [7]

    @pytest.mark.parametrize("scratchpad", [False, True])
    @pytest.mark.parametrize(("length", "modulus"), [(1, 2), (2, 10), (5, 3), (20, 97)])
    def test_are_right_and_fit(self, length, modulus, scratchpad):
        task = ModularSum(length, modulus, scratchpad)
        content = np.random.default_rng(1).integers(0, modulus, (30, length))
        answers, lengths = task.solutions(content, np.random.default_rng(0))
        assert answers.shape == (30, task.answer_length)
        assert answers.dtype == lengths.dtype == torch.long
        assert task.verify(content, answers[:, None], lengths[:, None]).all()
        decoded = task.decoded(content, answers[:, None], lengths[:, None])
        assert decoded == [[sum(digits) % modulus] for digits in content.tolist()]


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"length": 0}, "length must be a whole number >= 1, got 0"),
            ({"length": 2.5}, "length must be a whole number >= 1, got 2.5"),
            ({"modulus": 1}, "modulus must be a whole number >= 2, got 1"),
            ({"answer_length": 1}, "answer_length must be a whole number >= 2, got 1"),
            ({"answer_length": 2, "scratchpad": True}, "answer_length must be a whole number >= 3, got 2"),
            ({"length": 3, "shortest": 4}, "shortest must be at most length = 3, got 4"),
            ({"shortest": 0}, "shortest must be a whole number >= 1, got 0"),
        ],
    )
    def test_settings(self, options, message, refuses):
        with refuses(message):
            ModularSum(**options)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([[1, 2, 3]], "expected digits (1, 4), got (1, 3)"),
            ([1, 2, 3, 4], "expected digits (4, 4), got (4,)"),
            ([[1, 2, 3, 7]], "expected digits in 0..6, got 1..7"),
            ([[1, 2, -3, 0]], "expected digits in 0..6, got -3..2"),
        ],
    )
    def test_content(self, content, message, refuses):
        content = np.array(content)
        tensors = written(DIRECT, [["0 <eos>"]] * len(content))
        for call in (
            lambda: DIRECT.encode(content),
            lambda: DIRECT.solutions(content, np.random.default_rng(0)),
            lambda: DIRECT.verify(content, *tensors),
            lambda: DIRECT.decoded(content, *tensors),
        ):
            with refuses(message):
                call()

    def test_answers(self, refuses):
        with refuses("answers of modular_sum have at most 2 tokens, got 3"):
            DIRECT.verify(CONTENT, *written(DIRECT, [["0 0 <eos>"]]))

    def test_running_sums_that_do_not_fit(self, refuses):
        with refuses("answers of modular_sum have at most 6 tokens, got a solution of 7"):
            ModularSum(4, 7, scratchpad=True, answer_length=6).solutions(CONTENT, np.random.default_rng(0))
