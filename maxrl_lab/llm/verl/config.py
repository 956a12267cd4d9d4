"""Does a configuration of verl 0.9 silently change the objective that an estimator was chosen for?

    python -m maxrl_lab.llm.verl.config OVERRIDES    # the arguments of verl.trainer.main_ppo: refuses, or says "ok"

verl shows an advantage function only its `algorithm` section, so this section is also checked at every step; the rest
(the actor's loss, the sampling) is checked only here, or where a training script calls `check_config`. Whoever means a
setting that is refused allows its key, in the call or in the config itself; the paper, for one, averages over tokens:

    '+algorithm.maxrl_lab.allow=[actor_rollout_ref.actor.loss_agg_mode]'
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.estimators import ESTIMATORS, Estimator, GroupTooSmallError, make
from maxrl_lab.llm import need
from maxrl_lab.llm.verl.rules import FILTER, MISSING, ROLLOUT, RULES, select
from maxrl_lab.runs.command_line import guarded

COMMAND = "python -m maxrl_lab.llm.verl.config"
PREFIX = "maxrl_lab/"
"""How every name of the lab in verl's table begins."""
SECTION = "maxrl_lab"
"""The key of verl's `algorithm` section that holds the estimator's options, `allow` and `ragged`."""
RAGGED = ("refuse", "look_up", "zero")
"""What may be done with groups of different sizes: `GroupAdvantages` says what each means."""


def check_config(config: Mapping[str, Any], allow: Iterable[str] = ()) -> tuple[str, ...]:
    """Return notes on verl's whole trainer config, one line each; raise `InputError` for what changes the objective.

    `allow` names keys that are knowingly set so, besides those of `algorithm.maxrl_lab.allow`. The error lists every
    refused setting with its reason. `InputError` is also raised for an estimator that is not the lab's, lacks an option
    or needs more than `rollout.n` rollouts, for an unknown key in `allow`, and for a config without one of the keys,
    which is another version of verl.
    """
    name = str(select(config, "algorithm.adv_estimator"))
    if not name.startswith(PREFIX):
        raise InputError(f"expected algorithm.adv_estimator={PREFIX}<estimator>, got {name!r}")
    rollouts = specs.check_count(f"{ROLLOUT}.n", select(config, f"{ROLLOUT}.n"))
    algorithm = select(config, "algorithm")
    estimator = estimator_of(name.removeprefix(PREFIX), algorithm, rollouts)
    missing = [rule.key for rule in RULES if not rule.may_lack and select(config, rule.key, MISSING) is MISSING]
    if missing:
        raise InputError(f"expected verl's trainer config (ppo_trainer), got one without {', '.join(missing)}")
    return _judge(estimator, config, rollouts, _allowed(algorithm, allow))


def check_algorithm(estimator: Estimator, algorithm: Mapping[str, Any] | None, rollouts: int) -> None:
    """Raise `InputError` for what changes the objective in verl's `algorithm` section, as far as it says."""
    if algorithm is not None:
        _judge(estimator, {"algorithm": algorithm}, rollouts, _allowed(algorithm, ()))


def _judge(estimator: Estimator, config: Mapping[str, Any], rollouts: int, allowed: frozenset[str]) -> tuple[str, ...]:
    """Return the notes and raise the refusals; keys that `config` lacks are passed over."""
    values = [(rule, select(config, rule.key, MISSING)) for rule in RULES if rule.key not in allowed]
    broken = [(rule, value) for rule, value in values if value is not MISSING and not rule.is_fine(value, config)]
    refused = [f"{rule.key}={value}: {rule.why}" for rule, value in broken if rule.is_refused]
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
    """Raise `InputError` unless `text` is an estimator's text form, whose options may still be missing."""
    specs.lookup(ESTIMATORS, "estimator", specs.parse(text, rollouts=1)[0])


def estimator_of(text: str, algorithm: Mapping[str, Any] | None, rollouts: int) -> Estimator:
    """Return the estimator of a text form with the options that `algorithm.maxrl_lab` adds, at N = `rollouts`.

    Raises `InputError` for an unknown, missing or doubled option, a bad value, and a group too small.
    """
    options = dict((algorithm or {}).get(SECTION) or {})
    for key in ("allow", "ragged"):
        options.pop(key, None)
    added = ",".join(f"{key}={value}" for key, value in options.items())
    try:
        name, parsed = specs.parse(text + (("," if ":" in text else ":") + added if added else ""), rollouts)
        estimator = make(name, **parsed)
        estimator.coefficients(rollouts)
    except GroupTooSmallError:
        raise
    except InputError as error:
        raise InputError(f"{error} (options are keys of verl's config: +algorithm.{SECTION}.k=4)") from None
    return estimator


def ragged_of(algorithm: Mapping[str, Any] | None) -> str:
    """Return what `algorithm.maxrl_lab.ragged` says of groups of different sizes, by default `refuse`."""
    ragged = str(((algorithm or {}).get(SECTION) or {}).get("ragged", RAGGED[0]))
    specs.lookup(dict.fromkeys(RAGGED), f"value of algorithm.{SECTION}.ragged", ragged)
    return ragged


def compose(overrides: Sequence[str]) -> Mapping[str, Any]:
    """Return the config of `python -m verl.trainer.main_ppo OVERRIDES`; `InputError` if verl takes no such settings."""
    hydra = need("hydra")
    need("verl.trainer.config")
    with hydra.initialize_config_module(version_base=None, config_module="verl.trainer.config"):
        try:
            config: Mapping[str, Any] = hydra.compose("ppo_trainer", overrides=list(overrides))
        except Exception as error:  # hydra's and omegaconf's errors share no class
            raise InputError(f"verl's config does not take these settings: {error}") from None
    return config


def main(overrides: Sequence[str]) -> int:
    """Print the notes and "ok"; raise `InputError` for what is refused."""
    if not overrides or overrides[0] in ("-h", "--help"):
        print(f"usage: {COMMAND} OVERRIDES; OVERRIDES are the arguments of verl.trainer.main_ppo")
        return 0 if overrides else 2
    notes = check_config(compose(overrides))
    print("\n".join([*(f"note: {note}" for note in notes), "ok"]))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
