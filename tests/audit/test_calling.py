"""What a foreign function may want its rewards in, and what it may answer with: each shape is read, or refused by name.

The examples are in our own words after shapes that are published in many places.
"""

import collections
import math

import numpy as np
import pytest
import torch

from maxrl_lab import audit, exact
from maxrl_lab.calling import precision_of, shaped
from maxrl_lab.probe import probe

Advantages = collections.namedtuple("Advantages", ["metrics", "advantages"])


def centred(rewards):
    return [reward - sum(rewards) / len(rewards) for reward in rewards]


ANSWERS = {
    "advantages and metrics": lambda r: (centred(r), {"mean": 0.5}),
    "advantages and returns": lambda r: (r - r.mean(), r),
    "a dictionary": lambda r: {"returns": r, "advantages": r - r.mean()},
    "a named tuple": lambda r: Advantages({"mean": 0.5}, r - r.mean()),
    "a tuple of numbers": lambda r: tuple(centred(r)),
    "a generator": lambda r: (reward - sum(r) / len(r) for reward in r),
    "numbers of torch": lambda r: [reward - r.mean() for reward in r],
    "one row": lambda r: (r - r.mean())[None],
    "one column": lambda r: (r - r.mean())[:, None],
    "the same for all tokens": lambda r: (r - r.mean())[:, None].expand(-1, 5),
    "objects with an advantage": lambda r: [{"advantage": value} for value in centred(r)],
    "an array of objects": lambda r: np.array(centred(r), dtype=object),
    "nothing for a constant group": lambda r: [] if len(set(map(float, r))) == 1 else centred(r),
    "None for a constant group": lambda r: None if r.std(correction=0) == 0 else r - r.mean(),
}


@pytest.mark.parametrize("function", ANSWERS.values(), ids=ANSWERS)
def test_every_answer_that_holds_advantages_is_read(function):
    report = audit.audit(function, rollouts=8, batched=False)
    assert report.objective == "expected_reward"
    assert report.nearest.scale == pytest.approx(7 / 8, abs=1e-6)


def pass_at_4(rewards):
    """PKPO in plain Python: `math.comb` takes whole numbers only."""
    count, successes = len(rewards), sum(rewards)
    score = 4 * math.comb(count - successes, 3) / math.comb(count - 1, 3)
    return [score if reward else 0.0 for reward in rewards]


def pass_at_4_of_array(rewards):
    score = 4 * math.comb(len(rewards) - rewards.sum(), 3) / math.comb(len(rewards) - 1, 3)
    return np.where(rewards == 1, score, 0.0)


def right_ones(rewards):
    return torch.where(rewards, rewards.sum(-1, keepdim=True) ** -1.0, 0.0)


@pytest.mark.parametrize(
    ("function", "objective"),
    [
        (pass_at_4, "pass_at_k:k=4"),
        (pass_at_4_of_array, "pass_at_k:k=4"),
        (right_ones, "truncated_likelihood:order=8"),
    ],
)
def test_functions_of_whole_numbers_and_of_truth_values_are_named(function, objective):
    assert audit.audit(function, rollouts=8, batched=False).objective == objective


def test_a_function_that_answers_with_a_list_is_asked_with_one():
    """In a set of a tensor's numbers no two are equal: asked with a tensor, the function would never drop a group."""

    def drops_constant_groups(rewards):
        return [] if len(set(rewards)) == 1 else centred(rewards)

    probed = probe(drops_constant_groups, 4)
    assert probed.container == "list"
    assert probed.leaves_out(torch.zeros(4, dtype=torch.float64))
    assert not probed.leaves_out(torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    assert probed.group(torch.ones(4, dtype=torch.float64)).tolist() == [0.0] * 4
    assert probe(lambda r: np.asarray(r) - np.mean(np.asarray(r)), 4).container == "array"
    assert probe(lambda r: (r - r.mean()).tolist(), 4).container == "float64 tensor"  # a list has no mean


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda r: (r, r - r.mean()), r"the first, which is taken for the advantages, is the rewards"),
        (lambda r: {"loss": 1.0, "kl": 0.0}, r"expected an entry 'advantages' in the answer, got the entries loss, kl"),
        (lambda r: object(), r"expected a tensor, an array or a list of advantages, got object"),
        (lambda r: None, r"no advantages came for the rewards \[1, 0, 0, 0\]"),
        (lambda r: [*centred(r)[:-1], None], r"expected a tensor, an array or a list of advantages, got None"),
        (lambda r: r.mean(), r"expected advantages of shape \(4,\), got \(\)"),
        (lambda r: r[:, None] - torch.arange(3), r"expected one advantage for each rollout, got 3 that differ"),
        (lambda r: [r[:1], r[1:]], r"expected advantages of equal shapes, got \(1,\) and \(3,\)"),
    ],
)
def test_what_holds_no_advantages_is_refused_by_name(function, message):
    with pytest.raises(ValueError, match=message):
        audit.audit(function, rollouts=4, batched=False)


def test_a_coroutine_is_refused_and_the_wrap_is_named():
    async def advantages(rewards):
        return rewards - rewards.mean()

    with pytest.raises(ValueError, match=r"got a coroutine: wrap the function, lambda rewards: asyncio.run"):
        audit.audit(advantages, rollouts=4)


def test_rows_are_not_columns():
    """(N, B) is not (B, N), whatever the number of its entries."""
    rewards = torch.zeros(2, 3)
    assert shaped(torch.arange(6.0), rewards).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match=r"expected advantages of shape \(2, 3\), got \(3, 2\)"):
        shaped(torch.zeros(3, 2), rewards)


def test_the_accuracy_to_expect_is_that_of_the_numbers():
    third = torch.tensor([1 / 3, torch.nan], dtype=torch.float64)
    assert precision_of(third) == precision_of(third.float().double(), third) == 1e-9
    assert precision_of(third.float().double()) == 1e-5
    for dtype, precision in ((torch.float64, 1e-9), (torch.float32, 1e-5), (torch.bfloat16, 2**-8)):
        assert probe(lambda r, dtype=dtype: (r - r.mean()).to(dtype), 3).precision == precision


def test_single_precision_is_recognised_in_a_list():
    """The deviation of float32 numbers depends on their order by a rounding, which a list of floats does not show."""

    def grpo(rewards):
        values = np.array(rewards, dtype=np.float32)
        return ((values - values.mean()) / values.std().clip(1e-8)).tolist()

    for rollouts in range(2, 40):
        assert audit.audit(grpo, rollouts=rollouts, batched=False).valid


def test_the_exact_core_reads_the_same_shapes():
    p = [0.1, 0.5]
    expected = exact.weight("pkpo:k=4", rollouts=8, pass_rate=p)
    torch.testing.assert_close(exact.weight(pass_at_4, rollouts=8, pass_rate=p), expected, rtol=1e-12, atol=0)
