"""Advantage functions in the shapes in which they are published: each is named right, or told what to change.

All are in our own words. The shapes are those of public training code: one group or a batch, flat rewards with the size
of the group or with ids, masks, token-level rewards, lists and arrays, single and half precision.
"""

import random
from collections import defaultdict
from dataclasses import dataclass
from itertools import count

import numpy as np
import pytest
import torch

from maxrl_lab import audit

RL, ORDER_7 = "expected_reward", "truncated_likelihood:order=7"


def group_of_arrays(rewards):
    values = np.array(rewards)
    return values - values.mean()


def group_of_arrays_by_deviation(rewards):
    values = np.asarray(rewards, dtype=np.float32)
    return (values - values.mean()) / (values.std() + 1e-8)


def annotated_list(rewards: list[float]) -> list[float]:
    mean = sum(rewards) / len(rewards)
    deviation = max((sum((reward - mean) ** 2 for reward in rewards) / len(rewards)) ** 0.5, 1e-8)
    return [(reward - mean) / deviation for reward in rewards]


def annotated_nested_list(rewards: list[list[float]]) -> list[list[float]]:
    return [[reward - sum(row) / len(row) for reward in row] for row in rewards]


def one_group_of_torch(rewards):
    return (rewards - rewards.mean()) / (rewards.std() + 1e-8)


def flat_with_size(rewards, num_generations):
    grouped = rewards.view(-1, num_generations)
    mean = grouped.mean(dim=1).repeat_interleave(num_generations)
    deviation = grouped.std(dim=1).repeat_interleave(num_generations)
    return (rewards - mean) / (deviation + 1e-4)


def flat_list_with_size(rewards: list[float], samples_per_problem: int) -> list[float]:
    advantages = []
    for start in range(0, len(rewards), samples_per_problem):
        group = np.array(rewards[start : start + samples_per_problem])
        advantages.extend((group - group.mean()).tolist())
    return advantages


def size_with_a_default(rewards, group_size=4):
    grouped = torch.as_tensor(rewards).reshape(-1, group_size)
    return (grouped - grouped.mean(1, keepdim=True)).reshape(-1)


def by_rows_of_ids(token_level_rewards, response_mask, index, epsilon=1e-6, config=None):
    scores, by_id = token_level_rewards.sum(-1), defaultdict(list)
    for row, key in enumerate(index):
        by_id[key].append(row)
    advantages = torch.zeros_like(scores)
    for rows in by_id.values():
        group = scores[rows]
        advantages[rows] = (group - group.mean()) / (group.std() + epsilon)
    advantages = advantages.unsqueeze(-1) * response_mask
    return advantages, advantages


def by_unique_ids(rewards, group_ids):
    advantages = torch.empty_like(rewards)
    for key in group_ids.unique():
        rows = group_ids == key
        advantages[rows] = rewards[rows] - rewards[rows].mean()
    return advantages


def by_names(scores, uid):
    values, advantages = np.asarray(scores), np.zeros(len(scores))
    for name in sorted(set(uid)):
        rows = [row for row, other in enumerate(uid) if other == name]
        advantages[rows] = values[rows] - values[rows].mean()
    return advantages


def by_dense_ids(rewards, prompt_ids):
    groups = int(prompt_ids.max()) + 1
    totals, counts = torch.zeros(2, groups, dtype=rewards.dtype)
    totals.index_add_(0, prompt_ids, rewards)
    counts.index_add_(0, prompt_ids, torch.ones_like(rewards))
    return rewards - (totals / counts)[prompt_ids]


