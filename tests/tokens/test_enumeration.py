"""All answers of a small policy: every one once, with the probability that scoring it alone gives."""

import itertools

import pytest
import torch
from small_policy import END, gradient_of, naive_scores, random_prompts, small_policy

from maxrl_lab.tokens import enumeration
from maxrl_lab.tokens.scoring import read, score

EXACT = {"rtol": 1e-10, "atol": 1e-12}
CASES = [(4, 1), (4, 2), (3, 4), (5, 3), (2, 3)]
"""Words of the vocabulary, most tokens of an answer; of 2 words one is END's neighbour only (END is then 1)."""


def all_answers(words, length, end):
    """The answers, zero behind their end, by filtering all sequences."""
    found = set()
    for sequence in itertools.product(range(words), repeat=length):
        stop = sequence.index(end) + 1 if end in sequence else length
        found.add((stop, end in sequence, sequence[:stop] + (0,) * (length - stop)))
    return found


@pytest.fixture(params=CASES, ids=str)
def case(request):
    words, length = request.param
    policy, end = small_policy(words), min(END, words - 1)
    prompts = random_prompts([3, 5], words)
    prefix = read(policy, *prompts)
    return policy, prompts, length, end, enumeration.enumerate_answers(policy, prefix, length, end=end, temperature=0.8)


class TestEnumeration:
    def test_every_answer_is_there_once(self, case):
        policy, _, length, end, found = case
        listed = list(zip(found.lengths.tolist(), found.ended.tolist(), map(tuple, found.tokens.tolist()), strict=True))
        assert len(listed) == len(set(listed)) == enumeration.count(policy.shape.vocabulary, length)
        assert set(listed) == all_answers(policy.shape.vocabulary, length, end)

    def test_probabilities_sum_to_1(self, case):
        *_, found = case
        assert found.log_probs.shape == (2, len(found.tokens))
        assert torch.allclose(found.log_probs.logsumexp(1), torch.zeros(2, dtype=torch.float64), atol=1e-13)

    def test_values_and_gradients_are_the_naive_policys(self, case):
        policy, prompts, _, _, found = case
        every = (2, *found.tokens.shape)
        wanted, _ = naive_scores(policy, *prompts, found.tokens.expand(every), found.lengths.expand(every[:2]), 0.8)
        assert torch.allclose(found.log_probs, wanted, **EXACT)
        weights = torch.randn(wanted.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        slopes = [gradient_of((weights * each).sum(), policy) for each in (found.log_probs, wanted)]
        assert torch.allclose(*slopes, rtol=1e-9, atol=1e-11 * float(slopes[1].norm()))

    def test_scoring_them_says_the_same(self, case):
        policy, prompts, _, _, found = case
        every = (2, *found.tokens.shape)
        log_probs, _ = score(
            policy, read(policy, *prompts), found.tokens.expand(every), found.lengths.expand(every[:2]), 0.8
        )
        assert torch.allclose(found.log_probs, log_probs, **EXACT)


def test_answers_of_one_token_are_the_next_tokens_distribution():
    policy = small_policy(4)
    prefix = read(policy, *random_prompts([3, 2], 4))
    found = enumeration.enumerate_answers(policy, prefix, 1, end=END)
    assert found.tokens.tolist() == [[2], [0], [1], [3]]  # the one that ends comes first
    assert found.ended.tolist() == [True, False, False, False]
    assert found.lengths.tolist() == [1] * 4
    assert torch.allclose(found.log_probs, prefix.logits.log_softmax(-1)[:, [2, 0, 1, 3]], **EXACT)


@pytest.mark.parametrize(("words", "length", "answers"), [(2, 5, 6), (4, 2, 13), (5, 3, 85), (11, 5, 111_111)])
def test_count_by_hand(words, length, answers):
    # (W^(T+1) - 1) / (W - 1) with W = V - 1 words that go on; T + 1 for a single one
    assert enumeration.count(words, length) == answers


def test_the_last_token_is_never_run_and_no_beginning_twice(monkeypatch):
    policy = small_policy(4)
    prefix = read(policy, *random_prompts([3, 2], 4))
    seen = []
    run = policy.hidden
    monkeypatch.setattr(policy, "hidden", lambda tokens, *rest: seen.append(tokens.shape) or run(tokens, *rest))
    enumeration.enumerate_answers(policy, prefix, 3, end=END)
    assert seen == [(2, 3 + 9, 1)]  # beginnings of one and of two tokens


def test_too_many_are_refused_before_anything_is_computed(refuses):
    policy = small_policy(12)
    prefix = read(policy, *random_prompts([3], 12))
    with refuses("12 words and 6 tokens make 1948717 answers, at most 1000000 are enumerated"):
        enumeration.enumerate_answers(policy, prefix, 6, end=END)


def test_the_bound_itself_is_allowed(monkeypatch):
    policy = small_policy(4)
    prefix = read(policy, *random_prompts([3], 4))
    monkeypatch.setattr(enumeration, "MAX_ANSWERS", 40)
    assert enumeration.enumerate_answers(policy, prefix, 3, end=END).log_probs.shape == (1, 40)
    monkeypatch.setattr(enumeration, "MAX_ANSWERS", 39)
    with pytest.raises(ValueError, match="make 40 answers, at most 39 are"):
        enumeration.enumerate_answers(policy, prefix, 3, end=END)
