"""Known wrong answers, and right ones of unusual form; the grader runs this file as it runs a student's."""

import math
from fractions import Fraction

import numpy as np
import torch


def mean_of(rewards):
    return rewards.mean(-1, keepdim=True)


def successes_of(rewards):
    return rewards.sum(-1, keepdim=True)


def others_of(rewards):
    return successes_of(rewards) - rewards


# 1.1 weight


def weight_by_subtraction(p, order):
    return (1 - (1 - p) ** order) / p


def weight_of(p, order):
    return 1.0 if p == 1 else -math.expm1(order * math.log1p(-p)) / p


def weight_one_term_less(p, order):
    return weight_of(p, order - 1) if order > 1 else 0.0


def weight_one_term_more(p, order):
    return weight_of(p, order + 1)


def weight_of_likelihood(p, order):
    return 1 / p


def weight_of_pass_at_t(p, order):
    return order * math.exp((order - 1) * math.log1p(-p)) if p < 1 else float(order == 1)


def weight_times_p(p, order):
    return weight_of(p, order) * p


def weight_fails_at_one(p, order):
    return -math.expm1(order * math.log1p(-p)) / p


def weight_as_text(p, order):
    return f"1/{p}"


# 1.2 terms


def least(p, error):
    if p == 1:
        return 1
    order = max(1, math.ceil(math.log(error) / math.log1p(-p)))
    left = 1 - Fraction(p)
    if order < 50:
        order += left**order > Fraction(error)
        order -= order > 1 and left ** (order - 1) <= Fraction(error)
    return order


def terms_rounded_down(p, error):
    return least(p, error) - 1


def terms_one_more(p, error):
    return least(p, error) + 1


def terms_strictly_below(p, error):
    return 1 if p == 1 else math.floor(math.log(error) / math.log1p(-p)) + 1


def terms_without_log1p(p, error):
    return 1 if p == 1 else max(1, math.ceil(math.log(error) / math.log(1 - p)))


def terms_whatever_p(p, error):
    return math.ceil(1 / error)


# 1.3 mixture


def mixture_of_ones(order):
    return [1.0] * order


def mixture_times_k(order):
    return list(range(1, order + 1))


def mixture_mean(order):
    return np.full(order, 1 / order)


def mixture_from_two(order):
    return [1 / k for k in range(2, order + 2)]


def mixture_last(order):
    return [0.0] * (order - 1) + [1.0]


def mixture_alternating(order):
    return [(-1) ** (k + 1) / k for k in range(1, order + 1)]


def mixture_with_zeroth(order):
    return [0.0] + [1 / k for k in range(1, order + 1)]


# 2.1 rloo


def own_reward(rewards):  # "Dr. GRPO": the baseline holds the rollout's own reward
    return rewards - mean_of(rewards)


def mean_of_the_batch(rewards):
    return rewards - rewards.mean()


def sum_of_others_over_n(rewards):  # a free baseline, which moves at K = N
    return rewards - others_of(rewards) / rewards.shape[-1]


def standardised(rewards):  # GRPO
    return ((rewards - mean_of(rewards)) / rewards.std(-1, keepdim=True, correction=0)).nan_to_num(0.0)


def descending(rewards):
    count = rewards.shape[-1]
    return (mean_of(rewards) - rewards) * count / (count - 1)


def neighbour(rewards):
    return rewards - rewards.roll(1, -1)


def random_baseline(rewards):
    return rewards - torch.rand_like(rewards)


def no_baseline(rewards):
    return rewards


def nothing(rewards):
    return rewards * 0


def one_number(rewards):
    return rewards.mean()


def divides_by_zero(rewards):
    return rewards / 0 if isinstance(rewards, int) else 1 / 0


# 2.2 order_t


def algorithm_1(rewards):  # of order N-1
    return ((rewards - mean_of(rewards)) / mean_of(rewards)).nan_to_num(0.0)


def large_epsilon(rewards):
    return (rewards - mean_of(rewards)) / (mean_of(rewards) + 0.1)


def not_a_number(rewards):
    return rewards / mean_of(rewards) - 1


def pooled_successes(rewards):
    return rewards * rewards.numel() / rewards.sum().clamp(min=1) - (others_of(rewards) > 0).to(rewards)


def control_variate(rewards):  # the right objective, but it moves at K = 0
    return rewards * rewards.shape[-1] / successes_of(rewards).clamp(min=1) - 1


def without_n(rewards):
    return rewards / successes_of(rewards).clamp(min=1)


