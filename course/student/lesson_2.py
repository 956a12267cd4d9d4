"""Lesson 2: an estimator is a table.

An advantage function takes the rewards, 0 or 1, of one group (N,) or of a batch of groups (B, N), and returns an
advantage for each rollout, in the same shape. The rewards come as a numpy array; if this file imports torch, they come
as a torch tensor. The gradient estimate of a group is (1/N) sum_i A_i S_i with S_i the score of rollout i.
"""

import numpy as np


def rloo(rewards):
    """Exercise 2.1 (2 points). Unbiased for the expected reward at every N >= 2; 0 if all are right or all wrong."""
    raise NotImplementedError


def order_t(rewards):
    """Exercise 2.2 (3 points). Unbiased for the truncated likelihood of order T = $order at every N >= $least_order.

    A group without a success gets 0.
    """
    raise NotImplementedError


def pass_at_k(rewards):
    """Exercise 2.3 (2 points). Unbiased for pass@$k at every N >= $least_k."""
    raise NotImplementedError


def boxes():
    """Exercise 2.4 (2 points). Name the objectives of the six functions in boxes.py.

    Return a dict from each letter, "a" to "f", to one of these texts:

        "expected_reward"   "truncated_likelihood:order=3"   "pass_at_k:k=3"   "none"

    with orders and k from 2 to 6. A box is unbiased for its objective up to a positive factor at N = 6; one box is
    unbiased for none. Find the flips a(J+1) - b(J) by hand first; `maxrl-lab audit boxes:box_a --rollouts 6` confirms.
    """
    raise NotImplementedError
