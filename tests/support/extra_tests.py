"""The test files that need an extra: without it they are not collected, and one line after the tests says so."""

from importlib.util import find_spec
from pathlib import Path

from experiments.catalogue import EXPERIMENTS
from maxrl_lab.extras import EXTRAS

TESTS = Path(__file__).parents[1]
FILES = {
    "llm": (
        "examples/test_with_trl.py",
        "llm/test_llm_cross_check.py",
        "llm/test_llm_data.py",
        "llm/test_llm_evaluation.py",
        "llm/test_llm_experiment.py",
        "llm/test_llm_jobs.py",
        "llm/test_llm_rewards.py",
        "llm/test_llm_templates.py",
        "llm/test_llm_torture.py",
        "llm/test_llm_training.py",
        "llm/test_llm_trl.py",
        "llm/test_llm_trl_groups.py",
        "llm/test_llm_weights.py",
        "tokens/test_pretrained_transformers.py",
    ),
    "verl": ("llm/test_llm_frameworks.py", "llm/test_llm_verl.py", "llm/test_llm_verl_job.py"),
}
"""Extra to the test files that need it, below `tests`; the extra `verl` includes `llm`."""


def left_out(extras=EXTRAS):
    """Return the files that are not collected here, by the extra that they need."""
    modules = {"llm": extras["llm"], "verl": (*extras["llm"], *extras["verl"])}
    return {extra: files for extra, files in FILES.items() if any(find_spec(name) is None for name in modules[extra])}


def installed_experiments():
    """Return the names of the experiments whose extra, if they need one, is installed."""
    return [name for name, entry in EXPERIMENTS.items() if entry.extra not in left_out()]


def line(files_by_extra, paths):
    """Return the line about test files below `paths` that are not collected; None if there are none."""
    asked = [Path(path).resolve() for path in paths]
    counts = {
        extra: sum(any((TESTS / file).is_relative_to(path) for path in asked) for file in files)
        for extra, files in files_by_extra.items()
    }
    said = [f"{count} that need the extra {extra}" for extra, count in counts.items() if count]
    return f"not collected: {', '.join(said)} (make test-llm)" if said else None
