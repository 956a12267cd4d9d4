"""What to change where a function cannot be audited as it is: hints for the shapes that people hand over."""

from collections.abc import Iterable

from maxrl_lab.errors import InputError

CRITIC = ("values", "dones", "next_value", "next_values", "last_value", "gamma", "lam", "terminated")
COMPLETIONS = ("completions", "completion", "solution_str", "ground_truth", "solution")
BATCHES = ("data", "batch", "samples", "sample", "trajectories", "trajectory_groups", "rollout_groups", "groups")
_NOT_NUMBERS = ("has no attribute", "not subscriptable", "too many indices", "indices must be", "valid indices")
"""Words of errors that come from taking a number for an object or a dictionary."""


def unknown(names: Iterable[str]) -> str:
    """Return how to give a value to arguments that the audit does not know, to be appended to their names."""
    names = list(names)
    if set(names) & set(CRITIC):
        return ": it asks a critic or looks at single steps, and the audit has a function of a group's rewards in mind"
    if set(names) & set(COMPLETIONS):
        return ": it makes rewards out of completions, and the audit asks what is made of the rewards"
    if names[:1] == ["self"]:
        return ": it is a method; audit that of a made object, lambda rewards: Trainer(...).advantages(rewards)"
    value = names[0]
    return f", which the audit cannot guess: --set {value}=VALUE, or in Python arguments={{{value!r}: VALUE}}"


def hint(names: Iterable[str], error: InputError | None) -> str:
    """Return what may be changed after a call has failed, to be appended to the error's message, or nothing."""
    first = next(iter(names), "")
    if first in COMPLETIONS:
        return unknown([first])
    if first in BATCHES or any(words in str(error) for words in _NOT_NUMBERS):
        return (
            "; if it takes a batch of a framework or rollouts with a reward, wrap it: "
            "lambda rewards: f([Rollout(reward=r) for r in rewards]), or f({'rewards': rewards})"
        )
    if "expected advantages of shape" in str(error):
        return "; if it returns several values, wrap it to return the advantages, as in lambda rewards: f(rewards)[1]"
    return ""
