"""Token tasks: the example of the module's docstring, streams and splits of problems, and who gets to judge what."""

import hashlib
import inspect
import textwrap

import numpy as np
import pytest
import torch

from maxrl_lab.tokens import simple
from maxrl_lab.tokens.decoding import BOS, EOS, PAD, Vocabulary, padded
from maxrl_lab.tokens.simple import SimpleTask
from maxrl_lab.tokens.tasks import Problems, TokenTask

EXAMPLE = textwrap.dedent("\n\n".join(part for part in simple.__doc__.split("\n\n") if part.startswith("    ")))


def example():
    """The class of the docstring's example."""
    names = {"SimpleTask": SimpleTask, "Vocabulary": Vocabulary}
    exec(EXAMPLE, names)
    return names["Parity"]


class Echo(SimpleTask):
    """Say the letter of the problem once or twice; remembers what it was asked."""

    name = "echo"
    vocabulary = Vocabulary.of("a b c say")
    answer_length = 3

    def __init__(self):
        self.asked = []

    def sample_one(self, random):
        return "abc"[random.integers(3)]

    def prompt(self, problem):
        return ["say", problem]

    def is_right(self, problem, answer):
        self.asked.append((problem, *answer))
        return answer in ([problem], [problem, problem])

    def answer(self, problem, answer):
        return answer[-1] if answer else ""


class Numbers(TokenTask):
    """The numbers 0..states-1, content (B,), drawn uniformly."""

    name = "numbers"
    vocabulary = Vocabulary.of("0 1")
    answer_length = 2

    def __init__(self, states):
        self.states = states

    @property
    def key(self):
        return self.name, self.states

    def sample(self, count, random):
        return random.integers(0, self.states, count)

    def encode(self, content):
        return padded([[BOS, *self.vocabulary.encode(f"{number:b}")] for number in content])

    def verify(self, content, answers, lengths):
        raise NotImplementedError


def problems_of(*letters):
    task = Echo()
    content = np.array(letters, dtype=object)
    return task, content


def written(task, rows, longest=None, rubbish=PAD):
    """Answers in words, B lists of N, as tensors; after the length comes `rubbish`."""
    lengths = torch.tensor([[len(answer.split()) for answer in row] for row in rows])
    answers = torch.full((*lengths.shape, longest or int(lengths.max())), rubbish)
    for b, row in enumerate(rows):
        for n, answer in enumerate(row):
            answers[b, n, : lengths[b, n]] = torch.tensor(task.vocabulary.encode(answer.split()))
    return answers, lengths


class TestTheExample:
    def test_is_a_task_that_its_own_solutions_solve(self):
        task = example()()
        problems = task.problems(20)
        assert problems.prompts.shape == (20, 8)
        assert task.vocabulary.decode(problems.prompts[0]) == ["<bos>", *map(str, problems.content[0]), "="]
        answers, lengths = task.solutions(problems.content, np.random.default_rng(0))
        assert answers.shape == (20, 2)
        assert lengths.tolist() == [2] * 20
        assert task.verify(problems.content, answers[:, None], lengths[:, None]).all()

    def test_by_hand(self):
        task = example()()
        content = np.empty(2, dtype=object)
        content[:] = [(0, 1, 1, 0, 0, 1), (0, 0, 0, 0, 1, 1)]
        answers, lengths = written(
            task, [["odd <eos>", "even <eos>", "odd even"], ["odd <eos>", "even <eos>", "<eos>"]]
        )
        assert task.verify(content, answers, lengths).tolist() == [[True, False, False], [False, True, False]]

    def test_has_64_problems_in_two_splits(self):
        task = example()()
        found = {}
        for split in ("train", "test"):
            with pytest.raises(
                ValueError, match=rf"\Afound \d+ of 100 distinct {split} problems of parity\Z"
            ) as refusal:
                task.problems(100, split=split, distinct=True)
            found[split] = int(str(refusal.value).split()[1])
            assert len(task.problems(found[split], split=split, distinct=True)) == found[split]
        assert found["train"] + found["test"] == 64
        assert 0 < found["test"] < found["train"]

    def test_is_short(self):
        assert len(EXAMPLE.splitlines()) <= 30


