"""The lab's estimators as advantage functions of verl 0.9: `algorithm.adv_estimator=maxrl_lab/maxrl_leave_one_out`.

    pip install -e '.[verl]'     # verl finds `maxrl_lab.llm.verl.plugin` by itself, in Ray's processes too
    python -m verl.trainer.main_ppo algorithm.adv_estimator=maxrl_lab/pkpo +algorithm.maxrl_lab.k=4 ...

An estimator's options are keys of `algorithm.maxrl_lab`; a value may be relative to the group: `order=N-1`. The paper
(arXiv:2602.02710v1) trains on-policy, without KL penalty and without entropy bonus; `python -m
maxrl_lab.llm.verl.config` says before a run which of verl's other settings change the objective.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.estimators import ESTIMATORS, check_rewards
from maxrl_lab.llm import need
from maxrl_lab.llm.verl import config as verl_config

PREFIX = verl_config.PREFIX


def register(*estimators: str) -> tuple[str, ...]:
    """Register estimators, by default all, in verl's table of this process; return their names there.

    A text form such as `pkpo:k=4` becomes `maxrl_lab/pkpo:k=4`. Doing it twice changes nothing. Raises `InputError` for
    an unknown name, or if verl is not installed.
    """
    functions = [GroupAdvantages(text) for text in estimators or ESTIMATORS]
    core = need("verl.trainer.ppo.core_algos")
    for function in functions:
        core.register_adv_est(PREFIX + function.estimator)(function)
    return tuple(PREFIX + function.estimator for function in functions)


@dataclass(frozen=True)
class GroupAdvantages:
    """One estimator, callable as verl calls advantage functions. Two with the same text form are equal."""

    estimator: str
    """The estimator as text, `maxrl` or `pkpo:k=4`; options may also come with each call, in `config.maxrl_lab`."""

    def __post_init__(self) -> None:
        """Check the name."""
        verl_config.check_name(self.estimator)

    def __call__(
        self,
        token_level_rewards: Tensor,
        response_mask: Tensor,
        index: Any = None,
        config: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        """Return (advantages, returns), one tensor twice, (rows, T): a rollout's advantage on each of its tokens.

        `token_level_rewards` (rows, T), summed over T, must be 0 or 1; `response_mask` (rows, T); `index` (rows,) names
        the prompt (verl's uid): rollouts with the same name, in any order, are a group. A group without any response
        token is verl's padding and gets zeros. `config` is verl's `algorithm` section.

        Raises `InputError` for other rewards, groups of different sizes, groups too small for the estimator, missing
        or unknown options, and settings in `config` that change the objective (`verl.config`).
        """
        if index is None:
            raise InputError(
                f"{PREFIX}{self.estimator} needs index, the prompt of every rollout (verl's uid), got None"
            )
        with torch.no_grad():
            rows = group_rows(index, response_mask)
            advantages = torch.zeros(response_mask.shape[:1], device=response_mask.device)
            if len(rows):
                rewards = outcome_rewards(token_level_rewards, rows)
                estimator = verl_config.estimator_of(self.estimator, config, rows.shape[1])
                verl_config.check_algorithm(estimator, config, rows.shape[1])
                advantages = advantages.to(rewards.dtype)
                advantages[rows] = estimator(rewards)
            on_tokens = advantages.unsqueeze(-1) * response_mask
        return on_tokens, on_tokens


def group_rows(index: Any, response_mask: Tensor) -> Tensor:
    """Return the row numbers of each prompt's rollouts, (B, N), without verl's padding.

    Raises `InputError` if the groups are not of equal size.
    """
    labels = np.asarray(index).tolist()
    if len(labels) != len(response_mask):
        raise InputError(f"index must name the prompt of all {len(response_mask)} rollouts, got {len(labels)} names")
    groups: dict[Any, list[int]] = {}
    for row, label in enumerate(labels):
        groups.setdefault(label, []).append(row)
    answered = response_mask.bool().any(-1).tolist()
    real = {label: rows for label, rows in groups.items() if any(answered[row] for row in rows)}
    if len({len(rows) for rows in real.values()}) > 1:
        small, large = (extreme(real, key=lambda label: len(real[label])) for extreme in (min, max))
        raise InputError(
            f"every prompt must have the same number of rollouts, got {len(real[small])} of prompt {small!r} and "
            f"{len(real[large])} of prompt {large!r}: did rollouts fail, or did one give several outputs?"
        )
    return torch.tensor(list(real.values()), dtype=torch.long, device=response_mask.device)


def outcome_rewards(token_level_rewards: Tensor, rows: Tensor) -> Tensor:
    """Return each rollout's reward, (B, N): the sum over its tokens; `InputError` unless all are 0 or 1."""
    try:
        return check_rewards(token_level_rewards.sum(-1)[rows])
    except InputError as error:
        raise InputError(
            f"{error}. A rollout's reward is the sum of its token_level_rewards: a KL penalty in the reward "
            "(algorithm.use_kl_in_reward), a length penalty or a bonus for the format makes it something else"
        ) from None
