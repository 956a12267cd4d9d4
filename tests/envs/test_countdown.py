"""Countdown: values by Python's fractions and syntax trees, every answer of small problems, traps of division."""

import ast
import itertools
import operator
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from envs.countdown import Countdown, evaluate, infix
from maxrl_lab.tokens.decoding import EOS, PAD

SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
NODES = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def value(words):
    """The value of a postfix expression, read from its end: the last sign stands between its two parts; or None."""

    def read():
        word = left.pop()
        if word not in SIGNS:
            return Fraction(int(word))
        second = read()
        return SIGNS[word](read(), second)

    left = list(words)
    try:
        found = read()
    except (IndexError, ZeroDivisionError, ValueError):
        return None
    return None if left else found


def tree_value(text):
    """The value of an infix expression, by Python's syntax tree; or None."""

    def read(node):
        return (
            NODES[type(node.op)](read(node.left), read(node.right))
            if isinstance(node, ast.BinOp)
            else Fraction(node.value)
        )

    try:
        return read(ast.parse(text, mode="eval").body)
    except ZeroDivisionError:
        return None


def is_right(problem, words):
    """Whether the words before <eos> solve the problem."""
    *numbers, target = problem
    used = sorted(int(word) for word in words if word.isdigit())
    return used == sorted(numbers) and value(words) == target


def coded(words):
    return [int(word) if word.isdigit() else -1 - "+-*/".index(word) for word in words]


def written(task, rows):
    """Answers in words, B lists of N, as tensors."""
    lengths = torch.tensor([[len(answer.split()) for answer in row] for row in rows])
    answers = torch.full((*lengths.shape, int(lengths.max())), PAD)
    for b, row in enumerate(rows):
        for n, answer in enumerate(row):
            answers[b, n, : lengths[b, n]] = torch.tensor(task.vocabulary.encode(answer.split()))
    return answers, lengths


def judge(task, problem, *answers):
    return task.verify(np.array([problem]), *written(task, [answers])).tolist()[0]


class TestEvaluate:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("3", 3),
            ("3 4 +", 7),
            ("3 4 -", -1),
            ("3 4 *", 12),
            ("3 4 /", Fraction(3, 4)),
            ("2 3 * 7 +", 13),
            ("7 2 3 * +", 13),
            ("1 2 3 - -", 2),
            ("1 2 - 3 -", -4),
            ("8 3 8 3 / - /", 24),  # 8 / (3 - 8 / 3), the classic
            ("1 1 2 - /", -1),
            ("1 2 2 - /", None),
            ("0 1 /", None),  # 0 is no number of the game
            ("1 1 1 1 - / /", None),  # 1 / (1 / 0) is not 0
            ("1 1 - 1 1 - /", None),
            ("1 1 1 - / 1 1 - *", None),
            ("+", None),
            ("3 +", None),
            ("+ 3 4", None),
            ("3 + 4", None),
            ("3 4", None),
            ("3 4 + +", None),
            ("3 4 + 5", None),
        ],
    )
    def test_by_hand(self, expression, expected):
        ((top,), (bottom,)) = evaluate(np.array([coded(expression.split())]))
        assert (None if bottom == 0 else Fraction(int(top), int(bottom))) == expected
        if "0" not in expression:
            assert value(expression.split()) == expected

    @given(st.lists(st.sampled_from(["1", "2", "3", "99", "100", *"+-*/"]), min_size=7, max_size=7))
    def test_against_fractions(self, words):
        ((top,), (bottom,)) = evaluate(np.array([coded(words)]))
        assert (None if bottom == 0 else Fraction(int(top), int(bottom))) == value(words)

    def test_every_expression_of_four_numbers(self):
        # All 7680 orders, shapes and signs; among the largest numbers, and where many differences are 0.
        for numbers in ([100, 99, 98, 97], [100, 100, 100, 100], [1, 1, 2, 2]):
            expressions = Countdown(4, 100).expressions(np.array(numbers))
            assert len(expressions) == 7680
            for codes, top, bottom in zip(expressions.tolist(), *evaluate(expressions), strict=True):
                words = [str(code) if code > 0 else "+-*/"[-1 - code] for code in codes]
                assert (None if bottom == 0 else Fraction(int(top), int(bottom))) == value(words)