class TestVocabulary:
    def test_by_hand(self):
        words = Vocabulary.of("up  down\nleft")
        assert words.words == ("<pad>", "<bos>", "<eos>", "up", "down", "left")
        assert len(words) == 6
        assert words.encode(["<bos>", "left", "up", "<eos>"]) == [BOS, 5, 3, EOS]
        assert words.decode(torch.tensor([PAD, 4])) == ["<pad>", "down"]
        assert words.decode([]) == words.encode([]) == []

    def test_refuses(self, refuses):
        with refuses("a vocabulary begins with <pad> <bos> <eos>, got <pad> <eos> <bos>"):
            Vocabulary(("<pad>", "<eos>", "<bos>", "a"))
        with refuses("the words of a vocabulary must be distinct, got <pad> <bos> <eos> a a"):
            Vocabulary.of("a a")
        with refuses("unknown word 'b'; choose one of: <pad>, <bos>, <eos>, a"):
            Vocabulary.of("a").encode(["a", "b"])
        for wrong in (-1, 4):
            with refuses(f"token ids must lie in 0..3, got {wrong}"):
                Vocabulary.of("a").decode([3, wrong])


class TestPadded:
    def test_by_hand(self):
        tokens, lengths = padded([[5], [6, 7, 8], []])
        assert tokens.tolist() == [[5, PAD, PAD], [6, 7, 8], [PAD, PAD, PAD]]
        assert lengths.tolist() == [1, 3, 0]
        assert tokens.dtype == lengths.dtype == torch.long

    @pytest.mark.parametrize("rows", [[2, 0], np.array([2, 0]), torch.tensor([2, 0])])
    def test_problems_are_selected_with_their_content(self, rows):
        problems = Problems(*padded([[1], [1, 3], [1, 3, 4]]), np.array(["a", "b", "c"], dtype=object))
        chosen = problems.select(rows)
        assert len(problems) == 3
        assert len(chosen) == 2
        assert chosen.prompts.tolist() == [[1, 3, 4], [1, 0, 0]]
        assert chosen.lengths.tolist() == [3, 1]
        assert chosen.content.tolist() == ["c", "a"]


class TestStreams:
    def test_the_same_seed_and_step_give_the_same_problems_and_others_give_others(self):
        task = Numbers(10**9)
        first, again = (task.problems(8, seed=3, step=5).content.tolist() for _ in range(2))
        others = [
            task.problems(8, **which).content.tolist() for which in ({"seed": 3}, {"seed": 4, "step": 5}, {"step": 3})
        ]
        assert first == again
        assert len({number for stream in (first, *others) for number in stream}) == 32

    def test_settings_are_part_of_the_key(self):
        class Named(Numbers):
            key = ("numbers", 7)

        assert Named(10**9).problems(8).content.tolist() != Numbers(10**9).problems(8).content.tolist()

    def test_numpy_numbers_mean_the_same_as_pythons(self):
        task = Numbers(10**9)
        numpys = task.problems(np.int64(4), seed=np.int32(2), step=np.int8(3)).content
        assert numpys.tolist() == task.problems(4, seed=2, step=3).content.tolist()

    def test_prompts_are_those_of_the_content(self):
        problems = Numbers(100).problems(30)
        for tokens, length, number in zip(problems.prompts.tolist(), problems.lengths, problems.content, strict=True):
            assert tokens == [BOS, *(3 + int(bit) for bit in f"{number:b}"), *[PAD] * (len(tokens) - int(length))]

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_problems_come_again_unless_distinct(self, split):
        task = Numbers(40)
        assert len(set(task.problems(200, split=split).content.tolist())) < 40
        assert len(set(task.problems(5, split=split, distinct=True).content.tolist())) == 5

    def test_within_a_split_all_problems_are_equally_likely(self):
        # About 30 of 40 numbers, 300 draws of each: standard deviation 17; six of them: false alarm below 1e-7.
        drawn = np.bincount(Numbers(40).problems(9000).content)
        drawn = drawn[drawn > 0]
        assert abs(drawn - 9000 / len(drawn)).max() < 6 * 17.4

    def test_any_count_is_met(self):
        for count in (1, 2, 3, 7, 64, 1001):
            for split in ("train", "test"):
                assert len(Numbers(10**6).problems(count, split=split)) == count


