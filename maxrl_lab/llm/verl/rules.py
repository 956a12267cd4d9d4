"""verl's settings that silently change an estimator's objective: which values are harmless, and why others are not.

`config` judges a configuration by this table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
MISSING = object()
"""What `select` returns, if it is told to, for a key that a config lacks."""

EXACT_LOSSES = ("vanilla", "gpg", "gspo", "cispo", "dppo_tv", "dppo_kl", "kl_cov", "dro", "bypass_mode")
"""verl's policy losses whose on-policy gradient is advantage times score, for every token. (sapo and geo_mean divide by
the response's length whatever `loss_agg_mode` says; clip_cov drops tokens.)"""


@dataclass(frozen=True)
class Rule:
    """One setting, and its values under which the objective stays what the estimator says."""

    key: str
    is_fine: Callable[[Any, Mapping[str, Any]], bool]
    """Whether a value is harmless, given the whole config."""
    why: str
    """What another value does to the objective."""
    is_refused: bool = True
    """Whether another value is refused; if not, a note is made of it."""
    may_lack: bool = False
    """Whether verl's config may lack the key."""


def select(config: Any, key: str, default: Any = None) -> Any:
    """Return the value at a dotted key of nested mappings, or `default`."""
    for part in key.split("."):
        if not hasattr(config, "get"):
            return default
        config = config.get(part, MISSING)
        if config is MISSING:
            return default
    return config


def _off(value: Any, _: Mapping[str, Any]) -> bool:
    return not value


def _one(value: Any, _: Mapping[str, Any]) -> bool:
    return value is None or float(value) == 1.0


def _sums_tokens(mode: str, config: Mapping[str, Any]) -> bool:
    fixed_scale = mode == "seq-mean-token-sum-norm" and select(config, f"{_ACTOR}.loss_scale_factor")
    return mode in ("token-sum", "seq-mean-token-sum") or bool(fixed_scale)


RULES = (
    Rule("algorithm.use_kl_in_reward", _off, "the reward is then no longer 0 or 1"),
    Rule(
        "algorithm.rollout_correction.rollout_rs",
        _off,
        "rejected rollouts are left out of their groups, rejected tokens of their rollouts' scores",
    ),
    Rule(
        "algorithm.rollout_correction.rollout_is",
        _off,
        "importance weights are truncated, and 'token' ones are no weights of a rollout",
        is_refused=False,
    ),
    Rule(f"{_ACTOR}.use_kl_loss", _off, "adds a penalty to the objective; the paper uses none"),
    Rule(f"{_ACTOR}.entropy_coeff", _off, "adds a bonus to the objective; the paper uses none"),
    Rule(
        f"{_ACTOR}.loss_agg_mode",
        _sums_tokens,
        "divides by a number of tokens, which favours short right answers (`maxrl-lab run length_bias`); unbiased up "
        "to a constant: seq-mean-token-sum, token-sum, or seq-mean-token-sum-norm with loss_scale_factor set",
    ),
    Rule(
        f"{_ACTOR}.policy_loss.loss_mode",
        lambda value, _: value in EXACT_LOSSES,
        "its gradient is not advantage times score even on-policy; choose one of: " + ", ".join(EXACT_LOSSES),
    ),
    Rule(f"{ROLLOUT}.do_sample", lambda value, _: bool(value), "rollouts are then not sampled from the policy"),
    Rule(f"{ROLLOUT}.top_p", _one, "sampled from a truncated distribution, scored under the full one"),
    Rule(
        f"{ROLLOUT}.top_k",
        lambda value, _: value in (None, -1, 0),
        "sampled from a truncated distribution, scored under the full one",
    ),
    Rule(
        f"{ROLLOUT}.repetition_penalty",
        _one,
        "sampled from another distribution than the scored one",
        may_lack=True,
    ),
    Rule(f"{ROLLOUT}.temperature", lambda value, _: value > 0, "rollouts are then not sampled from the policy"),
    Rule(
        f"{ROLLOUT}.temperature",
        _one,
        "verl scores at this temperature too, so what improves is the policy at this temperature",
        is_refused=False,
    ),
    Rule(
        f"{_ACTOR}.ppo_epochs",
        _one,
        "every epoch after the first is off-policy; the paper is on-policy",
        is_refused=False,
    ),
    Rule(
        f"{_ACTOR}.ppo_mini_batch_size",
        lambda value, config: value >= select(config, "data.train_batch_size"),
        "below data.train_batch_size all but the first step on a batch are off-policy; the paper is on-policy",
        is_refused=False,
    ),
    Rule(
        "trainer.v1.trainer_mode",
        lambda value, _: value == "sync",
        "rollouts may come from an older policy; the paper is on-policy",
        is_refused=False,
    ),
)
"""The rules; their keys are those of verl's `ppo_trainer.yaml`."""

FILTER = "algorithm.filter_groups.enable"
"""The setting that drops groups whose rewards are all alike: harmless if the estimator gives those no gradient."""
