"""Sampling answers: N of each of B prompts, token by token, every prompt read once.

Answers that have ended are left behind when enough of them have, so what is sampled does not depend on the answers that
are written beside it, up to rounding. Axes as in `maxrl_lab.policies.transformer`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.tokens.attention import Cached, Prefix
from maxrl_lab.tokens.distributions import distribution, entropy, pick

_COMPACT_BELOW = 0.85
"""Share of answers still being written below which those that have ended are left behind."""


class Answers(NamedTuple):
    """N answers of each of B prompts; those that have not ended after T tokens are cut off."""

    tokens: Tensor
    """(B, N, T) ids, 0 behind the end."""
    lengths: Tensor
    """(B, N) tokens, the end token included."""
    ended: Tensor
    """(B, N) bool; false where the answer was cut off."""
    log_probs: Tensor
    """(B, N) log-probability of the whole answer, in nats."""
    entropies: Tensor
    """(B, N) entropy, in nats, of the distribution each token was sampled from, summed over the answer."""


@torch.no_grad()
def sample(
    policy: Transformer,
    prefix: Prefix,
    uniforms: Tensor | None,
    *,
    end: int,
    answers: tuple[int, int] | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Answers:
    """Sample N answers of up to T tokens of each of B prompts, from numbers `uniforms` (B, N, T) in [0, 1).

    Without `uniforms`, answers are greedy: the likeliest token each time, with N and T from `answers`.
    """
    rollouts, tokens = uniforms.shape[1:] if uniforms is not None else answers or (1, 1)
    written = _Written(prefix, rollouts, tokens)
    cache = Cached(prefix, rollouts, max(1, tokens - 1))
    logits = prefix.logits[:, None].expand(-1, rollouts, -1)
    for time in range(tokens):
        log_probs = distribution(logits, temperature, top_p)
        if uniforms is None:
            token = log_probs.argmax(-1)
        else:
            token = pick(log_probs, uniforms[..., time].flatten()[written.rows])
        alive = written.append(time, token, log_probs, end)
        if time == tokens - 1 or not bool(alive.any()):
            break
        smaller = _smaller_rectangle(alive)
        if smaller is not None:
            prompts, indices = smaller
            cache.keep(prompts, indices)
            token = token[prompts[:, None], indices]
            written.keep(prompts, indices)
        positions = cache.prefix.lengths[:, None, None] + time
        logits = policy.logits(policy.hidden(token[..., None], positions, cache)[:, :, 0])
        cache.time += 1
    return written.answers()


class _Written:
    """The tokens written so far of all B N answers, and the rectangle (b, n) of answers that are not finished."""

    def __init__(self, prefix: Prefix, rollouts: int, tokens: int) -> None:
        device, prompts = prefix.logits.device, len(prefix.logits)
        size = prompts * rollouts
        self.shape = prompts, rollouts
        self.rows = torch.arange(size, device=device).view(prompts, rollouts)
        self.alive = torch.ones_like(self.rows, dtype=torch.bool)
        self.tokens = torch.zeros(size, tokens, dtype=torch.long, device=device)
        self.lengths = torch.zeros(size, dtype=torch.long, device=device)
        self.ended = torch.zeros(size, dtype=torch.bool, device=device)
        dtype = torch.float64 if prefix.logits.dtype == torch.float64 else torch.float32
        self.log_probs, self.entropies = torch.zeros(2, size, dtype=dtype, device=device)

    def append(self, time: int, token: Tensor, log_probs: Tensor, end: int) -> Tensor:
        """Add a token to every answer in hand that has not ended; return which of them go on."""
        rows, alive = self.rows.flatten(), self.alive.flatten()
        token = token.flatten()
        log_probs = log_probs.flatten(0, 1)
        self.tokens[rows, time] = torch.where(alive, token, self.tokens[rows, time])
        self.log_probs[rows] += torch.where(alive, log_probs.gather(1, token[:, None])[:, 0], 0.0)
        self.entropies[rows] += torch.where(alive, entropy(log_probs), 0.0)
        self.lengths[rows] += alive
        ended = alive & (token == end)
        self.ended[rows] |= ended
        self.alive = (alive & ~ended).view(self.rows.shape)
        return self.alive

    def keep(self, prompts: Tensor, indices: Tensor) -> None:
        """Keep in hand only the answers `indices` (b, n) of the prompts (b,)."""
        self.rows = self.rows[prompts[:, None], indices]
        self.alive = self.alive[prompts[:, None], indices]

    def answers(self) -> Answers:
        """Return all answers, those in hand and those that were left behind."""
        flat = (self.tokens, self.lengths, self.ended, self.log_probs, self.entropies)
        return Answers(*(part.unflatten(0, self.shape) for part in flat))


def _smaller_rectangle(alive: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the prompts (b,) and answer indices (b, n) that hold every answer still alive, of `alive` (B, N).

    None is returned if the smaller rectangle would hold nearly as many answers as the whole. Of two prompts with alive
    answers [[1, 0, 1], [0, 0, 0]], the rectangle is prompts [0] and indices [[0, 2]].
    """
    counts = alive.sum(1)
    prompts = counts.nonzero().flatten()
    most = int(counts.max())
    if len(prompts) * most > _COMPACT_BELOW * alive.numel():
        return None
    return prompts, (~alive[prompts]).int().argsort(dim=1, stable=True)[:, :most]
