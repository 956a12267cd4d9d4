"""TRL's and verl's own advantage code as functions from rewards to advantages, so that `audit` can question it.

Nothing is copied: the installed method or function runs, on one-token rollouts whose rewards are given. Each function
takes the rewards (N,) of one group or (B, N) of a batch and returns advantages of that shape, as its framework would;
its docstring names the framework and the setting, and is its row's name in `table`. Each can be audited alone:

    maxrl-lab audit maxrl_lab.llm.frameworks.calls:verl_grpo --rollouts 8

Raises `InputError` where TRL or verl is not installed or its internals are no longer those of TRL 1.16 and verl 0.9.
"""

import functools
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.llm import need


def _trl(rewards: Tensor, trainer_name: str, **settings: Any) -> Tensor:
    """Run a TRL trainer's `_generate_and_score_completions`, in which its advantages are computed inline.

    The method gets, instead of a trainer with a model, an object with only what it reads: `_generate` "samples" one
    token per prompt, and `_calculate_rewards` returns the given rewards. Every line in between is TRL's.
    """
    trainer = getattr(need("trl"), trainer_name)
    rollouts, count = rewards.shape[-1], rewards.numel()
    tokens = [[1]] * count  # token 1, which is not the padding token 0
    outputs: dict[str, tuple[Any, ...]] = {
        "GRPOTrainer": (tokens, tokens, None, [""] * count, None, {}, None, None),
        "RLOOTrainer": (tokens, tokens, [""] * count),
    }
    stand_in = SimpleNamespace(
        **_TRAINER,
        accelerator=SimpleNamespace(device=rewards.device, process_index=0, gather=lambda value: value),
        num_generations=rollouts,
        reward_weights=torch.ones(1),
        _metrics={"train": defaultdict(list)},
        _logs=defaultdict(list, rewards=defaultdict(list)),
        _pending_extra_logs={},
        _pending_metrics={},
        _generate=lambda _: outputs[trainer_name],
        _calculate_rewards=lambda *_: rewards.float().reshape(count, 1),
        _get_per_token_logps_and_entropies=lambda *_, **__: (torch.zeros(count, 1), None, None),
        **settings,
    )
    try:
        scored = trainer._generate_and_score_completions(stand_in, [{"prompt": "x"}] * count)
        advantages: Tensor = scored["advantages"]
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{trainer_name} is no longer that of TRL 1.16, which this runs: {error!r}") from error
    return advantages.reshape(rewards.shape)


_TRAINER: dict[str, Any] = {
    "model": SimpleNamespace(training=True, is_gradient_checkpointing=False),
    "args": SimpleNamespace(
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        gradient_checkpointing_kwargs=None,
        report_to=[],
    ),
    "environment_factories": None,
    "environments": None,
    "tools": None,
    "_tokenizer": SimpleNamespace(pad_token_id=0),
    "pad_to_multiple_of": None,
    "mask_truncated_completions": False,
    "use_vllm": False,
    "num_iterations": 1,
    "beta": 0.0,
    "reward_funcs": [None],
    "reward_func_names": ["given"],
    "reward_clip_range": None,
    "log_multimodal": False,
}
"""The defaults of the trainer's settings that the method reads: text only, no tools, no KL penalty."""


def _trl_grpo(rewards: Tensor, scale_rewards: str, aggregation: str = "sum_then_normalize") -> Tensor:
    return _trl(rewards, "GRPOTrainer", scale_rewards=scale_rewards, multi_objective_aggregation=aggregation)


def trl_grpo(rewards: Tensor) -> Tensor:
    """TRL GRPOTrainer, scale_rewards=group (default)"""
    return _trl_grpo(rewards, "group")


def trl_grpo_batch(rewards: Tensor) -> Tensor:
    """TRL GRPOTrainer, scale_rewards=batch"""
    return _trl_grpo(rewards, "batch")


def trl_grpo_none(rewards: Tensor) -> Tensor:
    """TRL GRPOTrainer, scale_rewards=none (Dr. GRPO)"""
    return _trl_grpo(rewards, "none")


def trl_grpo_normalize_then_sum(rewards: Tensor) -> Tensor:
    """TRL GRPOTrainer, multi_objective_aggregation=normalize_then_sum, one reward function (GDPO)"""
    return _trl_grpo(rewards, "group", "normalize_then_sum")