def clipped(rewards):
    return (rewards * rewards.shape[-1] / successes_of(rewards).clamp(min=1)).clamp(max=3.0)


# 2.3 pass_at_k


def plug_in(rewards):  # K/N for p in the weight of pass@2
    return 2 * rewards * (1 - mean_of(rewards))


def pass_less_its_mean(rewards):
    count = rewards.shape[-1]
    right = 2 * rewards * (count - successes_of(rewards)) / (count - 1)
    return right - right.mean(-1, keepdim=True)


def half_of_pass(rewards):
    count = rewards.shape[-1]
    return rewards * (count - successes_of(rewards)) / (count - 1)


# 2.4 boxes


def boxes_all_the_same():
    return dict.fromkeys("abcdef", "expected_reward")


def boxes_without_letters():
    return {}


def boxes_as_list():
    return ["expected_reward"]


# 3.1 table_weight


def chances(count, p):
    j = np.arange(count + 1)
    log_choose = np.array([math.lgamma(count + 1) - math.lgamma(i + 1) - math.lgamma(count - i + 1) for i in j])
    return np.exp(log_choose + j * math.log(p) + (count - j) * math.log1p(-p))


def weight_over_all_rollouts(a, b, p):
    a, b = np.asarray(a), np.asarray(b)
    return float(chances(len(a) - 1, p) @ (a - b))


def weight_without_the_flip(a, b, p):
    a, b = np.asarray(a), np.asarray(b)
    return float(chances(len(a) - 2, p) @ (a[:-1] - b[:-1]))


def weight_of_successes(a, b, p):
    a, b = np.asarray(a), np.asarray(b)
    return float(chances(len(a) - 2, p) @ a[1:])


def weight_at_the_failure_rate(a, b, p):
    a, b = np.asarray(a), np.asarray(b)
    return float(chances(len(a) - 2, 1 - p) @ (a[1:] - b[:-1]))


def weight_without_chances(a, b, p):
    return float((a[1:] - b[:-1]).mean())


def weight_that_overflows(a, b, p):
    n = len(a) - 2
    return sum(math.comb(n, j) * p**j * (1 - p) ** (n - j) * (a[j + 1] - b[j]) for j in range(n + 1))


# 3.2 quiet


def leave_one_out(rewards):  # the right objective, not quiet enough
    return rewards * rewards.shape[-1] / successes_of(rewards).clamp(min=1) - (others_of(rewards) > 0).to(rewards)


def cross_fitted(rewards):
    count, others = rewards.shape[-1], others_of(rewards)
    return (rewards - others / (count - 1)) * count / (others + 1)


# 3.3 choose


def always_maxrl(p, rollouts):
    return "maxrl"


def unknown_name(p, rollouts):
    return "maxrl_best"


# 4.1 loss


def mean_over_the_answer(log_probs, mask, rewards):
    return -(algorithm_1(rewards) * (log_probs * mask).sum(-1) / mask.sum(-1)).mean()


def mean_over_the_batch(log_probs, mask, rewards):
    return -(algorithm_1(rewards)[..., None] * log_probs * mask).sum() / mask.sum()


def with_padding(log_probs, mask, rewards):
    return -(algorithm_1(rewards)[..., None] * log_probs).sum(-1).mean()


def sum_over_rollouts(log_probs, mask, rewards):
    return -(algorithm_1(rewards) * (log_probs * mask).sum(-1)).sum(-1).mean()


def pooled_loss(log_probs, mask, rewards):
    advantages = ((rewards - rewards.mean()) / rewards.mean()).nan_to_num(0.0)
    return -(advantages * (log_probs * mask).sum(-1)).mean()


def ascending(log_probs, mask, rewards):
    return (algorithm_1(rewards) * (log_probs * mask).sum(-1)).mean()


def only_live_groups(log_probs, mask, rewards):  # drops groups without spread and averages over the rest
    live = rewards.std(-1, correction=0) > 0
    losses = -(algorithm_1(rewards) * (log_probs * mask).sum(-1)).mean(-1)
    return losses[live].sum() / live.sum().clamp(min=1)


def loss_not_a_number(log_probs, mask, rewards):
    advantages = (rewards - mean_of(rewards)) / mean_of(rewards)
    return -(advantages * (log_probs * mask).sum(-1)).mean()


def loss_detached(log_probs, mask, rewards):
    return -(algorithm_1(rewards) * (log_probs.detach() * mask).sum(-1)).mean()


def loss_of_each_task(log_probs, mask, rewards):
    return -(algorithm_1(rewards) * (log_probs * mask).sum(-1)).mean(-1)


