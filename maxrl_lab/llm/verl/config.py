"""Which settings of verl 0.9 silently change the objective that an estimator was chosen for?

    python -m maxrl_lab.llm.verl_config OVERRIDES    # the arguments of verl.trainer.main_ppo: refuses, or says "ok"

verl shows an advantage function only its `algorithm` section, so this part is also checked at every step; the rest
(the actor's loss, the sampling) only here, or where a training script calls `check_config`. What is knowingly asked
for is allowed by its key, in the call or in the config itself; the paper, for one, averages over tokens:

    '+algorithm.maxrl_lab.allow=[actor_rollout_ref.actor.loss_agg_mode]'
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.estimators import ESTIMATORS, Estimator, make
from maxrl_lab.llm import need

PREFIX = "maxrl_lab/"
"""What every name of the lab in verl's table starts with."""
SECTION = "maxrl_lab"
"""The key of verl's `algorithm` section with the estimator's options and `allow`."""
_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"

EXACT_LOSSES = ("vanilla", "gpg", "gspo", "cispo", "dppo_tv", "dppo_kl", "kl_cov", "dro", "bypass_mode")
"""verl's policy losses whose on-policy gradient is advantage times score, for every token. (sapo and geo_mean divide by
the response's length whatever `loss_agg_mode` says; clip_cov drops tokens.)"""


@dataclass(frozen=True)
class Rule:
    """One setting, and the values of it under which the objective stays what the estimator says."""

    key: str
    fine: Callable[[Any, Mapping[str, Any]], bool]
    """Is this value harmless, in this whole config?"""
    why: str
    refuse: bool = True
    """Whether another value is refused; else it is only noted."""
    optional: bool = False
    """Whether verl's config may lack the key."""


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
        "rejected rollouts count as successes or failures but give no gradient",
    ),
    Rule(
        "algorithm.rollout_correction.rollout_is",
        _off,
        "importance weights are truncated, and 'token' ones are no weights of a rollout",
        refuse=False,
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
    Rule(f"{_ROLLOUT}.do_sample", lambda value, _: bool(value), "rollouts are then not sampled from the policy"),
    Rule(f"{_ROLLOUT}.top_p", _one, "sampled from a truncated distribution, scored under the full one"),
    Rule(
        f"{_ROLLOUT}.top_k",
        lambda value, _: value in (None, -1, 0),
        "sampled from a truncated distribution, scored under the full one",
    ),
    Rule(
        f"{_ROLLOUT}.repetition_penalty",
        _one,
        "sampled from another distribution than the scored one",
        optional=True,
    ),
    Rule(f"{_ROLLOUT}.temperature", lambda value, _: value > 0, "rollouts are then not sampled from the policy"),
    Rule(
        f"{_ROLLOUT}.temperature",
        _one,
        "verl scores at this temperature too, so what improves is the policy at this temperature",
        refuse=False,
    ),
    Rule(
        f"{_ACTOR}.ppo_epochs", _one, "every epoch after the first is off-policy; the paper is on-policy", refuse=False
    ),
    Rule(
        f"{_ACTOR}.ppo_mini_batch_size",
        lambda value, config: value >= select(config, "data.train_batch_size"),
        "below data.train_batch_size all but the first step on a batch are off-policy; the paper is on-policy",
        refuse=False,
    ),
    Rule(
        "trainer.v1.trainer_mode",
        lambda value, _: value == "sync",
        "rollouts may come from an older policy; the paper is on-policy",
        refuse=False,
    ),
)
"""The table of settings; keys as in verl's `ppo_trainer.yaml`."""

FILTER = "algorithm.filter_groups.enable"
"""Judged by the estimator: dropping groups whose advantages are all 0 changes nothing."""


def check_config(config: Mapping[str, Any], allow: Iterable[str] = ()) -> tuple[str, ...]:
    """Return notes on verl's whole trainer config, one line each; raise `ValueError` for what changes the objective.

    `allow` names keys that are knowingly set so, besides those of `algorithm.maxrl_lab.allow`. The error lists every
    refused setting with its reason. Also refused: an estimator that is not the lab's, lacks an option or needs more
    than `rollout.n` rollouts, an unknown key in `allow`, and a config without one of the keys (another version of
    verl).
    """
    name = str(select(config, "algorithm.adv_estimator"))
    if not name.startswith(PREFIX):
        raise InputError(f"expected algorithm.adv_estimator={PREFIX}<estimator>, got {name!r}")
    rollouts = specs.check_count(f"{_ROLLOUT}.n", select(config, f"{_ROLLOUT}.n"))
    algorithm = select(config, "algorithm")
    estimator = estimator_of(name.removeprefix(PREFIX), algorithm, rollouts)
    missing = [rule.key for rule in RULES if not rule.optional and select(config, rule.key, _MISSING) is _MISSING]
    if missing:
        raise InputError(f"expected verl's trainer config (ppo_trainer), got one without {', '.join(missing)}")
    return _judge(estimator, config, rollouts, _allowed(algorithm, allow))


