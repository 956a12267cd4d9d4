"""One file per experiment: rows in, picture and table out; nothing here trains."""

from types import ModuleType

from figures import (
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

FIGURES: dict[str, ModuleType] = {
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
"""Experiment name to module; each has `COLUMNS`, `draw(rows) -> Figure` and `summarise(rows) -> table`."""
