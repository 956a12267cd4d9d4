"""Functions that are told groups by ids, and rollouts by a mask: what goes wrong there is a trap with an example."""

import numpy as np
import pytest
import torch

from maxrl_lab import audit


def names(function, **options):
    return {trap.name: trap for trap in audit.audit(function, rollouts=4, **options).traps} | {}


def by_ids(rewards, group_ids):
    advantages = torch.zeros_like(rewards)
    for key in group_ids.unique():
        rows = group_ids == key
        advantages[rows] = rewards[rows] - rewards[rows].mean()
    return advantages


def by_position(rewards, group_ids):
    """The ids only say how many groups there are."""
    groups = rewards.reshape(len(set(group_ids.tolist())), -1)
    return (groups - groups.mean(1, keepdim=True)).reshape(-1)


def by_number(rewards, index):
    """Sums by id, in as many places as the largest id asks for."""
    index = torch.as_tensor(index)
    totals, counts = torch.zeros(2, int(index.max()) + 1, dtype=rewards.dtype)
    totals.index_add_(0, index, rewards)
    counts.index_add_(0, index, torch.ones_like(rewards))
    return rewards - (totals / counts)[index]


def one_group_if_unequal(rewards, uid):
    """Groups of unequal size are taken for one group of all rollouts."""
    ids, sizes = np.unique(uid, return_counts=True)
    if len(set(sizes.tolist())) > 1:
        return rewards - rewards.mean()
    return by_ids(rewards, torch.as_tensor([ids.tolist().index(value) for value in uid]))


def test_ids_that_are_heeded_are_no_trap():
    assert not {"ids_ignored", "sparse_ids", "unequal_groups", "pooled_groups"} & set(names(by_ids))


def test_ids_that_only_count_are_found_by_rows_in_turn():
    found = names(by_position)
    assert "ids_ignored" in found
    assert "sparse_ids" not in found
    # rewards [1, 0, 0, 0] and [1, 1, 1, 0], a row of each in turn
    assert "rows of two groups in turn get [0.25, 0.25, -0.75, 0.25, " in found["ids_ignored"].message
    assert audit.audit(by_position, rollouts=4).objective == "expected_reward"


def test_ids_that_are_numbers_of_places_are_found_by_sparse_ones():
    found = names(by_number)
    assert "number the groups from 0" in found["sparse_ids"].message
    assert "ids_ignored" not in found


def test_unequal_groups_that_become_one_are_found():
    """The batch holds [1, 0, 0, 0] and [1, 1, 1]: apart they are centred at 1/4 and 1, together at 4/7."""
    found = names(one_group_if_unequal)
    assert "groups of 4 and 3 rollouts get [0.4286, -0.5714, " in found["unequal_groups"].message
    assert "but [0.75, -0.25, -0.25, -0.25, 0, 0, 0] alone" in found["unequal_groups"].message


def test_a_group_of_one_or_two_has_no_such_traps():
    assert audit.audit(by_ids, rollouts=1).singleton.convention == "nothing"
    assert audit.audit(by_ids, rollouts=2).objective == "expected_reward"


def masked(rewards, mask):
    mean = (rewards * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    return (rewards - mean) * mask


def still_counted(rewards, response_mask, num_generations):
    """The mask is only multiplied, as a token mask is: a rollout that is left out stays in the mean."""
    groups = rewards.view(-1, num_generations)
    return (groups - groups.mean(1, keepdim=True)).view(-1, 1) * response_mask


def still_paid(rewards, keep):
    mean = (rewards * keep).sum(-1, keepdim=True) / keep.sum(-1, keepdim=True).clamp(min=1)
    return rewards - mean


def divides_by_nobody(rewards, valid):
    mean = (rewards * valid).sum(-1, keepdim=True) / valid.sum(-1, keepdim=True)
    return (rewards - mean) * valid


def picks(rewards, mask):
    advantages = torch.zeros_like(rewards)
    advantages[mask] = rewards[mask] - rewards[mask].mean()
    return advantages


def test_masks_that_are_heeded_are_no_trap():
    assert not {"masked_rows_count", "empty_mask"} & set(names(masked))
    assert audit.audit(masked, rollouts=4).objective == "expected_reward"


def test_a_rollout_that_is_left_out_and_still_counts_is_found():
    """[1, 0, 0] and one more success that is left out: apart the mean is 1/3, with it 1/2."""
    message = names(still_counted)["masked_rows_count"].message
    assert "with a mask that leaves out the last get [0.5, -0.5, -0.5, 0], but without it" in message
    assert "[0.6667, -0.3333, -0.3333]: it still counts in K and N" in message
    assert "still gets an advantage of 0.6667" in names(still_paid)["masked_rows_count"].message


def test_a_mask_that_leaves_nobody_is_tried():
    assert "a group of which the mask leaves nobody gets [nan, nan, nan, nan]" in (
        names(divides_by_nobody)["empty_mask"].message
    )
    report = audit.audit(picks, rollouts=4, batched=False)
    assert report.objective == "expected_reward"
    assert "empty_mask" not in {trap.name for trap in report.traps}  # the mean of nobody is given to nobody


def test_groups_that_are_left_out_of_a_batch_are_not_called_pooled():
    """What comes back of a batch (B, N) is the groups that are neither all right nor all wrong."""

    def mixed_only(rewards):
        rewards = torch.atleast_2d(rewards)
        mixed = rewards[rewards.std(-1) > 0]
        return mixed - mixed.mean(-1, keepdim=True)

    report = audit.audit(mixed_only, rollouts=4)
    traps = {trap.name: trap.message for trap in report.traps}
    assert "pooled_groups" not in traps
    assert "for a group with K = 0, 4: they count as 0 here" in traps["leaves_out_groups"]
    assert report.objective == "expected_reward"

    def mixed_and_pooled(rewards):
        mixed = mixed_only(rewards)
        return mixed / mixed.std() if mixed.numel() else mixed

    assert "pooled_groups" in {trap.name for trap in audit.audit(mixed_and_pooled, rollouts=4).traps}


@pytest.mark.parametrize("rollouts", [2, 3, 5, 20])
def test_pooling_that_only_shifts_leaves_the_objective(rollouts):
    def less_mean_of_batch(rewards):
        return rewards - rewards.mean()

    def less_best_of_batch(rewards):  # a shift that depends on the own reward, too
        return rewards - rewards.max()

    report = audit.audit(less_mean_of_batch, rollouts=rollouts)
    (trap,) = [trap for trap in report.traps if trap.name == "pooled_groups"]
    assert not trap.invalidates
    assert "shift its advantages by the same amount" in trap.message
    assert report.objective == "expected_reward"
    shifted = audit.audit(less_best_of_batch, rollouts=rollouts)
    assert [trap.invalidates for trap in shifted.traps if trap.name == "pooled_groups"] == [True]


def centred_times(factor):
    """Rewards (B, N) less their group's mean, times factor(others that are solved (B, 1), number of groups)."""

    def advantages(rewards):
        rows = torch.atleast_2d(rewards)
        solved = rows.amax(-1, keepdim=True)
        scaled = (rows - rows.mean(-1, keepdim=True)) * factor(solved.sum() - solved, len(rows))
        return scaled.reshape(rewards.shape)

    return advantages


@pytest.mark.parametrize("factor", [lambda others, _: 1 + others, lambda _, groups: 1 if groups == 1 else -1])
def test_a_factor_that_changes_with_the_other_groups_is_no_shift(factor):
    report = audit.audit(centred_times(factor), rollouts=4)
    assert [trap.invalidates for trap in report.traps if trap.name == "pooled_groups"] == [True]
    assert report.objective is None
