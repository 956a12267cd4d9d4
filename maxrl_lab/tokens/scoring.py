"""Reading prompts and scoring answers: the log-probability that a policy gives to an answer, differentiable.

`score` and `sampling.sample` agree: an answer's log-probability when it is sampled is the one that the gradient is
taken of, under the same temperature, so the ratio of an on-policy step is 1. Axes as in
`maxrl_lab.policies.transformer`.
"""

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.tokens.attention import Causal, Prefix, Shared
from maxrl_lab.tokens.distributions import distribution, entropy


def read(policy: Transformer, prompts: Tensor, lengths: Tensor) -> Prefix:
    """Read prompts (B, P) of `lengths` (B,) tokens, padded on the right; differentiable.

    Raises `InputError` for a prompt longer than the context or tokens outside the vocabulary.
    """
    check_prompts(policy, prompts, lengths)
    attend = Causal()
    hidden = policy.hidden(prompts, torch.arange(prompts.shape[1], device=prompts.device), attend)
    last = hidden[torch.arange(len(prompts), device=prompts.device), lengths - 1]
    return Prefix(tuple(attend.keys), tuple(attend.values), lengths, policy.logits(last))


def check_prompts(policy: Transformer, prompts: Tensor, lengths: Tensor, answer_length: int = 0) -> None:
    """Raise `InputError` unless prompts and answers fit the policy's context and the tokens its vocabulary."""
    if prompts.ndim != 2 or lengths.shape != prompts.shape[:1]:
        got = f"{tuple(prompts.shape)} and {tuple(lengths.shape)}"
        raise InputError(f"prompts must have shape (B, P) and lengths (B,), got {got}")
    shortest, longest = map(int, lengths.aminmax())
    context, words = policy.shape.context, policy.shape.vocabulary
    if not 1 <= shortest <= longest <= prompts.shape[1]:
        wrong = shortest if shortest < 1 else longest
        raise InputError(f"a prompt must have 1..{prompts.shape[1]} tokens, the width it comes in, got {wrong}")
    if longest + answer_length > context:
        raise InputError(
            f"the context holds {context} tokens, got a prompt of {longest} and answers of up to {answer_length}"
        )
    lowest, highest = map(int, prompts.aminmax())
    if not 0 <= lowest <= highest < words:
        wrong = lowest if lowest < 0 else highest
        raise InputError(f"tokens must lie in 0..{words - 1}, the policy's vocabulary, got {wrong}")


def score(
    policy: Transformer, prefix: Prefix, tokens: Tensor, lengths: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and summed token entropies (B, N) of answers (B, N, T), in nats, differentiable.

    Only the first `lengths` (B, N) tokens of an answer count; no other token is computed.
    """
    valid = torch.arange(tokens.shape[2] - 1, device=tokens.device) < lengths[..., None] - 1
    positions = prefix.lengths[:, None, None] + torch.arange(tokens.shape[2] - 1, device=tokens.device)
    first = distribution(prefix.logits, temperature)
    log_probs, entropies = first.gather(1, tokens[..., 0]), entropy(first)[:, None].expand(lengths.shape)
    if not bool(valid.any()):
        return log_probs, entropies
    hidden = policy.hidden(tokens[..., :-1][valid], positions.expand(valid.shape)[valid], Shared(prefix, valid))
    later = distribution(policy.logits(hidden), temperature)
    log_probs = log_probs + _sum_over_answers(later.gather(1, tokens[..., 1:][valid][:, None])[:, 0], valid)
    return log_probs, entropies + _sum_over_answers(entropy(later), valid)


def _sum_over_answers(packed: Tensor, valid: Tensor) -> Tensor:
    """Return the sum over each answer's tokens (B, N) of packed values (M,), which belong where `valid` is true."""
    return packed.new_zeros(valid.shape).masked_scatter(valid, packed).sum(-1)
