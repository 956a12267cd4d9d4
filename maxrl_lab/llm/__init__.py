"""The same estimators inside the trainers of language models, TRL and verl; needs the extra `llm` (`verl` for verl)."""

import importlib
import os
from types import ModuleType

from maxrl_lab.errors import InputError

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # training tells nobody; read when the hub's client is imported


def need(module: str, extra: str = "llm") -> ModuleType:
    """Return the imported module; `ValueError` names the pip command if the extra is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise missing(error, extra) from None


def missing(error: ModuleNotFoundError, extra: str = "llm") -> InputError:
    """Return the one-line error for a package that an extra brings."""
    by_make = " (make llm)" if extra == "llm" else ""
    return InputError(f"{error.name} is not installed; it comes with: pip install -e '.[{extra}]'{by_make}")
