"""Lesson 5, solved."""

import itertools

import torch


def group(others, count, first):
    return torch.tensor([float(first)] + [1.0] * others + [0.0] * (count - 1 - others), dtype=torch.float64)


def is_right(function):
    """Every flip at every N, the same advantage for every order, twice and in a batch, and silence at K = 0."""
    for count in range(2, 9):
        groups = []
        for others in range(count):
            wrong, right = group(others, count, 0), group(others, count, 1)
            before, after = function(wrong), function(right)
            if not abs(float(after[0] - before[0]) - count / (others + 1)) < 1e-4:
                return False
            if not torch.equal(before, function(wrong)) or not torch.allclose(before.flip(0), function(wrong.flip(0))):
                return False
            groups += [wrong, right]
        if bool((function(torch.zeros(count, dtype=torch.float64)) != 0).any()):
            return False
        together = function(torch.stack(groups))
        if not torch.allclose(together, torch.stack([function(rewards) for rewards in groups])):
            return False
    shuffled = [torch.tensor(order, dtype=torch.float64) for order in itertools.permutations([1.0, 1.0, 0.0])]
    return all(len({round(float(v), 6) for v in function(rewards)[rewards == 1]}) == 1 for rewards in shuffled)


def successes_of_the_batch(rewards):
    successes = rewards.sum(-1, keepdim=True)
    return rewards * rewards.shape[-1] / successes.clamp(min=1)


def deviation_of_the_batch(rewards):
    count = rewards.shape[-1]
    return (rewards - rewards.mean(-1, keepdim=True)) * count / (count - 1)


def mean_over_tokens(log_probs, mask, rewards):
    mean = rewards.mean(-1, keepdim=True)
    advantages = ((rewards - mean) / mean).nan_to_num(0.0)
    return -(advantages * (log_probs * mask).sum(-1)).mean()


def policy(logits, temperature):
    log_probs = (logits / temperature).log_softmax(-1)
    return log_probs.exp().detach(), log_probs
