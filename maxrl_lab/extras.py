"""Packages that only an extra of the installation brings, and the one line that says so where one is missing."""

from pathlib import Path

from maxrl_lab.errors import InputError

CHECKOUT = Path(__file__).parents[1]
"""The folder that holds the library: the checkout, if the library was installed as editable."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "lab": ("pandas", "sklearn", "matplotlib", "tqdm", "gymnasium", "minigrid"),
    "llm": ("transformers", "trl", "accelerate", "datasets", "peft", "gguf", "math_verify", "reasoning_gym"),
    "verl": ("verl", "ray", "cachetools", "fastapi", "uvicorn"),
    "docs": ("mkdocs",),
    "benchmark": ("navix", "jax"),
}
"""Extra to the modules that it brings; each extra of the first three also brings those before it."""


def in_checkout() -> bool:
    """Return whether the library lies in a checkout of its repository, which holds the experiments."""
    return (CHECKOUT / "experiments" / "catalogue.py").is_file()


def missing(error: ModuleNotFoundError) -> InputError | None:
    """Return the one-line error for a module that an extra brings; None for any other module."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            target = f"-e '.[{extra}]'" if in_checkout() else f"'maxrl-lab[{extra}]'"
            return InputError(f"{module} is not installed; the extra [{extra}] brings it: pip install {target}")
    return None
