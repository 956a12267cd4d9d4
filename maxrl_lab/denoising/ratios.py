"""Objectives after off-policy steps, where the likelihood ratio is estimated from masks: VRPO, and BGPO's lower bound.

A group was sampled by an old policy, and the policy has moved since. d_j is the difference of the bound's estimates of
the two policies under the same mask j, of which there are n. VRPO-OL exponentiates their mean, so that its gradient
needs the graphs of all n masks at once; BGPO bounds it from below by a sum with one mask a term, so that each mask's
backward pass may be made alone:

    VRPO  A exp( (1/n) sum_j d_j )
    BGPO  (1/n) sum_j A (1 + d_j)   for A >= 0        e^z >= 1 + z
          (1/n) sum_j A exp(d_j)    for A < 0         Jensen, turned round by A

Both have the value A and the gradient A (1/n) sum_j grad d_j where no d_j has moved (BGPO, arXiv:2510.11683v3). The
ratio 1 + d is formed directly: it may be negative, and its logarithm then does not exist. A published port clips and
normalises by the length, which is left out here.

The masks of an answer are independent, so the means over them are exact for every n.  [lab]
BGPO's does not depend on n; VRPO's falls with n, to A exp(E d) from above for A > 0.

Axes: any leading ones, J masks, C choices of a law of masks.
"""

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError


def vrpo(advantages: Tensor, differences: Tensor) -> Tensor:
    """Return VRPO's objective (...) of advantages (...) and differences d (..., J)."""
    return advantages * _checked(advantages, differences).mean(-1).exp()


def bgpo(advantages: Tensor, differences: Tensor) -> Tensor:
    """Return BGPO's lower bound (...) of `vrpo`."""
    return bgpo_terms(advantages, differences).mean(-1)


def bgpo_terms(advantages: Tensor, differences: Tensor) -> Tensor:
    """Return BGPO's terms (..., J), one a mask, whose mean is the bound: each has a gradient of its own."""
    differences = _checked(advantages, differences)
    advantages = advantages[..., None]
    return torch.where(advantages >= 0, advantages * (1 + differences), advantages * differences.exp())


def expected_vrpo(advantages: Tensor, differences: Tensor, weights: Tensor, samples: int) -> Tensor:
    """Return the mean (...) of `vrpo` over `samples` masks; d (..., C) of all masks, which have the weights (C,)."""
    specs.check_count("samples", samples)
    mean = (_checked(advantages, differences) / samples).exp() @ weights
    return advantages * mean**samples


def expected_bgpo(advantages: Tensor, differences: Tensor, weights: Tensor) -> Tensor:
    """Return the mean (...) of `bgpo`, whatever the number of masks."""
    return bgpo_terms(advantages, differences) @ weights


def _checked(advantages: Tensor, differences: Tensor) -> Tensor:
    if differences.ndim != advantages.ndim + 1 or differences.shape[:-1] != advantages.shape:
        got = f"{tuple(advantages.shape)} and {tuple(differences.shape)}"
        raise InputError(f"expected advantages (...) and differences (..., masks), got {got}")
    return differences