class TestInfix:
    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ("2 3 * 7 +", "(2 * 3) + 7"),
            ("7 3 2 * +", "(2 * 3) + 7"),
            ("3 2 -", "3 - 2"),
            ("2 3 -", "2 - 3"),
            ("3 2 /", "3 / 2"),
            ("5", "5"),
            ("1 2 3 - -", "1 - (2 - 3)"),
            ("1 2 + 3 4 + *", "(1 + 2) * (3 + 4)"),
            ("3 4 + 2 1 + *", "(1 + 2) * (3 + 4)"),
            ("", None),
            ("2 +", None),
            ("2 3", None),
            ("2 = +", None),
            ("2 3 +-", None),
            ("2 <pad> +", None),
        ],
    )
    def test_by_hand(self, words, expected):
        assert infix(words.split()) == expected

    @given(st.lists(st.sampled_from(["1", "2", "12", *"+-*/"]), max_size=7))
    def test_has_the_value_of_the_expression(self, words):
        text = infix(words)
        assert (None if text is None else tree_value(text)) == value(words)


class TestVerify:
    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            ("2 3 * 7 + <eos>", True),
            ("7 3 2 * + <eos>", True),
            ("2 7 3 + + <eos>", False),  # 12
            ("2 3 7 * + <eos>", False),  # 23
            ("2 3 * 7 +", False),  # cut off
            ("3 3 * 4 + <eos>", False),  # 13 of other numbers
            ("6 7 + <eos>", False),
            ("2 3 * 7 <eos>", False),
            ("2 3 * + 7 <eos>", False),
            ("2 3 * 7 7 <eos>", False),
            ("2 3 * 7 = <eos>", False),
            ("2 3 * 7 <pad> <eos>", False),
            ("13 <eos>", False),
            ("<eos>", False),
        ],
    )
    def test_by_hand(self, answer, expected):
        assert judge(Countdown(3, 20), [2, 3, 7, 13], answer) == [expected]

    def test_a_number_given_twice_is_used_twice(self):
        task = Countdown(3, 9)
        answers = ["2 2 + 3 +", "2 3 + 2 +", "2 2 * 3 +", "2 3 + 3 -", "2 3 3 * -", "2 3 + 2 *"]
        found = judge(task, [2, 2, 3, 7], *(f"{answer} <eos>" for answer in answers))
        assert found == [True, True, True, False, False, False]

    def test_what_is_divided_by_zero_is_wrong(self):
        # 1 / (1 / (1 - 1)) looks like 0, and (1 - 1) / (1 - 1) like 1.
        found = judge(
            Countdown(4, 3), [1, 1, 1, 1, 1], "1 1 - 1 1 - / <eos>", "1 1 1 1 - / / <eos>", "1 1 * 1 1 / / <eos>"
        )
        assert found == [False, False, True]

    def test_other_words_are_no_signs(self):
        answers = [
            "1 2 = 3 + <eos>",
            "1 2 <pad> 3 + <eos>",
            "1 2 <bos> 3 + <eos>",
            "1 2 - 3 + <eos>",
            "1 2 * 3 * <eos>",
        ]
        assert judge(Countdown(3, 9), [1, 2, 3, 3], *answers) == [False] * 5
        assert judge(Countdown(3, 9), [1, 2, 3, 2], *answers) == [False, False, False, True, False]

    def test_signs_that_are_not_allowed_are_no_words(self, refuses):
        assert Countdown(2, 5, "-+").vocabulary.words[3:] == ("-", "+", "=", "1", "2", "3", "4", "5")
        assert judge(Countdown(2, 5, "-+"), [2, 3, 5], "2 3 + <eos>", "2 3 - <eos>") == [True, False]

    @pytest.mark.parametrize("rubbish", [PAD, EOS, 3])
    def test_nothing_counts_after_the_end(self, rubbish):
        task = Countdown(3, 20)
        answers, lengths = written(task, [["2 3 + <eos>", "<eos>", "2 3 * 7 + <eos>"]])
        for n, length in enumerate(lengths[0]):
            answers[0, n, length:] = rubbish
        assert task.verify(np.array([[2, 3, 7, 13]]), answers, lengths).tolist() == [[False, False, True]]

    @pytest.mark.parametrize("operations", ["+-*/", "*-"])
    def test_every_answer_to_two_numbers(self, operations):
        task = Countdown(2, 4, operations)
        problems = [(*sorted(numbers), target) for *numbers, target in itertools.product(range(1, 5), repeat=3)]
        answers = torch.tensor(list(itertools.product(range(len(task.vocabulary)), repeat=4)))
        is_end = (answers == EOS).long()
        lengths = torch.where(is_end.any(1), is_end.argmax(1) + 1, 4)
        complete = [ids for ids in answers.tolist() if EOS not in ids[:3] and ids[3] == EOS]
        for problem in sorted(set(problems)):
            found = task.verify(np.array([problem]), answers[None], lengths[None])[0]
            expected = [ids for ids in complete if is_right(problem, task.vocabulary.decode(ids[:3]))]
            assert answers[found].tolist() == expected

    def test_against_fractions_on_shuffled_words(self):
        task, random = Countdown(4, 9), np.random.default_rng(0)
        content = task.problems(40).content
        rows = []
        for *numbers, _ in content.tolist():
            words = [[*map(str, numbers), *random.choice(list("+-*/"), 3)] for _ in range(300)]
            rows.append([" ".join([*random.permutation(each), "<eos>"]) for each in words])
        found = task.verify(content, *written(task, rows))
        expected = [
            [is_right(p, answer.split()[:-1]) for answer in row] for p, row in zip(content.tolist(), rows, strict=True)
        ]
        assert found.tolist() == expected
        assert np.sum(expected) >= 50

    def test_no_answers_are_no_verdicts(self):
        empty = torch.zeros(1, 0, 4, dtype=torch.long)
        assert Countdown(2, 4).verify(np.array([[1, 2, 3]]), empty, empty[..., 0]).shape == (1, 0)


