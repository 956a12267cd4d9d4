"""The fixture on groups of unequal size: a mixture of sizes, and functions that ragged groups lead astray."""

from collections import defaultdict

import pytest
import torch

from maxrl_lab.audit.expectation import RAGGED, check


def by_ids(rewards, index):
    """Leave-one-out within the rows of one id, whatever the ids and their order; a group of one gets its reward."""
    groups = defaultdict(list)
    for row, name in enumerate(index):
        groups[name].append(row)
    advantages = [0.0] * len(rewards)
    for rows in groups.values():
        for row in rows:
            others = [float(rewards[other]) for other in rows if other != row]
            advantages[row] = float(rewards[row]) - sum(others) / max(len(others), 1)
    return advantages


def in_blocks(rewards, index):
    """Takes the groups from the rows' positions: as many as there are ids, each as long as the next."""
    count = len(set(index))
    groups = torch.as_tensor(rewards, dtype=torch.float64).reshape(count, -1)
    return (groups - (groups.sum(-1, keepdim=True) - groups) / (groups.shape[1] - 1)).flatten()


def masked(rewards, mask):
    """Leave-one-out among the rows that the mask leaves."""
    rewards, mask = torch.as_tensor(rewards, dtype=torch.float64), torch.as_tensor(mask, dtype=torch.float64)
    n = mask.sum(-1, keepdim=True)
    others = ((rewards * mask).sum(-1, keepdim=True) - rewards) / (n - 1).clamp(min=1)
    return (rewards - others) * mask


def in_the_baseline(rewards, mask):
    """A rejected row still counts in the mean."""
    rewards = torch.as_tensor(rewards, dtype=torch.float64)
    return (rewards - rewards.mean(-1, keepdim=True)) * torch.as_tensor(mask, dtype=torch.float64)


def test_functions_that_keep_ragged_groups_apart(assert_optimises):
    for function in (by_ids, masked):
        report = assert_optimises(function, "expected_reward", rollouts=4, scale=1, ragged=True)
        assert not {trap.name for trap in report.traps} & set(RAGGED)


@pytest.mark.parametrize(
    ("function", "named"),
    [(in_blocks, "ids_ignored: rows of two groups in turn"), (in_the_baseline, "masked_rows_count: rewards")],
)
def test_functions_that_ragged_groups_lead_astray(function, named):
    check(function, "expected_reward", rollouts=4)
    with pytest.raises(pytest.fail.Exception, match=f"expected ragged groups to be kept apart; {named}"):
        check(function, "expected_reward", rollouts=4, ragged=True)


def test_a_mixture_of_sizes(assert_optimises):
    """Algorithm 1 is of order n-1 at every n; MaxRL of order 4 is of order 4 at every n from 4 on."""
    shares = {0: 0.1, 5: 0.3, 8: 0.6}
    report = assert_optimises("maxrl", "truncated_likelihood:order=N-1", rollouts=shares)
    assert report.rollouts == 8
    assert_optimises("maxrl_order:order=4", "truncated_likelihood:order=4", rollouts=shares, scale=1)
    assert_optimises("rloo", "expected_reward", rollouts={4: 1.0})


def test_a_mixture_that_is_not_the_objective_s():
    shares = {4: 0.5, 8: 0.5}
    for objective, scale in (("truncated_likelihood:order=N", "any"), ("truncated_likelihood:order=N-1", 2.0)):
        with pytest.raises(pytest.fail.Exception, match=rf"\Aexpected {objective}, times {scale}, to a relative"):
            check("maxrl", objective, rollouts=shares, scale=scale)
    # r - mean is 1 - 1/n times the gradient at n: right up to a scale alone, and in the mixture too
    check("mean_centred", "expected_reward", rollouts=shares)
    with pytest.raises(pytest.fail.Exception):
        check("mean_centred", "expected_reward", rollouts=shares, scale=1)


def test_a_mixture_with_a_function_that_has_no_table_at_one_size():
    def random_beyond_four(rewards):
        return rewards - rewards.mean() + (torch.rand(len(rewards)) if len(rewards) > 4 else 0)

    with pytest.raises(pytest.fail.Exception, match="N = 5 rollouts"):
        check(random_beyond_four, "expected_reward", rollouts={3: 0.5, 5: 0.5}, batched=False)


def test_what_is_refused(refuses):
    with refuses("shares of the numbers of rollouts must be >= 0 and sum to 1, got {3: 0.5, 4: 0.4} with sum 0.9"):
        check("rloo", "expected_reward", rollouts={3: 0.5, 4: 0.4})
    for nobody in (0, {}, {0: 1.0}):
        with refuses("rollouts must be a whole number >= 1, got 0"):
            check("rloo", "expected_reward", rollouts=nobody)
