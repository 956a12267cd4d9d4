"""The advantage functions of TRL and verl that the table lists, in its order."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from maxrl_lab.llm.frameworks import calls


@dataclass(frozen=True)
class Entry:
    """One function of the table, whose docstring names framework and setting."""

    function: Callable[[Tensor], Tensor]
    remark: str = ""
    """A sentence on what the audit cannot see."""


_BATCH_STD = (
    "Divides by a deviation over the whole batch, in a large batch nearly a constant: then about RL, its scale falling "
    "and rising with the batch's spread."
)
_ONE_SUCCESS = "Only a group with exactly one success moves the policy."

ENTRIES = (
    Entry(calls.trl_grpo),
    Entry(calls.trl_grpo_batch, _BATCH_STD),
    Entry(calls.trl_grpo_none),
    Entry(calls.trl_grpo_normalize_then_sum, "GRPO's advantages, divided by their deviation over the whole batch."),
    Entry(calls.trl_rloo),
    Entry(calls.trl_rloo_normalized, _BATCH_STD),
    Entry(calls.verl_grpo),
    Entry(calls.verl_grpo_no_std),
    Entry(calls.verl_grpo_vectorized),
    Entry(calls.verl_grpo_vectorized_no_std, "verl does not pass the setting on: same as the row above."),
    Entry(calls.verl_grpo_passk, _ONE_SUCCESS),
    Entry(calls.verl_grpo_passk_no_std, _ONE_SUCCESS),
    Entry(calls.verl_rloo),
    Entry(calls.verl_rloo_vectorized),
    Entry(
        calls.verl_reinforce_plus_plus,
        "Subtracts the batch's mean and divides by its deviation, both over tokens: in a large batch about RL, scaled.",
    ),
    Entry(calls.verl_reinforce_plus_plus_baseline, _BATCH_STD + " Over tokens."),
    Entry(calls.verl_opo, "Its baseline weights each reward with the response's length."),
    Entry(
        calls.verl_gpg,
        "Divides by the share of successes in the whole batch: in a large batch the log of the mean pass rate, not the "
        "mean of the logs. With one prompt per batch it is MaxRL's Algorithm 1.",
    ),
    Entry(calls.verl_remax, "RL with any baseline; the baseline is the reward of one more, greedy, rollout."),
)