class TestProblems:
    def test_prompts_by_hand(self):
        task = Countdown(3, 20)
        prompts, lengths = task.encode(np.array([[2, 3, 7, 13]]))
        assert task.vocabulary.decode(prompts[0]) == ["<bos>", "2", "3", "7", "=", "13"]
        assert lengths.tolist() == [6] == [task.prompt_length]
        assert task.answer_length == 6

    @pytest.mark.parametrize(
        ("numbers", "largest", "operations"),
        [(2, 3, "+-*/"), (3, 20, "+-*/"), (3, 9, "-/"), (4, 100, "+-*/"), (4, 6, "*")],
    )
    def test_can_be_solved(self, numbers, largest, operations):
        task = Countdown(numbers, largest, operations)
        content = task.problems(20).content
        assert content.min() >= 1
        assert content.max() <= largest
        assert (np.diff(content[:, :-1]) >= 0).all()
        answers, lengths = task.solutions(content, np.random.default_rng(0))
        assert answers.shape == (20, task.answer_length)
        assert answers.dtype == lengths.dtype == torch.long
        assert lengths.tolist() == [task.answer_length] * 20
        assert task.verify(content, answers[:, None], lengths[:, None]).all()
        for problem, ids in zip(content.tolist(), answers.tolist(), strict=True):
            words = task.vocabulary.decode(ids)
            assert words[-1] == "<eos>"
            assert is_right(problem, words[:-1])

    def test_every_problem_that_can_be_solved_is_drawn_as_often_as_random_expressions_say(self):
        # Two numbers in 1..4: all 4 x 4 draws of numbers, for each 2 orders x 4 signs; chi-square, false alarm 1e-6.
        weights = Counter()
        for pair in itertools.product(range(1, 5), repeat=2):
            for (first, second), sign in itertools.product(itertools.permutations(pair), SIGNS):
                target = SIGNS[sign](Fraction(first), Fraction(second))
                if target in range(1, 5):
                    weights[(*sorted(pair), int(target))] += 1
        drawn = Counter(map(tuple, Countdown(2, 4).sample(8000, np.random.default_rng(0)).tolist()))
        assert set(drawn) == set(weights)
        expected = [8000 * weight / weights.total() for weight in weights.values()]
        assert min(expected) > 50
        assert chisquare([drawn[problem] for problem in weights], expected).pvalue > 1e-6

    def test_streams(self):
        task = Countdown(3, 20)
        first, again, other = (task.problems(20, seed=seed).content.tolist() for seed in (3, 3, 4))
        assert first == again != other

    def test_no_problem_is_in_both_splits(self):
        task = Countdown(2, 4)
        found = {
            split: {tuple(each) for each in task.problems(2000, split=split).content} for split in ("train", "test")
        }
        assert not found["train"] & found["test"]
        assert found["train"] | found["test"] == set(map(tuple, task.sample(2000, np.random.default_rng(0))))