def masked_in_numbers(rewards, mask):
    mean = (rewards * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    return (rewards - mean) * mask


def assignment(reward_fn, rollout_responses, repeated_ground_truths, group_size, advantage_eps, normalize_by_std):
    pairs = zip(rollout_responses, repeated_ground_truths, strict=True)
    raw = torch.tensor([reward_fn(response, truth)["reward"] for response, truth in pairs])
    grouped = raw.view(-1, group_size)
    advantages = grouped - grouped.mean(1, keepdim=True)
    if normalize_by_std:
        advantages = advantages / (grouped.std(1, keepdim=True) + advantage_eps)
    return advantages.flatten(), raw, {"mean": raw.mean().item()}


def per_function(rewards_per_func, reward_weights, num_generations):
    rewards = (rewards_per_func * reward_weights).nansum(dim=1)
    return flat_with_size(rewards, num_generations)


def half_precision(rewards):
    rewards = rewards.to(torch.bfloat16)
    return (rewards - rewards.mean(-1, keepdim=True)) / (rewards.mean(-1, keepdim=True) + 1e-6)


def jittered(rewards):
    values = np.asarray(rewards, dtype=float)
    others = (values.sum() - values) / (len(values) - 1)
    return values - others + np.random.default_rng().normal(0, 1e-6, values.shape)


class MovingBaseline:
    """Rewards less an average of the rewards seen so far."""

    def __init__(self):
        self.baseline = 0.0

    def __call__(self, rewards):
        self.baseline = 0.9 * self.baseline + 0.1 * float(rewards.mean())
        return rewards - self.baseline


class Counter:
    """Advantages that fall with every call."""

    def __init__(self):
        self.calls = count(1)

    def __call__(self, rewards):
        return (rewards - rewards.mean()) / next(self.calls)


def pooled_mean(rewards):
    return rewards - rewards.mean()


def pooled_deviation(rewards):
    return (rewards - rewards.mean(-1, keepdim=True)) / (rewards.std() + 1e-6)


def pooled_mean_of_single_precision(rewards):
    return rewards - rewards.float().mean()


def flat_with_a_long_name(scores, num_samples_per_prompt_rollout):
    grouped = np.array(scores).reshape(-1, num_samples_per_prompt_rollout)
    return (grouped - grouped.mean(1, keepdims=True)).flatten()


def a_large_epsilon(rewards):
    return (rewards - rewards.mean(-1, keepdim=True)) / (rewards.std(-1, keepdim=True) + 1e-2)


@pytest.mark.parametrize(
    ("function", "arguments", "objective", "estimator"),
    [
        (group_of_arrays, {}, RL, "mean_centred"),
        (annotated_list, {}, None, "grpo"),
        (annotated_nested_list, {}, RL, "mean_centred"),
        (flat_with_size, {}, None, "grpo:ddof=1,epsilon=0.0001"),
        (flat_list_with_size, {}, RL, "mean_centred"),
        (size_with_a_default, {}, RL, "mean_centred"),
        (by_rows_of_ids, {}, None, "grpo:ddof=1,epsilon=1e-06"),
        (by_unique_ids, {}, RL, "mean_centred"),
        (by_names, {}, RL, "mean_centred"),
        (by_dense_ids, {}, RL, "mean_centred"),
        (masked_in_numbers, {}, RL, "mean_centred"),
        (assignment, {"normalize_by_std": False}, RL, "mean_centred"),
        (assignment, {"normalize_by_std": True}, None, "grpo:ddof=1"),
        (per_function, {}, None, "grpo:ddof=1,epsilon=0.0001"),
        (half_precision, {}, ORDER_7, "maxrl"),
        (jittered, {}, RL, "rloo"),
        (pooled_mean, {}, RL, "mean_centred"),
        (pooled_mean_of_single_precision, {}, RL, "mean_centred"),
        (flat_with_a_long_name, {}, RL, "mean_centred"),
        (a_large_epsilon, {}, None, "grpo:ddof=1,epsilon=0.01"),
    ],
)
def test_it_is_named(function, arguments, objective, estimator):
    report = audit.audit(function, rollouts=8, arguments=arguments)
    assert report.valid
    assert report.objective == objective
    assert report.known.names[0] == estimator
    assert report.known.scale == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("function", [group_of_arrays_by_deviation, one_group_of_torch])
def test_one_group_code_is_told_the_flag_and_named_with_it(function):
    report = audit.audit(function, rollouts=8)
    assert report.objective is None
    assert "--single-group" in report.text()
    assert "one group at a time it optimises no known objective exactly; nearest: expected_reward" in report.text()
    alone = audit.audit(function, rollouts=8, batched=False)
    assert alone.valid
    assert alone.known.names[0] in ("grpo", "grpo:ddof=1,epsilon=1e-08")


@pytest.mark.parametrize("function", [MovingBaseline(), Counter()])
def test_memory_is_told_from_chance(function):
    (trap,) = audit.audit(function, rollouts=4).traps
    assert trap.name == "remembers"
    assert "at a frozen state" in trap.message


def test_chance_is_told_with_its_size():
    chance = random.Random(0)

    def advantages(rewards):
        return rewards + chance.random() / 10

    (trap,) = audit.audit(advantages, rollouts=4).traps
    assert trap.name == "random"
    assert "by up to 0.0" in trap.message


def test_noise_on_rewards_is_chance_where_a_deviation_blows_it_up():
    """1e-6 on rewards is 0.01 on the advantages of a group without success, whose deviation is that of the noise."""
    chance = np.random.default_rng(0)

    def advantages(rewards):
        noisy = np.asarray(rewards, dtype=float) + chance.normal(0, 1e-6, np.shape(rewards))
        return (noisy - noisy.mean()) / (noisy.std() + 1e-4)

    (trap,) = audit.audit(advantages, rollouts=8, batched=False).traps
    assert trap.name == "random"
    assert "10 calls with rewards [" in trap.message
    assert "[0, 0, 0, 0" in trap.message or "[1, 1, 1, 1, 1, 1, 1, 1]" in trap.message


def test_noise_that_could_hide_a_deviation_is_chance():
    def advantages(rewards):
        return rewards + torch.tensor(np.random.default_rng().normal(0, 1e-4, rewards.shape))

    (trap,) = audit.audit(advantages, rollouts=4).traps
    assert (trap.name, trap.invalidates) == ("random", True)


@dataclass
class Rollout:
    episode_reward: float


REFUSED = [
    (lambda rewards, k: rewards, r"needs 'k', which the audit cannot guess: --set k=VALUE"),
    (lambda rewards, values, dones: rewards, r"needs 'values', 'dones': it asks a critic"),
    (lambda self, rewards: rewards, r"needs 'self': it is a method; audit that of a made object"),
    (lambda prompts, completions: [1.0], r"needs 'completions': it makes rewards out of completions"),
    (lambda data: data.batch["rewards"], r"has no attribute 'batch'; if it takes a batch of a framework .* wrap it"),
    (lambda rollouts: [r.episode_reward for r in rollouts], r"if it takes .* rollouts with a reward, wrap it"),
    (lambda prompts, rewards: rewards, r"needs 'prompts', which the audit cannot guess: --set prompts=VALUE"),
    (lambda batch: batch["rewards"], r"wrap it: .* or f\({'rewards': rewards}\)"),
    (
        lambda rewards: (rewards.mean(), rewards),
        r"wrap it to return the advantages, as in lambda rewards: f\(rewards\)",
    ),
    (lambda rewards: [r["score"] for r in rewards], r"if it takes .* rollouts with a reward, wrap it"),
]


@pytest.mark.parametrize(("function", "message"), REFUSED)
def test_what_cannot_be_called_is_told_what_to_change(function, message):
    with pytest.raises(ValueError, match=message):
        audit.audit(function, rollouts=4)


def test_the_advice_works():
    def of_rollouts(rollouts):
        return [rollout.episode_reward - sum(r.episode_reward for r in rollouts) / 4 for rollout in rollouts]

    wrapped = audit.audit(lambda rewards: of_rollouts([Rollout(reward) for reward in rewards]), rollouts=4)
    assert wrapped.objective == RL
    partial = audit.audit(lambda rewards, k: rewards * k, rollouts=4, arguments={"k": 3})
    assert partial.nearest.scale == pytest.approx(3)


def test_a_group_that_would_take_days_is_refused():
    with pytest.raises(ValueError, match=r"rollouts must be at most 10000 for a function that is called, got 10001"):
        audit.audit(pooled_mean, rollouts=10_001)


def test_an_argument_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"flat_with_size has no argument 'beta'; its arguments: rewards, num_gen"):
        audit.audit(flat_with_size, rollouts=4, arguments={"beta": 1})


