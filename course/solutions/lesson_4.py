"""Lesson 4, solved."""

import math
from fractions import Fraction

import torch


def loss(log_probs, mask, rewards):
    mean = rewards.mean(-1, keepdim=True)
    advantages = torch.where(mean > 0, (rewards - mean) / mean, 0.0)
    return -(advantages * (log_probs * mask).sum(-1)).mean()


def blind(p, rollouts):
    return (1 - p) ** rollouts


def rollouts_needed(p, chance):
    if p == 1:
        return 1
    needed = max(1, math.ceil(math.log1p(-chance) / math.log1p(-p)))
    if 1 < needed < 1000 and (1 - Fraction(p)) ** (needed - 1) <= 1 - Fraction(chance):
        needed -= 1
    return needed


def first_success(p):
    return 1 / p


def budget():
    return {"estimator": "grpo", "rollouts": 32, "learning_rate": 3.0, "updates": 75}