class TestSolutions:
    def test_are_uniform_among_all(self):
        # 2 2 3 = 7 has exactly these; 6000 draws; chi-square, false alarm 1e-6.
        task = Countdown(3, 9)
        problem = [2, 2, 3, 7]
        words = set(itertools.product(["2", "3", *"+-*/"], repeat=5))
        right = [" ".join(each) for each in words if is_right(problem, each)]
        answers, _ = task.solutions(np.array([problem] * 6000), np.random.default_rng(0))
        drawn = Counter(" ".join(task.vocabulary.decode(ids[:-1])) for ids in answers)
        assert set(drawn) == set(right)
        assert len(right) > 5
        assert chisquare([drawn[each] for each in right]).pvalue > 1e-6

    def test_come_from_the_given_generator(self):
        task = Countdown(3, 20)
        content = task.problems(30).content
        first, again, other = (task.solutions(content, np.random.default_rng(seed))[0].tolist() for seed in (1, 1, 2))
        assert first == again != other

    def test_a_problem_without_one_is_refused(self, refuses):
        with refuses("expected problems with a solution, got 20 from [1, 1]"):
            Countdown(2, 20).solutions(np.array([[1, 1, 2], [1, 1, 20]]), np.random.default_rng(0))


class TestDecoded:
    def test_is_the_expression(self):
        task = Countdown(3, 20)
        rows = [["2 3 * 7 + <eos>", "7 3 2 * + <eos>", "7 3 - <eos>", "2 3 * 7 +", "2 3 <eos>", "<eos>"]]
        expected = [["(2 * 3) + 7", "(2 * 3) + 7", "7 - 3", None, None, None]]
        assert task.decoded(np.array([[2, 3, 7, 13]]), *written(task, rows)) == expected


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"numbers": 1}, "numbers must be a whole number >= 2, got 1"),
            ({"numbers": 5}, "numbers must be at most 4, got 5"),
            ({"largest": 0}, "largest must be a whole number >= 1, got 0"),
            ({"largest": 101}, "largest must be at most 100, got 101"),
            ({"operations": ""}, "operations must be some of +-*/, each once, got ''"),
            ({"operations": "++"}, "operations must be some of +-*/, each once, got '++'"),
            ({"operations": "+^"}, "operations must be some of +-*/, each once, got '+^'"),
        ],
    )
    def test_settings(self, options, message, refuses):
        with refuses(message):
            Countdown(**options)

    def test_a_game_without_problems(self, refuses):
        with refuses("no target in 1..1 can be reached with -"):
            Countdown(2, 1, "-").problems(1)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([[1, 2, 3]], "expected numbers and targets (1, 4), got (1, 3)"),
            ([1, 2, 3, 4], "expected numbers and targets (4, 4), got (4,)"),
            ([[1, 2, 3, 21]], "expected numbers in 1..20, got 1..21"),
            ([[0, 2, 3, 5]], "expected numbers in 1..20, got 0..5"),
            ([[3, 2, 1, 5]], "expected numbers in ascending order, got [3, 2, 1]"),
        ],
    )
    def test_content(self, content, message, refuses):
        task, content = Countdown(3, 20), np.array(content)
        tensors = written(task, [["<eos>"]] * len(content))
        for call in (
            lambda: task.encode(content),
            lambda: task.solutions(content, np.random.default_rng(0)),
            lambda: task.verify(content, *tensors),
        ):
            with refuses(message):
                call()

    def test_answers(self, refuses):
        task = Countdown(2, 20)
        with refuses("answers of countdown have at most 4 tokens, got 5"):
            task.verify(np.array([[1, 2, 3]]), *written(task, [["1 1 2 + <eos>"]]))
