"""Writing and scoring answers: N of each of B prompts, every prompt read once.

`sample` and `score` agree: an answer's log-probability when it is drawn is the one that the gradient is taken of, under
the same temperature, so the ratio of an on-policy step is 1. Axes as in `transformer`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.tokens.attention import Cached, Causal, Prefix, Shared

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
    """(B, N) entropy, in nats, of the distribution each token was drawn from, summed over the answer."""


def read(policy: Transformer, prompts: Tensor, lengths: Tensor) -> Prefix:
    """Read prompts (B, P) of `lengths` (B,) tokens, padded on the right; differentiable.

    Raises `ValueError` for a prompt longer than the context or tokens outside the vocabulary.
    """
    check_prompts(policy, prompts, lengths)
    attend = Causal()
    hidden = policy.hidden(prompts, torch.arange(prompts.shape[1], device=prompts.device), attend)
    last = hidden[torch.arange(len(prompts), device=prompts.device), lengths - 1]
    return Prefix(tuple(attend.keys), tuple(attend.values), lengths, policy.logits(last))


def check_prompts(policy: Transformer, prompts: Tensor, lengths: Tensor, answer_length: int = 0) -> None:
    """Raise `ValueError` unless prompts and answers fit the policy's context and the tokens its vocabulary."""
    if prompts.ndim != 2 or lengths.shape != prompts.shape[:1]:
        got = f"{tuple(prompts.shape)} and {tuple(lengths.shape)}"
        raise InputError(f"prompts must have shape (B, P) and lengths (B,), got {got}")
    shortest, longest = (int(each) for each in lengths.aminmax())
    context, words = policy.shape.context, policy.shape.vocabulary
    if not 1 <= shortest <= longest <= prompts.shape[1]:
        wrong = shortest if shortest < 1 else longest
        raise InputError(f"a prompt must have 1..{prompts.shape[1]} tokens, the width it comes in, got {wrong}")
    if longest + answer_length > context:
        raise InputError(
            f"the context holds {context} tokens, got a prompt of {longest} and answers of up to {answer_length}"
        )
    lowest, highest = (int(each) for each in prompts.aminmax())
    if not 0 <= lowest <= highest < words:
        wrong = lowest if lowest < 0 else highest
        raise InputError(f"tokens must lie in 0..{words - 1}, the policy's vocabulary, got {wrong}")


