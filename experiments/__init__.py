"""One file per claim: settings at the top, rows out, no plotting."""

from types import ModuleType

from experiments import (
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
    "maze_scaling": maze_scaling,
    "maze_baselines": maze_baselines,
    "coverage": coverage,
    "gradient_signal": gradient_signal,
    "maze_trajectories": maze_trajectories,
    "data_scarce": data_scarce,
    "length_bias": length_bias,
    "llm": llm,
}
"""Name to module; each has `Settings`, `PRESETS` and `run(settings, context) -> rows`."""
EXTRAS = ("llm",)
"""Experiments that need the extra of the same name: `reproduce` leaves them out."""