class TestSplits:
    def test_no_problem_is_in_both_whatever_the_seeds(self):
        task = Numbers(60)
        found = {
            split: {int(number) for seed in range(5) for number in task.problems(150, split=split, seed=seed).content}
            for split in ("train", "test")
        }
        assert not found["train"] & found["test"]
        assert found["train"] | found["test"] == set(range(60))

    def test_is_by_a_hash_of_the_content(self):
        # BLAKE2b of 8 bytes, read as a little-endian number, divisible by 4: held out.
        def held_out(number):
            digest = hashlib.blake2b(number.to_bytes(8, "little"), digest_size=8).digest()
            return digest[0] % 4 == 0  # the lowest byte

        for split, expected in (("train", False), ("test", True)):
            assert {held_out(int(number)) for number in Numbers(1000).problems(300, split=split).content} == {expected}

    def test_a_quarter_is_held_out(self):
        # 4000 numbers: standard deviation 0.007, five of them.
        digests = Numbers(2).digests(np.arange(4000))
        assert np.mean([digest[0] % 4 == 0 for digest in digests]) == pytest.approx(0.25, abs=0.035)


class TestDigests:
    def test_are_of_the_rows_bytes_whatever_the_layout(self):
        rows = np.arange(12, dtype=np.int64).reshape(3, 4)
        expected = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
        task = Numbers(2)
        assert (
            task.digests(rows) == task.digests(np.asfortranarray(rows)) == task.digests(rows.astype(">i8")) == expected
        )
        assert task.digests(rows[:, ::-1]) != expected

    def test_of_objects_are_of_their_repr(self):
        task, content = problems_of("a", "b")
        expected = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in ("'a'", "'b'")]
        assert task.digests(content) == expected

    def test_an_address_is_no_content(self, refuses):
        task, content = problems_of(Plain(), "b")
        with refuses("problems are told apart by their repr, which must show what is in them, got <Plain at 0x7f>"):
            task.digests(content)


class Plain:
    def __repr__(self):
        return "<Plain at 0x7f>"


class TestVerify:
    ROWS = (
        ["a <eos>", "a a <eos>", "b <eos>", "a a a", "<eos>", "a a", "a <pad> <eos>", "a <bos> <eos>"],
        ["a <eos>", "b b <eos>", "b <eos>", "b b b", "<eos>", "b", "b <eos>", "b a <eos>"],
    )
    RIGHT = (
        [True, True, False, False, False, False, False, False],
        [False, True, True, False, False, False, True, False],
    )

    @pytest.mark.parametrize("rubbish", [PAD, EOS, 3])
    def test_by_hand_whatever_comes_after_the_end(self, rubbish):
        task, content = problems_of("a", "b")
        answers, lengths = written(task, self.ROWS, rubbish=rubbish)
        found = task.verify(content, answers, lengths)
        assert found.dtype == torch.bool
        assert found.tolist() == list(self.RIGHT)

    def test_each_distinct_answer_is_judged_once_and_one_cut_off_never(self):
        task, content = problems_of("a", "b")
        task.verify(content, *written(task, [["a <eos>"] * 3 + ["a a a"], ["a <eos>", "<eos>", "b b", "a <eos>"]]))
        assert task.asked == [("a", "a"), ("b", "a"), ("b",)]

    def test_a_verdict_need_not_be_a_bool(self):
        class Count(Echo):
            def is_right(self, problem, answer):
                return answer.count(problem)

        task, content = Count(), np.array(["a"], dtype=object)
        assert task.verify(content, *written(task, [["a a <eos>", "a <eos>", "b <eos>"]])).tolist() == [
            [True, True, False]
        ]

    def test_no_answers_are_no_verdicts(self):
        task, content = problems_of("a", "b")
        empty = torch.zeros(2, 0, 3, dtype=torch.long)
        assert task.verify(content, empty, empty[..., 0]).shape == (2, 0)

    def test_against_a_loop(self):
        task = Echo()
        content = task.sample(6, np.random.default_rng(0))
        answers = torch.randint(len(task.vocabulary), (6, 400, 3), generator=torch.Generator().manual_seed(0))
        lengths = torch.full((6, 400), 3)
        expected = torch.zeros(6, 400, dtype=torch.bool)
        for b in range(6):
            for n in range(400):
                ids = answers[b, n].tolist()
                if EOS in ids:
                    lengths[b, n] = ids.index(EOS) + 1
                    expected[b, n] = "".join(task.vocabulary.decode(ids[: ids.index(EOS)])) in (
                        content[b],
                        content[b] * 2,
                    )
        assert expected.sum() > 20
        assert torch.equal(task.verify(content, answers, lengths), expected)


