"""The measuring bench for policy gradients with right-or-wrong outcomes: what is optimised, how biased, how noisy.

Submodules are imported when they are first used: `import maxrl_lab` alone costs nothing.
"""

import importlib
from types import ModuleType

__all__ = ["audit", "estimators", "evaluate", "exact", "objectives"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"maxrl_lab.{name}")
    raise AttributeError(f"module 'maxrl_lab' has no attribute {name!r}")
