"""From the text on a command line to the function that is audited."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maxrl_lab import estimators
from maxrl_lab.errors import InputError


def load(target: str, rollouts: int) -> Callable[..., Any]:
    """Return the function that `target` names: `module:function`, or an estimator of the lab such as `pkpo:k=4`.

    What follows the colon decides: `grpo:ddof=1` is an estimator with an option, `grpo:advantages` is a function of a
    module, and a name without a colon is an estimator. Modules are looked for in the current folder first. Raises
    `InputError` if there is no such estimator, module or function.
    """
    name, _, rest = target.partition(":")
    if rest and "=" not in rest:
        return _function(target, name, rest)
    if name in estimators.ESTIMATORS:
        return estimators.resolve(target, rollouts)
    known = ", ".join(estimators.ESTIMATORS)
    raise InputError(f"unknown estimator {name!r}; choose one of: {known}; or name your own as module:function")


def _function(target: str, module: str, path: str) -> Callable[..., Any]:
    folder = str(Path.cwd())
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    try:
        function: Any = importlib.import_module(module)
        for part in path.split("."):
            function = getattr(function, part)
    except (Exception, SystemExit) as error:  # a user's module may do anything when it is imported
        expected = "module:function"
        if module in estimators.ESTIMATORS:
            expected += f", or {module}:option=value for the lab's estimator"
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"cannot load {target!r} (expected {expected}): {reason}") from None
    if not callable(function):
        raise InputError(f"{target!r} is a {type(function).__name__}, expected a function")
    return function  # type: ignore[no-any-return]