class TestDecoded:
    def test_by_default_is_the_whole_answer(self):
        answers, lengths = written(Numbers(4), [["1 <eos>", "1 0", "<eos>"]])
        assert Numbers(4).decoded(np.arange(1), answers, lengths) == [[("1",), None, ()]]
        task = example()()
        content = task.sample(1, np.random.default_rng(0))
        assert task.decoded(content, *written(task, [["odd <eos>", "odd even"]])) == [[("odd",), None]]

    def test_is_what_the_task_says(self):
        task, content = problems_of("a", "b")
        rows = [["a b <eos>", "a a", "<eos>"], ["c <eos>", "c <eos>", "a c <eos>"]]
        assert task.decoded(content, *written(task, rows)) == [["b", None, ""], ["c", "c", "c"]]


class TestSolutions:
    class Letters(Echo):
        solutions_of = staticmethod(lambda problem: [problem] * (1 + (problem == "b")))

        def solution(self, problem, random):
            return self.solutions_of(problem)

    def test_end_and_are_padded(self):
        task, content = self.Letters(), np.array(["a", "b"], dtype=object)
        answers, lengths = task.solutions(content, np.random.default_rng(0))
        assert answers.tolist() == [[3, EOS, PAD], [4, 4, EOS]]
        assert lengths.tolist() == [2, 3]

    def test_random_ones_come_from_the_given_generator(self):
        class Either(Echo):
            def solution(self, problem, random):
                return [problem] * int(random.integers(1, 3))

        content = np.array(["a"] * 40, dtype=object)
        first, again, other = (
            Either().solutions(content, np.random.default_rng(seed))[1].tolist() for seed in (1, 1, 2)
        )
        assert first == again != other
        assert set(first) == {2, 3}

    def test_a_verifier_may_take_the_answer_apart(self):
        class Popping(self.Letters):
            def is_right(self, problem, answer):
                return answer.pop() == problem

        answers, _ = Popping().solutions(np.array(["a"], dtype=object), np.random.default_rng(0))
        assert answers.tolist() == [[3, EOS]]

    def test_refuses(self, refuses):
        random = np.random.default_rng(0)
        task, content = problems_of("a", "b")
        for lacking in (task, Numbers(2)):
            with refuses(f"the task {lacking.name} has no solutions to learn from"):
                lacking.solutions(content, random)
        letters = self.Letters()
        letters.answer_length = 2
        with refuses("answers of echo have at most 2 tokens, got a solution of 3"):
            letters.solutions(content, random)
        letters.solutions_of = lambda problem: ["a"]
        with refuses("expected a right solution of 'b', got a"):
            letters.solutions(content, random)
        letters.solutions_of = lambda problem: ["z"]
        letters.is_right = lambda problem, answer: True
        with refuses("unknown word 'z'; choose one of: <pad>, <bos>, <eos>, a, b, c, say"):
            letters.solutions(content, random)


