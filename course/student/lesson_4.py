"""Lesson 4: worlds with an exact likelihood."""

import torch


def loss(log_probs, mask, rewards):
    """Exercise 4.1 (3 points). Return the scalar whose gradient is minus the mean over tasks of MaxRL's estimate.

    The estimate of a task is (1/N) sum_i A_i grad log m(z_i), where m(z_i) is the probability of the whole answer and
    A_i = (r_i - mean(r)) / mean(r), 0 in a group without a success (Algorithm 1). All arguments are torch tensors:
    log_probs (B, N, T) of the tokens that were written, mask (B, N, T), False on padding, rewards (B, N) of B tasks.
    """
    raise NotImplementedError


def blind(p, rollouts):
    """Exercise 4.2, one of three (2 points). Return the share of groups of N rollouts that hold no success."""
    raise NotImplementedError


def rollouts_needed(p, chance):
    """Exercise 4.2, two of three. Return the least whole N whose group holds a success with at least this chance.

    p is a float in (0, 1], chance a float in (0, 1).
    """
    raise NotImplementedError


def first_success(p):
    """Exercise 4.2, three of three. Return the mean number of rollouts up to the first success, which counts too."""
    raise NotImplementedError


def budget():
    """Exercise 4.3 (4 points). Return how you would spend $budget rollouts a level:

        {"estimator": "rloo", "rollouts": 8, "learning_rate": 0.1, "updates": 300}

    The estimator is one of the library's names, such as "maxrl" or "pkpo:k=4"; rollouts (at least 4) times updates is
    at most $budget. The grader trains a table of logits for each of eight mazes by plain SGD and takes the mean of the
    exact pass rates at the end. You can try your plan on other mazes of the same kind:

        maxrl-lab grade FOLDER budget --practice

    A mean pass rate of $thresholds earns 1, 2 and 4 points.
    """
    raise NotImplementedError