def trl_rloo(rewards: Tensor) -> Tensor:
    """TRL RLOOTrainer (default)"""
    return _trl(rewards, "RLOOTrainer", normalize_advantages=False)


def trl_rloo_normalized(rewards: Tensor) -> Tensor:
    """TRL RLOOTrainer, normalize_advantages=True"""
    return _trl(rewards, "RLOOTrainer", normalize_advantages=True)


@functools.cache
def _compute_advantage() -> Any:
    """Return verl's dispatcher; it is cached because a failed import of it takes seconds each time."""
    return need("verl.trainer.ppo.ray_trainer").compute_advantage


def _verl(rewards: Tensor, name: str, normalize: bool = True, baseline: float | None = None) -> Tensor:
    """Run verl's `compute_advantage`, as its trainer does, on one-token responses."""
    groups = rewards.reshape(-1, rewards.shape[-1])
    tensors = {
        "token_level_rewards": rewards.float().reshape(-1, 1),
        "response_mask": torch.ones(rewards.numel(), 1),
    }
    if baseline is not None:
        tensors["reward_baselines"] = torch.full((rewards.numel(),), baseline)
    uids = np.repeat(np.array([f"prompt {row}" for row in range(len(groups))], dtype=object), groups.shape[1])
    compute, config = _compute_advantage(), need("verl.trainer.config").AlgoConfig
    data = need("verl").DataProto.from_dict(tensors=tensors, non_tensors={"uid": uids})
    settings = config(adv_estimator=name, norm_adv_by_std_in_grpo=normalize)
    scored = compute(data, adv_estimator=name, norm_adv_by_std_in_grpo=normalize, config=settings)
    advantages: Tensor = scored.batch["advantages"]
    return advantages.reshape(rewards.shape)


def verl_grpo(rewards: Tensor) -> Tensor:
    """verl grpo (default)"""
    return _verl(rewards, "grpo")


def verl_grpo_no_std(rewards: Tensor) -> Tensor:
    """verl grpo, norm_adv_by_std_in_grpo=False (Dr. GRPO)"""
    return _verl(rewards, "grpo", normalize=False)


def verl_grpo_vectorized(rewards: Tensor) -> Tensor:
    """verl grpo_vectorized (default)"""
    return _verl(rewards, "grpo_vectorized")


def verl_grpo_vectorized_no_std(rewards: Tensor) -> Tensor:
    """verl grpo_vectorized, norm_adv_by_std_in_grpo=False"""
    return _verl(rewards, "grpo_vectorized", normalize=False)


def verl_grpo_passk(rewards: Tensor) -> Tensor:
    """verl grpo_passk (default)"""
    return _verl(rewards, "grpo_passk")


def verl_grpo_passk_no_std(rewards: Tensor) -> Tensor:
    """verl grpo_passk, norm_adv_by_std_in_grpo=False"""
    return _verl(rewards, "grpo_passk", normalize=False)


def verl_rloo(rewards: Tensor) -> Tensor:
    """verl rloo"""
    return _verl(rewards, "rloo")


def verl_rloo_vectorized(rewards: Tensor) -> Tensor:
    """verl rloo_vectorized"""
    return _verl(rewards, "rloo_vectorized")


def verl_reinforce_plus_plus(rewards: Tensor) -> Tensor:
    """verl reinforce_plus_plus, responses of one length"""
    return _verl(rewards, "reinforce_plus_plus")


def verl_reinforce_plus_plus_baseline(rewards: Tensor) -> Tensor:
    """verl reinforce_plus_plus_baseline, responses of one length"""
    return _verl(rewards, "reinforce_plus_plus_baseline")


def verl_opo(rewards: Tensor) -> Tensor:
    """verl opo, responses of one length"""
    return _verl(rewards, "opo")


def verl_gpg(rewards: Tensor) -> Tensor:
    """verl gpg"""
    return _verl(rewards, "gpg")


def verl_remax(rewards: Tensor) -> Tensor:
    """verl remax, greedy rollout right (baseline 1)"""
    return _verl(rewards, "remax", baseline=1.0)
