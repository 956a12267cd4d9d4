"""Lesson 5: what the code really optimises."""

import torch


def is_right(function):
    """Exercise 5.1 (4 points). Return whether an advantage function is unbiased for order T = N, and 0 at K = 0.

    `function` takes the rewards (N,) of one group or (B, N) of several, 0 or 1, N from 2 to 8, and returns advantages
    of the same shape as a torch tensor. Four right functions have to be accepted, each with a baseline of its own;
    fifteen wrong ones are to be rejected. The points are the share of wrong ones that you reject, and 0 if you reject a
    right one.
    """
    raise NotImplementedError


def successes_of_the_batch(rewards):
    """Exercise 5.2, one of three (3 points). Mend it: unbiased for order T = N at every N >= 2, and 0 at K = 0.

    The rewards are a torch tensor, (N,) of one group or (B, N) of B tasks.
    """
    successes = rewards.sum()
    return rewards * rewards.numel() / successes.clamp(min=1)


def deviation_of_the_batch(rewards):
    """Exercise 5.2, two of three. Mend it: unbiased for the expected reward, 0 if all are right or all are wrong."""
    mean = rewards.mean(-1, keepdim=True)
    return (rewards - mean) / (rewards.std() + 1e-6)


def mean_over_tokens(log_probs, mask, rewards):
    """Exercise 5.2, three of three. Mend it: the loss of exercise 4.1."""
    mean = rewards.mean(-1, keepdim=True)
    advantages = ((rewards - mean) / mean).nan_to_num(0.0)
    return -(advantages[..., None] * log_probs * mask).sum() / mask.sum()


def policy(logits, temperature):
    """Exercise 5.3 (2 points). Return (probabilities, log_probs), (A,) each, of a softmax policy at a temperature.

    `probabilities` are those that an answer is sampled from. `log_probs` are differentiated with respect to the logits,
    a torch tensor (A,); their gradients must be the score of the policy that samples, whose mean is 0.
    """
    raise NotImplementedError
