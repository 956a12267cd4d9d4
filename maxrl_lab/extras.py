"""Packages that only an extra of the installation brings, and the one line that says so where one is missing."""

from importlib.util import find_spec
from pathlib import Path

from maxrl_lab.errors import InputError

CHECKOUT = Path(__file__).parents[1]
"""The folder that holds the library: the checkout, if the library was installed as editable."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "lab": ("pandas", "sklearn", "matplotlib", "tqdm", "gymnasium", "minigrid"),
    "ray": ("ray",),
    "llm": (
        *("transformers", "trl", "accelerate", "datasets", "peft", "gguf", "math_verify", "reasoning_gym"),
        *("tokenizers", "huggingface_hub"),
    ),
    "verl": ("verl", "ray", "hydra", "omegaconf", "cachetools", "fastapi", "uvicorn"),
    "benchmark": ("navix", "jax"),
    "course": ("marimo",),
}
"""Extra to the modules that it adds to those of the extras before it."""


def in_checkout() -> bool:
    """Return whether the library lies in a checkout of its repository, which holds the experiments."""
    return (CHECKOUT / "experiments" / "catalogue.py").is_file() and (CHECKOUT / "pyproject.toml").is_file()


def need(extra: str) -> None:
    """Raise `InputError`, which names the pip command, unless the modules of an extra are installed."""
    for module in EXTRAS[extra]:
        if find_spec(module) is None:
            raise _missing(module, extra)


def missing(error: ModuleNotFoundError) -> InputError | None:
    """Return the one-line error for a module that an extra brings; None for any other module."""
    module = (error.name or "").partition(".")[0]
    return next((_missing(module, extra) for extra, modules in EXTRAS.items() if module in modules), None)


def _missing(module: str, extra: str) -> InputError:
    target = f"-e '.[{extra}]'" if in_checkout() else f"'maxrl-lab[{extra}]'"
    return InputError(f"{module} is not installed; it comes with the extra {extra}: pip install {target}")