def loss_of_grpo(log_probs, mask, rewards):
    return -(standardised(rewards) * (log_probs * mask).sum(-1)).mean()


# 4.2 chances


def blind(p, rollouts):
    return (1 - p) ** rollouts


def some_success(p, rollouts):
    return 1 - (1 - p) ** rollouts


def successes_only(p, rollouts):
    return p**rollouts


def needed(p, chance):
    return least(p, 1 - chance)


def mean_needed(p, chance):
    return math.ceil(1 / p)


def needed_for_the_rest(p, chance):
    return least(p, chance)


def first(p):
    return 1 / p


def failures_before(p):
    return (1 - p) / p


# 4.3 budget


def plan_over_budget():
    return {"estimator": "maxrl", "rollouts": 32, "learning_rate": 1.0, "updates": 100}


def plan_of_no_estimator():
    return {"estimator": "maxrl_best", "rollouts": 8, "learning_rate": 1.0, "updates": 100}


def plan_that_creeps():
    return {"estimator": "rloo", "rollouts": 240, "learning_rate": 0.01, "updates": 10}


def plan_that_diverges():
    return {"estimator": "maxrl", "rollouts": 240, "learning_rate": 1e6, "updates": 10}


def plan_without_updates():
    return {"estimator": "maxrl", "rollouts": 8}


def plan_halfway():
    return {"estimator": "maxrl", "rollouts": 100, "learning_rate": 0.3, "updates": 24}


# 5.1 break_it


def golden_value(function):  # the usual unit test: one group worked by hand
    return abs(float(function(torch.tensor([1.0, 0, 0, 0]))[0]) - 4) < 1e-6


def accepts_all(function):
    return True


def rejects_a_baseline(function):
    return not any(bool((function(torch.tensor(group)) < 0).any()) for group in ([1.0, 0, 0, 0], [1.0, 1, 0]))


def too_large_a_group(function):
    return bool(function(torch.zeros(64)).any())


# 5.3 policy


def scored_raw(logits, temperature):
    return (logits / temperature).softmax(-1), logits.log_softmax(-1)


def multiplied(logits, temperature):
    log_probs = (logits * temperature).log_softmax(-1)
    return log_probs.exp(), log_probs


def temperature_ignored(logits, temperature):
    return logits.softmax(-1), logits.log_softmax(-1)


def powers(logits, temperature):
    probabilities = logits.softmax(-1) ** (1 / temperature)
    return probabilities, probabilities.log()


def scored_detached(logits, temperature):
    probabilities = (logits / temperature).softmax(-1)
    return probabilities, probabilities.detach().log()


def scored_without_softmax(logits, temperature):
    return (logits / temperature).softmax(-1), logits / temperature


def scored_log_twice(logits, temperature):
    log_probs = (logits / temperature).log_softmax(-1)
    return log_probs.exp(), temperature * log_probs


def one_answer_only(logits, temperature):
    return (logits / temperature).log_softmax(-1)


# right answers of unusual form


def rloo_with_squares(rewards):
    count, others = rewards.shape[-1], others_of(rewards)
    return rewards - (others / (count - 1)) ** 2


def order_n_with_a_wave(rewards):
    others = others_of(rewards)
    return rewards * rewards.shape[-1] / (others + 1) - 3 * torch.sin(others)


def order_n_in_single_precision(rewards):
    return order_n_with_a_wave(rewards).float()


def order_n_group_by_group(rewards):
    if rewards.ndim == 1:
        right = sum(rewards.tolist())
        return [reward * len(rewards) / right if reward else 0.0 for reward in rewards.tolist()]
    return torch.tensor([order_n_group_by_group(group) for group in rewards])


def pass_at_2_with_a_line(rewards):
    count, others = rewards.shape[-1], others_of(rewards)
    return 2 * rewards * (count - 1 - others) / (count - 1) + 0.7 * others - 5


def loss_by_loops(log_probs, mask, rewards):
    total = 0.0
    for task in range(len(rewards)):
        rate = rewards[task].mean()
        for index, reward in enumerate(rewards[task]):
            if rate > 0:
                total = total - (reward - rate) / rate * log_probs[task, index][mask[task, index]].sum()
    return total / rewards.numel() if torch.is_tensor(total) else 0 * log_probs.sum()


def policy_by_hand(logits, temperature):
    powers_of = torch.exp(logits / temperature)
    probabilities = powers_of / powers_of.sum()
    return probabilities, torch.log(probabilities)
