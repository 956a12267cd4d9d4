"""The same estimators inside the trainers of language models, TRL and verl; needs the extra `llm` (`verl` for verl)."""

import importlib
import os
from types import ModuleType

from maxrl_lab import extras


def need(module: str) -> ModuleType:
    """Return the imported module; raise a one-line `InputError` if it comes with an extra that is not installed.

    All packages that talk to the Hugging Face hub are imported here, so this is where its client is told, unless the
    user says otherwise, to report nothing about the user's runs.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when huggingface_hub is imported
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise extras.missing(error) or error from None
