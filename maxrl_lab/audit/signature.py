"""A function of several arguments as a function of rewards alone: its arguments are recognised by their names.

def advantages(rewards, group_ids): ...                                        # ids say who forms a group
def advantages(rewards, num_generations): ...                                  # TRL: groups follow one another
def advantages(rewards, mask): ...                                             # a mask leaves rollouts out
def advantages(token_level_rewards, response_mask, index, config=None): ...    # verl
"""

import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import calling
from maxrl_lab.audit import hints, roles
from maxrl_lab.audit.roles import Convert, Rollouts
from maxrl_lab.errors import InputError
from maxrl_lab.estimators import CountEstimator
from maxrl_lab.probe import Probe, name_of, probe

_FLAT_LIST = re.compile(r"(list|sequence|iterable|tuple)\[(float|int|bool|number)(, ?\.\.\.)?\]")
_NESTED_LIST = re.compile(r"(list|sequence|iterable)\[(list|sequence|iterable)\[(float|int|bool|number)\]\]")


@dataclass(frozen=True)
class Call:
    """A function of several arguments with the forms in which it is given them; it is called with rewards alone."""

    function: Callable[..., Any]
    names: tuple[str, ...]
    """Arguments that the audit makes out of the rewards."""
    values: Mapping[str, Any]
    """Arguments that the user has set."""
    positional: frozenset[str]
    """Arguments that cannot be given by name."""
    flat: bool
    """Whether the rewards of B groups are given as (B N,), or as they come."""
    ids: str = "ids as an array"
    truth: bool = False
    """Whether a mask holds True and False, or 1 and 0."""

    @property
    def __name__(self) -> str:
        return name_of(self.function)

    def __call__(self, rewards: Any) -> Any:
        """Return the advantages of rewards (N,) or (B, N) in any container of `calling.CONTAINERS`."""
        values = torch.as_tensor(rewards, dtype=torch.float64)
        count = values.shape[-1]
        groups = torch.arange(values.numel() // max(count, 1)).repeat_interleave(count)
        kept = torch.ones(values.numel(), dtype=torch.float64)
        return self.ask(Rollouts(values.flatten(), groups, kept, count), _container_of(rewards), values.shape)

    def ask(self, given: Rollouts, container: str, shape: torch.Size | None = None) -> Any:
        """Return the function's answer for the rollouts, in the shape (B N,) or the one given."""
        rows = given.rewards.shape
        laid_out = rows if self.flat or shape is None else shape
        arguments = {name: self._made(name, given, container, laid_out) for name in self.names} | dict(self.values)
        ordered = [arguments.pop(name) for name in tuple(arguments) if name in self.positional]
        return _answer(self.function(*ordered, **arguments), given.rewards, shape or rows)

    def _made(self, name: str, given: Rollouts, container: str, shape: torch.Size) -> Any:
        convert = calling.CONTAINERS[container]
        role = roles.ROLES.get(name, roles.ROLES["rewards"])  # the first argument, whatever it is called
        if name in roles.GROUPS:
            convert = roles.ID_FORMS[self.ids]
        elif name in (*roles.MASKS, *roles.TOKEN_MASKS):
            convert = _masks(convert, shape if name in roles.MASKS else None, self.truth)
        elif name not in (*roles.TOKEN_REWARDS, "rewards_per_func", "reward_weights"):
            convert = _reshaped(convert, shape)
        return role(given, convert)


def probe_call(
    function: Callable[..., Any], rollouts: int, batched: bool | None, arguments: Mapping[str, Any]
) -> Probe:
    """Return the first way to call a function of one or several arguments with the rewards of a group.

    `arguments` are the user's. Raises `InputError` if no way works, with what to change where that can be told.
    """
    parameters = _parameters(function)
    forms = _by_annotation(parameters) if batched is None else batched
    failure: InputError | None = None
    for call in _calls(function, parameters, arguments):
        try:
            return probe(call, rollouts, forms)
        except InputError as error:
            failure = failure or error
    raise InputError(f"{failure}{hints.hint(parameters, failure)}")


def describe(probed: Probe) -> str:
    """Return how a function is called, for a report."""
    if isinstance(probed.function, CountEstimator):
        return ""
    rewards = f"rewards {'(B, N)' if probed.batched else '(N,)'} in a {probed.container}"
    call = probed.function
    if not isinstance(call, Call):
        return rewards
    made = [f"{name} ({call.ids})" if name in roles.GROUPS else name for name in call.names]
    given = [f"{name}={value!r}" for name, value in call.values.items()]
    return f"{rewards}, as the arguments {', '.join([*made, *given])}"


def _calls(
    function: Callable[..., Any], parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any]
) -> Iterator[Callable[..., Any]]:
    names = _made_names(function, parameters, arguments)
    if not arguments and len(names) <= 1 and not set(names) & {*roles.TOKEN_REWARDS, "rewards_per_func"}:
        yield function
        return
    positional = frozenset(
        name for name in (*names, *arguments) if parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY
    )
    by_row = bool({*roles.GROUPS, *roles.SIZES, *roles.TOKEN_REWARDS, *roles.TOKEN_MASKS} & set(names))
    ids = tuple(roles.ID_FORMS) if set(roles.GROUPS) & set(names) else ("ids as an array",)
    truths = (False, True) if {*roles.MASKS, *roles.TOKEN_MASKS} & set(names) else (False,)
    for flat, form, truth in itertools.product((True,) if by_row else (False, True), ids, truths):
        yield Call(function, tuple(names), dict(arguments), positional, flat, form, truth)