def score(
    policy: Transformer, prefix: Prefix, tokens: Tensor, lengths: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and summed token entropies (B, N) of answers (B, N, T), in nats, differentiable.

    Only the `lengths` (B, N) first tokens of an answer count; no other is computed.
    """
    valid = torch.arange(tokens.shape[2] - 1, device=tokens.device) < lengths[..., None] - 1
    positions = prefix.lengths[:, None, None] + torch.arange(tokens.shape[2] - 1, device=tokens.device)
    first = distribution(prefix.logits, temperature)
    log_probs, entropies = first.gather(1, tokens[..., 0]), entropy(first)[:, None].expand(lengths.shape)
    if not bool(valid.any()):
        return log_probs, entropies
    hidden = policy.hidden(tokens[..., :-1][valid], positions.expand(valid.shape)[valid], Shared(prefix, valid))
    later = distribution(policy.logits(hidden), temperature)
    log_probs = log_probs + _spread(later.gather(1, tokens[..., 1:][valid][:, None])[:, 0], valid)
    return log_probs, entropies + _spread(entropy(later), valid)


def _spread(packed: Tensor, valid: Tensor) -> Tensor:
    """Sums over each answer (B, N) of what is packed, (M,)."""
    return packed.new_zeros(valid.shape).masked_scatter(valid, packed).sum(-1)


def distribution(logits: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """Return log-probabilities (..., V) at a temperature, of the smallest set of tokens that holds at least `top_p`."""
    logits = logits.float() if logits.dtype == torch.bfloat16 else logits
    log_probs = (logits / temperature if temperature != 1 else logits).log_softmax(-1)
    if top_p >= 1:
        return log_probs
    ordered, places = log_probs.sort(-1, descending=True)
    mass = ordered.exp()
    outside = mass.cumsum(-1) - mass >= top_p
    return ordered.masked_fill(outside, -torch.inf).gather(-1, places.argsort(-1)).log_softmax(-1)


def entropy(log_probs: Tensor) -> Tensor:
    """Return the entropy (...,) in nats of log-probabilities (..., V); a token of probability 0 counts nothing."""
    finite = log_probs.clamp(min=torch.finfo(log_probs.dtype).min)
    return -(finite.exp() * finite).sum(-1)


def pick(log_probs: Tensor, uniforms: Tensor) -> Tensor:
    """Return the token (...,) that numbers (...,) in [0, 1) stand for, by inverting the cumulative distribution."""
    cumulative = log_probs.exp().cumsum(-1)
    total = cumulative[..., -1:]
    # below the total even where the product rounds up to it, so that no token without probability is ever drawn
    wanted = torch.minimum(uniforms[..., None] * total, torch.nextafter(total, torch.zeros_like(total)))
    chosen = torch.searchsorted(cumulative, wanted, right=True)[..., 0]
    return chosen.clamp(max=log_probs.shape[-1] - 1)  # a NaN policy draws something, so that who sees it can say so


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
    """Draw N answers of up to T tokens of each of B prompts, from numbers `uniforms` (B, N, T) in [0, 1).

    Without `uniforms`, answers are greedy: the likeliest token each time, N and T from `answers`. What is drawn does
    not depend on who else is being written, up to rounding: answers that have ended are left behind.
    """
    rollouts, tokens = uniforms.shape[1:] if uniforms is not None else answers or (1, 1)
    written = _Written(prefix, rollouts, tokens)
    cache = Cached(prefix, rollouts, max(1, tokens - 1))
    logits = prefix.logits[:, None].expand(-1, rollouts, -1)
    for time in range(tokens):
        log_probs = distribution(logits, temperature, top_p)
        if uniforms is None:
            chosen = log_probs.argmax(-1)
        else:
            chosen = pick(log_probs, uniforms[..., time].flatten()[written.rows])
        going_on = written.append(time, chosen, log_probs, end)
        if time == tokens - 1 or not bool(going_on.any()):
            break
        kept = _survivors(going_on)
        if kept is not None:
            prompts, places = kept
            cache.keep(prompts, places)
            chosen = chosen[prompts[:, None], places]
            written.keep(prompts, places)
        positions = cache.prefix.lengths[:, None, None] + time
        logits = policy.logits(policy.hidden(chosen[..., None], positions, cache)[:, :, 0])
        cache.time += 1
    return written.answers()


class _Written:
    """What has been written so far, and which answers (b, n) of the B N are still in hand."""

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

    def append(self, time: int, chosen: Tensor, log_probs: Tensor, end: int) -> Tensor:
        """Add a token to every answer in hand; return which go on."""
        rows, alive = self.rows.flatten(), self.alive.flatten()
        chosen = chosen.flatten()
        log_probs = log_probs.flatten(0, 1)
        self.tokens[rows, time] = torch.where(alive, chosen, self.tokens[rows, time])
        self.log_probs[rows] += torch.where(alive, log_probs.gather(1, chosen[:, None])[:, 0], 0.0)
        self.entropies[rows] += torch.where(alive, entropy(log_probs), 0.0)
        self.lengths[rows] += alive
        ended = alive & (chosen == end)
        self.ended[rows] |= ended
        self.alive = (alive & ~ended).view(self.rows.shape)
        return self.alive

    def keep(self, prompts: Tensor, places: Tensor) -> None:
        """Take in hand only some answers (b, n) of some prompts (b,)."""
        self.rows, self.alive = (each[prompts[:, None], places] for each in (self.rows, self.alive))

    def answers(self) -> Answers:
        """Return all of them."""
        flat = (self.tokens, self.lengths, self.ended, self.log_probs, self.entropies)
        return Answers(*(each.unflatten(0, self.shape) for each in flat))


def _survivors(alive: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return prompts (b,) and places (b, n) of a smaller rectangle with all that are alive; None if it is hardly so."""
    counts = alive.sum(1)
    prompts = counts.nonzero().flatten()
    most = int(counts.max())
    if len(prompts) * most > _COMPACT_BELOW * alive.numel():
        return None
    return prompts, (~alive[prompts]).int().argsort(dim=1, stable=True)[:, :most]