class TestAnswersRefused:
    @pytest.mark.parametrize("method", ["verify", "decoded", "check_answers"])
    @pytest.mark.parametrize(
        ("answers", "lengths", "message"),
        [
            ((2, 4), (2, 4), "expected answers (B, N, T) and lengths (B, N) of B = 2 problems, got (2, 4) and (2, 4)"),
            (
                (3, 4, 3),
                (3, 4),
                "expected answers (B, N, T) and lengths (B, N) of B = 2 problems, got (3, 4, 3) and (3, 4)",
            ),
            (
                (2, 4, 3),
                (2, 3),
                "expected answers (B, N, T) and lengths (B, N) of B = 2 problems, got (2, 4, 3) and (2, 3)",
            ),
            (
                (2, 4, 3),
                (2,),
                "expected answers (B, N, T) and lengths (B, N) of B = 2 problems, got (2, 4, 3) and (2,)",
            ),
            ((2, 4, 5), (2, 4), "answers of echo have at most 3 tokens, got 5"),
        ],
    )
    def test_shapes(self, method, answers, lengths, message, refuses):
        task, content = problems_of("a", "b")
        with refuses(message):
            getattr(task, method)(content, torch.full(answers, 3), torch.ones(lengths, dtype=torch.long))

    @pytest.mark.parametrize(
        ("answer", "length", "message"),
        [
            ([3, 7, 2], 3, "token ids must lie in 0..6, got 7"),
            ([3, -1, 2], 3, "token ids must lie in 0..6, got -1"),
            ([3, 3, 3], 0, "lengths must lie in 1..3, got 0"),
            ([3, 3, 3], 4, "lengths must lie in 1..3, got 4"),
            ([3, EOS, EOS], 3, "an answer ends at its first <eos>, got a length beyond it"),
        ],
    )
    def test_numbers(self, answer, length, message, refuses):
        task, content = problems_of("a")
        with refuses(message):
            task.verify(content, torch.tensor([[answer]]), torch.tensor([[length]]))

    def test_types(self, refuses):
        task, content = problems_of("a")
        answers, lengths = written(task, [["a <eos>"]])
        with refuses("answers and lengths must be torch.int64, got torch.float32 and torch.int64"):
            task.verify(content, answers.float(), lengths)
        with refuses("answers and lengths must be torch.int64, got torch.int64 and torch.int32"):
            task.verify(content, answers, lengths.int())


class TestRequestsRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"count": 0}, "count must be a whole number >= 1, got 0"),
            ({"count": 2.0}, "count must be a whole number >= 1, got 2.0"),
            ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
            ({"step": -1}, "step must be a whole number >= 0, got -1"),
            ({"step": 0.5}, "step must be a whole number >= 0, got 0.5"),
            ({"split": "valid"}, "split must be 'train' or 'test', got 'valid'"),
        ],
    )
    def test_refuses(self, options, message, refuses):
        with refuses(message):
            Numbers(9).problems(**({"count": 1} | options))

    def test_splits_without_problems(self, refuses):
        # Of one number only, one split is empty: its digest says which.
        full, empty = ("test", "train") if Numbers(1).digests(np.zeros(1, int))[0][0] % 4 == 0 else ("train", "test")
        assert len(Numbers(1).problems(5, split=full)) == 5
        with refuses(f"found 0 of 5 {empty} problems of numbers 1"):
            Numbers(1).problems(5, split=empty)
        with refuses(f"found 1 of 100000 distinct {full} problems of numbers 1"):
            Numbers(1).problems(100_000, split=full, distinct=True)

    def test_the_last_of_many_problems_is_found(self):
        # Drawn until a gap of 50 times as many: a miss has probability e^-50.
        task = Numbers(4000)
        held_out = sum(digest[0] % 4 == 0 for digest in task.digests(np.arange(4000)))
        for seed in range(4):
            assert len(task.problems(held_out, split="test", seed=seed, distinct=True)) == held_out
            assert len(task.problems(4000 - held_out, seed=seed, distinct=True)) == 4000 - held_out

    def test_rare_problems_are_found(self):
        # One draw in a hundred is another number than 0: 20 different ones take some 2700 draws, and no gap of 2000
        # between two of them (probability below 1e-5).
        class Skewed(Numbers):
            def sample(self, count, random):
                return super().sample(count, random) * (random.random(count) < 0.01)

        assert len(set(Skewed(10**9).problems(20, distinct=True).content.tolist())) == 20

    def test_prompts_that_are_too_long(self, refuses):
        task = Numbers(10**6)
        task.prompt_length = 21
        assert task.problems(100).prompts.shape[1] <= 21
        task.prompt_length = 4
        longest = max(len(f"{number:b}") + 1 for number in Numbers(10**6).problems(100).content)
        with refuses(f"prompts of numbers have at most 4 tokens, got one of {longest}"):
            task.problems(100)

    def test_prompts_with_unknown_words(self, refuses):
        task = Echo()
        task.prompt = lambda problem: ["tell", problem]
        with refuses("unknown word 'tell'; choose one of: <pad>, <bos>, <eos>, a, b, c, say"):
            task.problems(2)

    def test_a_task_without_a_verifier_is_no_task(self):
        assert inspect.isabstract(TokenTask)
        assert inspect.isabstract(SimpleTask)
