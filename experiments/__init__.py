"""One file per claim: settings at the top, rows out, no plotting."""

from types import ModuleType

from experiments import (
    bias_variance,
    classification,
    gradient_norms,
    likelihood_limit,
    navigation,
    navigation_bias_variance,
    navigation_likelihood,
    trajectories,
    unbiasedness,
    weight_functions,
)

EXPERIMENTS: dict[str, ModuleType] = {
    "weight_functions": weight_functions,
    "unbiasedness": unbiasedness,
    "bias_variance": bias_variance,
    "likelihood_limit": likelihood_limit,
    "classification": classification,
    "gradient_norms": gradient_norms,
    "navigation": navigation,
    "navigation_bias_variance": navigation_bias_variance,
    "navigation_likelihood": navigation_likelihood,
    "trajectories": trajectories,
}
"""Name to module; each has `Settings`, `PRESETS` and `run(settings, context) -> rows`."""
