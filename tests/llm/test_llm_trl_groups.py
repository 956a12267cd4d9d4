"""Groups of TRL's trainer that have lost rollouts: what is left of them decides K, N, the table and the scale."""

import math

import pytest
import torch
from small_llm import END, MIXED, Parity, always, small_model, small_trainer
from test_llm_trl import LEAVE_OUT, apart, maxrl, slow_gradient

from maxrl_lab import estimators, exact
from maxrl_lab.llm.trl import groups
from maxrl_lab.llm.trl.groups import Tables


class Forgetful(Parity):
    """Parity that has no answer for the rollouts at some places of each call."""

    def __init__(self, lost):
        super().__init__()
        self.lost = lost

    def __call__(self, prompts, completion_ids, **_):
        rewards = super().__call__(prompts, completion_ids)
        return [None if place in self.lost else reward for place, reward in enumerate(rewards)]


def logged_advantages(trainer):
    return [round(each, 5) for each in trainer._logs["advantages"]]


THIRD = 4 / 3
"""A group of which 3 of 4 rollouts are left: TRL divides its sum by 4."""


def test_lost_rollouts_are_left_out_of_their_groups(tmp_path):
    """Group 1 loses its only success, so K = 0 of 3; group 2, all right, its first; group 0 nothing."""
    trainer = small_trainer(tmp_path, reward=Forgetful({5, 8}), lost="leave_out", others=always(MIXED))
    trainer.train()
    assert logged_advantages(trainer) == [0, 0, 0, 0, round(2 * THIRD, 5), 0, *[round(-THIRD, 5)] * 2, 0, 0, 0, 0]


def test_answers_that_are_cut_off_are_left_out_where_trl_masks_them(tmp_path):
    """The third answer of group 1 is cut off: 1 of 3 is right. So is the second of group 2, all of which are right."""
    settings = {"mask_truncated_completions": True, "logging_strategy": "steps", "logging_steps": 1}
    trainer = small_trainer(tmp_path, others=always(MIXED), **settings)
    trainer.train()
    assert MIXED[6][-1] != END
    assert logged_advantages(trainer) == [0, 0, 0, 0, *(round(THIRD * a, 5) for a in (2, -1, 0, -1)), 0, 0, 0, 0]
    logged = trainer.state.log_history[0]
    assert logged["group/left"] == pytest.approx(10 / 12)
    assert logged["group/pass_rate"] == pytest.approx((0 + 1 / 3 + 1) / 3)
    # w of maxrl: 3 at p = 0 of 4 rollouts; (1 - (2/3)^2) / (1/3) = 5/3 of 3; 1 at p = 1
    assert logged["group/weight"] == pytest.approx((3 + 5 / 3 + 1) / 3)
    assert (logged["group/none_right"], logged["group/all_right"]) == (1, 1)


def test_a_group_of_which_all_answers_are_cut_off(tmp_path, refuses):
    """It has no rollout left: the training ends and says so, or by choice the group gives nothing."""
    cut = ((3, 4, 4, 4),) * 4 + MIXED[4:]
    with refuses("the mask leaves no rollout of group 0"):
        small_trainer(tmp_path, estimators.make("maxrl"), others=always(cut), mask_truncated_completions=True).train()
    lenient = estimators.zero_if_too_small("maxrl")
    trainer = small_trainer(tmp_path, lenient, others=always(cut), mask_truncated_completions=True)
    trainer.train()
    assert logged_advantages(trainer)[:4] == [0, 0, 0, 0]
    assert logged_advantages(trainer)[4:8] == [round(THIRD * a, 5) for a in (2, -1, 0, -1)]


def test_the_gradient_is_that_of_the_rollouts_that_are_left(tmp_path):
    """A group's estimate is divided by its own n: a slow loop over each group without its lost rollouts."""
    lost = {1, 4, 6}
    trainer = small_trainer(tmp_path, model=small_model(torch.float64), reward=Forgetful(lost), lost="leave_out")
    trainer.train()
    prompts, answers, rewards = trainer.reward_funcs[0].calls[0]

    def by_hand(group_rewards, first):
        left = [i for i in range(4) if first + i not in lost]
        advantages = dict(zip(left, maxrl([group_rewards[i] for i in left]), strict=True))
        return [advantages.get(i, 0.0) * 4 / len(left) for i in range(4)]

    starts = iter(range(0, 12, 4))
    wanted = slow_gradient((prompts, answers, rewards), lambda group: by_hand(group, next(starts)), 1.0)
    assert apart(trainer.gradients[0], wanted) < 1e-6
    assert apart(trainer.gradients[0], slow_gradient((prompts, answers, rewards), maxrl, 1.0)) > 0.01


