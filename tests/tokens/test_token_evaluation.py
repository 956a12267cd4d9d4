"""Majority votes and pass@k of samples by hand: digits 1 + 2 and 3 + 3 modulo 5, whose sums are 3 and 1."""

import dataclasses

import numpy as np
import pytest
import torch
from small_study import SUM

from envs.countdown import Countdown
from maxrl_lab.tokens.decoding import EOS
from maxrl_lab.tokens.evaluation import Evaluation
from maxrl_lab.tokens.sampling import Answers


def evaluation_of(task, content, tokens, lengths):
    problems = dataclasses.replace(task.problems(len(content)), content=np.array(content))
    zeros = torch.zeros(lengths.shape)
    ended = tokens.gather(2, lengths[..., None] - 1)[..., 0] == EOS
    right = task.verify(problems.content, tokens, lengths)
    return Evaluation(problems, Answers(tokens, lengths, ended, zeros, zeros), right)


def said(*digits):
    """Answers that say these digits, None being cut off."""
    return [[SUM.vocabulary.ids["0" if digit is None else str(digit)], 3 if digit is None else EOS] for digit in digits]


def of_sums(first, second):
    tokens = torch.tensor([said(*first), said(*second)])
    return evaluation_of(SUM, [[1, 2], [3, 3]], tokens, torch.full(tokens.shape[:2], 2))


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ((3, 3, 0, 0, 3), (1, 1, 1, 1, 1), 1.0),
        ((3, 3, 0, 0, 0), (0, 1, 0, 1, 1), 0.5),  # outvoted; right although the first is wrong
        ((3, 0, 0, 3, 4), (2, 1, 1, 2, 4), 0.5),  # equally frequent: the one sampled first
        ((0, 1, 2, 3, 4), (0, 2, 3, 4, 1), 0.0),
        ((None, None, None, 3, 3), (None, None, None, None, 1), 1.0),  # those cut off are no candidates
        ((None, None, None, 3, 0), (None, None, None, None, 0), 0.5),
        ((None,) * 5, (1,) * 5, 0.5),  # a problem without any answer is wrong
        ((None,) * 5, (None,) * 5, 0.0),
    ],
)
def test_votes_by_hand(first, second, share):
    assert of_sums(first, second).majority(SUM) == share


def test_an_answer_that_is_no_expression_is_no_candidate():
    task = Countdown(2, 4)
    ids = task.vocabulary.ids
    rows = [["1", "+", "1"], ["+", "+", "+"], ["1", "2", "+"]]  # no expression, none, and 1 + 2
    tokens = torch.tensor([[[*(ids[word] for word in row), EOS] for row in rows]])
    found = evaluation_of(task, [[1, 2, 3]], tokens, torch.tensor([[4, 4, 4]]))
    assert task.decoded(found.problems.content, tokens, found.written.lengths) == [[None, None, "1 + 2"]]
    assert found.majority(task) == 1.0


def test_coverage_by_hand():
    found = of_sums((3, 3, 0, 0), (1, 0, 2, 2))
    assert (found.samples, found.correct.tolist()) == (4, [2, 1])
    # pass@4 of 4 samples is certain, pass@1 the mean of 2/4 and 1/4; the second vote is 2, which is wrong
    assert found.coverage() == [
        {"k": 1, "pass_at_k": pytest.approx(0.375)},
        {"k": 4, "pass_at_k": pytest.approx(1.0)},
    ]
    assert found.majority(SUM) == 0.5
