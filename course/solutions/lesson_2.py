"""Lesson 2, solved for the parameters of no name: T = N, k = 2."""

import numpy as np


def rloo(rewards):
    count = rewards.shape[-1]
    return (rewards - rewards.mean(-1, keepdims=True)) * count / (count - 1)


def order_t(rewards):
    count, successes = rewards.shape[-1], rewards.sum(-1, keepdims=True)
    others = successes - rewards
    return rewards * count / np.maximum(successes, 1) - (others > 0)


def pass_at_k(rewards):
    count, successes = rewards.shape[-1], rewards.sum(-1, keepdims=True)
    return 2 * rewards * (count - successes) / (count - 1)


def boxes():
    return {
        "a": "pass_at_k:k=3",
        "b": "expected_reward",
        "c": "none",
        "d": "pass_at_k:k=2",
        "e": "pass_at_k:k=5",
        "f": "truncated_likelihood:order=3",
    }