@pytest.mark.parametrize(
    ("estimator", "lost", "message"),
    [
        ("rloo", {4, 5, 6}, "rloo needs at least 2 rollouts in a group, got N = 1 (that is what is left of group 1)"),
        ("rloo", {4, 5, 6, 7}, "no rollout of group 1 is left"),
        ("pkpo:k=N/2", {4}, "'N/2' is not a whole number at N = 3 (that is what is left of group 1)"),
    ],
)
def test_groups_that_are_too_small_end_the_training(estimator, lost, message, tmp_path, refuses):
    trainer = small_trainer(tmp_path, estimator, reward=Forgetful(lost), lost="leave_out", others=always(MIXED))
    with refuses(message):
        trainer.train()


def test_groups_that_are_too_small_give_nothing_by_choice(tmp_path):
    lenient = estimators.zero_if_too_small("rloo")
    trainer = small_trainer(
        tmp_path, lenient, reward=Forgetful({0, 1, 2, 8, 9, 10, 11}), lost="leave_out", others=always(MIXED)
    )
    trainer.train()
    assert logged_advantages(trainer) == [0, 0, 0, 0, 1, *[round(-1 / 3, 5)] * 3, 0, 0, 0, 0]
    assert len(trainer.gradients) == 1


def test_a_function_is_read_at_the_n_that_is_left(tmp_path):
    trainer = small_trainer(tmp_path, maxrl, reward=Forgetful({5}), lost="leave_out", others=always(MIXED))
    trainer.train()
    assert logged_advantages(trainer)[4:8] == [round(2 * THIRD, 5), 0, *[round(-THIRD, 5)] * 2]


def test_another_word_for_lost_is_refused(tmp_path, refuses):
    with refuses("unknown value of lost 'zero'; choose one of: refuse, leave_out"):
        small_trainer(tmp_path, lost="zero")


def test_a_checkpoint_says_what_was_done_with_lost_rollouts(tmp_path):
    first = small_trainer(tmp_path, save_strategy="steps", save_steps=1)
    first.train()
    with pytest.raises(ValueError, match=r"was trained with lost = 'refuse', now it is 'leave_out'"):
        small_trainer(tmp_path, lost="leave_out", max_steps=2).train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match=r"was trained with mask_truncated_completions = False, now it is True"):
        small_trainer(tmp_path, mask_truncated_completions=True, max_steps=2).train(resume_from_checkpoint=True)


class TestCombine:
    def test_rollouts_without_any_reward_are_named_by_place(self, refuses):
        per_function = torch.tensor([[1.0, 0.0], [torch.nan, 1.0], [torch.nan, torch.nan]])
        with refuses(f"every rollout needs a reward of 0 or 1, got None from all reward functions at 2; {LEAVE_OUT}"):
            groups.combine(per_function, torch.ones(2))
        rewards, left = groups.combine(per_function, torch.ones(2), may_be_lost=True)
        assert rewards.tolist() == [1, 1, 0]
        assert left.tolist() == [True, True, False]

    def test_rewards_are_weighted(self, refuses):
        assert groups.combine(torch.ones(1, 2), torch.tensor([0.25, 0.75]))[0].tolist() == [1.0]
        with refuses(
            "rewards must be 0 or 1 (right or wrong), got 2.0: it is the sum of 2 reward functions, times their "
            "reward_weights; an estimator takes one function that says right or wrong, "
            "or weights with which the sum does"
        ):
            groups.combine(torch.ones(1, 2), torch.ones(2))

    @pytest.mark.parametrize("functions", [3, 7, 10, 49])
    def test_weights_that_sum_to_one_up_to_rounding_give_one(self, functions):
        rewards, _ = groups.combine(torch.ones(4, functions), torch.full((functions,), 1 / functions))
        assert rewards.tolist() == [1.0] * 4
        assert rewards.dtype == torch.float32

    def test_what_is_further_from_one_than_rounding_is_refused(self, refuses):
        with refuses("rewards must be 0 or 1 (right or wrong), got 0.9999"):
            groups.combine(torch.tensor([[0.9999]], dtype=torch.float64), torch.ones(1))


def test_the_mean_over_lost_rollouts_is_the_mixture_of_weights():
    """Each of 4 rollouts is lost with probability 1/4, whatever its reward: the mean gradient is that of `exact`."""
    p, lost, n = 0.3, 0.25, 4
    tables = Tables(estimators.zero_if_too_small("maxrl_no_baseline"))
    outcomes = torch.cartesian_prod(*[torch.arange(3)] * n)  # lost, wrong, right
    chance = torch.tensor([lost, (1 - lost) * (1 - p), (1 - lost) * p], dtype=torch.float64)[outcomes].prod(1)
    rewards = (outcomes == 2).double()
    found = groups.advantages(tables, rewards, outcomes > 0)
    slopes = torch.where(outcomes == 2, torch.tensor(1 / p, dtype=torch.float64), -1 / (1 - p))  # E[S | r] over grad p
    mean = float(chance @ (found * slopes).sum(1)) / n
    shares = {k: math.comb(n, k) * (1 - lost) ** k * lost ** (n - k) for k in range(n + 1)}
    assert mean == pytest.approx(float(exact.weight("maxrl_no_baseline", rollouts=shares, pass_rate=p)), rel=1e-12)
