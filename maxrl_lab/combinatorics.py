"""The one binomial ratio that pass@k, PKPO and truncated likelihood share, in a form that cannot overflow."""

import torch
from torch import Tensor


def log_miss_probability(samples: int, draws: int) -> Tensor:
    """Return log C(samples-K, draws) / C(samples, draws) for K = 0..samples, shape (samples+1,), float64.

    It is the log-probability that `draws` of the `samples` rollouts, taken without replacement, hold none of the K
    successes; -inf where K > samples - draws. By symmetry it equals log prod_{j<K} (1 - draws / (samples - j)), so
    one cumulative sum gives every K at once, with a relative error near machine precision for any size.
    """
    remaining = torch.arange(samples, 0, -1, dtype=torch.float64)
    steps = torch.log1p((-draws / remaining).clamp(min=-1.0))
    return torch.cat([steps.new_zeros(1), steps.cumsum(0)])