def check_algorithm(estimator: Estimator, algorithm: Mapping[str, Any] | None, rollouts: int) -> None:
    """Raise `ValueError` for what changes the objective in verl's `algorithm` section, as far as it says."""
    if algorithm is not None:
        _judge(estimator, {"algorithm": algorithm}, rollouts, _allowed(algorithm, ()))


def _judge(estimator: Estimator, config: Mapping[str, Any], rollouts: int, allowed: frozenset[str]) -> tuple[str, ...]:
    """Return the notes, raise the refusals; keys that `config` lacks are passed over."""
    values = [(rule, select(config, rule.key, _MISSING)) for rule in RULES if rule.key not in allowed]
    broken = [(rule, value) for rule, value in values if value is not _MISSING and not rule.fine(value, config)]
    refused = [f"{rule.key}={value}: {rule.why}" for rule, value in broken if rule.refuse]
    if FILTER not in allowed and select(config, FILTER, False) and _moves_at_the_edges(estimator, rollouts):
        refused.append(f"{FILTER}=True: drops groups in which {estimator} has a gradient (all wrong or all right)")
    if refused:
        lines = "\n  ".join(refused)
        raise InputError(
            f"these settings of verl change the objective of {estimator}; set them otherwise or allow their keys "
            f"(algorithm.{SECTION}.allow):\n  {lines}"
        )
    return tuple(f"{rule.key}={value}: {rule.why}" for rule, value in broken)


def _moves_at_the_edges(estimator: Estimator, rollouts: int) -> bool:
    success, failure = estimator.coefficients(rollouts)
    return bool(failure[0] != 0 or success[-1] != 0)


def _allowed(algorithm: Mapping[str, Any], allow: Iterable[str]) -> frozenset[str]:
    allowed = frozenset(allow) | frozenset((algorithm.get(SECTION) or {}).get("allow") or ())
    known = [*dict.fromkeys(rule.key for rule in RULES), FILTER]
    for key in sorted(allowed.difference(known)):
        raise InputError(f"cannot allow {key!r}; choose from: {', '.join(known)}")
    return allowed


def check_name(text: str) -> None:
    """Raise `ValueError` unless `text` is an estimator's text form, whose options may still be missing."""
    specs.lookup(ESTIMATORS, "estimator", specs.parse(text, rollouts=1)[0])


def estimator_of(text: str, algorithm: Mapping[str, Any] | None, rollouts: int) -> Estimator:
    """Return the estimator of a text form with the options that `algorithm.maxrl_lab` adds, at N = `rollouts`.

    Raises `ValueError` for an unknown, missing or doubled option, a bad value, and a group too small.
    """
    options = dict((algorithm or {}).get(SECTION) or {})
    options.pop("allow", None)
    added = ",".join(f"{key}={value}" for key, value in options.items())
    try:
        name, parsed = specs.parse(text + (("," if ":" in text else ":") + added if added else ""), rollouts)
        estimator = make(name, **parsed)
        estimator.coefficients(rollouts)
    except ValueError as error:
        raise InputError(f"{error} (options are keys of verl's config: +algorithm.{SECTION}.k=4)") from None
    return estimator


_MISSING = object()


def select(config: Any, key: str, default: Any = None) -> Any:
    """Return the value at a dotted key of nested mappings, or `default`."""
    for part in key.split("."):
        if not hasattr(config, "get"):
            return default
        config = config.get(part, _MISSING)
        if config is _MISSING:
            return default
    return config


def compose(overrides: Sequence[str]) -> Mapping[str, Any]:
    """Return the config of `python -m verl.trainer.main_ppo OVERRIDES`; `ValueError` if verl takes no such settings."""
    hydra = need("hydra", "verl")
    need("verl.trainer.config", "verl")
    with hydra.initialize_config_module(version_base=None, config_module="verl.trainer.config"):
        try:
            config: Mapping[str, Any] = hydra.compose("ppo_trainer", overrides=list(overrides))
        except Exception as error:  # hydra's and omegaconf's errors share no class
            raise InputError(f"verl's config does not take these settings: {error}") from None
    return config


def main(overrides: Sequence[str]) -> int:
    """Print the notes, or on stderr what is refused; return the exit status."""
    try:
        notes = check_config(compose(overrides))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join([*(f"note: {note}" for note in notes), "ok"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