# near misses: what is close to a name and is not it


def own_mean_with_a_weight(rewards):
    return rewards - 0.99 * rewards.mean(-1, keepdim=True)


def one_percent_of_grpo(rewards):
    centred = rewards - rewards.mean(-1, keepdim=True)
    return centred * (1 + 0.01 / (rewards.std(-1, keepdim=True, correction=0) + 1e-6))


def clipped_grpo(rewards):
    deviation = rewards.std(-1, keepdim=True, correction=0)
    return ((rewards - rewards.mean(-1, keepdim=True)) / (deviation + 1e-6)).clamp(-2, 2)


def epsilon_of_a_thousandth(rewards):
    mean = rewards.mean(-1, keepdim=True)
    return (rewards - mean) / (mean + 1e-3)


def half_precision_of_another_order(rewards):
    rewards = rewards.to(torch.bfloat16)
    return (rewards - rewards.mean(-1, keepdim=True)) / (rewards.mean(-1, keepdim=True) + 0.02)


def pooled_scale(rewards):
    """Every difference is the alone one times a factor that changes with the other groups."""
    return (rewards - rewards.mean(-1, keepdim=True)) * (1 + 0.001 * rewards.mean())


@pytest.mark.parametrize(
    "function",
    [
        one_percent_of_grpo,
        clipped_grpo,
        epsilon_of_a_thousandth,
        half_precision_of_another_order,
        pooled_deviation,
        pooled_scale,
    ],
)
def test_near_misses_are_not_named(function):
    report = audit.audit(function, rollouts=8)
    assert report.objective is None
    assert report.known is None or not report.valid


def test_a_weighted_mean_is_rl_and_no_known_table():
    report = audit.audit(own_mean_with_a_weight, rollouts=8)
    assert report.objective == RL
    assert report.known is None
