"""The distribution of the next token: temperature, nucleus, entropy, and the token that a random number stands for.

V words of the vocabulary.
"""

import torch
from torch import Tensor

_LIKELIEST = 256
"""Tokens among which a nucleus is looked for first: sorting a whole vocabulary takes as long as a small model."""


def distribution(logits: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """Return log-probabilities (..., V) at a temperature, of the nucleus that holds at least `top_p`, in nats."""
    logits = logits.float() if logits.dtype == torch.bfloat16 else logits
    log_probs = (logits / temperature if temperature != 1 else logits).log_softmax(-1)
    if top_p >= 1:
        return log_probs
    kept, tokens = nucleus(log_probs, top_p)
    return torch.full_like(log_probs, -torch.inf).scatter(-1, tokens, kept).log_softmax(-1)


def nucleus(log_probs: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Return the smallest set of tokens that holds at least `top_p` of the probability (Holtzman et al. 2020).

    log_probs: (..., V). The set comes as M tokens (..., M) in ascending order, behind their log-probabilities (..., M),
    which are -inf for those of the M tokens that are outside the set.
    """
    likeliest, tokens = _likeliest(log_probs, top_p)
    mass = likeliest.exp()
    kept = likeliest.masked_fill(mass.cumsum(-1) - mass >= top_p, -torch.inf)
    tokens, order = tokens.sort(-1)
    return kept.gather(-1, order), tokens


def _likeliest(log_probs: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and tokens (..., M), the likeliest first, that together hold at least `top_p`."""
    if log_probs.shape[-1] > _LIKELIEST:
        values, tokens = log_probs.topk(_LIKELIEST)
        if bool((values.exp().sum(-1) >= top_p).all()):
            return values, tokens
    values, tokens = log_probs.sort(dim=-1, descending=True, stable=True)
    return values, tokens


def entropy(log_probs: Tensor) -> Tensor:
    """Return the entropy (...,) in nats of log-probabilities (..., V); a token of probability 0 adds nothing."""
    finite = log_probs.clamp(min=torch.finfo(log_probs.dtype).min)
    return -(finite.exp() * finite).sum(-1)


def pick(log_probs: Tensor, uniforms: Tensor) -> Tensor:
    """Return the index (...,) that numbers (...,) in [0, 1) stand for, by inverting the cumulative distribution.

    The log-probabilities (..., V) need not sum to 1. A NaN policy picks some token: what looks at the log-probabilities
    then says that it has diverged.
    """
    cumulative = log_probs.exp().cumsum(-1)
    total = cumulative[..., -1:]
    # below the total even where the product rounds up to it, so that no token without probability is ever picked
    wanted = torch.minimum(uniforms[..., None] * total, torch.nextafter(total, torch.zeros_like(total)))
    picked = torch.searchsorted(cumulative, wanted, right=True)[..., 0]
    return picked.clamp(max=log_probs.shape[-1] - 1)
