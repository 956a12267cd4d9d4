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
from maxrl_lab.estimators import ESTIMATORS, GroupTooSmallError, check_rewards
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
        the prompt (verl's uid): rollouts with the same name, in any order, are a group. A row without any response
        token is padding or a rejected rollout: it gets zeros, and counts neither in K nor in N. `config` is verl's
        `algorithm` section.

        Groups of different sizes are refused, unless `algorithm.maxrl_lab.ragged` is `look_up` (each group by the table
        of its own n) or `zero` (the same, and zeros where n is too small for the estimator).

        Raises `InputError` for other rewards, groups of different sizes, groups too small for the estimator, a batch of
        groups of one if they teach it nothing, missing or unknown options, and settings in `config` that change the
        objective (`verl.config`).
        """
        if index is None:
            raise InputError(
                f"{PREFIX}{self.estimator} needs index, the prompt of every rollout (verl's uid), got None"
            )
        with torch.no_grad():
            groups = rows_of_prompts(index, response_mask)
            ragged = verl_config.ragged_of(config)
            if ragged == "refuse":
                check_equal_sizes(groups)
            rewards = outcome_rewards(token_level_rewards, [row for rows in groups.values() for row in rows])
            advantages = self._advantages(rewards, groups, config, ragged)
            on_tokens = advantages.unsqueeze(-1) * response_mask
        return on_tokens, on_tokens

    def _advantages(
        self, rewards: Tensor, groups: dict[Any, list[int]], config: Mapping[str, Any] | None, ragged: str
    ) -> Tensor:
        """Return advantages (rows,), 0 for padding: each group's by the table of its own n.

        Every group's estimate is divided by its own n and all groups count alike. verl divides by the number of rows,
        which is the number of groups times their mean size, hence the factor mean size / n.
        """
        advantages = torch.zeros_like(rewards, dtype=rewards.dtype if rewards.is_floating_point() else torch.float32)
        sizes = sorted({len(rows) for rows in groups.values()})
        mean_size = sum(map(len, groups.values())) / max(len(groups), 1)
        for size in sizes:
            labels = [label for label, rows in groups.items() if len(rows) == size]
            rows = torch.tensor([groups[label] for label in labels], dtype=torch.long, device=rewards.device)
            try:
                estimator = verl_config.estimator_of(self.estimator, config, size)
            except GroupTooSmallError as error:
                if ragged == "zero":
                    continue
                raise GroupTooSmallError(f"{error} of prompt {labels[0]!r}") from None
            verl_config.check_algorithm(estimator, config, size)
            if sizes == [1] and ragged == "refuse" and not estimator.coefficients(1)[0].any():
                raise InputError(
                    f"every prompt has one rollout, from which {estimator} learns nothing: "
                    "is rollout.n 1, or has every row a uid of its own?"
                )
            advantages[rows] = estimator(rewards[rows]).to(advantages) * (mean_size / size)
        return advantages


def rows_of_prompts(index: Any, response_mask: Tensor) -> dict[Any, list[int]]:
    """Return the row numbers of each prompt's rollouts, without rows that have no response token to learn from.

    Those are verl's padding, and rollouts that it has rejected. Raises `InputError` for a row with a response whose
    prompt is None or NaN: such rows would be groups of one.
    """
    labels = np.asarray(index).tolist()
    if len(labels) != len(response_mask):
        raise InputError(f"index must name the prompt of all {len(response_mask)} rollouts, got {len(labels)} names")
    groups: dict[Any, list[int]] = {}
    for row in response_mask.bool().any(-1).nonzero()[:, 0].tolist():
        label = labels[row]
        if label is None or label != label:  # NaN
            raise InputError(f"index must name the prompt of every rollout, got {label} at row {row}")
        groups.setdefault(label, []).append(row)
    return groups


def check_equal_sizes(groups: Mapping[Any, list[int]]) -> None:
    """Raise `InputError`, naming a small and a large one, for groups of different sizes."""
    if len({len(rows) for rows in groups.values()}) > 1:
        small, large = (extreme(groups, key=lambda label: len(groups[label])) for extreme in (min, max))
        raise InputError(
            f"every prompt must have the same number of rollouts, got {len(groups[small])} of prompt {small!r} and "
            f"{len(groups[large])} of prompt {large!r}: did rollouts fail, were some rejected, did one give several? "
            f"+algorithm.{verl_config.SECTION}.ragged=look_up takes every group at its own size"
        )


def outcome_rewards(token_level_rewards: Tensor, rows: list[int]) -> Tensor:
    """Return each row's reward, the sum over its tokens; `InputError` unless those of `rows` are 0 or 1."""
    rewards = token_level_rewards.sum(-1)
    try:
        if rows:
            check_rewards(rewards[rows])
    except InputError as error:
        raise InputError(
            f"{error}. A rollout's reward is the sum of its token_level_rewards: a KL penalty in the reward "
            "(algorithm.use_kl_in_reward), a length penalty or a bonus for the format makes it something else"
        ) from None
    return rewards