def _made_names(
    function: Callable[..., Any], parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any]
) -> list[str]:
    """Return the arguments to make: the rewards, what has no default, and the size of the group, default or not."""
    for name in arguments:
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise InputError(f"{name_of(function)} has no argument {name!r}; its arguments: {known}")
    needed = [
        name
        for name, parameter in parameters.items()
        if name not in arguments
        and (parameter.default is parameter.empty or name in (*roles.SIZES, *roles.GROUPS, *roles.BATCHES))
    ]
    rewards = next((name for name in needed if name in (*roles.REWARDS, *roles.TOKEN_REWARDS)), None)
    unknown = [name for name in needed if name not in roles.ROLES]
    if rewards is None and "reward_fn" not in needed and "rewards_per_func" not in needed:
        unknown = [name for name in unknown if name != needed[0]]  # the first are the rewards, whatever their name
    if unknown and (len(needed) > 1 or arguments):
        raise InputError(f"{name_of(function)} needs {_listed(unknown)}{hints.unknown(unknown)}")
    return needed


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function of C, perhaps
        return {}
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: parameter for name, parameter in parameters.items() if parameter.kind not in several}


def _by_annotation(parameters: Mapping[str, inspect.Parameter]) -> bool | None:
    """Return what the annotation of the first argument says: False for a list of numbers, which is one group, True for
    a list of lists, and None for anything else or where other arguments say what a group is.
    """
    if not parameters or {*roles.GROUPS, *roles.SIZES} & set(parameters):
        return None
    annotation = next(iter(parameters.values())).annotation
    shown = annotation.__name__ if isinstance(annotation, type) and "[" not in str(annotation) else str(annotation)
    shown = shown.replace("typing.", "").replace("collections.abc.", "").lower()
    if _FLAT_LIST.fullmatch(shown):
        return False
    return True if _NESTED_LIST.fullmatch(shown) else None


def _container_of(rewards: Any) -> str:
    """Return the name of the container that rewards have come in."""
    if isinstance(rewards, Tensor):
        kinds = {torch.float64: "float64", torch.float32: "float32", torch.int64: "whole-number"}
        return f"{kinds.get(rewards.dtype, 'true-or-false')} tensor"
    if isinstance(rewards, np.ndarray):
        return {"f": "array", "i": "whole-number array"}.get(rewards.dtype.kind, "true-or-false array")
    leaf = rewards
    while isinstance(leaf, list):
        leaf = leaf[0]
    return "list" if isinstance(leaf, float) else "whole-number list"


def _reshaped(convert: Convert, shape: torch.Size) -> Convert:
    return lambda values: convert(values.reshape(shape))


def _masks(convert: Convert, shape: torch.Size | None, truth: bool) -> Convert:
    def made(values: Tensor) -> Any:
        mask = values if shape is None else values.reshape(shape)
        shown = convert(mask)
        if not truth:
            return shown
        return (
            [[bool(value) for value in row] if isinstance(row, list) else bool(row) for row in shown]
            if isinstance(shown, list)
            else (shown > 0)
        )

    return made


def _answer(answer: Any, rewards: Tensor, shape: torch.Size) -> Any:
    """Return an answer with its advantages in the shape of the rewards; what is no advantages, as it is."""
    if calling.is_several(answer):
        return tuple(_answer(item, rewards, shape) for item in answer)
    try:
        value = calling.unwrapped(answer)
        advantages = calling.shaped(calling.as_tensor(value).detach(), rewards).reshape(shape)
    except Exception:  # metrics, or an answer whose fault is named by whoever reads it
        return answer
    return advantages.tolist() if isinstance(value, list) else advantages


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))
