"""One file per experiment: rows in, picture and table out; nothing here trains."""

from types import ModuleType

from figures import (
    bias_variance,
    classification,
    coverage,
    data_scarce,
    gradient_norms,
    gradient_signal,
    length_bias,
    likelihood_limit,
    llm,
    maze_baselines,
    maze_scaling,
    maze_trajectories,
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
    "maze_scaling": maze_scaling,
    "maze_baselines": maze_baselines,
    "coverage": coverage,
    "gradient_signal": gradient_signal,
    "maze_trajectories": maze_trajectories,
    "data_scarce": data_scarce,
    "length_bias": length_bias,
    "llm": llm,
}
"""Experiment name to module; each has `COLUMNS`, `draw(rows) -> Figure` and `summarise(rows) -> table`."""
