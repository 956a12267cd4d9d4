"""A transformer small enough to enumerate, and the slow oracle: one whole sequence at a time, nothing shared.

Shared by the tests of the token policies. Its weights are large, so that every distribution is far from uniform.
"""

import torch
from torch import Tensor

from maxrl_lab.policies.stack import seeded
from maxrl_lab.policies.transformer import Shape, Transformer

END = 2


def small_policy(words: int = 5, *, layers: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64, **options):
    """A policy whose norms and biases are not the 1 and 0 they start with."""
    sizes = {"width": 16, "heads": 4, "kv_heads": 2, "mlp": 24, "context": 32, **options}
    shape = Shape(vocabulary=words, layers=layers, **sizes)

    def make() -> Transformer:
        policy = Transformer(shape)
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.35)
        return policy

    return seeded(make, "small policy", seed).to(dtype)


def random_prompts(lengths: list[int], words: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Prompts (B, P) of these lengths, 0 behind them, and the lengths (B,)."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, words, (len(lengths), max(lengths)), generator=random)
    held = torch.tensor(lengths)
    return tokens * (torch.arange(max(lengths)) < held[:, None]), held


def random_answers(lengths: list[list[int]], words: int = 5, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Answers (B, N, T) of these lengths, END at the end and nowhere before, 0 behind it, and the lengths (B, N)."""
    random = torch.Generator().manual_seed(seed)
    held = torch.tensor(lengths)
    tokens = torch.randint(3, words, (*held.shape, int(held.max())), generator=random)
    places = torch.arange(tokens.shape[-1])
    tokens = torch.where(places == held[..., None] - 1, END, tokens)
    return tokens * (places < held[..., None]), held


def naive_logits(policy: Transformer, tokens: Tensor) -> Tensor:
    """Next-token logits (T, V) of one sequence (T,): textbook attention, head by head."""
    shape, time = policy.shape, len(tokens)
    later = torch.ones(time, time, dtype=torch.bool).triu(1)
    hidden = policy.embedding[tokens]
    for block in policy.blocks:
        mixed = normalise(hidden, block.attention_norm, shape) @ block.qkv.weight.T + block.qkv.bias
        parts = mixed.view(time, shape.heads + 2 * shape.kv_heads, shape.head)
        outputs = []
        for head in range(shape.heads):
            shared = shape.heads + head // (shape.heads // shape.kv_heads)
            queries, keys = turned(parts[:, head], shape), turned(parts[:, shared], shape)
            scores = (queries @ keys.T / shape.head**0.5).masked_fill(later, -torch.inf)
            outputs.append(scores.softmax(-1) @ parts[:, shared + shape.kv_heads])
        hidden = hidden + torch.cat(outputs, -1) @ block.out.weight.T
        gate, up = (normalise(hidden, block.mlp_norm, shape) @ block.gate_up.weight.T).chunk(2, -1)
        hidden = hidden + (gate * gate.sigmoid() * up) @ block.down.weight.T
    output = policy.embedding if policy.head is None else policy.head
    return normalise(hidden, policy.norm, shape) @ output.T


def normalise(hidden: Tensor, scale: Tensor, shape: Shape) -> Tensor:
    return hidden / (hidden.square().mean(-1, keepdim=True) + shape.norm_epsilon).sqrt() * scale


def turned(head: Tensor, shape: Shape) -> Tensor:
    """Rotary positions 0..T-1 of (T, D) as a product of complex numbers: number i with number i + D/2."""
    real, imaginary = head.chunk(2, -1)
    frequencies = shape.rope_theta ** (-torch.arange(shape.head // 2, dtype=torch.float64) * 2 / shape.head)
    angles = torch.arange(len(head), dtype=torch.float64)[:, None] * frequencies
    product = torch.complex(real, imaginary) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([product.real, product.imag], -1).to(head.dtype)


def naive_score(policy: Transformer, prompt: Tensor, answer: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-probability and summed entropy, in nats, of one answer (T,) after one prompt (P,), both without padding."""
    logits = naive_logits(policy, torch.cat([prompt, answer]))[len(prompt) - 1 : -1]
    probabilities = (logits / temperature).softmax(-1)
    chosen = probabilities[torch.arange(len(answer)), answer]
    return chosen.log().sum(), -(probabilities * probabilities.log()).sum()


def naive_scores(policy, prompts, prompt_lengths, tokens, lengths, temperature=1.0):
    """`naive_score` of every answer (B, N, T) after its prompt (B, P): two tensors (B, N)."""
    found = [
        [
            torch.stack(naive_score(policy, prompt[:ends], answer[:stops], temperature))
            for answer, stops in zip(answers, stop, strict=True)
        ]
        for prompt, ends, answers, stop in zip(prompts, prompt_lengths, tokens, lengths, strict=True)
    ]
    return torch.stack([torch.stack(row) for row in found]).unbind(-1)


def gradient_of(value: Tensor, policy: Transformer) -> Tensor:
    """The gradient of a number with respect to all parameters, in one vector."""
    return torch.cat([each.flatten() for each in torch.autograd.grad(value, list(policy.parameters()))])


def watch_tokens(policy: Transformer, monkeypatch) -> list[int]:
    """A list that grows by the number of tokens whenever they are run through the policy."""
    seen: list[int] = []
    run = policy.hidden

    def hidden(tokens, *rest):
        seen.append(tokens.numel())
        return run(tokens, *rest)

    monkeypatch.setattr(policy, "hidden", hidden)
    return seen
