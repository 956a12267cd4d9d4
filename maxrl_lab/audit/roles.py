"""What the arguments of an advantage function are, by their names: frameworks agree on few, and on these.

Each role turns the rewards of B groups of N rollouts, flat, into what the function expects under the argument's name.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

TOKENS = 2
"""Length of the responses that a token-level function is given; the reward stands at the last token."""


class Rollouts(NamedTuple):
    """B groups of N rollouts as a framework's function gets them, one row for each rollout."""

    rewards: Tensor
    """(B N,), float64."""
    groups: Tensor
    """(B N,), whole numbers: the id of each rollout's group."""
    kept: Tensor
    """(B N,), float64: 0 for a rollout that its mask leaves out, else 1."""
    size: int
    """N."""


Convert = Callable[[Tensor], Any]
"""From a tensor to the container in which the function wants its numbers."""
Role = Callable[[Rollouts, Convert], Any]

REWARDS = (
    "rewards", "reward", "scores", "score", "returns", "raw_rewards", "outcome_rewards", "group_rewards", "r",
    "reward_tensor", "rewards_tensor", "flat_rewards", "batch_rewards",
)  # fmt: skip
"""Names of the rewards, one for each rollout."""
TOKEN_REWARDS = ("token_level_rewards", "token_level_scores", "token_rewards", "rm_scores")
"""Names of rewards (rollouts, tokens), as verl has them."""
GROUPS = (
    "index", "uid", "uids", "group_ids", "group_id", "group_index", "group_indices", "groups", "ids", "prompt_ids",
    "prompt_id", "prompt_index", "prompt_indices", "prompt_uid", "prompt_uids", "problem_id", "problem_ids",
    "question_id", "question_ids", "qids", "example_ids", "task_id", "task_ids", "group_uids", "group_idx",
)  # fmt: skip
"""Names of the ids that say which rollouts form a group."""
SIZES = (
    "group_size", "num_generations", "n_generations", "num_rollouts", "n_rollouts", "rollouts", "n_samples",
    "num_samples", "n_samples_per_prompt", "num_samples_per_prompt", "samples_per_prompt", "samples_per_problem",
    "rollouts_per_prompt", "rollouts_per_example", "generations_per_prompt", "num_generations_per_prompt",
    "num_return_sequences", "rollout_n", "G", "rollouts_per_group", "samples_per_group", "rollout_per_prompt",
    "num_rollouts_per_prompt", "n_rollouts_per_prompt", "n_rollouts_per_example", "responses_per_prompt",
    "num_responses_per_prompt", "n_resp_per_prompt", "num_samples_per_prompt_rollout", "completions_per_prompt",
    "num_completions", "num_responses", "n_responses", "num_repeats", "group_n",
)  # fmt: skip
"""Names of the number N of rollouts in a group."""
BATCHES = ("num_prompts", "n_prompts", "num_groups", "n_groups", "num_problems")
"""Names of the number B of groups."""
TOKEN_MASKS = (
    "response_mask", "response_masks", "completion_mask", "completions_mask", "action_mask", "loss_mask", "eos_mask",
    "token_mask",
)  # fmt: skip
"""Names of a mask (rollouts, tokens)."""
MASKS = ("mask", "masks", "valid", "valid_mask", "is_valid", "keep", "keep_mask", "sample_mask", "rollout_mask")
"""Names of a mask (rollouts,): what is 0 or False is left out."""
EPSILONS = ("eps", "epsilon", "advantage_eps", "adv_eps", "eps_std", "std_eps", "norm_eps", "std_epsilon")
"""Names of what is added to a denominator."""
EPSILON = 1e-6
"""What the audit gives for it where the function has no default."""


def _tokens(values: Tensor, *, everywhere: bool) -> Tensor:
    """Return (rows, tokens) with a value at the last token of its row, or at every token."""
    rows = values[:, None] * torch.ones(TOKENS, dtype=values.dtype)
    return rows if everywhere else rows * torch.tensor([*[0.0] * (TOKENS - 1), 1.0], dtype=values.dtype)


def _reward_function(response: str, *_: Any, **__: Any) -> dict[str, float]:
    """Return the rewards of a "response", which is its reward as text."""
    return {name: float(response) for name in ("reward", "format_reward", "answer_reward")}


ROLES: dict[str, Role] = {
    **dict.fromkeys(REWARDS, lambda given, convert: convert(given.rewards)),
    **dict.fromkeys(TOKEN_REWARDS, lambda given, convert: convert(_tokens(given.rewards, everywhere=False))),
    **dict.fromkeys(GROUPS, lambda given, convert: convert(given.groups)),
    **dict.fromkeys(SIZES, lambda given, _: given.size),
    **dict.fromkeys(BATCHES, lambda given, _: len(given.rewards) // given.size),
    **dict.fromkeys(TOKEN_MASKS, lambda given, convert: convert(_tokens(given.kept, everywhere=True))),
    **dict.fromkeys(MASKS, lambda given, convert: convert(given.kept)),
    **dict.fromkeys(EPSILONS, lambda *_: EPSILON),
    "rewards_per_func": lambda given, convert: convert(given.rewards[:, None]),
    "reward_weights": lambda _, convert: convert(torch.ones(1, dtype=torch.float64)),
    "reward_fn": lambda *_: _reward_function,
    "rollout_responses": lambda given, _: [str(value) for value in given.rewards.tolist()],
    "repeated_ground_truths": lambda given, _: ["1.0"] * len(given.rewards),
}
"""Role of every name that is known. The last three are those of Stanford's CS336, assignment 5."""

ID_FORMS: dict[str, Convert] = {
    "ids as an array": lambda ids: ids.numpy().copy(),
    "ids as a tensor": lambda ids: ids.clone(),
    "ids as text": lambda ids: np.array([f"prompt {value}" for value in ids.tolist()], dtype=object),
    "ids as a list": lambda ids: ids.tolist(),
}
"""What group ids are handed over in, in the order in which the forms are tried. In a dictionary no two numbers of a
tensor are equal, so a tensor is not the first."""
